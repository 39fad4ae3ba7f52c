from __future__ import annotations

from typing import Any

from ..cases import Label, Part, negative, positive, unclear
from ..program import Program, one_after_another
from ..world import World

KIND = "serialized_independent_calls"


def _calls(world: World, program: Program, names: list[str], times: list[float], **facts: Any) -> list[Any]:
    return [
        lambda at=place: program.tool(  # type: ignore[misc]
            names[at], times[at], {"q": f"{world.agent} {names[at]}", "limit": 5}, {"hits": at * 7919 + 11}, **facts
        )
        for place in range(len(names))
    ]


@positive(KIND, needs="content")
def one_turn_asks_for_all(world: World) -> Part:
    """The model asks for several tools at once; the program runs them one by one."""
    names = [world.tool_name() for _ in range(world.count(2, 6))]
    times, key = world.times(len(names), 0.4, 3.0), world.key()

    def body(program: Program) -> None:
        one_after_another(program, _calls(world, program, names, times, asked=True), program.repaired(key))

    return Part(body, (Label(KIND, tuple(names), key),), asks=tuple(names))


@positive(KIND, needs="agentperf")
def asked_for_with_hashes_only(world: World) -> Part:
    """The same without content: hashes, and the knowledge that no call used another's result."""
    names = [world.tool_name() for _ in range(world.count(2, 6))]
    times, key = world.times(len(names), 0.4, 3.0), world.key()

    def body(program: Program) -> None:
        one_after_another(program, _calls(world, program, names, times, asked=True), program.repaired(key))

    return Part(body, (Label(KIND, tuple(names), key),), asks=tuple(names))


@positive(KIND, needs="hidden")
def asked_for_with_call_ids(world: World) -> Part:
    """Everything is hidden, but the calls carry the ids of the model's one request."""
    world.call_ids = True
    names = [world.tool_name() for _ in range(world.count(2, 6))]
    times, key = world.times(len(names), 0.4, 3.0), world.key()

    def body(program: Program) -> None:
        one_after_another(program, _calls(world, program, names, times, asked=True), program.repaired(key))

    return Part(body, (Label(KIND, tuple(names), key),), asks=tuple(names))


@positive(KIND, needs="arguments")
def code_without_a_model(world: World) -> Part:
    """A tool's code calls three others in a row that need nothing of each other."""
    names = [world.tool_name() for _ in range(world.count(2, 5))]
    times, key = world.times(len(names), 0.4, 3.0), world.key()

    def body(program: Program) -> None:
        with program.inside("tool", "prepare_trip", args={"to": world.agent}, result={"plan": "ready"}):
            one_after_another(program, _calls(world, program, names, times), program.repaired(key))

    return Part(body, (Label(KIND, tuple(names), key, severity="info"),))


@positive(KIND, needs="content")
def same_tool_asked_four_times(world: World) -> Part:
    """One turn asks one tool about four places."""
    count = world.count(2, 4)
    tool, times, key = world.tool_name(), world.times(count, 0.5, 3.0), world.key()
    cities = [world.text(1) for _ in times]

    def body(program: Program) -> None:
        calls = [
            lambda at=at: program.tool(tool, times[at], {"city": cities[at]}, {"warm": at * 7919}, asked=True)  # type: ignore[misc]
            for at in range(count)
        ]
        one_after_another(program, calls, program.repaired(key))

    return Part(body, (Label(KIND, (tool,), key),), asks=(tool,) * count)


@positive(KIND, needs="arguments")
def three_sources_of_a_search(world: World) -> Part:
    """Three sources are searched in a row by the agent's code, with their content or hashes known."""
    names, times = [f"search_{where}" for where in ("wiki", "mail", "tickets")], world.times(3, 0.4, 3.0)
    key = world.key()

    def body(program: Program) -> None:
        with program.inside("tool", "search_everywhere", args={"q": world.agent}, result={"hits": 12}):
            one_after_another(program, _calls(world, program, names, times), program.repaired(key))

    return Part(body, (Label(KIND, tuple(names), key, severity="info"),))


@negative(KIND, needs="arguments")
def each_needs_the_one_before(world: World) -> Part:
    """A chain: each call's arguments hold, somewhere inside, what the one before brought."""
    names = [world.tool_name() for _ in range(world.count(3, 5))]
    times = world.times(len(names), 0.4, 2.5)
    found = [world.identifier("ref") for _ in names]

    def body(program: Program) -> None:
        before: tuple[Any, ...] = ()
        with program.inside("step", "resolve"):
            for place, name in enumerate(names):
                args = {"filter": {"ids": [found[place - 1]]}} if place else {"q": world.agent}
                call = program.tool(name, times[place], args, {"data": {"ref": found[place], "n": place}}, uses=before)
                before = (call,)

    return Part(body)


@negative(KIND)
def in_parallel_already(world: World) -> Part:
    """One turn asked for three tools, and they ran at the same time."""
    names = [world.tool_name() for _ in range(3)]
    times = world.times(3, 0.5, 3.0)

    def body(program: Program) -> None:
        program.gather(*_calls(world, program, names, times, asked=True))

    return Part(body, asks=tuple(names))


@negative(KIND)
def one_a_turn(world: World) -> Part:
    """The model asks for one tool at a time and reads each answer."""
    names = [world.tool_name() for _ in range(4)]
    times = world.times(4, 0.4, 2.5)

    def body(program: Program) -> None:
        for place, name in enumerate(names):
            program.turn(asks=(name,))
            program.tool(name, times[place], {"q": f"{world.agent} {place}"}, {"hits": place * 7919}, asked=True)

    return Part(body, turns=True)


@negative(KIND, needs="hidden")
def hidden_chain_in_code(world: World) -> Part:
    """Fetch, convert, rank: code in a row whose arguments nobody recorded."""
    names = [world.tool_name() for _ in range(3)]
    times = world.times(3, 0.4, 2.5)

    def body(program: Program) -> None:
        with program.inside("tool", "prepare_answer"):
            for name, seconds in zip(names, times, strict=True):
                program.tool(name, seconds, {"x": 1}, {"y": 1})

    return Part(body)


@negative(KIND, needs="arguments")
def short_ones(world: World) -> Part:
    """Two calls of a few milliseconds are not worth a thread."""
    names = [world.tool_name() for _ in range(3)]
    times = world.times(3, 0.005, 0.02)

    def body(program: Program) -> None:
        one_after_another(program, _calls(world, program, names, times, asked=True), parallel=False)

    return Part(body, asks=tuple(names))


@negative(KIND, needs="arguments")
def one_long_and_a_short_one(world: World) -> Part:
    """Beside a call of seconds, one of a few milliseconds saves nothing."""
    names = [world.tool_name() for _ in range(2)]
    times = [world.log_uniform(2.0, 3.8), world.log_uniform(0.01, 0.05)]

    def body(program: Program) -> None:
        one_after_another(program, _calls(world, program, names, times, asked=True), parallel=False)

    return Part(body, asks=tuple(names))


@negative(KIND, needs="agentperf")
def chain_known_by_hashes(world: World) -> Part:
    """Content is off, and the spans say which calls used an earlier result."""
    names = [world.tool_name() for _ in range(4)]
    times = world.times(4, 0.4, 2.5)

    def body(program: Program) -> None:
        with program.inside("tool", "prepare_answer", args={"q": world.agent}, result={"done": 1}):
            before: tuple[Any, ...] = ()
            for name, seconds in zip(names, times, strict=True):
                before = (program.tool(name, seconds, {"ref": name}, {"got": name}, uses=before),)

    return Part(body)


@negative(KIND)
def requests_of_unknown_need(world: World) -> Part:
    """Requests to two services in a row: what the first answered is not on its span."""
    times = world.times(2, 0.15, 0.35)
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"user": world.agent}, result={"done": True}):
            program.http("https://auth.shop.io/v1/session", times[0])
            program.http("https://api.shop.io/v1/account/{}", times[1], 5171)

    return Part(body)


@unclear(KIND, needs="content")
def two_that_need_a_third(world: World) -> Part:
    """Both later calls need the first one, and nothing of each other."""
    names = [world.tool_name() for _ in range(3)]
    times, found = world.times(3, 0.5, 2.5), world.identifier("user")

    def body(program: Program) -> None:
        with program.inside("tool", "prepare_answer", args={"q": world.agent}, result={"done": 1}):
            first = program.tool(names[0], times[0], {"mail": "a@b.io"}, {"user": found})
            program.tool(names[1], times[1], {"of": found}, {"orders": 3}, uses=(first,))
            program.tool(names[2], times[2], {"of": found}, {"likes": 8}, uses=(first,))

    return Part(body)


@unclear(KIND, needs="content")
def order_that_matters(world: World) -> Part:
    """One turn asks to write a file and then to test it: independent by their arguments, not by what they do."""
    times = world.times(2, 0.5, 2.5)

    def body(program: Program) -> None:
        program.tool("write_file", times[0], {"path": "a.py", "text": "x = 1"}, {"ok": True}, asked=True)
        program.tool("run_tests", times[1], {"filter": "all"}, {"passed": 12}, asked=True)

    return Part(body, asks=("write_file", "run_tests"))


@positive(KIND, needs="content")
def three_agents_asked_by_one_turn(world: World) -> Part:
    """One turn delegates to three agents; they work one after another."""
    names, key = [world.agent_name() for _ in range(3)], world.key()
    tools = tuple(f"ask_{name}" for name in names)

    def ask(program: Program, name: str) -> None:
        with program.delegate(name):
            program.turn(messages=(("user", f"For {name}."),), tokens=(600, 60, None))

    def body(program: Program) -> None:
        calls = [lambda name=name: ask(program, name) for name in names]  # type: ignore[misc]
        one_after_another(program, calls, program.repaired(key))

    return Part(body, (Label(KIND, (*tools, *names), key),), asks=tools)


@negative(KIND, needs="content")
def value_inside_a_sentence(world: World) -> Part:
    """The second call's question quotes the number that the first one found."""
    names, times, found = [world.tool_name() for _ in range(2)], world.times(2, 0.5, 2.5), world.identifier("case")

    def body(program: Program) -> None:
        with program.inside("tool", "prepare_answer", args={"q": world.agent}, result={"done": 1}):
            first = program.tool(names[0], times[0], {"mail": "a@b.io"}, {"open": [{"case": found, "age": 3}]})
            program.tool(names[1], times[1], {"question": f"What is the state of {found}?"}, {"n": 2}, uses=(first,))

    return Part(body)
