from __future__ import annotations

from ..cases import Label, Part, negative, positive, unclear
from ..program import Program
from ..world import World

KIND = "scheduling_gap"


def _label(world: World, name: str, key: str, cpu_told: bool = True) -> Label:
    """Only where the parent's CPU time is told is it certain that nobody worked; otherwise a remark will do."""
    certain = cpu_told and world.dialect == "agentperf"
    return Label(KIND, (name,), key, severity="warning" if certain else "info", least_s=0.2)


@positive(KIND)
def sleep_in_the_agent(world: World) -> Part:
    """The agent's code sleeps between a model turn and a tool."""
    gap, tool, key = world.log_uniform(1.0, 20.0), world.tool_name(), world.key()

    def body(program: Program) -> None:
        with program.inside("agent", world.agent, cpu=0.02):
            program.turn(asks=(tool,))
            program.wait(0 if program.repaired(key) else gap)
            program.tool(tool, 0.6, {"q": world.agent}, asked=True)
            program.turn()

    return Part(body, (_label(world, world.agent, key),), whole=True)


@positive(KIND)
def queue_in_a_graph_node(world: World) -> Part:
    """A step of the framework waits for a worker before it calls its tool."""
    gap, tool, key = world.log_uniform(1.0, 20.0), world.tool_name(), world.key()

    def body(program: Program) -> None:
        with program.inside("step", "execute"):
            program.wait(0 if program.repaired(key) else gap)
            program.tool(tool, 0.6, {"q": world.agent})

    return Part(body, (_label(world, "execute", key, cpu_told=False),))


@positive(KIND)
def slow_start(world: World) -> Part:
    """Nothing happens for seconds before the first turn."""
    gap, key = world.log_uniform(1.0, 15.0), world.key()

    def body(program: Program) -> None:
        with program.inside("agent", world.agent, cpu=0.02):
            program.wait(0 if program.repaired(key) else gap)
            program.turn()
            program.turn()

    return Part(body, (_label(world, world.agent, key),), whole=True)


@positive(KIND)
def between_two_agents(world: World) -> Part:
    """A workflow lets seconds pass between its agents."""
    gap, key, names = world.log_uniform(1.0, 20.0), world.key(), (world.agent_name(), world.agent_name())

    def body(program: Program) -> None:
        with program.inside("workflow", "pipeline", cpu=0.03):
            for place, name in enumerate(names):
                with program.inside("agent", name, cpu=0.01):
                    program.turn()
                    program.turn()
                program.wait(gap if place == 0 and not program.repaired(key) else 0)

    return Part(body, (_label(world, "pipeline", key),), whole=True)


@positive(KIND)
def in_a_sub_agent(world: World) -> Part:
    """An agent within a tool waits for its turn."""
    gap, key, inner = world.log_uniform(1.0, 20.0), world.key(), world.agent_name()

    def body(program: Program) -> None:
        with program.delegate(inner, cpu=0.01):
            program.turn()
            program.wait(0 if program.repaired(key) else gap)
            program.turn()

    return Part(body, (_label(world, inner, key),), asks=(f"ask_{inner}",))


@negative(KIND, needs="agentperf")
def the_agent_computes(world: World) -> Part:
    """The gap is work: the agent's CPU time covers it."""
    gap = world.log_uniform(1.0, 10.0)

    def body(program: Program) -> None:
        with program.inside("agent", world.agent, cpu=gap + 0.05):
            program.turn()
            program.wait(gap)
            program.turn()

    return Part(body, whole=True)


@negative(KIND)
def many_tiny_ones(world: World) -> Part:
    """A framework that needs some milliseconds between any two calls."""
    tools = [world.tool_name() for _ in range(10)]
    gap = world.log_uniform(0.01, 0.06)

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            for place, tool in enumerate(tools):
                program.turn(0.5, asks=(tool,))
                program.wait(gap)
                program.tool(tool, 0.15, {"n": f"{world.agent} {place}"}, {"n": place * 7919}, asked=True)
                program.wait(gap)

    return Part(body, whole=True)


@negative(KIND)
def a_leaf_that_takes_its_time(world: World) -> Part:
    """A tool and a model call without anything inside: their time is their own."""
    seconds, tool = world.log_uniform(1.0, 3.8), world.tool_name()

    def body(program: Program) -> None:
        program.tool(tool, seconds, {"q": world.agent}, asked=True)
        program.turn(seconds)

    return Part(body, asks=(tool,), turns=True)


@negative(KIND)
def while_a_sibling_runs(world: World) -> Part:
    """One branch waits, the other one works."""
    gap, tool = world.log_uniform(1.0, 2.5), world.tool_name()

    def body(program: Program) -> None:
        def waiting() -> None:
            with program.inside("step", "listen"):
                program.call("step", "subscribe", 0.05)
                program.wait(gap)
                program.call("step", "unsubscribe", 0.05)

        program.gather(waiting, lambda: program.tool(tool, 3.5, {"q": world.agent}))

    return Part(body)


@negative(KIND)
def a_short_one(world: World) -> Part:
    """A tenth of a second in a run of many."""
    gap = world.log_uniform(0.03, 0.15)

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            program.turn(2.0)
            program.wait(gap)
            program.turn(2.0)

    return Part(body, whole=True)


@negative(KIND)
def nothing_inside(world: World) -> Part:
    """An agent of which nothing else was traced."""
    seconds = world.log_uniform(1.0, 30.0)

    def body(program: Program) -> None:
        program.call("agent", world.agent, seconds)

    return Part(body, whole=True)


@negative(KIND)
def long_but_a_small_share(world: World) -> Part:
    """Half a second of nothing in a run of half a minute."""
    gap = world.log_uniform(0.3, 0.8)

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            program.turn(14.0)
            program.wait(gap)
            program.turn(14.0)

    return Part(body, whole=True)


@unclear(KIND)
def models_that_nobody_traces(world: World) -> Part:
    """Only the tools have spans: what looks idle is a model at work."""
    tools = [world.tool_name() for _ in range(3)]

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            for tool in tools:
                program.wait(1.5)
                program.tool(tool, 0.5, {"q": world.agent + tool}, asked=True)
            program.wait(2.0)

    return Part(body, whole=True)


@unclear(KIND)
def tool_that_works_between_its_requests(world: World) -> Part:
    """A tool with a request inside does something of its own for a second."""
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"n": 1}, asked=True):
            program.http("https://api.docs.io/file", 0.3)
            program.wait(2.0)

    return Part(body, asks=(tool,))


@unclear(KIND, needs="arguments")
def sleeping_between_polls(world: World) -> Part:
    """A program asks a job's state every second."""
    tool, job = world.tool_name(), {"job": world.identifier("job")}

    def body(program: Program) -> None:
        with program.inside("step", "await_job"):
            for place in range(5):
                program.tool(tool, 0.1, job, {"state": "running", "percent": 7 + 11 * place})
                program.wait(1.0)

    return Part(body)


@positive(KIND)
def in_the_branch_that_all_wait_for(world: World) -> Part:
    """Two steps at the same time: one is soon done, the other one waits for a worker."""
    gap, key, tools = world.log_uniform(1.5, 15.0), world.key(), (world.tool_name(), world.tool_name())

    def branch(program: Program, name: str, tool: str, wait: float, seconds: float) -> None:
        with program.inside("step", name):
            program.call("step", f"{name}_setup", 0.05)
            program.wait(wait)
            program.tool(tool, seconds, {"q": name})

    def body(program: Program) -> None:
        waited = 0 if program.repaired(key) else gap
        program.gather(
            lambda: branch(program, "left", tools[0], waited, 0.5),
            lambda: branch(program, "right", tools[1], 0, 0.01),
        )

    return Part(body, (_label(world, "left", key, cpu_told=False),))
