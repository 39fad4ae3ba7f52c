"""Names and identities of db and http calls: the query or URL with its values taken out, and the values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

Attributes = Mapping[str, Any]


class Call(NamedTuple):
    operation: str
    """the template"""
    mutating: bool
    args: str | None
    """the values, or None where the span does not show them"""


_LONGEST_QUERY = 8_192
"""characters that are looked at: templating a query takes 0.2 µs a character, on the thread that has made it"""
_TEXT = r"'(?:[^'\\]|\\.|'')*(?:'|\\?\Z)"
"""… or its beginning, where the query is cut"""
_DOUBLE = r'"(?:[^"\\]|\\.|"")*(?:"|\\?\Z)'
_COMMENT = re.compile(rf"({_TEXT}|{_DOUBLE})|/\*.*?(?:\*/|\Z)|--[^\n]*", re.DOTALL)
"""sqlcommenter adds the trace id to every query in one"""
_LITERAL = re.compile(
    rf"{_TEXT}|\$(?P<tag>(?:[a-z_]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)|(?<![$:@])\b(?:0x[0-9a-f]+|\d+(?:\.\d+)?(?:e[-+]?\d+)?)\b",
    re.DOTALL | re.IGNORECASE,
)
_DOUBLE_QUOTED = re.compile(_DOUBLE, re.DOTALL)
_TEXTS_IN_DOUBLE_QUOTES = frozenset(
    {"mysql", "mariadb", "bigquery", "gcp.bigquery", "spark", "hive", "databricks", "neo4j", "gremlin"}
)
"""elsewhere they hold the name of a table or column"""
_WORD = re.compile(r"[A-Za-z]\w*")
_LIST = re.compile(r"\(\s*\?(?:\s*,\s*\?)+\s*\)")
_OPEN_LIST = re.compile(r"\(\s*\?(?:\s*,\s*\?)*[^()]*\Z")
"""… of a query that is too long to be looked at whole"""
_SPACE = re.compile(r"\s+")
_PLACEHOLDER = re.compile(r"\?|\$\d+|%s|%\(\w+\)s|(?<!:):\w+|@[a-z_]\w*", re.IGNORECASE)
_WRITES = re.compile(
    r"\s*(insert|update|delete|replace|merge|upsert|create|drop|alter|truncate|call|grant"
    r"|set|mset|setex|setnx|getset|del|unlink|incr\w*|decr\w*|expire\w*|hset|hmset|hdel|hincr\w*"
    r"|lpush|rpush|lpop|rpop|blpop|brpop|sadd|srem|spop|zadd|zrem|xadd|append|flush\w*|rename)\b"
    r"|\s*with\b.*\b(?:insert\s+into|update|delete\s+from|merge\s+into)\s",
    re.IGNORECASE | re.DOTALL,
)
_LOCKS = re.compile(
    r"\b(?:(?:nextval|setval|pg_(?:try_)?advisory_\w+|get_lock|release_lock)\s*\(|for\s+(?:no\s+key\s+)?update\b|skip\s+locked\b)",
    re.IGNORECASE,
)
"""what changes something inside a SELECT: the next number of a sequence, a lock, the next job of a queue"""
_READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_IDENTIFIER = re.compile(
    r"\d+|[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f-]{4,}|(?=[\w-]*\d)[\w-]{12,}"
    r"|[a-z]+[-_.:]\d[\w-]*|(?!v\d+$)[a-z]{1,3}\d+(?:\.[a-z]{2,5})?",
    re.IGNORECASE,
)
"""numbers, UUIDs and long keys, and short ones such as `u7`, `item-12` (but not a version such as `v2`)"""
_FIRST_WORD = re.compile(r"[a-z]+|[A-Z][a-z]*")
_MUTATING_VERBS = frozenset(
    """
    add append apply approve assign book buy cancel change charge clear close commit create delete
    deploy disable drop edit enable insert merge modify move order patch pay pop post publish
    purchase push put register remove rename replace reserve reset save send set store submit
    transfer undo unset update upload upsert write
    """.split()
)
_READING_VERBS = frozenset(
    "get list fetch read search find query lookup load check show describe retrieve count view is has".split()
)
_NAME_PARTS = re.compile(r"__|[-./:]")
_KEY_VALUE_STORES = frozenset({"redis", "memcached", "valkey"})


def db_call(name: str, attributes: Attributes) -> Call:
    """A database call. Bound parameters are read from `db.query.parameter.*`; without them and without
    literals in the text, what was asked for is unknown."""
    text = attributes.get("db.query.text") or attributes.get("db.statement")
    text = text if isinstance(text, str) else ""
    is_cut = len(text) > _LONGEST_QUERY
    text = text[:_LONGEST_QUERY]
    system = str(attributes.get("db.system.name", attributes.get("db.system", "")))
    # A document instead of a query (MongoDB, Elasticsearch) is all values.
    is_document = text.lstrip()[:1] in ("{", "[")
    if system not in _KEY_VALUE_STORES and not is_document:
        text = _COMMENT.sub(lambda found: found[1] or " ", text)
    text = _SPACE.sub(" ", text).strip()
    word = _WORD.match(text)
    verb = str(attributes.get("db.operation.name") or attributes.get("db.operation") or (word[0] if word else ""))
    mutating = bool(_WRITES.match(text) or _WRITES.match(verb))
    if system in _KEY_VALUE_STORES:
        args = text if " " in text and "?" not in text and not is_cut else None
        return Call(verb or name, mutating, args)
    told = attributes.get("db.query.summary") or f"{verb} {attributes.get('db.collection.name', '')}".strip()
    template = "" if is_document else sql_template(text, system in _TEXTS_IN_DOUBLE_QUOTES)
    template = template or told or name
    if is_cut:
        template = _OPEN_LIST.sub("(?)", template)
    args = None if is_cut else _query_values(text, attributes)
    return Call(template, mutating or bool(_LOCKS.search(template)), args)


def sql_template(text: str, in_double_quotes: bool = False) -> str:
    """The query with its literals as `?` and lists as one: `SELECT … WHERE id = ?`."""
    if in_double_quotes:
        text = _DOUBLE_QUOTED.sub("?", text)
    return _LIST.sub("(?)", _LITERAL.sub("?", text))


def _query_values(text: str, attributes: Attributes) -> str | None:
    bound = {key: str(value) for key, value in attributes.items() if key.startswith("db.query.parameter.")}
    given = attributes.get("db.statement.parameters")
    if bound or given:
        return json.dumps([text, bound, str(given or "")], sort_keys=True)
    if not text or _PLACEHOLDER.search(_LITERAL.sub("0", text)):
        return None
    return text


def http_call(name: str, attributes: Attributes) -> Call:
    """An outgoing http call, named by its URL template. The body of a POST is not on the span, so what it
    asked for is unknown."""
    method = str(attributes.get("http.request.method") or attributes.get("http.method") or "GET").upper()
    url = attributes.get("url.full") or attributes.get("http.url")
    url = url if isinstance(url, str) and len(url) <= _LONGEST_QUERY else ""
    template = attributes.get("url.template") or attributes.get("http.route")
    mutating = method not in _READ_METHODS
    args = None if mutating or not url else url
    return Call(str(template or url_template(url) or name), mutating, args)


def url_template(url: str) -> str:
    """The URL without query, its identifiers as `{id}`: `https://host/users/{id}`."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return ""
    path = "/".join("{id}" if _IDENTIFIER.fullmatch(part) else part for part in parts.path.split("/"))
    return f"{parts.scheme}://{host}{path}" if host else path


@lru_cache(maxsize=1_024)
def is_mutating_name(name: str) -> bool:
    """Does a tool's name begin with a verb that changes something (`create_ticket`, `bookFlight`)? Or, behind the
    name of a server or plugin, its last part (`github__create_issue`, `Lights-change_state`)?"""
    first = _first_word(name)
    if first in _READING_VERBS:
        return False
    return first in _MUTATING_VERBS or _first_word(_NAME_PARTS.split(name)[-1]) in _MUTATING_VERBS


def _first_word(name: str) -> str:
    word = _FIRST_WORD.match(name)
    return word.group().lower() if word else ""
