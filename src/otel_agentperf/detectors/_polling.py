"""Calls that are meant to be asked again: who polls waits for another answer, and gets nowhere until it comes."""

from __future__ import annotations

from ..model import SpanRecord
from ._writes import words

_VOLATILE = frozenset(
    """poll wait watch ping sleep await statu heartbeat progres now time clock random uuid health""".split()
)
"""words (without a final s) in the name of a call that is meant to be asked again"""
_UNFINISHED = frozenset("""pending queued running processing waiting progres retry""".split())
"""words in a short answer that means: ask again"""
_STATUS_TEXT = 200


def is_meant_to_repeat(call: SpanRecord) -> bool:
    """By its name, such as `get_job_status` or `wait`."""
    return not _VOLATILE.isdisjoint(words(call.operation))


def says_ask_again(call: SpanRecord) -> bool:
    """By its result, where that is visible: `{"state": "running"}`."""
    return bool(call.result_text) and not _UNFINISHED.isdisjoint(words((call.result_text or "")[:_STATUS_TEXT]))
