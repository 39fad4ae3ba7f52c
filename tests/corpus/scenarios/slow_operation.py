from __future__ import annotations

from ..cases import Label, Part, negative, positive, unclear
from ..program import Program
from ..world import World

KIND = "slow_operation"
REPORT = "SELECT region, sum(total) FROM sales GROUP BY region HAVING sum(total) > {}"


@positive(KIND)
def one_slow_tool(world: World) -> Part:
    """A single tool takes far longer than tools should."""
    seconds, tool, key = world.log_uniform(9.0, 60.0), world.tool_name(), world.key()

    def body(program: Program) -> None:
        program.tool(tool, 5.0 if program.repaired(key) else seconds, {"q": world.agent}, asked=True)

    return Part(body, (Label(KIND, (tool,), key),), asks=(tool,))


@positive(KIND)
def one_slow_query(world: World) -> Part:
    """A report query of seconds inside a tool."""
    seconds, tool, key = world.log_uniform(2.2, 30.0), world.tool_name(), world.key()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"rows": 4}, asked=True):
            program.db(REPORT, 1.0 if program.repaired(key) else seconds, 417)

    return Part(body, (Label(KIND, (world.sql_name(REPORT),), key),), asks=(tool,))


@positive(KIND)
def one_slow_request(world: World) -> Part:
    """A web service that answers after seconds, called by a tool."""
    seconds, tool, key = world.log_uniform(1.4, 20.0), world.tool_name(), world.key()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"rows": 4}, asked=True):
            program.http("https://legacy.erp.io/export", 0.5 if program.repaired(key) else seconds)

    return Part(body, (Label(KIND, ("https://legacy.erp.io/export",), key),), asks=(tool,))


@positive(KIND)
def generation_stalls(world: World) -> Part:
    """A model takes half a minute for a handful of tokens."""
    seconds, key, model = world.log_uniform(18.0, 90.0), world.key(), world.other_model()

    def body(program: Program) -> None:
        took = 10.0 if program.repaired(key) else seconds
        with program.inside("tool", "second_opinion", args={"q": world.agent}, result={"text": "fine"}):
            program.turn(took, model=model, tokens=(500, 40, None))

    return Part(body, (Label(KIND, (model,), key),))


@positive(KIND)
def one_call_out_of_line(world: World) -> Part:
    """One of many calls takes ten times as long as its peers and dominates the run."""
    peers = world.times(world.count(5, 8), 0.2, 0.5, spread=0.15)
    seconds = world.log_uniform(6.5, 12.0) + sum(peers)
    tool, key = world.tool_name(), world.key()
    late = world.count(2, len(peers) - 1)
    median = sorted(peers)[len(peers) // 2]

    def body(program: Program) -> None:
        for place, peer in enumerate(peers):
            program.turn(0.5, asks=(tool,))
            took = peer if place != late else median if program.repaired(key) else seconds
            program.tool(tool, took, {"q": f"{world.agent} {place}"}, {"n": place * 7919}, asked=True)

    return Part(body, (Label(KIND, (tool,), key),), turns=True, alone=True)


@positive(KIND)
def slow_search_of_an_index(world: World) -> Part:
    """A retrieval of many seconds."""
    seconds, key = world.log_uniform(9.0, 40.0), world.key()

    def body(program: Program) -> None:
        took = 5.0 if program.repaired(key) else seconds
        program.call("retrieval", "handbook", took, args=world.agent, result=[{"id": "d1"}])

    return Part(body, (Label(KIND, ("handbook",), key),))


@positive(KIND)
def slow_query_of_a_sub_agent(world: World) -> Part:
    """The slow query is two agents deep."""
    seconds, tool, key, inner = world.log_uniform(3.0, 20.0), world.tool_name(), world.key(), world.agent_name()

    def body(program: Program) -> None:
        with program.delegate(inner):
            program.turn(asks=(tool,))
            with program.inside("tool", tool, args={"q": inner}, result={"rows": 4}, asked=True):
                program.db(REPORT, 1.0 if program.repaired(key) else seconds, 417)
            program.turn()

    return Part(body, (Label(KIND, (world.sql_name(REPORT),), key),), asks=(f"ask_{inner}",))


@negative(KIND)
def long_answer(world: World) -> Part:
    """A generation of a minute that wrote thousands of tokens."""
    seconds = world.log_uniform(15.0, 70.0)

    def body(program: Program) -> None:
        with program.steps("write"):
            program.call("llm", world.model, seconds, tokens=(900, round(seconds * 55), None), answer="long text")

    return Part(body)


@negative(KIND)
def most_of_a_short_run(world: World) -> Part:
    """A tool that is most of the run, and quick."""
    seconds, tool = world.log_uniform(0.8, 3.0), world.tool_name()

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            program.turn(0.2)
            program.tool(tool, seconds, {"q": world.agent}, asked=True)
            program.turn(0.2)

    return Part(body, whole=True)


@negative(KIND)
def steady_peers(world: World) -> Part:
    """Ten calls of a tool, all alike: together they are most of the run, and none is slow."""
    times, tool = world.times(10, 0.5, 3.0, spread=0.1), world.tool_name()

    def body(program: Program) -> None:
        for place, seconds in enumerate(times):
            program.turn(0.3, asks=(tool,))
            program.tool(tool, seconds, {"q": f"{world.agent} {place}"}, {"n": place * 7919}, asked=True)

    return Part(body, turns=True)


@negative(KIND)
def beside_something_longer(world: World) -> Part:
    """A slow export that nobody waits for: a long answer is written at the same time."""
    seconds, tool = world.log_uniform(7.0, 20.0), world.tool_name()
    longer = seconds * 1.5

    def body(program: Program) -> None:
        program.gather(
            lambda: program.tool(tool, seconds, {"q": world.agent}),
            lambda: program.call("llm", world.model, longer, tokens=(900, round(longer * 55), None), answer="long"),
        )

    return Part(body)


@negative(KIND)
def query_below_a_second(world: World) -> Part:
    """A query of half a second, in a run of a few."""
    seconds, tool = world.log_uniform(0.2, 0.75), world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"rows": 4}, asked=True):
            program.db(REPORT, seconds, 417)

    return Part(body, asks=(tool,))


@negative(KIND)
def tool_that_is_an_agent(world: World) -> Part:
    """A tool of half a minute: an agent of its own, whose model wrote long answers."""
    inner = world.agent_name()

    def body(program: Program) -> None:
        with program.delegate(inner):
            for seconds in (12.0, 9.0, 14.0):
                program.turn(seconds)

    return Part(body, asks=(f"ask_{inner}",))


@negative(KIND)
def two_equals_in_parallel(world: World) -> Part:
    """Two exports as long as each other: mending one of them saves nothing."""
    seconds, tools = world.log_uniform(7.0, 20.0), (world.tool_name(), world.tool_name())

    def body(program: Program) -> None:
        program.gather(*[lambda name=name: program.tool(name, seconds, {"q": name}) for name in tools])  # type: ignore[misc]

    return Part(body)


@negative(KIND)
def a_person_answers(world: World) -> Part:
    """A tool that waits for a person's approval."""
    seconds = world.log_uniform(20.0, 300.0)
    tool = world.pick(("request_human_approval", "ask_human", "human_input", "wait_for_approval"))

    def body(program: Program) -> None:
        program.tool(tool, seconds, {"question": "May I?"}, {"answer": "yes"}, asked=True)

    return Part(body, asks=(tool,))


@negative(KIND)
def a_little_slower_than_its_peers(world: World) -> Part:
    """One of the calls takes twice as long as the others."""
    times, tool = world.times(7, 0.4, 1.5, spread=0.05), world.tool_name()
    times[4] *= 2

    def body(program: Program) -> None:
        for place, seconds in enumerate(times):
            program.turn(0.3, asks=(tool,))
            program.tool(tool, seconds, {"q": f"{world.agent} {place}"}, {"n": place * 7919}, asked=True)

    return Part(body, turns=True)


@unclear(KIND)
def generation_without_tokens(world: World) -> Part:
    """Half a minute of generating, and nobody says how much was written."""
    seconds = world.log_uniform(18.0, 60.0)

    def body(program: Program) -> None:
        with program.steps("write"):
            program.call("llm", world.model, seconds, tokens=(None, None, None))

    return Part(body)
