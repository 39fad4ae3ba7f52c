"""The HTML report in a real browser: read, used with the keyboard, sorted, narrow, dark, without scripts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from selenium.webdriver.common.keys import Keys

from _traces import agent, llm, run_of, tool
from otel_agentperf.analysis.analyze import analyze
from otel_agentperf.model import Cost, Report, Suppressed
from otel_agentperf.renderers import _page_data
from otel_agentperf.renderers._text import seconds
from renderers._browser import Page
from renderers._reports import ALL, deep, failed, hostile, incomplete, of_many_spans, report_of, trip

WINDOWS = [(1280, 800), (390, 844)]
ROWS = ".waterfall .row:not(.axis, .rest)"


def many(runs: int = 12) -> list[Report]:
    """Runs that differ in name, length and what can be saved."""
    return [
        analyze(
            run_of(
                agent(f"agent {number}", llm(0.2 + number / 10), *loop(number)),
                trace_id=f"{number:032x}",
                start_s=60.0 * number,
            )
        )
        for number in range(runs)
    ]


def loop(times: int) -> Iterator[object]:
    return (tool("search", 0.1, args={"n": number}) for number in range(times))


@pytest.mark.parametrize("report", ALL.values(), ids=ALL.keys())
@pytest.mark.parametrize("window", WINDOWS, ids=["desktop", "phone"])
def test_every_run_opens_without_a_complaint_and_fits(
    page: Page, report: Callable[[], Report], window: tuple[int, int]
) -> None:
    page.resize(*window)
    page.open(report())
    assert page.text("h1").startswith(("This run took", "This run failed"))
    assert page.overflow() <= 0


def test_no_runs_are_said_to_be_none(page: Page) -> None:
    page.open()
    assert page.text("h1") == "No agent runs."


@pytest.mark.parametrize("window", WINDOWS, ids=["desktop", "phone"])
def test_what_to_fix_is_on_the_first_screen(page: Page, window: tuple[int, int]) -> None:
    page.resize(*window)
    page.open(trip())
    assert page.text("h1") == "This run took 2.27 s; 880 ms of it (39%) can be saved."
    assert page.text(".biggest") == "Biggest fix: opening_hours – calls in a loop, one item each, saves 880 ms."
    assert page.find(".grade .letter").get_property("textContent") == "Grade A"
    assert page.bottom_of(".finding") <= window[1]


def test_a_finding_is_told_whole(page: Page) -> None:
    page.open(trip())
    text = page.text(".finding")
    for part in (
        "opening_hours",
        "calls in a loop",
        "saves 880 ms",
        "39%",
        "warning",
        "12 calls",
        "sights",
        "≥5 calls",
    ):
        assert part in text


def test_evidence_is_shown_in_the_waterfall(page: Page) -> None:
    page.open(trip())
    assert page.all(".marked") == []
    page.find(".evidence").click()
    assert [re.sub(r"\s+", " ", text)[:17] for text in page.texts(".marked .label")] == ["opening_hours ×12"]
    assert page.script("return document.activeElement.matches('.marked')")
    top, bottom = page.script("const at = document.activeElement.getBoundingClientRect(); return [at.top, at.bottom]")
    assert 0 <= top < bottom <= 800


def test_evidence_deep_inside_closed_rows_is_opened(page: Page) -> None:
    page.open(deep_evidence())
    page.all(".controls button")[1].click()
    assert len(page.all(ROWS)) < 5
    page.find(".evidence").click()
    assert "search" in page.text(".marked .label")


def test_the_way_to_evidence_inside_a_group_is_open(page: Page) -> None:
    page.open(report_of(agent("planner", *[agent("worker", *loop(9)) for _ in range(3)], llm(0.1))))
    page.all(".controls button")[1].click()
    page.find(".evidence").click()
    wrong = """
    const rows = [...document.querySelectorAll('.row[aria-level]')];
    const level = (row) => Number(row?.getAttribute('aria-level') || 0);
    return rows.filter((row, at) => (row.ariaExpanded === 'true') !== (level(rows[at + 1]) > level(row))).length;
    """
    assert page.all(".marked")
    assert page.script(wrong) == 0


def deep_evidence() -> Report:
    tree = agent("bottom", *loop(9))
    for number in range(8):
        tree = agent(f"level {number}", tree)
    return report_of(agent("planner", tree, llm(0.1)))


def test_the_waterfall_says_in_words_what_its_bars_show(page: Page) -> None:
    page.open(trip())
    rows = {text.split("\n")[0]: text for text in page.texts(ROWS)}
    assert "starts at 1.36 s, takes 500 ms, 22% of the run on the critical path" in rows["hotels"]
    assert "0% of the run on the critical path" in rows["weather"]


def test_bars_stand_where_and_as_long_as_the_calls_were(page: Page) -> None:
    page.open(trip())
    geometry = page.script(
        """
        const row = [...document.querySelectorAll('.row')].find((one) => one.textContent.startsWith('hotels'));
        const all = row.querySelector('.bars').getBoundingClientRect();
        const bar = row.querySelector('.bar.critical').getBoundingClientRect();
        return [(bar.left - all.left) / all.width, bar.width / all.width];
        """
    )
    assert geometry == [pytest.approx(1.36 / 2.272, abs=0.01), pytest.approx(0.5 / 2.272, abs=0.01)]


def test_rows_are_walked_opened_and_told_by_keys_alone(page: Page) -> None:
    page.open(trip())
    page.script("document.querySelector('.waterfall [tabindex=\"0\"]').focus()")
    assert page.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN).text.startswith("sights")
    before = len(page.all(ROWS))
    assert page.press(Keys.ARROW_LEFT).get_attribute("aria-expanded") == "false"
    assert len(page.all(ROWS)) == before - 1
    assert page.press(Keys.ARROW_RIGHT).get_attribute("aria-expanded") == "true"
    group = page.press(Keys.ARROW_RIGHT)
    assert group.text.startswith("opening_hours")
    page.press(Keys.ARROW_RIGHT)
    assert len(page.all(ROWS)) == before + 12
    page.press(Keys.ENTER)
    told = page.text(".details")
    for part in ("tool", "self time", "960 ms", "80 ms, 80 ms, 80 ms"):
        assert part in told
    page.press(Keys.ENTER)
    assert page.all(".details") == []
    assert page.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT).text.startswith("sights")
    assert page.press(Keys.HOME).text.startswith("planner")
    assert page.press(Keys.END).text.startswith("gpt")


def test_one_row_of_the_waterfall_is_a_stop_for_the_tab_key(page: Page) -> None:
    page.open(trip())
    assert len(page.all('.waterfall [tabindex="0"]')) == 1
    page.press(Keys.TAB)
    seen = set()
    for _ in range(30):
        seen.add(page.script("const { className, tagName } = document.activeElement; return `${tagName} ${className}`"))
        page.press(Keys.TAB)
    assert "DIV row on-path" in seen or "DIV row" in seen


def test_a_click_tells_and_a_click_on_the_triangle_opens(page: Page) -> None:
    page.open(trip())
    (row,) = [row for row in page.all(ROWS) if row.text.startswith("opening_hours")]
    row.find_element("css selector", ".name").click()
    assert len(page.all(".details")) == 1
    row.find_element("css selector", ".twisty").click()
    assert row.get_attribute("aria-expanded") == "true"


def test_a_failed_call_says_so_in_words(page: Page) -> None:
    page.open(failed())
    assert page.text("h1").startswith("This run failed after 200 ms (TimeoutError)")
    (row,) = [text for text in page.texts(ROWS) if text.startswith("book")]
    assert "TimeoutError" in row


def test_an_incomplete_run_says_so(page: Page) -> None:
    page.open(incomplete())
    assert "Incomplete" in page.text(".notice")


def test_a_row_that_is_closed_tells_of_failures_inside(page: Page) -> None:
    page.open(report_of(agent("planner", *[agent("worker", tool("fetch", 0.1, error="ValueError")) for _ in range(5)])))
    (row,) = [text for text in page.texts(ROWS) if text.startswith("worker")]
    assert "5 failed inside" in row


def test_thousands_of_spans_are_few_rows_and_all_can_be_reached(page: Page) -> None:
    page.open(of_many_spans(3_000))
    assert len(page.all(ROWS)) == 101
    assert "100 of 500 rows here are shown" in page.text(".rest")
    page.find(".rest button").click()
    assert len(page.all(ROWS)) == 201


def test_what_is_left_out_is_stated(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_page_data, "_MOST_SPANS_OF_RUN", 1_000)
    page.open(of_many_spans(3_000))
    assert "1,000 of 3,001 spans are in this page" in page.text(".legend .notice")


def test_open_all_and_close_all(page: Page) -> None:
    page.open(deep())
    opened, closed = page.all(".controls button")
    opened.click()
    assert len(page.all(ROWS)) == 121
    closed.click()
    assert len(page.all(ROWS)) == 2


def test_a_table_is_sorted_by_its_headings(page: Page) -> None:
    page.open(trip())
    tables = page.all("table")
    buttons = tables[0].find_elements("css selector", "thead button")
    median = next(button for button in buttons if button.text == "Median")
    for direction, ordered in (("descending", True), ("ascending", False)):
        median.send_keys(Keys.ENTER)
        assert page.script("return arguments[0].closest('th').getAttribute('aria-sort')", median) == direction
        cells = [cell.text for cell in tables[0].find_elements("css selector", "tbody tr td:nth-child(8)")]
        values = [float(cell.split("\xa0")[0].split(" ")[0]) * (1e3 if cell.endswith(" s") else 1) for cell in cells]
        assert values == sorted(values, reverse=ordered)
    assert len(page.all("[aria-sort]")) == 1


def test_cost_and_suppressed_findings_are_shown(page: Page) -> None:
    report = trip()
    page.open(
        replace(
            report,
            cost=Cost(usd=0.25, basis="gpt as configured"),
            suppressed=(Suppressed(report.findings[0], "we know"),),
            unchecked_budgets=("run.cost_usd: no price",),
            findings=(),
        )
    )
    assert "at least $0.2500" in page.text(".facts")
    assert "run.cost_usd: no price" in page.text(".notice")
    page.find("summary").click()
    assert "opening_hours calls in a loop, one item each (we know)" in page.text("details")


def test_findings_that_were_too_many_to_tell_are_counted(page: Page) -> None:
    page.open(replace(trip(), findings_left_out=9))
    assert "9 more findings of the same kinds left out" in page.text("main")


def test_many_runs_are_a_table_with_most_to_save_first(page: Page) -> None:
    page.open(*many())
    assert re.match(r"12 runs took [\d.]+ s in total; .* can be saved\.", page.text("h1"))
    assert page.texts(".runs tbody th")[:3] == ["agent 11", "agent 10", "agent 9"]
    header = page.find(".runs thead th:nth-child(3) button")
    header.click()
    header.click()
    assert page.texts(".runs tbody th")[:3] == ["agent 0", "agent 1", "agent 2"]
    assert "search" in page.text(".findings")


def test_a_run_is_opened_from_the_table_and_left_again(page: Page) -> None:
    page.open(*many())
    page.find(".runs tbody a").click()
    page.wait_for("article.run .eyebrow", "agent 11")
    assert page.script("return location.hash") == "#run-11"
    assert page.all(ROWS)
    assert page.script("return document.activeElement.tagName") == "H1"
    page.driver.back()
    page.wait_for(".runs tbody a", "agent 11")
    page.driver.forward()
    page.wait_for("article.run .eyebrow", "agent 11")
    page.find(".back a").click()
    page.wait_for("h1", "12 runs took")


def test_an_address_opens_its_run(page: Page) -> None:
    page.open(*many(), at="#run-7")
    assert page.text(".eyebrow").startswith("agent 7")


@pytest.mark.parametrize("at", ["#run-999", "#run-", "#<img>", "#report"])
def test_an_address_of_no_run_shows_all(page: Page, at: str) -> None:
    page.open(*many(), at=at)
    assert "12 runs took" in page.text("h1")


def test_two_thousand_runs_open(page: Page) -> None:
    page.open(*(many(9) * 223)[:2_000])
    assert page.text("h1").startswith("2,000 runs took")
    rows = [row.text for row in page.all(".runs tbody tr")]
    assert len(rows) == 250, "no more than that without being asked"
    page.find(".together > .more").click()
    page.find("section > div > .more").click()
    assert len(page.all(".runs tbody tr")) == 2_000
    took = page.script("return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    assert took < 10_000


def test_hostile_names_are_shown_and_do_nothing(page: Page) -> None:
    attack = "</script><img src=x onerror=\"document.title='hit'\"><b>'\"&amp;\u202e"
    calls = [tool(attack, 0.1, args={"n": number}, error=attack if number == 2 else None) for number in range(8)]
    report = report_of(agent(attack, *calls, failed=True, more={"error.type": attack}))
    page.open(report, hostile())
    page.find(".runs tbody a").click()
    page.wait_for("article.run .eyebrow")
    page.press(Keys.TAB)
    page.find(".evidence").click()
    page.press(Keys.ENTER)
    shown = attack.replace("\u202e", "\ufffd")
    assert shown in page.text(".eyebrow")
    assert shown in page.text(".details")
    assert "hit" not in page.driver.title
    assert page.all("img, b, script[src]") == []


def test_without_scripts_the_result_is_there(page: Page) -> None:
    page.scripts(on=False)
    try:
        page.open(trip())
        text = page.driver.find_element("css selector", "main").text
    finally:
        page.scripts(on=True)
    assert "This run took 2.27 s; 880 ms of it (39%) can be saved." in text
    assert "one batched call saves about 880 ms" in text
    assert "need scripts, which are off here" in text


def test_headings_are_in_order_and_every_section_has_one(page: Page) -> None:
    page.open(trip())
    levels = [
        int(tag)
        for tag in page.script("return [...document.querySelectorAll('h1,h2,h3')].map((one) => one.tagName[1])")
    ]
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert page.script("return [...document.querySelectorAll('section')].every((one) => one.querySelector('h2'))")


def test_what_assistive_technology_needs_is_there(page: Page) -> None:
    page.open(trip())
    check = """
    const all = (selector) => [...document.querySelectorAll(selector)];
    const ids = all('[id]').map((one) => one.id);
    return {
      language: document.documentElement.lang,
      captions: all('table').every((one) => one.caption.textContent),
      columns: all('table').every((one) => one.querySelector('th[scope=col]')),
      rows: all('table').every((one) => one.querySelector('th[scope=row]')),
      grid: all('[role=treegrid] > *').every((one) => one.getAttribute('role') === 'row'),
      cells: all('[role=row] > *').every((one) => ['gridcell', 'columnheader'].includes(one.getAttribute('role'))),
      levels: all('[role=row]:not(.axis)').every((one) => Number(one.getAttribute('aria-level')) >= 1),
      buttons: all('button, a').every((one) => one.textContent.trim()),
      references: all('[aria-labelledby]').every((one) => ids.includes(one.getAttribute('aria-labelledby'))),
      unique: new Set(ids).size === ids.length,
      severity: all('.severity').every((one) => /critical|warning|info/.test(one.textContent)),
    };
    """
    found = page.script(check)
    assert found.pop("language") == "en"
    assert [name for name, right in found.items() if not right] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background_as_wcag_aa_asks(page: Page, scheme: str) -> None:
    page.colours(scheme)
    page.open(trip(), hostile(), failed())
    weak = page.script(CONTRAST)
    page.find(".runs tbody a").click()
    page.wait_for("article.run .eyebrow")
    page.find(".evidence").click()
    page.press(Keys.ENTER)
    assert weak + page.script(CONTRAST) == []


CONTRAST = """
const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const luminance = ([red, green, blue]) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
const parsed = (colour) => colour.match(/[\\d.]+/g).map(Number);
const background = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = parsed(getComputedStyle(at).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const weak = [];
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || !element.offsetParent || element.closest('.sr-only, script')) continue;
  const [one, other] = [luminance(parsed(getComputedStyle(element).color)), luminance(background(element))];
  const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (ratio < 4.5) weak.push(`${element.className || element.tagName} ${ratio.toFixed(2)}`);
}
return weak;
"""


def test_times_are_told_as_in_the_other_formats(page: Page) -> None:
    values = [0.0004, 0.0099, 0.012, 0.5, 0.9996, 1.234, 9.996, 45.6, 119.6, 725.0, 3_599.9, 10_920.0]
    page.open(*[analyze(run_of(agent("planner", llm(value)), trace_id=f"{n:032x}")) for n, value in enumerate(values)])
    page.find(".runs thead th:nth-child(3) button").click()
    assert page.texts(".runs tbody td:nth-child(3)") == [seconds(value) for value in reversed(values)]


def test_on_paper_there_are_no_buttons(page: Page) -> None:
    page.open(trip())
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not page.find(".controls").is_displayed()
        assert page.find(".waterfall").is_displayed()
        assert page.overflow() <= 0
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
