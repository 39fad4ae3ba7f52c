from __future__ import annotations

from ..cases import Label, Part, negative, positive, unclear
from ..program import Program
from ..world import World

KIND = "resource_saturation"
QUERY = "SELECT * FROM facts WHERE id = {}"


def _at_once(world: World, count: int, queries: tuple[str, ...] = (QUERY,)) -> Part:
    times, tool = world.times(count, 0.1, 0.7), world.tool_name()
    first = world.count(1000, 9000)

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"rows": count}, asked=True):
            calls = [
                lambda at=at: program.db(queries[at % len(queries)], times[at], first + at)  # type: ignore[misc]
                for at in range(count)
            ]
            program.gather(*calls)

    names = tuple(world.sql_name(query) for query in queries)
    return Part(body, (Label(KIND, (*names, tool, "postgresql"), severity="info"),), asks=(tool,))


@positive(KIND)
def every_connection_at_once(world: World) -> Part:
    """A fan-out of queries that needs more connections than pools have."""
    return _at_once(world, world.count(13, 60))


@positive(KIND)
def several_statements(world: World) -> Part:
    """Different queries, all at the same time."""
    queries = (QUERY, "SELECT * FROM notes WHERE id = {}", "SELECT * FROM tags WHERE id = {}")
    return _at_once(world, world.count(15, 40), queries)


@positive(KIND)
def from_tools_in_parallel(world: World) -> Part:
    """Fifteen tools at once, each with its query."""
    times, tool = world.times(15, 0.2, 0.7), world.tool_name()

    def one(program: Program, place: int) -> None:
        with program.inside("tool", tool, args={"n": place}, result={"row": place * 7919}, asked=True):
            program.db(QUERY, times[place], 100 + place)

    def body(program: Program) -> None:
        program.gather(*[lambda at=at: one(program, at) for at in range(15)])  # type: ignore[misc]

    return Part(
        body,
        (Label(KIND, (world.sql_name(QUERY), tool, "postgresql", world.agent), severity="info"),),
        asks=(tool,) * 15,
    )


@negative(KIND)
def a_few_at_once(world: World) -> Part:
    """Seven queries at the same time."""
    part = _at_once(world, 7)
    return Part(part.body, asks=part.asks)


@negative(KIND)
def many_one_by_one(world: World) -> Part:
    """Thirty queries, one after the other."""
    times, tool, key = world.times(30, 0.02, 0.1), world.tool_name(), world.key()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"rows": 30}, asked=True):
            for place, seconds in enumerate(times[:1] if program.repaired(key) else times):
                program.db(QUERY, max(times) if program.repaired(key) else seconds, 100 + place)

    return Part(body, (Label("n_plus_one_calls", (world.sql_name(QUERY),), key),), asks=(tool,))


@negative(KIND)
def requests_and_not_queries(world: World) -> Part:
    """Twenty requests at once: no connection of a database is needed."""
    times, tool = world.times(20, 0.1, 0.3), world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"rows": 20}, asked=True):
            program.gather(
                *[
                    lambda at=at: program.http("https://api.shop.io/v1/items/{}", times[at], 500 + at)
                    for at in range(20)
                ]  # type: ignore[misc]
            )

    return Part(body, asks=(tool,))


@negative(KIND)
def in_waves_of_four(world: World) -> Part:
    """Sixteen different reports, four at a time: somebody limits it."""
    seconds, tool = world.log_uniform(0.1, 0.4), world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"rows": 16}, asked=True):
            for wave in range(4):
                program.gather(
                    *[
                        lambda name=f"SELECT {'abcd'[wave]}{'wxyz'[at]} FROM report": program.db(name, seconds)  # type: ignore[misc]
                        for at in range(4)
                    ]
                )

    return Part(body, asks=(tool,))


@negative(KIND)
def two_waves_of_six(world: World) -> Part:
    """Twelve different queries in two waves that do not overlap."""
    seconds, tool = world.log_uniform(0.1, 0.4), world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"rows": 12}, asked=True):
            for wave in range(2):
                program.gather(
                    *[
                        lambda name=f"SELECT {'ab'[wave]}{'uvwxyz'[at]} FROM report": program.db(name, seconds)  # type: ignore[misc]
                        for at in range(6)
                    ]
                )
                program.wait(0.01)

    return Part(body, asks=(tool,))


@negative(KIND)
def agents_at_once(world: World) -> Part:
    """A dozen model calls at the same time."""

    def body(program: Program) -> None:
        with program.inside("step", "vote"):
            calls = [
                lambda at=at: program.call("llm", world.model, 1.0 + at / 50, tokens=(500 + at, 60, None))  # type: ignore[misc]
                for at in range(12)
            ]
            program.gather(*calls)

    return Part(body)


@unclear(KIND)
def ten_at_once(world: World) -> Part:
    """Ten queries at once: just the number."""
    return Part(_at_once(world, 10).body)
