"""The page's text: what it holds and what it must not, before a browser sees it. In the browser: test_html_page.py."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from _traces import agent, llm, tool
from otel_agentperf.model import Cost, Report, Suppressed
from otel_agentperf.renderers import _page_data, html
from otel_agentperf.renderers._page_data import run_data, script_json
from renderers._reports import failed, far_from_now, hostile, of_many_spans, report_of, trip

PROMPT, ARGUMENT, RESULT = "Where do I live?", "12 Elm Street", "a yellow house"


def rendered(*reports: Report) -> str:
    output = io.StringIO()
    html.render(reports, output)
    return output.getvalue()


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text of its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)

    _inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.raw.append((*self.found[-1], data))


def data_of(text: str, element_id: str) -> dict[str, object]:
    (found,) = [data for tag, attributes, data in Elements(text).raw if attributes.get("id") == element_id]
    return dict(json.loads(found))


def test_nothing_in_the_page_can_load_anything() -> None:
    elements = Elements(rendered(trip())).found
    links = [value for _, attributes in elements for name, value in attributes.items() if name in ("src", "href")]
    assert links == ["data:,"]
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|sendBeacon|import\(", rendered(trip()))


def test_the_policy_allows_our_script_and_style_and_nothing_else() -> None:
    page = Elements(rendered(trip()))
    (policy,) = [str(attributes["content"]) for tag, attributes in page.found if "http-equiv" in attributes]
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed["default-src"] == "'none'"
    for tag in ("script", "style"):
        (text,) = [data for name, attributes, data in page.raw if name == tag and "type" not in attributes]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert allowed[f"{tag}-src"] == f"'sha256-{digest}'"
    assert "unsafe" not in policy


def test_it_is_ascii_whatever_the_names_are() -> None:
    assert rendered(trip(), hostile()).isascii()


@pytest.mark.parametrize(
    "name",
    [
        "</script><script>alert(1)</script>",
        "<!--<script>",
        "</title></style>",
        '"><img src=x onerror=alert(1)>',
        "&lt;b>",
        "$data $title",
    ],
)
def test_a_name_adds_no_element(name: str) -> None:
    def run(of: str) -> Report:
        calls = [tool(of, 0.08, args={"n": number}, error=of if number == 3 else None) for number in range(9)]
        return report_of(agent(of, *calls, failed=True, more={"error.type": of}))

    plain, odd = (Elements(rendered(run(of), run(of))) for of in ("search", name))
    assert odd.found == plain.found
    assert data_of(rendered(run(name)), "run-0-data")["name"] == name


def test_without_scripts_the_result_is_there_in_words() -> None:
    text = rendered(trip())
    shown = re.sub(r"<(script|style).*?</\1>|<[^>]+>", "", text, flags=re.DOTALL)
    assert "This run took 2.27 s; 880 ms of it (39%) can be saved." in shown
    assert "opening_hours: calls in a loop, one item each (saves 880 ms, warning, the biggest fix)" in shown
    assert "one batched call saves about 880 ms" in shown


def test_without_scripts_many_runs_are_cut_short_and_it_says_so() -> None:
    assert "20 runs with less to save are not listed here" in rendered(*[trip() for _ in range(40)])


def test_no_content_is_in_the_page() -> None:
    calls = [tool("lookup", 0.1, args={"address": f"{ARGUMENT} {n}"}, result=f"{RESULT} {n}") for n in range(6)]
    report = report_of(agent("planner", llm(1.0, messages=PROMPT, result=RESULT), *calls))
    assert report.findings
    for content in (PROMPT, ARGUMENT, RESULT):
        assert content not in rendered(report)


def test_times_are_told_to_the_microsecond_from_the_runs_start() -> None:
    run = data_of(rendered(trip()), "run-0-data")
    spans = run["spans"]
    assert isinstance(spans, dict)
    assert (spans["start"][0], spans["end"][0]) == (0, 2_272_000)
    assert spans["parent"][0] == -1
    assert all(parent < number for number, parent in enumerate(spans["parent"]))


def test_the_critical_path_is_whole() -> None:
    path = data_of(rendered(trip()), "run-0-data")["path"]
    assert isinstance(path, list)
    assert (path[0][1], path[-1][2]) == (0, 2_272_000)
    assert sum(end - start for _, start, end in path) == 2_272_000


def test_of_a_run_of_very_many_spans_those_that_matter_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_page_data, "_MOST_SPANS_OF_RUN", 200)
    quick = [tool(f"quick {number}", 0.001) for number in range(1_000)]
    wanted = [
        tool("long", 1.0),
        tool("bad", 0.0001, error="ValueError"),
        *[tool("search", 0.2, args=n) for n in range(9)],
    ]
    run = data_of(rendered(report_of(agent("planner", *quick, agent("inner", *wanted)))), "run-0-data")
    names, spans = run["names"], run["spans"]
    assert isinstance(names, list)
    assert isinstance(spans, dict)
    assert (run["all_spans"], len(spans["parent"])) == (1_013, 200)
    assert {"long", "bad", "search", "inner"} <= {names[number][1] for number in spans["name"]}


def test_many_runs_share_the_room() -> None:
    report = of_many_spans(300)
    assert (
        2_000 * len(script_json(run_data(report, 2_000))) < 30_000_000 < 2_000 * len(script_json(run_data(report, 1)))
    )


def test_the_start_of_a_run_that_is_no_date_is_one() -> None:
    assert str(data_of(rendered(far_from_now()), "run-0-data")["start"]).startswith("2262-")


def test_cost_and_suppressed_findings_are_told() -> None:
    report = trip()
    report = replace(
        report,
        cost=Cost(usd=0.25, basis="gpt as configured", complete=True),
        suppressed=(Suppressed(report.findings[0], "known"),),
        findings=(),
    )
    run = data_of(rendered(report), "run-0-data")
    assert run["cost"] == {"usd": 0.25, "basis": "gpt as configured", "unknown_models": [], "complete": True}
    assert run["suppressed"][0]["reason"] == "known"  # type: ignore[index]


def test_the_title_names_the_run() -> None:
    assert "<title>planner &#183; agentperf</title>" in rendered(failed())
    assert "<title>2 runs &#183; agentperf</title>" in rendered(failed(), failed())
