"""The report as one page for a browser: no server, no network, nothing but this file.

The page is ASCII, whatever the output's encoding. Its policy (CSP) lets nothing run but our own script, by its hash,
and nothing load at all; names reach the document as text only. The script builds the page from the embedded JSON, a
run when it is opened; what stands there before, and stays where scripts are off, is the result in plain sentences.
A template language would have little to do here: the markup that depends on a run is made in the browser.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import TextIO

from ..model import Finding, Report
from ._kinds import biggest, title
from ._outside import apart
from ._page_data import index, run_data, script_json
from ._text import plain, rounded_down, seconds
from ._verdict import subject, verdict, verdict_of_all

SUMMARY = "one page for a browser: what to fix, waterfall, tables; works offline"

_SCRIPTS = ("dom.js", "table.js", "rows.js", "waterfall.js", "run.js", "main.js")
_MOST_WITHOUT_SCRIPT = 20
_LONGEST_ADVICE = 600


def render(reports: Iterable[Report], output: TextIO) -> None:
    """Write the page with all runs."""
    reports, notes = apart(reports)
    style = _asset("style.css")
    script = '"use strict";\n(() => {\n' + "".join(_asset(name) for name in _SCRIPTS) + "})();\n"
    head, tail = _asset("page.html").split("$data")
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}"
    output.write(
        Template(head).substitute(
            title=_text(_title(reports)),
            policy=policy + "; base-uri 'none'; form-action 'none'",
            style=style,
            summary="".join(_summary(reports, notes)),
        )
    )
    output.write(_data_block("index", index(reports, notes)))
    for number, report in enumerate(reports):
        output.write(_data_block(f"run-{number}-data", run_data(report, len(reports))))
    output.write(Template(tail).substitute(script=script))


def _asset(name: str) -> str:
    return files(__package__).joinpath("_page").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data_block(element_id: str, value: object) -> str:
    return f'<script type="application/json" id="{element_id}">{script_json(value)}</script>\n'


def _title(reports: Sequence[Report]) -> str:
    return f"{reports[0].root.operation} · agentperf" if len(reports) == 1 else f"{len(reports):,} runs · agentperf"


def _summary(reports: Sequence[Report], notes: Sequence[str]) -> Iterator[str]:
    """The result as plain sentences, for where scripts are off."""
    yield f"<h1>{_text(verdict_of_all(reports))}</h1>\n"
    yield from (f"<p>{_text(note)}</p>\n" for note in notes)
    worst = sorted(reports, key=lambda report: -report.saving_s)
    for report in worst[:_MOST_WITHOUT_SCRIPT]:
        yield f"<section>\n<h2>{_text(report.root.operation)}</h2>\n<p>{_text(verdict(report))}</p>\n"
        score = f"Score {rounded_down(report.score):.2f} of 1 (grade {report.grade})"
        yield f"<p>{score}, efficiency {report.efficiency:.0%}.</p>\n<ol>\n"
        yield from (_finding(finding, report) for finding in report.findings)
        yield "</ol>\n</section>\n"
    if len(worst) > _MOST_WITHOUT_SCRIPT:
        yield f"<p>{len(worst) - _MOST_WITHOUT_SCRIPT:,} runs with less to save are not listed here.</p>\n"
    yield "<p>The waterfall and the tables need scripts, which are off here.</p>\n"


def _finding(finding: Finding, report: Report) -> str:
    is_biggest = finding is biggest(report.findings)
    saves = f"saves {seconds(finding.saving_s)}, " if finding.change else ""
    note = f"{saves}{finding.severity}{', the biggest fix' if is_biggest else ''}"
    head = f"<strong>{_text(subject(finding, report.run))}: {_text(title(finding.kind))}</strong> ({note})"
    return f"<li>{head}<br>{_text(finding.recommendation)}</li>\n"


def _text(text: str) -> str:
    """Markup of ASCII that shows the text, whatever it holds."""
    return escape(plain(text, _LONGEST_ADVICE)).encode("ascii", "xmlcharrefreplace").decode("ascii")
