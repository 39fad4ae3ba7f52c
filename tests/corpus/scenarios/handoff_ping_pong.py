from __future__ import annotations

from collections.abc import Callable

from ..cases import Label, Part, negative, positive, unclear
from ..program import Program
from ..world import World

KIND = "handoff_ping_pong"


def _turns_of(program: Program, names: list[str], act: Callable[[int, str], object]) -> None:
    """Agents in a row, each with a model turn; `act` is what else the one at a place does."""
    for place, name in enumerate(names):
        with program.inside("agent", name):
            program.turn()
            act(place, name)


def _ping_pong(world: World, hand_off: str | None, workflow: bool = True) -> Part:
    """A, B, A, B … and in the end A answers; repaired, it answers when it has the word again."""
    first, second, key = world.agent_name(), world.agent_name(), world.key()
    names = [first, second] * world.count(4, 7) + [first]

    def body(program: Program) -> None:
        chosen = [first, second, first] if program.repaired(key) else names

        def act(place: int, name: str) -> None:
            if hand_off and place < len(chosen) - 1:
                to = chosen[place + 1]
                program.tool(hand_off.format(to), 0.01, {"to": to, "why": f"{place}"}, {"ok": True}, asked=True)

        with program.inside("workflow" if workflow else "agent", "desk"):
            _turns_of(program, chosen, act)

    severity = "warning" if hand_off else "info"
    return Part(body, (_label(first, second, key, severity),), whole=True)


def _label(first: str, second: str, key: str, severity: str) -> Label:
    """Agents that alternate without a hand-off on record may mean to: a remark will do."""
    return Label(KIND, (first, second, "desk", f"{first} → {second}"), key, severity)


@positive(KIND)
def with_transfer_tools(world: World) -> Part:
    """Two agents transfer the conversation to each other, with a tool for it."""
    return _ping_pong(world, "transfer_to_{}")


@positive(KIND)
def with_handoff_tool(world: World) -> Part:
    """The same with one tool named handoff."""
    return _ping_pong(world, "handoff_to_agent" if world.chance(0.5) else "handoff")


@positive(KIND)
def without_a_tool(world: World) -> Part:
    """A framework that hands over without leaving a call."""
    return _ping_pong(world, None)


@positive(KIND)
def below_an_agent(world: World) -> Part:
    """Both work under a coordinating agent."""
    return _ping_pong(world, "transfer_to_{}", workflow=False)


@positive(KIND)
def tools_that_fail(world: World) -> Part:
    """Each tries its tool, which fails, and gives the work back."""
    first, second, key, tool = world.agent_name(), world.agent_name(), world.key(), world.tool_name()
    names = [first, second] * world.count(4, 6) + [first]

    def body(program: Program) -> None:
        def act(place: int, name: str) -> None:
            if place % 2:
                args = {"q": f"{world.model} {place}"}
                program.tool(tool, 0.05, args, error="PermissionError", asked=True)

        with program.inside("workflow", "desk"):
            _turns_of(program, [first, second, first] if program.repaired(key) else names, act)

    also = Label("retry_storm", (tool,), severity="info", optional=True)
    return Part(body, (_label(first, second, key, "info"), also), whole=True)


def _team(world: World, names: list[str], act: Callable[[Program, int, str], object] | None = None) -> Part:
    def body(program: Program) -> None:
        with program.inside("workflow", "desk"):
            _turns_of(program, names, lambda place, name: act(program, place, name) if act else None)

    return Part(body, whole=True)


@negative(KIND)
def there_and_back(world: World) -> Part:
    """A specialist is asked once, and the first agent answers."""
    first, second = world.agent_name(), world.agent_name()
    return _team(world, [first, second, first])


@negative(KIND, needs="arguments")
def work_in_between(world: World) -> Part:
    """A coder and a reviewer alternate, and each writes or tests something in its turn."""
    first, second = world.agent_name(), world.agent_name()

    def act(program: Program, place: int, name: str) -> None:
        if place % 2:
            program.tool("run_tests", 0.8, {"round": place}, {"failed": 20 - place}, asked=True)
        else:
            program.tool("write_file", 0.2, {"text": f"x = {place}"}, {"ok": place}, asked=True)

    return _team(world, [first, second] * 5, act)


@negative(KIND)
def three_in_a_round(world: World) -> Part:
    """Three agents take turns: none gives back to whom it came from."""
    names = [world.agent_name() for _ in range(3)]
    return _team(world, names * 4)


@negative(KIND)
def one_agent_many_turns(world: World) -> Part:
    """An agent is invoked six times in a row."""
    return _team(world, [world.agent_name()] * 6)


@negative(KIND, needs="arguments")
def an_agent_as_a_tool(world: World) -> Part:
    """The agent asks a helper four different things: delegation, with an answer each time."""
    inner = world.agent_name()

    def body(program: Program) -> None:
        for place in range(4):
            program.turn(asks=("ask_helper",))
            facts = {"args": {"q": f"{world.agent} {place}"}, "result": {"text": f"{place * 7919}"}, "asked": True}
            with program.inside("tool", "ask_helper", **facts), program.inside("agent", inner):
                program.turn()

    return Part(body, turns=True)


@negative(KIND)
def side_by_side(world: World) -> Part:
    """Two agents work at the same time, in several rounds, without an order between them."""
    names = (world.agent_name(), world.agent_name())

    def agent(program: Program, name: str) -> None:
        with program.inside("agent", name):
            program.turn()

    def body(program: Program) -> None:
        with program.inside("workflow", "desk"):
            for _ in range(2):
                program.gather(*[lambda name=name: agent(program, name) for name in names])  # type: ignore[misc]

    return Part(body, whole=True)


@negative(KIND)
def a_chain_of_specialists(world: World) -> Part:
    """Work goes from one to the next and comes back to none."""
    return _team(world, [world.agent_name() for _ in range(6)])


@unclear(KIND)
def writer_and_critic(world: World) -> Part:
    """A writer and a critic improve a text in words alone: meant so, and the same to look at."""
    first, second = world.agent_name(), world.agent_name()
    return _team(world, [first, second] * 4)


@negative(KIND, needs="arguments")
def a_customer_in_between(world: World) -> Part:
    """Sales and support alternate because each time another question was answered with a look-up."""
    first, second, tool = world.agent_name(), world.agent_name(), world.tool_name()

    def act(program: Program, place: int, name: str) -> None:
        program.tool(tool, 0.3, {"question": f"{name} {place}"}, {"answer": f"{place * 7919}"}, asked=True)

    return _team(world, [first, second] * 4, act)
