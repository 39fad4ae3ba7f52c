"""redis-py, sync and asyncio: each look-up, write and delete as a cache span, other work on data as a database span.

A look-up over the network costs far more than a span. Neither keys nor values leave: a key is a keyed hash, a
value its size. Where opentelemetry-instrumentation-redis makes a span of the same command, one of the two is made:
its span gets our attributes when it is outside, and is suppressed when it would be inside.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from opentelemetry import context as context_api
from opentelemetry.trace import Span, SpanKind, get_current_span

from .. import _guard, sanitize
from .. import _semconv as names
from ..capture.invocation import Invocation, attach, detach, error_type, start
from ..capture.patching import Patches, when_imported
from ..capture.streams import Ended, Start, drive_coroutine
from ..capture.tracing import SUPPRESSED, state

MODULES = ("redis",)
DISTRIBUTION = "redis"
VERSIONS = ">=5,<9"
SOURCE = "wrapped"
COVERS = ("caches",)
PARTS = (
    "redis.client",
    "redis.cluster",
    "redis.asyncio.client",
    "redis.asyncio.cluster",
)

_OTHERS = "opentelemetry.instrumentation.redis"
_OPERATIONS = {
    command: operation
    for operation, commands in {
        "get": "GET GETEX GETDEL GETRANGE MGET HGET HMGET HGETALL EXISTS HEXISTS JSON.GET JSON.MGET",
        "set": "SET SETEX PSETEX SETNX MSET MSETNX GETSET HSET HSETNX HMSET JSON.SET JSON.MSET",
        "delete": "DEL UNLINK HDEL JSON.DEL",
        "clear": "FLUSHDB FLUSHALL",
    }.items()
    for command in commands.split()
}
_FIELD = frozenset("HGET HEXISTS HSET HSETNX HDEL JSON.GET JSON.SET JSON.DEL".split())
"""commands whose second argument is part of what is looked up"""
_MANY = frozenset("MGET EXISTS DEL UNLINK".split())
_ALL = frozenset("MGET HMGET JSON.MGET".split())
"""look-ups of several things, which hit when all were found"""
_QUIET = frozenset(
    """PING ECHO AUTH HELLO SELECT QUIT RESET CLIENT CONFIG COMMAND INFO CLUSTER READONLY READWRITE ASKING SCRIPT
    FUNCTION ACL LATENCY MEMORY MODULE MONITOR SLOWLOG DEBUG SHUTDOWN ROLE WAIT WATCH UNWATCH MULTI EXEC DISCARD
    SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE PUBSUB BLPOP BRPOP BLMOVE BLMPOP BZPOPMIN
    BZPOPMAX BZMPOP XREAD XREADGROUP""".split()
)
"""about the connection or the server, or waiting for somebody else: not traced"""


class _Command(NamedTuple):
    name: str
    operation: str | None
    """of a cache; None: other work on data"""
    key: Any = None
    lookups: tuple[str, ...] = ()
    """the commands of which a look-up consists: several in a pipeline"""


def patch(patches: Patches) -> None:
    """Each client when it is imported."""
    for module, path, describe, run in (
        ("redis.client", "Redis.execute_command", _command, _call),
        ("redis.client", "Pipeline.execute", _pipeline, _call),
        ("redis.cluster", "RedisCluster.execute_command", _command, _call),
        ("redis.asyncio.client", "Redis.execute_command", _command, _await),
        ("redis.asyncio.client", "Pipeline.execute", _pipeline, _await),
        ("redis.asyncio.cluster", "RedisCluster.execute_command", _command, _await),
    ):
        when_imported((module,), partial(patches.wrap, module, path, partial(_traced, describe, run)))


def _traced(
    describe: Callable[[Any, tuple[Any, ...]], _Command | None],
    run: Callable[..., Any],
    wrapped: Callable[..., Any],
    client: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    command = None
    with _guard.guard("redis"):
        command = describe(client, args)
    if command is None:
        return wrapped(*args, **kwargs)
    return run(partial(_begin, client, command), partial(_ended, command), partial(wrapped, *args, **kwargs))


def _call(begin: Start, ended: Ended, execute: Callable[[], Any]) -> Any:
    invocation = begin()
    if invocation is None:
        return execute()
    token = attach(invocation)
    try:
        result = execute()
    except BaseException as error:
        detach(invocation, token)
        invocation.fail(error)
        raise
    detach(invocation, token)
    return ended(invocation, result)


def _await(begin: Start, ended: Ended, execute: Callable[[], Any]) -> Any:
    return drive_coroutine(begin, execute(), ended)


class _Borrowed(Invocation):
    """A call whose span is somebody else's: it gets our attributes, and its maker ends it."""

    __slots__ = ()

    def stop(self, result: Any = None) -> None:
        self.span.set_attributes({key: value for key, value in self._values.items() if value is not None})

    def fail(self, error: BaseException) -> None:
        self.span.set_attribute(names.ERROR_TYPE, error_type(error))


@_guard.guarded("redis.begin", None)
def _begin(client: Any, command: _Command) -> Invocation | None:
    if context_api.get_value(SUPPRESSED) or (command.operation and state.config.cache_spans == "none"):
        return None
    span = get_current_span()
    attributes = {names.DB_SYSTEM_NAME: "redis", names.DB_OPERATION_NAME: command.name}
    if command.operation is not None:
        attributes.update({names.CACHE_OPERATION: command.operation, names.CACHE_SYSTEM: "redis"})
    if _is_others(span):
        return _borrow(span, client, command, attributes)
    if command.operation is None:
        invocation: Invocation | None = Invocation(
            "other", state.tracer.start_span(command.name, kind=SpanKind.CLIENT, attributes=attributes)
        )
    else:
        invocation = start("cache", _cache_name(client), attributes, command.key)
    if invocation is not None and _OTHERS in sys.modules:
        invocation.context = context_api.set_value(SUPPRESSED, True, invocation.context)
    return invocation


def _borrow(span: Span, client: Any, command: _Command, attributes: dict[str, Any]) -> Invocation | None:
    if command.operation is None:
        return None
    span.set_attributes({**attributes, names.CACHE_NAME: _cache_name(client)})
    invocation = _Borrowed("cache", span)
    invocation.arguments(command.key)
    return invocation


def _is_others(span: Span) -> bool:
    scope = getattr(span, "instrumentation_scope", None)
    return scope is not None and scope.name == _OTHERS


def _cache_name(client: Any) -> str:
    """Bounded, unlike key prefixes: the database's number where it is not the usual one."""
    pool = getattr(client, "connection_pool", None)
    number = getattr(pool, "connection_kwargs", {}).get("db")
    return f"redis/{number}" if number else "redis"


def _command(client: Any, args: tuple[Any, ...]) -> _Command | None:
    name = _name(args[0])
    if name.partition(" ")[0] in _QUIET:
        return None
    operation = _OPERATIONS.get(name)
    return _Command(name, operation, _key(name, args), (name,) if operation == "get" else ())


def _pipeline(pipeline: Any, args: tuple[Any, ...]) -> _Command | None:
    """Commands of one kind are one operation of the cache; mixed ones are work on a database."""
    stack = getattr(pipeline, "command_stack", None)
    commands = [_command(pipeline, getattr(one, "args", None) or one[0]) for one in stack or ()]
    if not commands:
        return None
    operations = {command.operation if command else None for command in commands}
    operation = operations.pop() if len(operations) == 1 else None
    if operation is None:
        return _Command("PIPELINE", None)
    known = [command for command in commands if command]
    return _Command("PIPELINE", operation, [command.key for command in known], tuple(c.name for c in known
                    if operation == "get"))  # fmt: skip


def _name(command: Any) -> str:
    text = command.decode("ascii", "replace") if isinstance(command, bytes) else str(command)
    return sanitize.name(text[:32]).upper()


def _key(name: str, args: tuple[Any, ...]) -> Any:
    """What a command looks up or writes: the same for `GET k`, `SET k …` and `DEL k`."""
    if name in ("MSET", "MSETNX"):
        keys = list(args[1::2])
    elif name in _MANY:
        keys = list(args[1:])
    else:
        keys = list(args[1:3] if name in _FIELD else args[1:2])
    plain = [_plain(key) for key in keys]
    return plain[0] if len(plain) == 1 else plain


def _plain(key: Any) -> Any:
    """Redis knows no difference between b"1", "1" and 1."""
    if isinstance(key, (bytes, bytearray, memoryview)):
        return bytes(key).decode("utf-8", "backslashreplace")
    return str(key) if isinstance(key, (int, float)) else key


def _ended(command: _Command, invocation: Invocation, result: Any) -> Any:
    with _guard.guard("redis.result"):
        if command.lookups:
            results = result if command.name == "PIPELINE" else [result]
            invocation.hit(all(map(_found, command.lookups, results)))
        if command.operation == "get" and isinstance(result, (str, bytes)):
            invocation.set(names.RESULT_SIZE, len(result))
    invocation.stop()
    return result


def _found(name: str, result: Any) -> bool:
    if isinstance(result, Exception) or result is None:
        return False
    if name in _ALL and isinstance(result, list):
        return all(item is not None for item in result)
    return bool(result) if name in ("EXISTS", "HEXISTS", "HGETALL", "GETRANGE") else True
