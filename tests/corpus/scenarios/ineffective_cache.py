from __future__ import annotations

from collections.abc import Sequence

from ..cases import Label, Part, negative, positive
from ..program import Program
from ..world import World

KIND = "ineffective_cache"
HIT_S = 0.003


class _Cached:
    """A computation behind a cache span: on a miss it follows the look-up, or happens inside it."""

    def __init__(self, world: World, seconds: float, inside: bool = False) -> None:
        self.name = world.pick(("prices", "profiles", "geo", "answers"))
        self.tool = world.tool_name()
        self._seconds, self._inside = seconds, inside

    def ask(self, program: Program, key: str | None, hit: bool, error: str | None = None) -> None:
        with program.inside("cache", self.name, args=key, hit=hit):
            program.wait(HIT_S)
            if not hit and self._inside:
                self._compute(program, key, error)
        if not hit and not self._inside:
            self._compute(program, key, error)

    def change(self, program: Program, operation: str, key: str | None = None) -> None:
        program.call("cache", self.name, HIT_S, operation=operation, args=key)

    def _compute(self, program: Program, key: str | None, error: str | None) -> None:
        program.tool(self.tool, self._seconds, {"key": key}, {"value_of": key}, error=error)


def _rounds(world: World, cached: _Cached, keys: Sequence[str], hits: Sequence[bool], repair: str) -> Part:
    """The keys in turn; `hits` says which look-ups after each key's first find something."""

    def body(program: Program) -> None:
        seen: set[str] = set()
        with program.inside("tool", "price_basket", args={"n": len(keys)}, result={"total": 3}):
            for key, hit in zip(keys, hits, strict=True):
                again = key in seen
                seen.add(key)
                cached.ask(program, key, again and (hit or program.repaired(repair)))

    # Computed anew with the same arguments: in the words of another kind the same problem.
    also = Label("duplicate_calls", (cached.tool,), repair, severity="info", optional=True)
    return Part(body, (Label(KIND, (cached.name,), repair), also))


@positive(KIND, needs="arguments")
def too_small_for_its_keys(world: World) -> Part:
    """Keys come round, and each has been thrown out when it is needed again."""
    keys = [world.identifier("k") for _ in range(world.count(3, 4))] * world.count(2, 4)
    cached = _Cached(world, world.log_uniform(0.15, 1.5))
    return _rounds(world, cached, keys, [False] * len(keys), world.key())


@positive(KIND)
def computed_inside_the_look_up(world: World) -> Part:
    """The computation is part of the cache's own call."""
    keys = [world.identifier("k") for _ in range(world.count(3, 4))] * 3
    cached = _Cached(world, world.log_uniform(0.15, 1.5), inside=True)
    return _rounds(world, cached, keys, [False] * len(keys), world.key())


@positive(KIND)
def one_key_missed_again(world: World) -> Part:
    """Three look-ups of one key, three misses."""
    cached = _Cached(world, world.log_uniform(0.5, 2.5))
    return _rounds(world, cached, [world.identifier("k")] * 3, [False] * 3, world.key())


@positive(KIND)
def rarely_hit(world: World) -> Part:
    """After its first touch, one look-up in four of a key finds something."""
    keys = [world.identifier("k") for _ in range(4)] * 5
    hits = [place % 4 == 0 for place in range(len(keys))]
    return _rounds(world, _Cached(world, world.log_uniform(0.15, 1.0)), keys, hits, world.key())


@positive(KIND)
def across_turns(world: World) -> Part:
    """Each turn looks the same two keys up and misses."""
    cached, repair = _Cached(world, world.log_uniform(0.3, 1.5)), world.key()
    keys = [world.identifier("k") for _ in range(2)]
    tools = [world.tool_name() for _ in range(4)]

    def body(program: Program) -> None:
        for number, tool in enumerate(tools):
            program.turn(asks=(tool,))
            with program.inside("tool", tool, args={"n": number}, result={"n": number * 7919}, asked=True):
                for key in keys:
                    cached.ask(program, key, number > 0 and program.repaired(repair))

    also = Label("duplicate_calls", (cached.tool,), repair, severity="info", optional=True)
    return Part(body, (Label(KIND, (cached.name,), repair), also), turns=True)


@positive(KIND)
def generations_not_found_again(world: World) -> Part:
    """A cache in front of a model, whose keys never match."""
    cached_s, repair, model = world.log_uniform(0.8, 3.0), world.key(), world.other_model()
    keys = [world.identifier("k") for _ in range(2)] * 3

    def body(program: Program) -> None:
        with program.inside("tool", "classify_mails", args={"n": 6}, result={"spam": 3}):
            for place, key in enumerate(keys):
                hit = place >= 2 and program.repaired(repair)
                program.call("cache", "answers", HIT_S, args=key, hit=hit)
                if not hit:
                    program.call("llm", model, cached_s, tokens=(200, round(60 * cached_s), None))

    return Part(body, (Label(KIND, ("answers",), repair),))


@negative(KIND)
def warming_up(world: World) -> Part:
    """Each key is missed once and found from then on."""
    keys = [world.identifier("k") for _ in range(4)] * 3
    cached = _Cached(world, world.log_uniform(0.15, 1.0))
    return Part(_rounds(world, cached, keys, [True] * len(keys), world.key()).body)


@negative(KIND)
def every_key_is_new(world: World) -> Part:
    """Eight look-ups of eight keys: all misses, and none could have been a hit."""
    cached, tools = _Cached(world, world.log_uniform(0.15, 1.0), inside=True), [world.tool_name() for _ in range(2)]
    keys = [world.identifier("k") for _ in range(8)]

    def body(program: Program) -> None:
        for place, tool in enumerate(tools):
            program.turn(asks=(tool,))
            with program.inside("tool", tool, args={"n": place}, result={"total": 3}, asked=True):
                for key in keys[4 * place : 4 * place + 4]:
                    cached.ask(program, key, hit=False)

    return Part(body, turns=True)


@negative(KIND)
def deleted_in_between(world: World) -> Part:
    """A key is missed again after the program has deleted it."""
    cached, key = _Cached(world, world.log_uniform(0.3, 1.5), inside=True), world.identifier("k")

    def body(program: Program) -> None:
        with program.inside("tool", "sync_prices", args={"n": 3}, result={"total": 3}):
            for number in range(3):
                cached.ask(program, key, hit=False)
                cached.ask(program, key, hit=True)
                cached.change(program, "delete", key)
                program.db("UPDATE prices SET amount = {} WHERE sku = 'a'", 0.004, number)

    return Part(body, (Label("duplicate_calls", (cached.tool,), severity="info", optional=True),))


@negative(KIND)
def cleared_in_between(world: World) -> Part:
    """The whole cache was cleared, and warms up again."""
    cached, keys = _Cached(world, world.log_uniform(0.3, 1.5), inside=True), [world.identifier("k") for _ in range(3)]

    def body(program: Program) -> None:
        with program.inside("tool", "sync_prices", args={"n": 3}, result={"total": 3}):
            for _ in range(2):
                for key in keys:
                    cached.ask(program, key, hit=False)
                    cached.ask(program, key, hit=True)
                cached.change(program, "clear")

    return Part(body, (Label("duplicate_calls", (cached.tool,), severity="info", optional=True),))


@negative(KIND)
def two_caches(world: World) -> Part:
    """Two caches that use the same keys, each missed once a key."""
    first = _Cached(world, world.log_uniform(0.3, 1.0), inside=True)
    second = _Cached(world, world.log_uniform(0.3, 1.0), inside=True)
    second.name = f"{first.name}_eu"
    keys = [world.identifier("k") for _ in range(4)]

    def body(program: Program) -> None:
        with program.inside("tool", "compare_prices", args={"n": 4}, result={"total": 3}):
            for key in keys:
                first.ask(program, key, hit=False)
                second.ask(program, key, hit=False)

    return Part(body)


@negative(KIND)
def cheap_to_compute(world: World) -> Part:
    """Misses again and again, of something that takes a millisecond."""
    keys = [world.identifier("k") for _ in range(3)] * 4
    cached = _Cached(world, 0.001)
    return Part(_rounds(world, cached, keys, [False] * len(keys), world.key()).body)


@negative(KIND)
def keys_unknown(world: World) -> Part:
    """Misses whose keys are not on the spans may all be first touches."""
    cached, texts = _Cached(world, world.log_uniform(0.2, 0.8), inside=True), [world.text() for _ in range(4)]

    def body(program: Program) -> None:
        with program.inside("tool", "price_basket", args={"n": 6}, result={"total": 3}):
            for text in texts:
                with program.inside("cache", cached.name, hit=False):
                    program.tool(cached.tool, 0.4, {"of": text}, {"value_of": text})

    return Part(body)


@negative(KIND)
def nothing_to_keep(world: World) -> Part:
    """The computation failed, so the next look-up had to miss."""
    cached, key = _Cached(world, world.log_uniform(0.3, 1.0), inside=True), world.identifier("k")

    def body(program: Program) -> None:
        with program.inside("tool", "price_basket", args={"n": 1}, result={"total": 3}):
            cached.ask(program, key, hit=False, error="ConnectionError")
            cached.ask(program, key, hit=False)
            program.tool("render_table", 3.5, {"rows": 1}, {"done": True})

    return Part(body, (Label("retry_storm", (cached.tool,), severity="warning", optional=True),))
