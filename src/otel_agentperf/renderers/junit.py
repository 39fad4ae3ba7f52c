"""The report as JUnit XML, which every CI system shows: a suite per run, a test case per kind of finding.

The kinds that were looked for and not found are cases that pass, so that a case keeps its name and its history. A
case fails for warnings and worse; for what is only worth knowing it passes and says so. There is no standard; this
is the common part of what Jenkins, GitLab and GitHub actions read (https://github.com/testmoapp/junitxml).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import TextIO
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from ..model import Finding, Report
from ._kinds import kinds, title
from ._text import plain, seconds

SUMMARY = "JUnit XML for CI: a test case per run and kind, failed where there is a warning"

_LONGEST_TEXT, _LONGEST_NAME = 1_000, 120
_LAST_S = 2**33
"""in 2242; the start of a run later than that comes from a clock that was set wrong"""


def render(reports: Iterable[Report], output: TextIO) -> None:
    """Write one document, a suite per run."""
    reports = list(reports)
    looked_for = kinds(reports)
    suites = [_suite(report, looked_for) for report in reports]
    attributes = {
        name: str(sum(int(suite.get(name, 0)) for suite in suites)) for name in ("tests", "failures", "errors")
    }
    took = sum(report.root.duration_s for report in reports)
    top = Element("testsuites", {"name": "agentperf", **attributes, "time": f"{took:.3f}"})
    top.extend(suites)
    indent(top)
    # ASCII with character references: right whatever the encoding of the stream.
    output.write('<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(top, encoding="us-ascii").decode() + "\n")


def _suite(report: Report, looked_for: Sequence[str]) -> Element:
    root = report.root
    name = plain(root.operation, _LONGEST_NAME) or "run"
    suite = Element(
        "testsuite", {"name": name, "timestamp": _timestamp(root.start_ns), "time": f"{root.duration_s:.3f}"}
    )
    suite.extend([_properties(report), _run_case(report, name)])
    for kind in looked_for:
        suite.append(_case(name, kind, [finding for finding in report.findings if finding.kind == kind]))
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", str(len(suite.findall("testcase/error"))))
    return suite


def _properties(report: Report) -> Element:
    told = {
        "trace_id": report.root.trace_id,
        "grade": report.grade,
        "score": f"{report.score:.2f}",
        "saving_s": f"{report.saving_s:.3f}",
        "suppressed": str(len(report.suppressed)),
        "incomplete": str(report.run.incomplete).lower(),
    }
    properties = Element("properties")
    for name, value in told.items():
        SubElement(properties, "property", {"name": name, "value": plain(value)})
    return properties


def _run_case(report: Report, name: str) -> Element:
    case = Element("testcase", {"classname": name, "name": "run", "time": f"{report.root.duration_s:.3f}"})
    if report.root.error is not None:
        error = plain(report.root.error, _LONGEST_NAME)
        SubElement(case, "error", {"type": error, "message": f"the run failed: {error}"})
    return case


def _case(name: str, kind: str, findings: Sequence[Finding]) -> Element:
    case = Element("testcase", {"classname": name, "name": f"{kind}: {title(kind)}", "time": "0"})
    failing = [finding for finding in findings if finding.severity != "info"]
    if failing:
        message = plain(failing[0].recommendation, _LONGEST_TEXT)
        failure = SubElement(case, "failure", {"type": failing[0].severity, "message": message})
        failure.text = "\n".join(_told(failing))
    if len(failing) < len(findings):
        note = SubElement(case, "system-out")
        note.text = "\n".join(_told(finding for finding in findings if finding.severity == "info"))
    return case


def _told(findings: Iterable[Finding]) -> Iterator[str]:
    for finding in findings:
        saves = f", saves {seconds(finding.saving_s)} ({finding.saving_pct:.0f}%)" if finding.change else ""
        yield f"[{finding.severity}{saves}] {plain(finding.recommendation, _LONGEST_TEXT)}"


def _timestamp(start_ns: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=max(0, min(start_ns // 10**9, _LAST_S)))
    return moment.strftime("%Y-%m-%dT%H:%M:%S")
