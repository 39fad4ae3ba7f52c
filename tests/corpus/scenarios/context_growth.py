from __future__ import annotations

from collections.abc import Sequence

from ..cases import Label, Part, negative, positive, unclear
from ..program import Program
from ..world import World

KIND = "context_growth"


def _conversation(
    world: World, program: Program, prompts: Sequence[int], model: str | None = None, cached: bool = False
) -> None:
    """Turns with prompts of so many tokens, and a tool between them. The prompts themselves are not recorded."""
    for place, size in enumerate(prompts):
        read = int(0.9 * prompts[place - 1]) if cached and place else 0 if cached else None
        tool = f"step_{place}"
        program.turn(model=model or world.model, tokens=(size, 60, read), messages=None, asks=(tool,))
        program.tool(tool, 0.1, {"n": f"{world.agent} {place}"}, {"n": place * 7919 + 3}, asked=True)


def _label(world: World, agent: str | None = None) -> Label:
    return Label(KIND, (world.model, agent or world.agent), severity="info")


def _grown(world: World, factor: float) -> list[int]:
    turns, first = world.count(5, 12), world.count(1500, 4000)
    return [round(first * factor ** (place / (turns - 1))) for place in range(turns)]


@positive(KIND)
def everything_is_kept(world: World) -> Part:
    """Each turn sends all that was said before."""
    prompts = _grown(world, world.log_uniform(5, 20))
    return Part(lambda program: _conversation(world, program, prompts), (_label(world),), turns=True, alone=True)


@unclear(KIND)
def kept_and_cached(world: World) -> Part:
    """The same, with most of it read from the provider's cache: it still swells."""
    prompts = _grown(world, world.log_uniform(5, 20))
    return Part(
        lambda program: _conversation(world, program, prompts, cached=True), (_label(world),), turns=True, alone=True
    )


@positive(KIND)
def in_one_agent_of_two(world: World) -> Part:
    """Of a team's two agents one collects."""
    prompts, names = _grown(world, world.log_uniform(6, 20)), (world.agent_name(), world.agent_name())

    def body(program: Program) -> None:
        with program.inside("workflow", "team"):
            with program.inside("agent", names[0]):
                _conversation(world, program, prompts)
            with program.inside("agent", names[1]):
                _conversation(world, program, [900, 920, 940])

    return Part(body, (_label(world, names[0]),), whole=True)


@positive(KIND)
def by_one_large_result(world: World) -> Part:
    """A document comes in at the third turn and is sent along from then on."""
    prompts = [1200, 1400, 9000, 9300, 9600, 9900]
    return Part(lambda program: _conversation(world, program, prompts), (_label(world),), turns=True, alone=True)


@positive(KIND)
def in_a_sub_agent(world: World) -> Part:
    """An agent within a tool lets its prompt grow."""
    prompts, inner = _grown(world, world.log_uniform(5, 15)), world.agent_name()

    def body(program: Program) -> None:
        with program.delegate(inner):
            _conversation(world, program, prompts)

    return Part(body, (_label(world, inner),), asks=(f"ask_{inner}",), alone=True)


@negative(KIND)
def small_all_along(world: World) -> Part:
    """A prompt that grows from two hundred to three thousand tokens."""
    prompts = [200, 500, 900, 1500, 2200, 3000]
    return Part(lambda program: _conversation(world, program, prompts), turns=True)


@negative(KIND)
def large_and_steady(world: World) -> Part:
    """Each turn has the same large instructions."""
    prompts = [world.count(9000, 9400) for _ in range(7)]

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            _conversation(world, program, prompts)

    return Part(body, whole=True)


@negative(KIND)
def grows_a_little(world: World) -> Part:
    """From eight to eleven thousand tokens."""
    prompts = [8000, 8600, 9200, 9900, 10600, 11200]

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            _conversation(world, program, prompts)

    return Part(body, whole=True)


@negative(KIND)
def two_models(world: World) -> Part:
    """A small model routes, a large one with long instructions answers: neither grows."""

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            for place in range(4):
                program.turn(0.5, model="router-mini", tokens=(900 + place, 30, None), messages=None)
            for place in range(4):
                program.turn(1.5, model="writer-large", tokens=(9000 + place, 90, None), messages=None)

    return Part(body, whole=True)


@negative(KIND)
def two_agents(world: World) -> Part:
    """An agent with short prompts, then one with long ones."""
    names = (world.agent_name(), world.agent_name())

    def body(program: Program) -> None:
        with program.inside("workflow", "team"):
            for name, size in zip(names, (1500, 9000), strict=True):
                with program.inside("agent", name):
                    _conversation(world, program, [size, size + 50, size + 100])

    return Part(body, whole=True)


@negative(KIND)
def only_two_turns(world: World) -> Part:
    """A question, and the answer that needs a document."""

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            _conversation(world, program, [1500, 9000])

    return Part(body, whole=True)


@negative(KIND)
def summarised_in_time(world: World) -> Part:
    """It grows, is summarised, and starts small again."""
    prompts = [2500, 4000, 5500, 2600, 4100, 5600, 2700, 3600]

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            _conversation(world, program, prompts)

    return Part(body, whole=True)


@negative(KIND)
def tokens_not_told(world: World) -> Part:
    """A provider that does not count tokens."""

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            for _ in range(6):
                program.turn(tokens=(None, None, None))

    return Part(body, whole=True)


@negative(KIND)
def documents_side_by_side(world: World) -> Part:
    """Documents of different lengths, summarised at the same time."""
    sizes = [2000, 9000, 3000, 12000, 2500, 2800]

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            summaries = [
                lambda size=size: program.call("llm", world.model, 1.5, tokens=(size, 90, None))  # type: ignore[misc]
                for size in sizes
            ]
            program.gather(*summaries)

    return Part(body, whole=True)


@negative(KIND)
def fresh_conversations(world: World) -> Part:
    """An agent is asked five times; each time it starts small and reads one document."""
    inner = world.agent_name()

    def body(program: Program) -> None:
        for place in range(5):
            program.turn(messages=None)
            with program.delegate(inner, about=place):
                program.turn(tokens=(2000 + place, 60, None), messages=None)
                program.turn(tokens=(5200 + place, 60, None), messages=None)

    return Part(body, turns=True, alone=True)
