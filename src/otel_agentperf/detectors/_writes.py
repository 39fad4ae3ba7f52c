"""The calls of a run that change something, to tell whether one lies between two reads."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from .._visible import distinctive_values
from ..model import AgentRun, Kind, SpanRecord

_WORD = re.compile(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]*|\d+")
_TABLE = re.compile(r"\b(?:from|join|into|update|table)\s+[`\"\[]?([\w.]+)", re.IGNORECASE)
_NO_TABLE = re.compile(r"\b(?:nextval|setval|pg_\w*advisory_\w+|get_lock|release_lock)\s*\(", re.IGNORECASE)
"""changes a sequence or a lock, whose name is among the arguments"""
_KEY_COMMAND = re.compile(r"[A-Za-z]+ (\S+)")
_MOST_COMPARED = 200
"""writes between two reads; of more, one is taken to be of the same resource"""
_EVERYWHERE = frozenset("http com org net api www v id get by the of".split())
"""words (without a final s) that say nothing about a resource"""
_CALLS_OF_CODE: frozenset[Kind] = frozenset({"tool", "mcp", "retrieval", "embedding", "llm"})


class Writes:
    """Looks for writes of the same resource between two calls."""

    def __init__(self, run: AgentRun) -> None:
        self._spans = [span for span in run.spans if span.mutating]
        self._starts = [span.start_ns for span in self._spans]
        self._latest_ends = list(accumulate((span.end_ns for span in self._spans), max))
        self._traits: dict[str, _Traits] = {}

    def split(self, calls: Sequence[SpanRecord]) -> Iterator[list[SpanRecord]]:
        """The calls, cut where something of the same resource was written."""
        group = [calls[0]]
        for earlier, later in pairwise(calls):
            if self._is_written(earlier, later):
                yield group
                group = []
            group.append(later)
        yield group

    def _is_written(self, earlier: SpanRecord, later: SpanRecord) -> bool:
        """Was a write going on between the start of one call and that of the next?"""
        told = earlier.result is not None and later.result is not None
        index = bisect_left(self._starts, later.start_ns)
        for compared in range(index):
            place = index - 1 - compared
            if self._latest_ends[place] <= earlier.start_ns:
                return False
            if compared == _MOST_COMPARED:
                return True
            write = self._spans[place]
            if _is_between(write, earlier, later) and self.may_change(write, later, unchanged=told):
                return True
        return False

    def may_change(self, write: SpanRecord, read: SpanRecord, unchanged: bool = False) -> bool:
        """Could the write change what the read returns? Yes where calls of one kind cannot rule it out; calls of
        different kinds need a word in common (the tool `update_user`, the request `/users/{id}`).

        `unchanged`: what was read before and after the write is known, and is the same. Then hidden arguments do not
        count as a write of the same thing: names that share a word still do, for who looks again after
        `update_order` has reason to, but any call that writes something would hide all repeats of a run.
        """
        written, asked = self._traits_of(write), self._traits_of(read)
        if write.kind == read.kind == "db":
            return not (written.stored and asked.stored) or not written.stored.isdisjoint(asked.stored)
        if write.kind == read.kind == "http":
            return "://" not in write.operation + read.operation or _host(write) == _host(read)
        in_common = not written.nouns.isdisjoint(asked.nouns)
        if {write.kind, read.kind} <= _CALLS_OF_CODE:
            hidden = written.given is None or asked.given is None
            return in_common or (not unchanged if hidden else _share(written.given, asked.given))
        return in_common

    def _traits_of(self, span: SpanRecord) -> _Traits:
        traits = self._traits.get(span.span_id)
        if traits is None:
            traits = self._traits[span.span_id] = _Traits(_stored(span), _nouns(span), _given(span))
        return traits


class _Traits(NamedTuple):
    """What tells whether two calls are about the same thing."""

    stored: frozenset[str]
    """tables or keys of a database call"""
    nouns: frozenset[str]
    """words of the name"""
    given: frozenset[str] | None
    """values of the arguments; None: hidden, or too many"""


def _is_between(write: SpanRecord, earlier: SpanRecord, later: SpanRecord) -> bool:
    # What encloses both calls is what makes them.
    encloses = write.start_ns <= earlier.start_ns and write.end_ns >= later.end_ns
    return write.end_ns > earlier.start_ns and not encloses


def _stored(span: SpanRecord) -> frozenset[str]:
    """The tables of a query, or the key of a command such as `GET user:7`."""
    if _NO_TABLE.search(span.operation):
        return frozenset({span.args_text or span.operation})
    tables = frozenset(table.lower() for table in _TABLE.findall(span.operation))
    key = None if tables else _KEY_COMMAND.match(span.args_text or "")
    return frozenset({key.group(1)}) if key else tables


def _nouns(span: SpanRecord) -> frozenset[str]:
    if span.kind == "db":
        return frozenset().union(*map(words, _stored(span))) - _EVERYWHERE
    path = span.operation.split("/", 3)[-1] if "://" in span.operation else span.operation
    return words(path) - _EVERYWHERE


def _given(span: SpanRecord) -> frozenset[str] | None:
    """The values whole: a piece of an identifier occurs in others by chance."""
    values = None if span.args_text is None else distinctive_values(span.args_text)
    return None if values is None else frozenset(values)


def _share(one: frozenset[str] | None, other: frozenset[str] | None) -> bool:
    return bool(one and other and not one.isdisjoint(other))


def _host(span: SpanRecord) -> str:
    return "/".join(span.operation.split("/")[:3])


_COMMANDS = frozenset("shell bash zsh powershell terminal command cmd repl interpreter console".split())


def runs_commands(span: SpanRecord) -> bool:
    """Does the name say that it takes any command? Those are steps, each of which may need what the last one did."""
    return bool(_COMMANDS & words(span.operation))


def words(text: str) -> frozenset[str]:
    """The words of a name or text in lower case, without a plural's s: `getOrders` has get and order."""
    return frozenset(word.lower().rstrip("s") for word in _WORD.findall(text))
