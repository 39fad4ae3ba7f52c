"""The settings that steer the diagnosis, from a live run to the exported root, and the same offline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.trace import set_span_in_context

from _recording import Recording, attributes, recording
from otel_agentperf import AgentPerfSpanProcessor, _config, analyze
from otel_agentperf._config import Config
from otel_agentperf.analysis.runs import find_runs
from otel_agentperf.ended import ended
from otel_agentperf.model import Report
from otel_agentperf.reporting import Reporter

START = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
MODEL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "own-model",
    "gen_ai.usage.input_tokens": 1_000_000,
    "gen_ai.usage.output_tokens": 100_000,
}

Steered = Callable[[Config], Recording]


@pytest.fixture
def steered() -> Iterator[Steered]:
    opened: list[Any] = []

    def open_with(config: Config) -> Recording:
        opened.append(recording(AgentPerfSpanProcessor(config)))
        return opened[-1].__enter__()  # type: ignore[no-any-return]

    yield open_with
    for one in opened:
        one.__exit__(None, None, None)


def one_run(recorded: Recording, search_s: float) -> None:
    """A model turn of 1 s and a tool call."""
    tracer = recorded.provider.get_tracer("somebody.else")
    root = tracer.start_span("invoke_agent planner", attributes=AGENT, start_time=START)
    inside = set_span_in_context(root)
    model = tracer.start_span("chat own-model", inside, attributes=MODEL, start_time=START)
    model.end(START + SECOND)
    call = tracer.start_span("execute_tool search", inside, attributes=TOOL, start_time=START + SECOND)
    call.end(START + SECOND + int(search_s * SECOND))
    root.end(START + SECOND + int(search_s * SECOND))


def offline(recorded: Recording, config: Config) -> list[Report]:
    runs = find_runs([Reporter.classified(ended(span)) for span in recorded.spans], config.threshold_map())
    return [analyze(run, config) for run in runs]


def test_a_call_is_compared_with_those_of_earlier_runs(steered: Steered, reports: list[Report]) -> None:
    recorded = steered(Config())
    for number in range(30):
        one_run(recorded, 0.2 + number / 1_000)
    assert not any(report.findings for report in reports)
    one_run(recorded, 3.0)
    (finding,) = reports[-1].findings
    assert (finding.kind, finding.operation) == ("slow_operation", "search")
    assert "30 earlier calls" in finding.threshold
    roots = [span for span in recorded.spans if span.parent is None]
    assert "agentperf.history" not in attributes(roots[29])
    assert '"search", 30' in attributes(roots[30])["agentperf.history"]


def test_offline_the_same_history_is_used(steered: Steered, reports: list[Report]) -> None:
    recorded = steered(Config())
    for _ in range(30):
        one_run(recorded, 0.2)
    one_run(recorded, 3.0)
    by_root = {report.root.span_id: report for report in offline(recorded, Config())}
    assert len(by_root) == 31
    for live in reports:
        read = by_root[live.root.span_id]
        assert read.root.history == live.root.history
        assert [(one.kind, one.saving_s) for one in read.findings] == [
            (one.kind, one.saving_s) for one in live.findings
        ]
        assert read.efficiency == live.efficiency


def test_history_can_be_switched_off(steered: Steered, reports: list[Report]) -> None:
    recorded = steered(Config(history=False))
    for _ in range(30):
        one_run(recorded, 0.2)
    one_run(recorded, 3.0)
    assert not reports[-1].findings
    assert not any("agentperf.history" in attributes(span) for span in recorded.spans)


def test_each_processor_has_its_own_history(steered: Steered, reports: list[Report]) -> None:
    first = steered(Config())
    for _ in range(30):
        one_run(first, 0.2)
    one_run(steered(Config()), 3.0)
    assert not reports[-1].findings


def test_budgets_prices_and_suppressions_reach_the_root(steered: Steered, reports: list[Report]) -> None:
    config = Config(
        budgets="run.tokens=1000000,run.cost=2,tool.search.duration_s=2",
        prices="own-model=1/10",
        suppress="slow_operation:search=known",
    )
    recorded = steered(config)
    one_run(recorded, 6.0)
    root = attributes(recorded.one("invoke_agent planner"))
    assert root["agentperf.cost.usd"] == pytest.approx(2.0)
    assert root["agentperf.bottleneck.kinds"] == ("budget_exceeded",)
    assert root["agentperf.efficiency"] == 1.0
    assert {finding.threshold.split(" ")[0] for finding in reports[0].findings} == {
        "run.tokens",
        "tool.search.duration_s",
    }
    assert [one.reason for one in reports[0].suppressed] == ["known"]
    (read,) = offline(recorded, config)
    assert [one.fingerprint for one in read.findings] == [one.fingerprint for one in reports[0].findings]
    assert (read.cost, read.suppressed[0].reason) == (reports[0].cost, "known")


def test_thresholds_of_one_operation_hold_live(steered: Steered, reports: list[Report]) -> None:
    one_run(steered(Config()), 6.0)
    one_run(steered(Config(thresholds="slow_operation.tool_s@search=12")), 6.0)
    assert [len(report.findings) for report in reports] == [1, 0]


def test_a_misspelt_threshold_is_named_once(steered: Steered, caplog: pytest.LogCaptureFixture) -> None:
    _config.warned.clear()
    for _ in range(2):
        steered(Config(thresholds="slow_operation.tools_s=12"))
    (message,) = caplog.messages
    assert "slow_operation.tools_s" in message


@pytest.mark.parametrize("wrong", ["run.x=1,,tool=", "=", "tool.*.cost=nan"])
def test_wrong_settings_do_not_stop_a_run(steered: Steered, reports: list[Report], wrong: str) -> None:
    one_run(steered(Config(budgets=wrong, prices=wrong, suppress=wrong)), 1.0)
    assert len(reports) == 1
