"""What the Collector accepted arrives, whoever dies meanwhile. `outages` runs the same for longer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from e2e._stack import collector, free_ports, jaeger, wait_until
from e2e.outages import PATIENT, SPANS, Sent, arrived, both_killed, collector_down, file_traces, kill, lost, repeated

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("programs")]


def test_what_was_accepted_outlives_a_killed_jaeger_and_a_killed_collector(tmp_path: Path) -> None:
    outcome = both_killed(tmp_path, seconds=4)
    assert len(outcome.accepted) > 20
    assert (outcome.lost, outcome.repeated) == ([], [])
    written = Counter(file_traces(tmp_path / "traces.jsonl"))
    assert {written[trace_id] for trace_id in outcome.accepted} == {SPANS}


def test_a_full_queue_refuses_and_keeps_what_it_accepted(tmp_path: Path) -> None:
    """Its requests are large: all together are more than Jaeger takes in one message."""
    ports, sent, limit = free_ports(), Sent(), {"COLLECTOR_QUEUE_BYTES": 70_000_000}
    with collector(tmp_path, ports, **limit) as gateway:
        while not sent.refused:
            sent.send(ports, padding=8_000_000)
        kill(gateway)
    assert len(sent.accepted) == 8
    with collector(tmp_path, ports, **limit):
        assert sent.send(ports, padding=8_000_000) is sent.refused
        with jaeger(tmp_path, ports):
            wait_until(lambda: not lost(ports, sent), what="all that was accepted to arrive")
            assert sent.send(ports) is sent.accepted
            wait_until(lambda: not lost(ports, sent), what="what came afterwards to arrive")
            assert repeated(ports, sent) == []
            assert [trace_id for trace_id in sent.refused if arrived(ports, trace_id)] == []


@pytest.mark.parametrize("settings", [PATIENT, {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"}], ids=["patient", "hasty"])
def test_a_program_bears_a_collector_that_is_away_as_long_as_its_exporter_tries(
    settings: dict[str, str], tmp_path: Path
) -> None:
    outcome = collector_down(tmp_path, seconds=4, **settings)
    assert outcome.repeated == []
    assert bool(outcome.lost) == (settings is not PATIENT)
