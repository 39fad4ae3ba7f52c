"""Parts put together to one run of an agent, with model turns between them."""

from __future__ import annotations

from collections.abc import Sequence

from .cases import Part
from .program import Program
from .world import World


def run(world: World, parts: Sequence[Part], program: Program, beside_s: float = 0.0) -> None:
    """One run: a whole program, or an agent that does the parts one after another."""
    if parts[0].whole:
        parts[0].body(program)
        return
    with program.inside("agent", world.agent):
        for part in parts:
            program.turn(asks=part.asks)
            if part.turns:
                part.body(program)
                continue
            with program.steps("tools"):
                _with_company(part, program, beside_s)
        program.turn()


def _with_company(part: Part, program: Program, beside_s: float) -> None:
    """The part, and beside it something short that nobody waits for."""
    if beside_s:
        program.gather(lambda: part.body(program), lambda: program.call("step", "refresh_token", beside_s))
    else:
        part.body(program)
