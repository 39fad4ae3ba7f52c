from __future__ import annotations

from ..cases import Label, Part, negative, positive
from ..program import Program
from ..world import World

KIND = "agent_loop"
Step = tuple[str, object, object]
"""tool, arguments, result"""


def _steps(world: World, count: int) -> list[Step]:
    return [(world.tool_name(), {"q": world.text()}, {"id": world.identifier()}) for _ in range(count)]


def _cycle(program: Program, steps: list[Step], times: list[float]) -> None:
    """One way round: before each step the model decides to take it."""
    for (tool, args, result), seconds in zip(steps, times, strict=True):
        program.turn(asks=(tool,))
        program.tool(tool, seconds, args, result, asked=True)


def _loop(world: World, steps: list[Step], rounds: int, key: str) -> Part:
    times = world.times(len(steps), 0.2, 1.5)

    def body(program: Program) -> None:
        for _ in range(1 if program.repaired(key) else rounds):
            _cycle(program, steps, times)

    names = tuple(tool for tool, _, _ in steps)
    return Part(body, (Label(KIND, (*names, world.agent), key),), turns=True)


@positive(KIND, needs="arguments")
def same_call_turn_after_turn(world: World) -> Part:
    """The model asks the same tool the same thing and gets the same answer, again and again."""
    return _loop(world, _steps(world, 1), world.count(4, 9), world.key())


@positive(KIND, needs="arguments")
def two_steps_in_a_circle(world: World) -> Part:
    """Two tools in turn, the same arguments and results each time round."""
    return _loop(world, _steps(world, 2), world.count(4, 6), world.key())


@positive(KIND, needs="arguments")
def four_steps_in_a_circle(world: World) -> Part:
    """A longer circle."""
    return _loop(world, _steps(world, 4), 4, world.key())


@positive(KIND, needs="arguments")
def after_some_progress(world: World) -> Part:
    """It starts well, and then goes round."""
    start, steps, rounds, key = _steps(world, 2), _steps(world, 1), world.count(4, 8), world.key()
    times = world.times(2, 0.2, 1.0)

    def body(program: Program) -> None:
        _cycle(program, start, times)
        for _ in range(1 if program.repaired(key) else rounds):
            _cycle(program, steps, times[:1])

    return Part(body, (Label(KIND, (steps[0][0], world.agent), key),), turns=True)


@positive(KIND, needs="arguments")
def in_a_sub_agent(world: World) -> Part:
    """The agent within a tool goes round."""
    steps, rounds, key, inner = _steps(world, 1), world.count(4, 8), world.key(), world.agent_name()

    def body(program: Program) -> None:
        with program.delegate(inner):
            for _ in range(1 if program.repaired(key) else rounds):
                _cycle(program, steps, [0.6])
            program.turn()

    return Part(body, (Label(KIND, (steps[0][0], inner), key),), asks=(f"ask_{inner}",))


@negative(KIND, needs="arguments")
def the_job_goes_on(world: World) -> Part:
    """The model asks for a job's state, and each answer is new."""
    tool, args = world.tool_name(), {"job": world.identifier("job")}

    def body(program: Program) -> None:
        for place in range(6):
            program.turn(asks=(tool,))
            program.tool(tool, 0.5, args, {"state": "running", "percent": 7 + 11 * place}, asked=True)

    return Part(body, turns=True)


@negative(KIND, needs="arguments")
def better_questions(world: World) -> Part:
    """The model refines its question each time."""
    tool, questions = world.tool_name(), [world.text() for _ in range(6)]

    def body(program: Program) -> None:
        for place, question in enumerate(questions):
            program.turn(asks=(tool,))
            program.tool(tool, 0.5, {"q": question}, {"hits": place * 7919}, asked=True)

    return Part(body, turns=True)


@negative(KIND, needs="arguments")
def twice_round(world: World) -> Part:
    """The same two steps twice, to be sure."""
    steps = _steps(world, 2)

    def body(program: Program) -> None:
        for _ in range(2):
            _cycle(program, steps, [0.4, 0.4])

    return Part(body, turns=True)


@negative(KIND, needs="arguments")
def a_loop_in_code(world: World) -> Part:
    """Code repeats a call with no model in between: repeats, not an agent that goes round."""
    tool, args, result, key = world.tool_name(), {"q": world.text()}, {"id": world.identifier()}, world.key()
    times = world.times(5, 0.4, 1.5)

    def body(program: Program) -> None:
        with program.inside("tool", "compose_report", args={"n": 5}, result={"done": 1}):
            for seconds in times[:1] if program.repaired(key) else times:
                program.tool(tool, seconds, args, result)

    return Part(body, (Label("duplicate_calls", (tool,), key),))


@negative(KIND, needs="arguments")
def edit_and_test(world: World) -> Part:
    """Edits differ, the tests are the same call, and fail differently until they pass."""

    def body(program: Program) -> None:
        for place in range(5):
            program.turn(asks=("write_file",))
            program.tool("write_file", 0.1, {"path": "a.py", "text": f"x = {place}"}, {"ok": True}, asked=True)
            program.turn(asks=("run_tests",))
            program.tool("run_tests", 1.2, {"filter": "all"}, {"failed": 9 - 2 * place}, asked=True)

    return Part(body, turns=True)


@negative(KIND, needs="hidden")
def nobody_knows_the_arguments(world: World) -> Part:
    """The same tool six times; its arguments and results are hidden."""
    tool = world.tool_name()

    def body(program: Program) -> None:
        for place in range(6):
            program.turn(asks=(tool,))
            program.tool(tool, 0.6, {"q": place}, asked=True)

    return Part(body, turns=True)


@negative(KIND, needs="arguments")
def two_agents_twice_each(world: World) -> Part:
    """Two agents take the same step twice each."""
    steps, names = _steps(world, 1), (world.agent_name(), world.agent_name())

    def body(program: Program) -> None:
        with program.inside("workflow", "team"):
            for name in names:
                with program.inside("agent", name):
                    for _ in range(2):
                        _cycle(program, steps, [0.3])
                    program.turn()

    return Part(body, whole=True)


@negative(KIND, needs="arguments")
def turning_pages(world: World) -> Part:
    """The same call without arguments gives the next page each time."""
    tool = world.tool_name()

    def body(program: Program) -> None:
        for place in range(6):
            program.turn(asks=(tool,))
            program.tool(tool, 0.4, {}, {"page": place + 1, "rows": [place * 7919 + 13]}, asked=True)

    return Part(body, turns=True)
