from __future__ import annotations

from collections.abc import Callable

from ..cases import Label, Part, negative, positive
from ..program import Program
from ..world import World

KIND = "cold_start"
CHECK = "SELECT score FROM risk WHERE customer = {}"


def _turn_by_turn(
    world: World, times: list[float], call: Callable[[Program, int, float], object]
) -> Callable[[Program], None]:
    """One call a turn, each about something else."""

    def body(program: Program) -> None:
        for place, seconds in enumerate(times):
            program.turn(0.3)
            call(program, place, seconds)

    return body


def _cold(
    world: World, low: float, high: float, names: tuple[str, ...], call: Callable[[Program, int, float], object],
    most: float,
) -> Part:  # fmt: skip
    """The first call takes six times or more what the others do; repaired, as long as their median."""
    later, key = world.times(world.count(4, 7), low, high, spread=0.15), world.key()
    median = sorted(later)[len(later) // 2]
    first = max(min(most, median * world.log_uniform(6, 30)), median + 1.5)

    def body(program: Program) -> None:
        took = median if program.repaired(key) else first
        _turn_by_turn(world, [took, *later], call)(program)

    return Part(body, (Label(KIND, names, key),), turns=True, alone=True)


@positive(KIND)
def first_tool_call(world: World) -> Part:
    """A tool loads its model on its first call."""
    tool = world.tool_name()

    def call(program: Program, place: int, seconds: float) -> None:
        program.tool(tool, seconds, {"q": f"{world.agent} {place}"}, {"n": place * 7919}, asked=True)

    return _cold(world, 0.2, 0.8, (tool,), call, most=20.0)


@positive(KIND)
def first_query(world: World) -> Part:
    """The first query of a tool opens the connection and warms the database."""

    def call(program: Program, place: int, seconds: float) -> None:
        tool = f"check_{'abcdefghi'[place]}"
        with program.inside("tool", tool, args={"n": place}, result={"score": place * 7919}, asked=True):
            program.db(CHECK, seconds, 500 + place)

    return _cold(world, 0.05, 0.3, (world.sql_name(CHECK),), call, most=6.0)


@positive(KIND)
def first_generation(world: World) -> Part:
    """A local model is loaded for its first answer, which is as long as the others."""
    model = "local-7b"

    def call(program: Program, place: int, seconds: float) -> None:
        program.turn(seconds, model=model, tokens=(400 + place, 50, None))

    return _cold(world, 0.5, 1.5, (model,), call, most=30.0)


@positive(KIND)
def first_request(world: World) -> Part:
    """A service that slept is woken up by the first request."""
    url = "https://fn.cloud.io/score/{}"

    def call(program: Program, place: int, seconds: float) -> None:
        tool = f"check_{'abcdefghi'[place]}"
        with program.inside("tool", tool, args={"n": place}, result={"score": place * 7919}, asked=True):
            program.http(url, seconds, 500 + place)

    return _cold(world, 0.05, 0.2, (world.url_name(url),), call, most=4.0)


@positive(KIND)
def first_search_of_an_index(world: World) -> Part:
    """An index is read into memory on its first search."""

    def call(program: Program, place: int, seconds: float) -> None:
        program.call("retrieval", "handbook", seconds, args=f"{world.agent} {place}", result=[{"id": f"d{place}"}])

    return _cold(world, 0.1, 0.5, ("handbook",), call, most=8.0)


def _tool_calls(world: World, times: list[float]) -> Part:
    tool = world.tool_name()

    def call(program: Program, place: int, seconds: float) -> None:
        program.tool(tool, seconds, {"q": f"{world.agent} {place}"}, {"n": place * 7919}, asked=True)

    return Part(_turn_by_turn(world, times, call), turns=True)


@negative(KIND)
def first_writes_more(world: World) -> Part:
    """The first generation is a long plan, the later ones are short answers."""

    def call(program: Program, place: int, seconds: float) -> None:
        program.turn(seconds, model="writer", tokens=(400 + place, round(seconds * 60), None))

    return Part(_turn_by_turn(world, [8.0, *world.times(5, 0.6, 1.2)], call), turns=True)


@negative(KIND)
def too_few_to_tell(world: World) -> Part:
    """Two calls after the first do not say what is usual."""
    return _tool_calls(world, [3.0, *world.times(2, 0.2, 0.5)])


@negative(KIND)
def a_quarter_second(world: World) -> Part:
    """The first takes four times as long, which is a quarter of a second."""
    return _tool_calls(world, [0.34, *world.times(6, 0.07, 0.08)])


@negative(KIND)
def twice_as_long(world: World) -> Part:
    """The first takes twice as long as the others."""
    return _tool_calls(world, [2.4, *world.times(5, 1.15, 1.2, spread=0.05)])


@negative(KIND)
def the_slow_one_comes_later(world: World) -> Part:
    """All calls are alike but the last, and that one is no slower than tools may be."""
    times = world.times(6, 0.9, 1.1, spread=0.05)
    return _tool_calls(world, [*times, 2.0])


@negative(KIND)
def one_a_agent(world: World) -> Part:
    """The first agent's one call is slow; the calls of the other agents say nothing about it."""
    names, tool = [world.agent_name() for _ in range(4)], world.tool_name()

    def body(program: Program) -> None:
        with program.inside("workflow", "team"):
            for place, name in enumerate(names):
                with program.inside("agent", name):
                    program.turn(asks=(tool,))
                    seconds = 0.4 if place else 1.4
                    program.tool(tool, seconds, {"q": name}, {"n": place * 7919}, asked=True)
                    program.turn()

    return Part(body, whole=True)


@negative(KIND)
def beside_something_longer(world: World) -> Part:
    """The slow first call is over before its sibling is: nobody waited for it."""
    tool, other, times = world.tool_name(), world.tool_name(), world.times(4, 0.2, 0.4)

    def body(program: Program) -> None:
        def call(place: int, seconds: float) -> None:
            program.tool(tool, seconds, {"q": f"{world.agent} {place}"}, {"n": place * 7919})

        with program.inside("step", "warm_up"):
            program.gather(lambda: call(0, 2.5), lambda: program.tool(other, 3.8, {"q": world.agent}))
        for place, seconds in enumerate(times, 1):
            program.turn(0.3)
            call(place, seconds)

    return Part(body, turns=True)


@negative(KIND, needs="arguments")
def first_one_failed_slowly(world: World) -> Part:
    """The first call ran into its time limit; the later ones worked."""
    tool, times = world.tool_name(), world.times(4, 0.5, 0.7)
    first = 2.0

    def body(program: Program) -> None:
        program.turn(2.0)
        program.tool(tool, first, {"q": "one"}, error="TimeoutError", asked=True)
        for place, seconds in enumerate(times):
            program.turn(2.5)
            program.tool(tool, seconds, {"q": f"{world.agent} {place}"}, {"n": place * 7919}, asked=True)

    also = Label("retry_storm", (tool,), optional=True)
    slow = Label("slow_operation", (tool,), optional=True)
    return Part(body, (also, slow), turns=True)
