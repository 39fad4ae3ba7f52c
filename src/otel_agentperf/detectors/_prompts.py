"""The model calls of one agent as a conversation: which prompt goes on from which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from ..model import PROMPT_BLOCK, AgentRun, Prompt, SpanRecord

_CHARACTERS_A_TOKEN = 4
BLOCK_TOKENS = PROMPT_BLOCK // _CHARACTERS_A_TOKEN
_ENOUGH = 5
"""prompts that grow from call to call: more than chance makes of unrelated ones"""


class Talk(NamedTuple):
    """The successful calls of one model by one agent, in one invocation of it, by start."""

    owner: SpanRecord
    calls: list[SpanRecord]
    steps: list[int]
    """by call: how many tools the agent had called before it"""

    def steps_between(self, earlier: int, later: int) -> bool:
        return self.steps[earlier] < self.steps[later]


def talks(run: AgentRun) -> dict[tuple[str, str], list[Talk]]:
    """By the names of the agent and the model."""
    found: dict[tuple[str, str], dict[str, Talk]] = defaultdict(dict)
    for owner, members in run.members.items() if run.thinking else ():
        steps = 0
        for span in members:
            if span.kind != "llm":
                steps += 1
            elif span.error is None:
                key = span.agent or run.agent_of(owner), span.operation
                talk = found[key].setdefault(owner, Talk(run.by_id[owner], [], []))
                talk.calls.append(span)
                talk.steps.append(steps)
    return {key: list(by_owner.values()) for key, by_owner in found.items()}


def is_conversation(talk: Talk, places: Sequence[int]) -> bool:
    """Do the calls at these places of the talk go on from each other? Their prompts decide where they are visible.
    Hidden ones do where the agent called a tool between them, or where there are many; but not those of a program's
    own loop, such as one over documents."""
    calls = [talk.calls[place] for place in places]
    shown = [goes_on(earlier, later) for earlier, later in pairwise(calls)]
    if None not in shown:
        return all(shown)
    if talk.owner.kind == "workflow" and not talk.owner.chain:
        return False
    stepped = sum(talk.steps_between(*pair) for pair in pairwise(places))
    return False not in shown and (2 * stepped >= len(shown) or len(calls) >= _ENOUGH)


def goes_on(earlier: SpanRecord, later: SpanRecord) -> bool | None:
    """Has the later prompt more messages than the earlier, or the same beginning? None: the trace does not show."""
    one, other = _whole(earlier), _whole(later)
    if one is None or other is None:
        return None
    if one.messages is not None and other.messages is not None and one.messages < other.messages:
        return True
    return bool(one.blocks) and 2 * blocks_in_common(one, other) >= len(one.blocks)


def _whole(span: SpanRecord) -> Prompt | None:
    """What the span shows, unless that is far less than the tokens told: then it is cut off, or but the last
    message."""
    shown = span.prompt
    return shown if shown and shown.size >= (span.tokens.input or 0) else None


def shows_prompt(span: SpanRecord) -> bool:
    return _whole(span) is not None


def blocks_in_common(one: Prompt, other: Prompt) -> int:
    """How many blocks the two prompts begin with are the same."""
    shorter = min(len(one.blocks), len(other.blocks))
    return next((place for place in range(shorter) if one.blocks[place] != other.blocks[place]), shorter)
