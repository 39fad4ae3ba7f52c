from __future__ import annotations

from collections.abc import Sequence

from ..cases import Label, Part, negative, positive, unclear
from ..program import Program
from ..world import World

KIND = "prompt_cache_miss"
Prompt = tuple[tuple[str, str], ...]


def _ask(
    world: World, program: Program, prompts: Sequence[Prompt], cached: Sequence[int | None], wait_s: float = 0
) -> None:
    for prompt, read in zip(prompts, cached, strict=True):
        size = sum(len(text) for _, text in prompt) // 4
        program.turn(tokens=(size, 60, read), messages=prompt, answer="Fine.")
        program.wait(wait_s)


def _agent(
    world: World, prompts: Sequence[Prompt], cached: Sequence[int | None], *labels: Label, wait_s: float = 0
) -> Part:
    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            _ask(world, program, prompts, cached, wait_s)

    return Part(body, labels, whole=True)


def _same_start(world: World, calls: int, characters: int) -> list[Prompt]:
    system = world.prose(characters)
    return [(("system", system), ("user", world.text(8))) for _ in range(calls)]


def _label(world: World) -> Label:
    return Label(KIND, (world.model, world.agent), severity="info")


@positive(KIND, needs="content")
def never_read(world: World) -> Part:
    """The same long instructions each time, and the provider reads none of it from its cache."""
    calls = world.count(3, 8)
    return _agent(world, _same_start(world, calls, world.count(9000, 14000)), [0] * calls, _label(world))


@positive(KIND, needs="content")
def read_a_little(world: World) -> Part:
    """A tenth of the shared start comes from the cache."""
    calls, characters = world.count(3, 6), 12_000
    return _agent(world, _same_start(world, calls, characters), [0] + [300] * (calls - 1), _label(world))


@positive(KIND, needs="content")
def conversation_sent_anew(world: World) -> Part:
    """A conversation that only gets longer at its end, never read from the cache."""
    system, said = world.prose(7000), [world.text(60) for _ in range(5)]
    prompts = [(("system", system), *(("user", text) for text in said[: place + 1])) for place in range(5)]
    return _agent(world, prompts, [0] * 5, _label(world))


@positive(KIND, needs="content")
def in_a_sub_agent(world: World) -> Part:
    """An agent within a tool has the long instructions."""
    inner, prompts = world.agent_name(), _same_start(world, 4, 10_000)

    def body(program: Program) -> None:
        with program.delegate(inner):
            _ask(world, program, prompts, [0] * 4)

    return Part(body, (Label(KIND, (world.model, inner), severity="info"),), asks=(f"ask_{inner}",), alone=True)


@negative(KIND, needs="content")
def read_from_the_second_on(world: World) -> Part:
    """The cache holds the instructions from the second call on."""
    calls = world.count(3, 8)
    return _agent(world, _same_start(world, calls, 12_000), [0] + [2900] * (calls - 1))


@negative(KIND, needs="content")
def short_prompts(world: World) -> Part:
    """Instructions of three hundred tokens: providers cache none so short."""
    return _agent(world, _same_start(world, 6, 1200), [0] * 6)


@negative(KIND, needs="content")
def only_one_call(world: World) -> Part:
    """The first call cannot be read from anywhere."""
    return _agent(world, _same_start(world, 1, 12_000), [0])


@negative(KIND, needs="content")
def long_pauses(world: World) -> Part:
    """Ten minutes between the calls: the cache has forgotten."""
    prompts = _same_start(world, 3, 12_000)

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            for prompt in prompts:
                _ask(world, program, [prompt], [0])
                program.tool(
                    "wait_for_approval", 600.0, {"n": program.now}, {"answer": f"yes {program.now}"}, asked=True
                )

    # Whether a person's time makes a slow tool is a question of another kind.
    return Part(body, (Label("slow_operation", ("wait_for_approval",), optional=True),), whole=True)


@negative(KIND, needs="content")
def nothing_in_common(world: World) -> Part:
    """Long prompts, each about another document."""
    prompts = [(("user", world.prose(9000)),) for _ in range(4)]
    return _agent(world, prompts, [0] * 4)


@negative(KIND, needs="content")
def differs_from_the_start(world: World) -> Part:
    """The time of day stands in the first line: no shared start, however long the rest."""
    rest = world.prose(9000)
    prompts = [(("system", f"It is {10 + place}:4{place}. {rest}"), ("user", world.text(8))) for place in range(4)]
    return _agent(world, prompts, [0] * 4)


@negative(KIND, needs="hidden")
def nothing_to_see(world: World) -> Part:
    """No prompt is visible, and the provider never mentions a cache."""
    return _agent(world, _same_start(world, 6, 12_000), [None] * 6)


@negative(KIND, needs="content")
def two_models(world: World) -> Part:
    """The same instructions for two models, once each: each has a cache of its own."""
    prompts = _same_start(world, 2, 12_000)

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            for model, prompt in zip(("first-model", "second-model"), prompts, strict=True):
                program.turn(model=model, tokens=(3000, 60, 0), messages=prompt, answer="Fine.")

    return Part(body, whole=True)


@unclear(KIND, needs="content")
def cache_never_mentioned(world: World) -> Part:
    """The prompts are visible and share their start; the provider says nothing of a cache."""
    return _agent(world, _same_start(world, 5, 12_000), [None] * 5)


@negative(KIND, needs="content")
def two_agents_take_turns(world: World) -> Part:
    """Two agents with long instructions of their own, each read from the cache from its second call on."""
    names = (world.agent_name(), world.agent_name())
    prompts = [_same_start(world, 3, 10_000) for _ in names]

    def body(program: Program) -> None:
        with program.inside("workflow", "desk"):
            for turn in range(3):
                for name, own in zip(names, prompts, strict=True):
                    with program.inside("agent", name):
                        _ask(world, program, [own[turn]], [2400 if turn else 0])

    return Part(body, whole=True)


@unclear(KIND, needs="content")
def all_at_the_same_time(world: World) -> Part:
    """Five calls that start together: when the last one starts, the first has not filled the cache yet."""
    prompts = _same_start(world, 5, 12_000)

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            calls = [
                lambda prompt=prompt: program.call(  # type: ignore[misc]
                    "llm", world.model, 1.2, tokens=(3000, 60, 0), messages=prompt, answer=prompt[1][1]
                )
                for prompt in prompts
            ]
            program.gather(*calls)

    return Part(body, whole=True)
