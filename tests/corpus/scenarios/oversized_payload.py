from __future__ import annotations

from ..cases import Label, Part, negative, positive, unclear
from ..program import Program
from ..world import World

KIND = "oversized_payload"


@positive(KIND, needs="agentperf")
def huge_tool_result(world: World) -> Part:
    """A tool returns half a megabyte or more."""
    tool, size = world.tool_name(), round(world.log_uniform(450e3, 2e7))

    def body(program: Program) -> None:
        program.tool(tool, 1.0, {"q": world.agent}, size=size, asked=True)

    return Part(body, (Label(KIND, (tool,), severity="info"),), asks=(tool,))


@positive(KIND)
def huge_response(world: World) -> Part:
    """A tool downloads a megabyte to use a few fields."""
    tool, size = world.tool_name(), round(world.log_uniform(450e3, 2e7))

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"price": 12}, asked=True):
            program.http("https://api.docs.io/export", 0.35, size=size)

    return Part(body, (Label(KIND, ("https://api.docs.io/export",), severity="info"),), asks=(tool,))


@positive(KIND)
def huge_request(world: World) -> Part:
    """A tool uploads a megabyte."""
    tool, size = world.tool_name(), round(world.log_uniform(450e3, 2e7))

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"ok": True}, asked=True):
            program.http("https://api.docs.io/import", 0.35, sent=size)

    return Part(body, (Label(KIND, ("https://api.docs.io/import",), severity="info"),), asks=(tool,))


@positive(KIND, needs="agentperf")
def result_fills_the_prompt(world: World) -> Part:
    """A tool's result is most of what the model reads next."""
    tool, tokens = world.tool_name(), world.count(8_000, 40_000)

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            program.turn(tokens=(1500, 40, None), asks=(tool,))
            program.tool(tool, 0.6, {"q": world.agent}, size=4 * tokens, asked=True)
            program.turn(tokens=(1500 + tokens, 40, None))

    return Part(body, (Label(KIND, (tool,), severity="info"),), whole=True)


@positive(KIND, needs="content")
def page_fills_the_prompt(world: World) -> Part:
    """A whole page of text, visible on the span, goes into the next prompt."""
    tool, page = world.tool_name(), world.prose(world.count(11_000, 15_000))

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            program.turn(tokens=(1200, 40, None), asks=(tool,), messages=None)
            program.tool(tool, 0.6, {"q": world.agent}, {"page": page}, asked=True)
            program.turn(tokens=(1250 + len(page) // 4, 40, None), messages=None)

    return Part(body, (Label(KIND, (tool,), severity="info"),), whole=True)


@negative(KIND)
def moderate_response(world: World) -> Part:
    """Two hundred kilobytes."""
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"price": 12}, asked=True):
            program.http("https://api.docs.io/export", 0.35, size=200_000)

    return Part(body, asks=(tool,))


@negative(KIND, needs="agentperf")
def small_part_of_the_prompt(world: World) -> Part:
    """A result of a thousand tokens in a prompt of twelve thousand."""
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            program.turn(tokens=(11_000, 40, None), asks=(tool,))
            program.tool(tool, 0.6, {"q": world.agent}, size=4_000, asked=True)
            program.turn(tokens=(12_000, 40, None))

    return Part(body, whole=True)


@negative(KIND, needs="agentperf")
def small_prompt(world: World) -> Part:
    """A line of weather is a third of a prompt of three hundred tokens: too little to speak of."""
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            program.turn(tokens=(200, 40, None), asks=(tool,))
            program.tool(tool, 0.6, {"q": world.agent}, size=400, asked=True)
            program.turn(tokens=(300, 40, None))

    return Part(body, whole=True)


@negative(KIND)
def size_not_told(world: World) -> Part:
    """A download of unknown size."""
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"price": 12}, asked=True):
            program.http("https://api.docs.io/export", 0.38)

    return Part(body, asks=(tool,))


@negative(KIND, needs="agentperf")
def nobody_reads_it(world: World) -> Part:
    """A result of fifty kilobytes is the end of the run: no prompt holds it."""
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            program.turn(tokens=(1500, 40, None), asks=(tool,))
            program.tool(tool, 0.6, {"q": world.agent}, size=50_000, asked=True)

    return Part(body, whole=True)


@negative(KIND, needs="agentperf")
def condensed_before_it_is_read(world: World) -> Part:
    """A large result inside a tool, which gives the model a few lines of it."""
    outer, tool = world.tool_name(), world.tool_name()

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            program.turn(tokens=(1500, 40, None), asks=(outer,))
            with program.inside("tool", outer, args={"q": world.agent}, result={"lines": 4}, asked=True):
                program.tool(tool, 0.6, {"q": world.agent}, size=90_000)
            program.turn(tokens=(1600, 40, None))

    return Part(body, whole=True)


@negative(KIND)
def many_small_ones(world: World) -> Part:
    """Twenty responses of twenty kilobytes each."""
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"price": 12}, asked=True):
            requests = [
                lambda at=at: program.http("https://api.docs.io/part/{}", 0.3, 100 + at, size=20_000)  # type: ignore[misc]
                for at in range(20)
            ]
            program.gather(*requests)

    return Part(body, asks=(tool,))


@unclear(KIND, needs="agentperf")
def read_by_another_agent(world: World) -> Part:
    """A large result of one agent's tool, and a prompt of the next agent after it."""
    names, tool = (world.agent_name(), world.agent_name()), world.tool_name()

    def body(program: Program) -> None:
        with program.inside("workflow", "team"):
            with program.inside("agent", names[0]):
                program.turn(tokens=(1500, 40, None), asks=(tool,))
                program.tool(tool, 0.6, {"q": world.agent}, size=60_000, asked=True)
            with program.inside("agent", names[1]):
                program.turn(tokens=(17_000, 40, None))

    return Part(body, whole=True)
