"""redis-py, sync and asyncio: each look-up, write and delete as a cache span, other work on data as a database span.

A look-up over the network costs far more than a span. Several keys or fields at once, and the look-ups of a pipeline,
are one span that tells how many of them were found. Neither keys nor values leave: a key is a keyed hash, a value its
size. Where opentelemetry-instrumentation-redis makes a span of the same command, one of the two is made:
its span gets our attributes when it is outside, and is suppressed when it would be inside.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
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
from ._lookups import asked_for

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
_MANY = frozenset("MGET EXISTS DEL UNLINK HMGET JSON.MGET".split())
"""commands all of whose arguments are"""
_EACH = {"MGET": 1, "HMGET": 2, "JSON.MGET": 2}
"""look-ups of several things that give a list, and how many of their words, the first included, are none of them"""
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
    lookups: tuple[tuple[int, str, int], ...] = ()
    """the commands of which a look-up consists, several in a pipeline: place, name, how many things are looked up"""


def patch(patches: Patches) -> None:
    """Each client when it is imported."""
    for module, path, describe, run in (
        ("redis.client", "Redis.execute_command", _command, _call),
        ("redis.client", "Pipeline.execute", _pipeline, _call),
        ("redis.client", "Pipeline.immediate_execute_command", _command, _call),
        ("redis.cluster", "RedisCluster.execute_command", _command, _call),
        ("redis.cluster", "ClusterPipeline.execute", _pipeline, _call),
        ("redis.asyncio.client", "Redis.execute_command", _command, _await),
        ("redis.asyncio.client", "Pipeline.execute", _pipeline, _await),
        ("redis.asyncio.client", "Pipeline.immediate_execute_command", _command, _await),
        ("redis.asyncio.cluster", "RedisCluster.execute_command", _command, _await),
        ("redis.asyncio.cluster", "ClusterPipeline.execute", _pipeline, _await),
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
    if asked_for.get():  # by another cache, whose look-up this is
        return (
            wrapped(*args, **kwargs) if _OTHERS not in sys.modules else _SILENT[run](partial(wrapped, *args, **kwargs))
        )
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


def _call_silently(execute: Callable[[], Any]) -> Any:
    token = context_api.attach(context_api.set_value(SUPPRESSED, True))
    try:
        return execute()
    finally:
        context_api.detach(token)


async def _await_silently(execute: Callable[[], Any]) -> Any:
    context = context_api.set_value(SUPPRESSED, True)
    token = context_api.attach(context)
    try:
        return await execute()
    finally:
        if context_api.get_current() is context:  # not where it is closed from elsewhere
            context_api.detach(token)


_SILENT: dict[Callable[..., Any], Callable[..., Any]] = {_call: _call_silently, _await: _await_silently}


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
    things = max(1, len(args) - _EACH[name]) if name in _EACH else len(args) - 1 if name == "EXISTS" else 1
    return _Command(name, operation, _key(name, args), ((0, name, things),) if operation == "get" else ())


def _pipeline(pipeline: Any, args: tuple[Any, ...]) -> _Command | None:
    """A pipeline that looks something up is a look-up, whatever else it does; one of other commands of one kind is
    that operation of the cache; mixed ones are work on a database."""
    commands = [_command(pipeline, getattr(one, "args", None) or one[0]) for one in _stack(pipeline)]
    if not commands:
        return None
    looking = [(place, command) for place, command in enumerate(commands) if command and command.lookups]
    if looking:
        lookups = tuple((place, command.name, command.lookups[0][2]) for place, command in looking)
        return _Command("PIPELINE", "get", [command.key for _, command in looking], lookups)
    operations = {command.operation if command else None for command in commands}
    operation = operations.pop() if len(operations) == 1 else None
    keys = [command.key for command in commands if command] if operation else None
    return _Command("PIPELINE", operation, keys)


def _stack(pipeline: Any) -> Sequence[Any]:
    """A cluster's pipeline leaves its commands to a strategy, sync by one name, async by another; once it did not."""
    holder = getattr(pipeline, "_execution_strategy", None) or pipeline
    for name in ("command_queue", "_command_queue", "command_stack", "_command_stack"):
        stack: Sequence[Any] | None = getattr(holder, name, None)
        if stack:
            return stack
    return ()


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
    try:
        with _guard.guard("redis.result"):
            if command.lookups:
                _count(command, invocation, result if command.name == "PIPELINE" else [result])
            if command.operation == "get" and isinstance(result, (str, bytes)):
                invocation.set(names.RESULT_SIZE, len(result))
    finally:
        invocation.stop()
    return result


def _count(command: _Command, invocation: Invocation, results: Sequence[Any]) -> None:
    """A command that the server refused looked nothing up."""
    told = [(name, things, results[place]) for place, name, things in command.lookups]
    told = [one for one in told if not isinstance(one[2], Exception)]
    things = sum(count for _, count, _ in told)
    if not things:
        return
    found = sum(_found(name, result) for name, _, result in told)
    invocation.hit(found >= things)
    if things > 1:
        invocation.set(names.CACHE_LOOKUPS, things)
        invocation.set(names.CACHE_FOUND, found)


def _found(name: str, result: Any) -> int:
    if result is None:
        return 0
    if name in _EACH and isinstance(result, list):
        return sum(item is not None for item in result)
    if name == "EXISTS":
        return int(result)
    return bool(result) if name in ("HEXISTS", "HGETALL", "GETRANGE") else 1
