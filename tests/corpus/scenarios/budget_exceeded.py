"""Judged with the budgets that `cases.SETTINGS` has for this kind, which all its runs share."""

from __future__ import annotations

from ..cases import Label, Part, negative, positive, unclear
from ..program import Program
from ..world import World

KIND = "budget_exceeded"


@positive(KIND)
def run_takes_too_long(world: World) -> Part:
    """A run of minutes, all of it long answers."""
    times = world.random.sample((31.0, 33.0, 35.0, 37.0), 3)

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            for seconds in times:
                program.turn(seconds)

    return Part(body, (Label(KIND, (world.agent, "run"), severity="info"),), whole=True)


@positive(KIND)
def too_many_tokens(world: World) -> Part:
    """Six calls of twelve thousand tokens."""

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            for place in range(6):
                program.turn(tokens=(12_000 + place, 90, None))

    return Part(body, (Label(KIND, (world.agent, "run"), severity="info"),), whole=True)


@positive(KIND)
def tool_over_its_limit(world: World) -> Part:
    """One call of the tool takes longer than it may."""
    seconds = world.log_uniform(2.7, 3.9)

    def body(program: Program) -> None:
        program.tool("quote", seconds, {"q": world.agent}, asked=True)

    return Part(body, (Label(KIND, ("quote",), severity="info"),), asks=("quote",))


@positive(KIND)
def agent_called_too_often(world: World) -> Part:
    """The agent is invoked fifteen times."""

    def body(program: Program) -> None:
        with program.inside("workflow", "market"):
            for _ in range(15):
                with program.inside("agent", "negotiator"):
                    program.turn()

    return Part(body, (Label(KIND, ("negotiator",), severity="info"),), whole=True)


@negative(KIND)
def within_all_limits(world: World) -> Part:
    """A run of the same tool and agent that keeps to everything."""

    def body(program: Program) -> None:
        with program.inside("workflow", "market"), program.inside("agent", "negotiator"):
            program.turn()
            program.tool("quote", 0.8, {"q": world.agent}, asked=True)
            program.turn()

    return Part(body, whole=True)


@negative(KIND)
def another_tool_may(world: World) -> Part:
    """Another tool takes three seconds, for which there is no limit."""
    tool = world.tool_name()
    return Part(lambda program: program.tool(tool, 3.5, {"q": world.agent}, asked=True), asks=(tool,))


@negative(KIND)
def close_to_the_tokens(world: World) -> Part:
    """Thirty-five thousand of fifty thousand tokens."""

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            for place in range(3):
                program.turn(tokens=(11_500 + place, 90, None))

    return Part(body, whole=True)


@negative(KIND)
def long_but_allowed(world: World) -> Part:
    """Forty-five of sixty seconds."""

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            program.turn(22.0)
            program.turn(23.0)

    return Part(body, whole=True)


@negative(KIND)
def some_calls_of_the_agent(world: World) -> Part:
    """The agent is invoked three times, with two model calls each."""

    def body(program: Program) -> None:
        with program.inside("workflow", "market"):
            for _ in range(3):
                with program.inside("agent", "negotiator"):
                    program.turn()
                    program.turn()

    return Part(body, whole=True)


@negative(KIND)
def name_that_only_begins_so(world: World) -> Part:
    """The limit is for `quote`, not for `quote_history`."""
    return Part(
        lambda program: program.tool("quote_history", 3.5, {"q": world.agent}, asked=True), asks=("quote_history",)
    )


@unclear(KIND)
def twice_within_the_limit(world: World) -> Part:
    """Two calls that keep to the tool's limit each, and not together."""

    def body(program: Program) -> None:
        for place in range(2):
            program.turn(asks=("quote",))
            program.tool("quote", 1.4, {"q": f"{world.agent} {place}"}, {"n": place * 7919}, asked=True)

    return Part(body, turns=True)
