"""Calls that wait for a person: their time is nobody's fault, and no program can shorten it."""

from __future__ import annotations

from functools import lru_cache

from ..model import SpanRecord
from ._writes import words

_PEOPLE = frozenset("human approval approve approver hitl interrupt consent confirm confirmation input".split())
"""words (without a final s) in the name of a span that waits for a person"""
_NO_PEOPLE = frozenset("guardrail validate validation".split())
"""…_input is then something to check"""


def waits_for_person(span: SpanRecord) -> bool:
    """Does the name say that somebody is asked?"""
    return _asks_somebody(span.operation)


@lru_cache(maxsize=1_024)
def _asks_somebody(name: str) -> bool:
    said = words(name)
    return bool(_PEOPLE & said) and not _NO_PEOPLE & said
