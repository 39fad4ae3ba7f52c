"""Prompts that begin as the one before did, and are paid for in full all the same."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

from ..model import AgentRun, Finding, SpanRecord
from ._calls import ids
from ._prompts import BLOCK_TOKENS, Talk, blocks_in_common, is_conversation, shows_prompt, talks
from ._rounds import JITTER_NS

TITLE = "prompt cache not used"
THRESHOLDS = frozenset({"share", "tokens", "within_s"})


class _Repeat(NamedTuple):
    """A call whose prompt begins as that of an earlier one did."""

    earlier: SpanRecord
    call: SpanRecord
    shared: int
    """tokens"""

    @property
    def read(self) -> int:
        """How much of what is shared came from the provider's cache."""
        return min(self.call.tokens.cache_read or 0, self.shared)


def detect(run: AgentRun) -> Iterable[Finding]:
    """Calls of one model by one agent within 5 minutes whose prompts begin with the same ≥1,024 tokens, of which less
    than half, over all such calls, came from the provider's cache. What is shared is read off visible prompts, or, in
    a conversation, off the length of the prompt before. Silent where neither a cache read is told of the model nor a
    prompt is visible; where only the prompts are, it is no more than information. Claims tokens, no time."""
    told = {span.operation for span in run.spans if span.kind == "llm" and span.tokens.cache_read is not None}
    for (_, model), invocations in talks(run).items():
        repeats = list(_repeats(run, invocations, model in told))
        shared = sum(repeat.shared for repeat in repeats)
        if repeats and sum(repeat.read for repeat in repeats) < _share(run, repeats[0].call) * shared:
            yield _finding(run, model, repeats, model in told)


def _share(run: AgentRun, call: SpanRecord) -> float:
    return run.threshold("prompt_cache_miss.share", 0.5, call)


def _repeats(run: AgentRun, invocations: Sequence[Talk], told: bool) -> Iterator[_Repeat]:
    """Each call with the one of the same agent and model that it has most in common with: the one before it in its
    conversation, or the last one that had ended."""
    by_end = sorted((call for talk in invocations for call in talk.calls), key=attrgetter("end_ns"))
    for talk in invocations:
        grows = told and _grows(talk)
        for place, call in enumerate(talk.calls):
            ended = bisect_right(by_end, call.start_ns + JITTER_NS, key=attrgetter("end_ns"))
            last = by_end[max(0, ended - 1) : ended]
            pairs = [_Repeat(one, call, _shown(one, call)[0]) for one in last if one is not call]
            if place and talk.calls[place - 1].end_ns <= call.start_ns + JITTER_NS:
                shared = _in_conversation(talk, place, grows) if told else _shown(talk.calls[place - 1], call)[0]
                pairs.append(_Repeat(talk.calls[place - 1], call, shared))
            repeat = max(pairs, key=attrgetter("shared"), default=None)
            if repeat and _counts(run, repeat):
                yield repeat


def _counts(run: AgentRun, repeat: _Repeat) -> bool:
    within_ns = run.threshold("prompt_cache_miss.within_s", 300, repeat.call) * 1e9
    enough = repeat.shared >= run.threshold("prompt_cache_miss.tokens", 1024, repeat.call)
    return enough and repeat.call.start_ns - repeat.earlier.end_ns <= within_ns


def _shown(earlier: SpanRecord, call: SpanRecord) -> tuple[int, bool]:
    """Tokens that the visible prompts begin with in common, at least; and whether that is all."""
    one, other = earlier.prompt, call.prompt
    if one is None or other is None:
        return 0, False
    common = blocks_in_common(one, other)
    differ = common < min(len(one.blocks), len(other.blocks))
    return common * BLOCK_TOKENS, differ or (shows_prompt(earlier) and shows_prompt(call))


def _in_conversation(talk: Talk, place: int, grows: bool) -> int:
    """Tokens that the call's prompt begins with in common with the one before: what is shown, or all of the earlier
    one where what is hidden can only have been added to it."""
    earlier, call = talk.calls[place - 1], talk.calls[place]
    shared, sure = _shown(earlier, call)
    before, now = earlier.tokens.input, call.tokens.input
    if sure or before is None or now is None or now < before:
        return shared
    return max(shared, before) if grows or is_conversation(talk, (place - 1, place)) else shared


def _grows(talk: Talk) -> bool:
    """Is the whole talk one conversation, by its prompts' lengths?"""
    sizes = [call.tokens.input for call in talk.calls]
    known = [size for size in sizes if size is not None]
    return len(known) == len(sizes) and sorted(known) == known and is_conversation(talk, range(len(sizes)))


def _finding(run: AgentRun, model: str, repeats: Sequence[_Repeat], told: bool) -> Finding:
    share = _share(run, repeats[0].call)
    missed = [repeat for repeat in repeats if repeat.read < share * repeat.shared]
    shared, read = sum(repeat.shared for repeat in repeats), sum(repeat.read for repeat in repeats)
    total = sum(repeat.call.tokens.input or repeat.shared for repeat in repeats)
    written = any(repeat.call.tokens.cache_write for repeat in missed)
    least = run.threshold("prompt_cache_miss.tokens", 1024, repeats[0].call)
    saw = f"{read:,} came from the provider's cache" if told else "the trace tells of no read from the provider's cache"
    advice = (
        "what is written to the cache is not read again, so something changes before it or it is gone too soon"
        if written
        else "keep what never changes first and word for word the same, and turn caching on where the provider asks"
    )
    spans = {span.span_id: span for repeat in missed for span in (repeat.earlier, repeat.call)}
    return Finding(
        kind="prompt_cache_miss",
        severity="warning" if told and 2 * (shared - read) >= total else "info",
        operation=model,
        calls=len(missed),
        wasted_s=0.0,
        evidence=ids(spans.values()),
        threshold=f"<{share:.0%} of a beginning of ≥{least:,.0f} tokens, shared with an earlier prompt, from the cache",
        recommend=lambda saving: (
            f"{len(repeats)} prompts to {model} begin as one shortly before, with {shared:,} tokens in common, and "
            f"{saw}: {advice}."
        ),
    )
