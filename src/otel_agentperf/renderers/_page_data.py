"""What the HTML page's script is given: the runs of the JSON report, and their spans as columns. Names are made plain
here, so that the page holds no control character, surrogate or direction override of a trace."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

from ..model import AgentRun, Finding, PathSegment, Report, SpanRecord
from ._alike import grouped
from ._kinds import all_findings, biggest, help_text, title
from ._text import plain, rounded_down
from ._verdict import bottlenecks, subject, typical_s, verdict, verdict_of_all
from .json import run_object

_MOST_SPANS = 200_000
"""in a page: 10 to 20 MB, which a browser opens in a second or two"""
_MOST_SPANS_OF_RUN, _FEWEST_SPANS_OF_RUN = 20_000, 50
_MOST_EVIDENCE = 200
_TABLES = ("operations", "agents", "caches")
_MOST_ROWS, _FEWEST_ROWS = 20_000, 20
"""of each table, of all runs together and of one"""
_MOST_BOTTLENECKS = 200
_LONGEST_TEXT = 600
_MICROSECOND = 1_000
_UNSAFE = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def script_json(value: object) -> str:
    """JSON of ASCII that cannot end the `<script>` around it, nor open a comment there."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).translate(_UNSAFE)


def index(reports: Sequence[Report], notes: Sequence[str] = ()) -> dict[str, Any]:
    """Everything the page shows before a run is opened."""
    kinds = {finding.kind for report in reports for finding in all_findings(report)}
    found = bottlenecks(report.findings for report in reports)[:_MOST_BOTTLENECKS]
    document = {
        "notes": notes,
        "verdict": verdict_of_all(reports),
        "median_s": typical_s(reports),
        "kinds": {kind: {"title": title(kind), "help": help_text(kind)} for kind in sorted(kinds)},
        "bottlenecks": [
            {
                "kind": one.worst.kind,
                "title": subject(one.worst, reports[one.worst_run].run),
                "agent": one.worst.agent,
                "severity": one.worst.severity,
                "recommendation": one.worst.recommendation,
                "runs": one.runs,
                "saving_s": one.saving_s,
                "worst_run": one.worst_run,
            }
            for one in found
        ],
        "biggest": max(range(len(found)), key=lambda place: found[place].saving_s, default=None),
        "groups": grouped(reports),
        "runs": [_row(report) for report in reports],
    }
    return dict(_plain(document))


def run_data(report: Report, runs: int) -> dict[str, Any]:
    """One run, as one of `runs` that share the page."""
    run = report.run
    told = run_object(report)
    del told["critical_path"]  # the columns hold it, shorter
    most = max(_FEWEST_SPANS_OF_RUN, min(_MOST_SPANS_OF_RUN, _MOST_SPANS // max(1, runs)))
    spans = _kept(report, most)
    rows = max(_FEWEST_ROWS, _MOST_ROWS // max(1, runs))
    places = {span.span_id: number for number, span in enumerate(spans)}
    top = biggest(report.findings)
    told |= {f"all_{table}": len(told[table]) for table in _TABLES}
    told |= {table: told[table][:rows] for table in _TABLES}
    told |= {
        "error": report.root.error,
        "score": rounded_down(report.score),
        "score_parts": {name: _share(part) for name, part in told["score_parts"].items()},
        "agents": [{**agent, "score": _share(agent["score"])} for agent in told["agents"]],
        "verdict": verdict(report),
        "findings": [_finding(finding, run, places) for finding in report.findings],
        "biggest": report.findings.index(top) if top else None,
        "suppressed": [{**_finding(one.finding, run, places), "reason": one.reason} for one in report.suppressed],
        "cost": asdict(report.cost),
        "unchecked_budgets": report.unchecked_budgets,
        "profile": [asdict(profile) for profile in report.root.profile],
        "all_spans": len(run.spans),
        **_columns(run, spans, places),
    }
    return dict(_plain(told))


def _share(value: float | None) -> float | None:
    return None if value is None else rounded_down(value)


def _finding(finding: Finding, run: AgentRun, places: Mapping[str, int]) -> dict[str, Any]:
    evidence = [places[span_id] for span_id in finding.evidence[:_MOST_EVIDENCE] if span_id in places]
    return {
        "kind": finding.kind,
        "severity": finding.severity,
        "title": subject(finding, run),
        "agent": finding.agent,
        "calls": finding.calls,
        "claims_time": finding.change is not None,
        "saving_s": finding.saving_s,
        "saving_pct": finding.saving_pct,
        "threshold": finding.threshold,
        "recommendation": finding.recommendation,
        "evidence": evidence,
        "spans": len(finding.evidence),
    }


def _row(report: Report) -> list[object]:
    root = report.root
    kinds = list(dict.fromkeys(finding.kind for finding in report.findings))
    start_s = root.start_ns / 1e9
    return [
        root.operation, start_s, root.duration_s, report.grade, rounded_down(report.score), report.saving_s,
        len(report.findings), kinds, root.error, report.run.incomplete,
    ]  # fmt: skip


def _kept(report: Report, most: int) -> list[SpanRecord]:
    """The spans, parents before children; where there are too many those that matter, with all above them."""
    run = report.run
    if len(run.spans) <= most:
        return list(run.walk())
    evidence = {span_id for finding in report.findings for span_id in finding.evidence[:_MOST_EVIDENCE]}
    kept = {run.root.span_id}
    for span in sorted(run.spans, key=lambda span: _rank(run, span, span.span_id in evidence)):
        if len(kept) >= most:
            break
        for above in chain([span], run.ancestors(span)):
            if above.span_id in kept:
                break
            kept.add(above.span_id)
    return [span for span in run.walk() if span.span_id in kept]


def _rank(run: AgentRun, span: SpanRecord, is_evidence: bool) -> tuple[object, ...]:
    return not is_evidence, span.error is None, -run.critical_ns.get(span.span_id, 0), -span.duration_ns


def _columns(run: AgentRun, spans: Sequence[SpanRecord], places: Mapping[str, int]) -> dict[str, Any]:
    """The spans by number, in microseconds from the run's start."""
    names: dict[tuple[str, str], int] = {}
    named = [names.setdefault((span.kind, span.operation), len(names)) for span in spans]
    return {
        "names": [list(name) for name in names],
        "spans": {
            "name": named,
            "id": [span.span_id for span in spans],
            "parent": [-1 if span is run.root else places.get(span.parent_id or "", 0) for span in spans],
            "start": [_offset(run, span.start_ns) for span in spans],
            "end": [_offset(run, span.end_ns) for span in spans],
            "self": [run.self_ns.get(span.span_id, 0) // _MICROSECOND for span in spans],
            "error": {number: span.error for number, span in enumerate(spans) if span.error is not None},
            "tokens": {
                number: [span.tokens.input, span.tokens.output] for number, span in enumerate(spans) if span.tokens
            },
        },
        "path": list(_path(run, places)),
    }


def _path(run: AgentRun, places: Mapping[str, int]) -> Iterator[list[int]]:
    """`[span, start, end]`; a stretch of a span that was left out belongs to the nearest one above it."""
    last: list[int] | None = None
    for segment in run.path:
        start, end = _offset(run, segment.start_ns), _offset(run, segment.end_ns)
        place = _place(run, segment, places)
        if last and last[0] == place and last[2] == start:
            last[2] = end
            continue
        if last:
            yield last
        last = [place, start, end]
    if last:
        yield last


def _place(run: AgentRun, segment: PathSegment, places: Mapping[str, int]) -> int:
    members: Iterable[SpanRecord] = chain([segment.span], run.ancestors(segment.span))
    return next((places[span.span_id] for span in members if span.span_id in places), 0)


def _offset(run: AgentRun, moment_ns: int) -> int:
    return (moment_ns - run.root.start_ns) // _MICROSECOND


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return plain(value, _LONGEST_TEXT)
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
