"""Fixtures for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from otel_agentperf import _guard, on_report
from otel_agentperf.model import Report
from otel_agentperf.processor import off_report


@pytest.fixture(autouse=True)
def _no_swallowed_errors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the guard would swallow fails the test, unless the test asks for `swallow`."""
    monkeypatch.setattr(_guard, "reraise", "swallow" not in request.fixturenames)


@pytest.fixture
def swallow() -> Iterator[None]:
    """The test is about errors being swallowed, as in production; the counts start empty and are restored."""
    before = dict(_guard.counts)
    _guard.counts.clear()
    yield
    _guard.counts.clear()
    _guard.counts.update(before)


@pytest.fixture
def reports() -> Iterator[list[Report]]:
    """The reports of the runs that end during the test."""
    found: list[Report] = []
    on_report(found.append)
    yield found
    off_report(found.append)
