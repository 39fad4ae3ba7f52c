"""A provider of its own for each test of the capture."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from opentelemetry import trace

from _recording import Recording, recording


@pytest.fixture
def recorded() -> Iterator[Recording]:
    """What the test's calls export; afterwards nothing is left current, and OpenTelemetry has logged no error."""
    with recording() as found:
        yield found
    assert not trace.get_current_span().get_span_context().is_valid, "a span is still current"


@pytest.fixture(autouse=True)
def _no_logged_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Above all no "Failed to detach context", which OpenTelemetry only logs."""
    yield
    for when in ("setup", "call"):
        errors = [record for record in caplog.get_records(when) if record.levelno >= logging.ERROR]
        assert not errors, [record.getMessage() for record in errors]
