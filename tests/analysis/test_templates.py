from __future__ import annotations

import pytest

from otel_agentperf.analysis.templates import db_call, http_call, is_mutating_name, sql_template, url_template


def query(text, system="postgresql", **more):
    return db_call("span", {"db.system.name": system, "db.query.text": text, **more})


@pytest.mark.parametrize(
    ("text", "template"),
    [
        ("SELECT * FROM t WHERE id = 5", "SELECT * FROM t WHERE id = ?"),
        ("SELECT * FROM t WHERE n = 'O''Hara' AND x = 1.5", "SELECT * FROM t WHERE n = ? AND x = ?"),
        ("SELECT a1 FROM t2 WHERE id IN (1, 2, 3)", "SELECT a1 FROM t2 WHERE id IN (?)"),
        ("SELECT * FROM t WHERE id = $1 AND n = :2 AND m = @3", "SELECT * FROM t WHERE id = $1 AND n = :2 AND m = @3"),
        ("SELECT * FROM t WHERE id IN (?, ?, ?)", "SELECT * FROM t WHERE id IN (?)"),
    ],
)
def test_sql_template(text, template):
    assert sql_template(text) == template


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("SELECT * FROM t WHERE id = 5", True),
        ("SELECT now()", True),
        ("SELECT id::text FROM t WHERE at = '12:30'", True),
        ("SELECT * FROM t WHERE n LIKE '%s'", True),
        ("SELECT * FROM t WHERE id = ?", False),
        ("SELECT * FROM t WHERE id = $1", False),
        ("SELECT * FROM t WHERE id = %s", False),
        ("SELECT * FROM t WHERE id = %(id)s", False),
        ("SELECT * FROM t WHERE id = :id", False),
        ("SELECT * FROM t WHERE id = :1", False),
        ("SELECT * FROM t WHERE id = @id", False),
        ("", False),
    ],
)
def test_arguments_are_known_from_literals_only(text, known):
    assert (query(text).args is not None) is known


def test_bound_parameters_are_arguments():
    text = "SELECT * FROM t WHERE id = $1"
    one, two = (query(text, **{"db.query.parameter.0": value}) for value in (1, 2))
    assert one.args is not None
    assert one.args != two.args
    assert query(text, **{"db.statement.parameters": "(1,)"}).args is not None


@pytest.mark.parametrize(
    ("text", "writes"),
    [
        ("INSERT INTO t VALUES (1)", True),
        ("  update t set x = 1", True),
        ("/* app */ DELETE FROM t", True),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", True),
        ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", True),
        ("WITH x AS (SELECT 1) SELECT updated FROM x", False),
        ("SELECT * FROM updates", False),
        ("TRUNCATE t", True),
        ("SELECT nextval('order_seq')", True),
        ("SELECT setval('order_seq', 7)", True),
        ("SELECT pg_advisory_lock(7)", True),
        ("SELECT pg_try_advisory_xact_lock(7)", True),
        ("SELECT id FROM jobs LIMIT 1 FOR UPDATE", True),
        ("SELECT id FROM jobs LIMIT 1 FOR NO KEY UPDATE", True),
        ("SELECT id FROM jobs LIMIT 1 FOR SHARE SKIP LOCKED", True),
        ("SELECT * FROM notes WHERE title = 'for update'", False),
        ("SELECT nextval FROM t", False),
    ],
)
def test_writes(text, writes):
    assert query(text).mutating is writes


def test_a_write_by_its_operation_name():
    call = db_call("span", {"db.system": "mongodb", "db.statement": '{"insert": "users"}', "db.operation": "insert"})
    assert call.mutating


def test_space_and_comments_do_not_matter():
    one, two = query("SELECT *\n  FROM t /* trace 1 */ WHERE id = 5"), query("SELECT * FROM t WHERE id = 5 /*2*/")
    assert one.operation == two.operation == "SELECT * FROM t WHERE id = ?"
    assert one.args == two.args


@pytest.mark.parametrize(
    ("text", "operation", "args", "writes"),
    [
        ("GET user:7", "GET", "GET user:7", False),
        ("SET user:7 x", "SET", "SET user:7 x", True),
        ("GET ?", "GET", None, False),
        ("PING", "PING", None, False),
    ],
)
def test_redis(text, operation, args, writes):
    call = query(text, "redis")
    assert (call.operation, call.args, call.mutating) == (operation, args, writes)


def test_a_query_without_text_is_named_by_what_is_known():
    attributes = {"db.system.name": "mongodb", "db.operation.name": "find", "db.collection.name": "users"}
    assert db_call("span", attributes).operation == "find users"
    assert db_call("span", {"db.system.name": "x"}).operation == "span"
    assert db_call("span", {"db.system.name": "x", "db.query.summary": "SELECT t"}).operation == "SELECT t"


@pytest.mark.parametrize(
    ("url", "template"),
    [
        ("https://x.io/users/42/posts?a=1", "https://x.io/users/{id}/posts"),
        ("https://user:pass@x.io/users/42", "https://x.io/users/{id}"),
        ("https://x.io/a/0f8fad5b-d9cb-469f-a165-70867728950e", "https://x.io/a/{id}"),
        ("https://x.io/v2/items/sku-12", "https://x.io/v2/items/{id}"),
        ("https://x.io/v1/chat/completions", "https://x.io/v1/chat/completions"),
        ("https://x.io/u/u7", "https://x.io/u/{id}"),
        ("https://x.io/oauth2/token", "https://x.io/oauth2/token"),
        ("/relative/7", "/relative/{id}"),
        ("https://x.io/files/f7.csv", "https://x.io/files/{id}"),
        ("http://[broken", ""),
    ],
)
def test_url_template(url, template):
    assert url_template(url) == template


def test_http_call():
    call = http_call("GET", {"http.method": "get", "http.url": "https://x.io/a?q=1"})
    assert call == ("https://x.io/a", False, "https://x.io/a?q=1")
    told = http_call("GET", {"http.request.method": "GET", "url.full": "https://x.io/a/b", "url.template": "/a/{b}"})
    assert told.operation == "/a/{b}"
    assert http_call("POST", {"http.request.method": "POST", "url.full": "https://x.io/a"}).args is None
    assert http_call("POST", {"http.request.method": "POST"}) == ("POST", True, None)
    assert http_call("GET", {"http.request.method": "GET", "url.full": 7}).operation == "GET"


@pytest.mark.parametrize(
    ("name", "writes"),
    [
        ("create_ticket", True),
        ("bookFlight", True),
        ("BookFlight", True),
        ("delete", True),
        ("github__create_issue", True),
        ("Lights-change_state", True),
        ("mail.send", True),
        ("get_order", False),
        ("get-order", False),
        ("fetch-post", False),
        ("search_books", False),
        ("Weather-get_weather", False),
        ("settings", False),
        ("", False),
        ("42", False),
    ],
)
def test_is_mutating_name(name, writes):
    assert is_mutating_name(name) is writes


@pytest.mark.parametrize(
    ("system", "text"),
    [
        (
            "postgresql",
            "SELECT $$SECRET$$, $a$ SECRET $a$, E'it\\'s SECRET' FROM t -- SECRET\n WHERE x = 1e5 /* SECRET */",
        ),
        ("postgresql", "SELECT * FROM a WHERE b = '/*' AND c = 'SECRET' AND d = '*/'"),
        ("postgresql", "SELECT * FROM a WHERE b = 'SECRET"),
        ("postgresql", "SELECT 1 /* SECRET"),
        ("postgresql", "SELECT * FROM a WHERE b = 'SECRET" + "x" * 9_000 + "'"),
        ("mysql", 'SELECT * FROM t WHERE a = "SECRET \\" SECRET"'),
        ("mongodb", '{"find": "users", "filter": {"password": "SECRET"}}'),
        ("elasticsearch", '{"query": {"match": "SECRET"}}'),
        ("neo4j", 'MATCH (n {name: "SECRET"}) RETURN n'),
        ("redis", "SET key SECRET"),
    ],
)
def test_no_value_of_a_query_is_in_its_name(system, text):
    operation = query(text, system).operation
    assert operation
    assert "SECRET" not in operation


def test_what_looks_like_a_comment_or_a_text_and_is_none_stays():
    assert sql_template('SELECT "a--b" FROM "t"') == 'SELECT "a--b" FROM "t"'
    assert query('SELECT * FROM "t" WHERE j->>$1 = 3').operation == 'SELECT * FROM "t" WHERE j->>$1 = ?'
