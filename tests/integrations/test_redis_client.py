"""redis-py against a real server: each look-up once, hit or miss, and nothing of what is stored."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.cluster
from opentelemetry.instrumentation.utils import is_instrumentation_enabled, suppress_instrumentation

from _recorded import Recorded, counted
from _redis_server import redis_server
from otel_agentperf import agent, uninstrument


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with redis_server() as running:
        yield running


@pytest.fixture
def client(port: int) -> Iterator[redis.Redis]:
    with redis.Redis(port=port, decode_responses=True) as opened:
        with suppress_instrumentation():
            opened.flushall()
        yield opened


def lookups(recorded: Recorded) -> list[tuple[str, bool | None]]:
    """(operation, hit) of each cache span."""
    found = []
    for span in recorded.spans:
        attributes = dict(span.attributes or {})
        if "agentperf.cache.operation" in attributes:
            found.append((attributes["agentperf.cache.operation"], attributes.get("agentperf.cache.hit")))
    return found  # type: ignore[return-value]


def test_lookups_writes_and_deletes(recorded: Recorded, client: redis.Redis) -> None:
    with agent("planner"):
        assert client.get("secret-key") is None
        client.set("secret-key", "secret-value", ex=10)
        assert client.get("secret-key") == "secret-value"
        client.hset("user", "name", "Ann")
        assert [client.hget("user", "name"), client.hget("user", "age")] == ["Ann", None]
        assert [client.exists("user"), client.exists("nobody")] == [1, 0]
        assert client.mget("secret-key", "user-2") == ["secret-value", None]
        assert client.hgetall("nobody") == {}
        client.delete("secret-key")
        client.flushdb()
    assert lookups(recorded) == [
        ("get", False), ("set", None), ("get", True), ("set", None), ("get", True), ("get", False),
        ("get", True), ("get", False), ("get", False), ("get", False), ("delete", None), ("clear", None),
    ]  # fmt: skip
    cache = recorded.report.caches[0]
    assert (cache.name, cache.lookups, cache.hits) == ("redis", 9, 4)
    shown = str([dict(span.attributes or {}) for span in recorded.spans])
    assert "secret" not in shown
    assert "Ann" not in shown
    first = dict(recorded.named("cache get redis")[0].attributes or {})
    assert first["db.system.name"] == "redis"
    assert first["db.operation.name"] == "GET"
    assert recorded.traces == 1


def test_the_same_key_has_the_same_hash_whatever_is_done_with_it(recorded: Recorded, client: redis.Redis) -> None:
    client.get("7")
    client.set(b"7", "x")
    client.get(7)  # type: ignore[arg-type]
    client.mget("7")
    client.delete("7")
    client.get("8")
    hashes = [dict(span.attributes or {})["agentperf.cache.key.hash"] for span in recorded.spans]
    assert len(set(hashes[:5])) == 1
    assert hashes[5] != hashes[0]


def test_other_work_on_data_is_a_database_span_and_housekeeping_is_none(
    recorded: Recorded, client: redis.Redis
) -> None:
    with agent("planner"):
        client.ping()
        client.client_setname("me")
        client.config_get("maxmemory")
        client.blpop(["queue"], timeout=0.01)  # type: ignore[arg-type]
        client.append("count", "1")
        client.lpush("queue", "x")
    assert [span.name for span in recorded.spans] == ["invoke_agent planner", "APPEND", "LPUSH"]
    assert counted(recorded.report, "db") == {"APPEND": 1, "LPUSH": 1}


def test_pipelines(recorded: Recorded, client: redis.Redis) -> None:
    client.set("a", "1")
    recorded.forget()
    with agent("planner"):
        with client.pipeline() as pipe:
            assert pipe.get("a").get("b").execute() == ["1", None]
        with client.pipeline(transaction=False) as pipe:
            assert pipe.get("a").get("a").execute() == ["1", "1"]
        with client.pipeline() as pipe:
            pipe.set("b", "2").append("count", "1").execute()
        with client.pipeline() as pipe:
            assert pipe.execute() == []
    assert lookups(recorded) == [("get", False), ("get", True)]
    assert [span.name for span in recorded.spans][1:] == ["cache get redis", "cache get redis", "PIPELINE"]


def test_asyncio(recorded: Recorded, port: int) -> None:
    async def go() -> None:
        async with redis.asyncio.Redis(port=port, db=2) as client:
            with suppress_instrumentation():
                await client.flushdb()
            with agent("planner"):
                assert await client.get("a") is None
                await client.set("a", "1")
                assert await asyncio.gather(client.get("a"), client.get("a")) == [b"1", b"1"]
                async with client.pipeline() as pipe:
                    assert await pipe.get("a").execute() == [b"1"]

    asyncio.run(go())
    assert counted(recorded.report, "cache") == {"redis/2": 5}
    assert lookups(recorded) == [("get", False), ("set", None), ("get", True), ("get", True), ("get", True)]


def test_a_failing_command_and_a_missing_server(recorded: Recorded, client: redis.Redis) -> None:
    client.lpush("list", "x")
    recorded.forget()
    with pytest.raises(redis.ResponseError):
        client.get("list")
    with redis.Redis(port=1) as nobody, pytest.raises(redis.ConnectionError):
        nobody.get("a")
    errors = [dict(span.attributes or {})["error.type"] for span in recorded.named("cache get redis")]
    assert errors == ["redis.exceptions.ResponseError", "redis.exceptions.ConnectionError"]
    assert lookups(recorded) == [("get", None), ("get", None)]
    assert all(span.events == () for span in recorded.spans)


def test_a_cancelled_command(recorded: Recorded, port: int) -> None:
    async def go() -> None:
        async with redis.asyncio.Redis(port=port) as client, redis.asyncio.Redis(port=port) as other:
            await client.ping()
            await other.execute_command("CLIENT", "PAUSE", "300")
            task = asyncio.create_task(client.get("a"))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.3)

    asyncio.run(go())
    assert dict(recorded.one("cache get redis").attributes or {})["error.type"] == "CancelledError"


def test_wrong_arguments_are_the_librarys_to_refuse(recorded: Recorded, client: redis.Redis) -> None:
    with pytest.raises(redis.DataError):
        client.get({"no": "key"})  # type: ignore[arg-type]


@pytest.mark.parametrize("wanted", ["none", "remote", "all"])
def test_the_setting_says_whether_lookups_are_spans(
    instrumented: Callable[..., Recorded], client: redis.Redis, wanted: str
) -> None:
    recorded = instrumented(cache_spans=wanted)
    client.get("a")
    client.append("count", "1")
    assert [span.name for span in recorded.spans] == (["APPEND"] if wanted == "none" else ["cache get redis", "APPEND"])


def test_suppressed_means_untraced(recorded: Recorded, client: redis.Redis) -> None:
    with suppress_instrumentation():
        client.get("a")
        client.append("b", "1")
    assert recorded.spans == []


def test_another_instrumentation_outside_keeps_its_span(recorded: Recorded, client: redis.Redis) -> None:
    tracer = recorded.provider.get_tracer("opentelemetry.instrumentation.redis")
    with agent("planner"):
        with tracer.start_as_current_span("GET", attributes={"db.system": "redis"}):
            client.get("a")
        with tracer.start_as_current_span("APPEND", attributes={"db.system": "redis"}):
            client.append("count", "1")
    assert [span.name for span in recorded.spans] == ["invoke_agent planner", "GET", "APPEND"]
    assert lookups(recorded) == [("get", False)]
    assert counted(recorded.report, "cache") == {"redis": 1}
    assert counted(recorded.report, "db") == {"APPEND": 1}


def test_another_instrumentation_inside_makes_no_span(
    recorded: Recorded, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.redis", types.ModuleType("redis"))
    seen: list[bool] = []
    inner: Any = redis.Redis._execute_command

    def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(is_instrumentation_enabled())
        return inner(self, *args, **kwargs)

    monkeypatch.setattr(redis.Redis, "_execute_command", execute)
    client.get("a")
    assert seen == [False]
    assert is_instrumentation_enabled()


def test_taking_it_back(instrumented: Callable[..., Recorded], client: redis.Redis) -> None:
    before = redis.Redis.execute_command
    recorded = instrumented()
    uninstrument()
    assert redis.Redis.execute_command is before
    client.get("a")
    assert recorded.spans == []


def told(recorded: Recorded) -> tuple[int, int]:
    """(look-ups, hits) in the report."""
    (cache,) = recorded.report.caches
    return cache.lookups, cache.hits


def test_several_keys_and_fields_are_several_lookups(recorded: Recorded, client: redis.Redis) -> None:
    client.mset({"a": "1", "b": "2"})
    client.hset("user", mapping={"name": "Ann", "age": "7"})
    recorded.forget()
    with agent("planner"):
        assert client.mget("a", "b", "c") == ["1", "2", None]
        assert client.hmget("user", ["name", "size"]) == ["Ann", None]
        assert client.exists("a", "b", "c") == 2
        assert client.mget("a", "b") == ["1", "2"]
    assert told(recorded) == (10, 7)
    hits = [dict(span.attributes or {}).get("agentperf.cache.hit") for span in recorded.named("cache get redis")]
    assert hits == [False, False, False, True]


def test_fields_of_a_hash_are_different_keys(recorded: Recorded, client: redis.Redis) -> None:
    client.hmget("user", ["name"])
    client.hmget("user", ["age"])
    hashes = {dict(span.attributes or {})["agentperf.cache.key.hash"] for span in recorded.spans}
    assert len(hashes) == 2


def test_lookups_in_a_pipeline_count_one_by_one_whatever_else_it_does(recorded: Recorded, client: redis.Redis) -> None:
    client.set("a", "1")
    recorded.forget()
    with agent("planner"), client.pipeline(transaction=True) as pipe:
        answers = pipe.get("a").expire("a", 60).get("b").mget("a", "b").set("c", "1").execute()
    assert answers == ["1", True, None, ["1", None], True]
    assert told(recorded) == (4, 2)


def test_a_refused_command_in_a_pipeline_looked_nothing_up(recorded: Recorded, client: redis.Redis) -> None:
    client.lpush("queue", "x")
    recorded.forget()
    with agent("planner"), client.pipeline(transaction=False) as pipe:
        refused, missing = pipe.get("queue").get("b").execute(raise_on_error=False)
    assert isinstance(refused, redis.ResponseError)
    assert missing is None
    assert told(recorded) == (1, 0)


def test_lookups_under_watch_and_in_transactions(recorded: Recorded, client: redis.Redis) -> None:
    client.set("count", "1")
    recorded.forget()

    def increase(pipe: Any) -> None:
        count = int(pipe.get("count"))
        pipe.multi()
        pipe.set("count", count + 1)

    with agent("planner"):
        assert client.transaction(increase, "count") == [True]
        assert client.get("count") == "2"
    assert told(recorded) == (2, 2)
    assert [kind for kind, _ in lookups(recorded)] == ["get", "set", "get"]


def test_async_transactions(recorded: Recorded, port: int) -> None:
    async def go() -> None:
        async with redis.asyncio.Redis(port=port) as client:
            await client.set("count", "1")
            async with client.pipeline() as pipe:
                await pipe.watch("count")
                assert await pipe.get("count") == b"1"
                pipe.multi()
                assert await pipe.get("count").get("nothing").execute() == [b"1", None]

    with agent("planner"):
        asyncio.run(go())
    assert told(recorded) == (3, 2)


def test_a_server_that_is_not_there(recorded: Recorded) -> None:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    with agent("planner"):
        client = redis.Redis(port=1, retry=Retry(NoBackoff(), 0))
        with pytest.raises(redis.ConnectionError):
            client.get("a")
        with pytest.raises(redis.ConnectionError), client.pipeline() as pipe:
            pipe.get("a").execute()
    assert [dict(span.attributes or {})["error.type"] for span in recorded.named("cache get redis")] == [
        "redis.exceptions.ConnectionError"
    ] * 2
    assert recorded.report.caches == ()


def test_client_side_caching_counts_what_the_program_asks(
    recorded: Recorded, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from redis.cache import CacheConfig
    from redis.connection import CacheProxyConnection

    # Older servers can do it, too, but redis-py refuses to try.
    monkeypatch.setattr(CacheProxyConnection, "MIN_ALLOWED_VERSION", "7.0.0")

    with redis.Redis(port=port, protocol=3, cache_config=CacheConfig(), decode_responses=True) as client:
        client.set("a", "1")
        recorded.forget()
        with agent("planner"):
            assert [client.get("a"), client.get("a"), client.get("nothing")] == ["1", "1", None]
    assert told(recorded) == (3, 2)


@pytest.fixture(scope="module")
def cluster_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = str(tmp_path_factory.mktemp("cluster"))
    # The usual port of the bus, ten thousand above the other, may not exist.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        bus = str(free.getsockname()[1])
    with redis_server("--cluster-enabled", "yes", "--cluster-port", bus, "--dir", folder) as running:
        with redis.Redis(port=running, decode_responses=True) as node:
            node.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            for _ in range(500):
                if node.execute_command("CLUSTER INFO")["cluster_state"] == "ok":
                    break
                time.sleep(0.02)
        yield running


def test_a_cluster(recorded: Recorded, cluster_port: int) -> None:
    with redis.cluster.RedisCluster(host="127.0.0.1", port=cluster_port, decode_responses=True) as client:
        recorded.forget()
        with agent("planner"):
            client.set("a", "1")
            assert [client.get("a"), client.get("b")] == ["1", None]
            with client.pipeline() as pipe:
                assert pipe.get("a").get("b").execute() == ["1", None]
    assert told(recorded) == (4, 2)
    assert [span.name for span in recorded.spans] == ["invoke_agent planner", "cache set redis"] + [
        "cache get redis"
    ] * 3


def test_an_async_cluster(recorded: Recorded, cluster_port: int) -> None:
    async def go() -> None:
        async with redis.asyncio.cluster.RedisCluster(host="127.0.0.1", port=cluster_port) as client:
            await client.set("a", "1")
            assert [await client.get("a"), await client.get("b")] == [b"1", None]
            async with client.pipeline() as pipe:
                assert await pipe.get("a").get("b").get("a").execute() == [b"1", None, b"1"]

    with agent("planner"):
        asyncio.run(go())
    assert told(recorded) == (5, 3)
    assert len(recorded.named("cache get redis")) == 3


def test_a_client_of_the_users_own(recorded: Recorded, port: int) -> None:
    class Prefixed(redis.Redis):
        def execute_command(self, *args: Any, **options: Any) -> Any:
            return super().execute_command(args[0], f"app:{args[1]}", *args[2:], **options)

    with agent("planner"), Prefixed(port=port) as client:
        client.set("a", "1")
        assert client.get("a") == b"1"
    assert told(recorded) == (1, 1)
