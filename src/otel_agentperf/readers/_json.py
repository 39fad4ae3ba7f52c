"""JSON documents into records, whichever of the formats they are in: OTLP, Jaeger's own, or a report made earlier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..model import SpanRecord
from . import ReadError, RecordedRun, _jaeger_json, _otlp
from ._documents import documents
from ._problems import Problems

_ENVELOPES = ("result", "batches", "data")
_REPORT = "agentperf.report/v1"


def spans(text: str) -> Iterator[SpanRecord]:
    """The spans of all documents in a text.

    Raises `ReadError` for what was wrong, by line, after what was good has been yielded.
    """
    problems = Problems()
    for item in items([text], problems):
        if isinstance(item, SpanRecord):
            yield item
    if problems:
        raise ReadError(str(problems))


def items(pieces: Iterable[str], problems: Problems) -> Iterator[SpanRecord | RecordedRun]:
    """The spans of all documents, and the runs of reports among them; what cannot be used goes to `problems`."""
    for line, document in documents(pieces, problems):
        for item in _items(document):
            if isinstance(item, str):
                problems.append(f"line {line}: {item}")
            else:
                yield item


def _items(document: Any) -> Iterator[SpanRecord | RecordedRun | str]:
    """What one document holds: bare, in lists, or in a backend's envelope; for what cannot be used, the fault."""
    parts = [document]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts.extend(reversed(part))
        elif isinstance(part, Mapping):
            yield from _told_errors(part)
            if part.get("schema") == _REPORT:
                yield from _runs(part.get("runs"))
                continue
            yield from _otlp.records(part)
            if _jaeger_json.is_trace(part):
                yield from _jaeger_json.records(part)
            parts.extend(part[envelope] for envelope in _ENVELOPES if envelope in part)


def _runs(runs: Any) -> Iterator[RecordedRun]:
    for run in runs if isinstance(runs, list) else ():
        if isinstance(run, Mapping):
            yield RecordedRun(run)


def _told_errors(part: Mapping[str, Any]) -> Iterator[str]:
    """What a server put in place of an answer, in Jaeger's v3 and in its older API."""
    if isinstance(part.get("error"), Mapping):
        yield f"the server says: {part['error'].get('message')}"
    for error in part["errors"] if isinstance(part.get("errors"), list) and "data" in part else ():
        if isinstance(error, Mapping):
            yield f"the server says: {error.get('msg')}"
