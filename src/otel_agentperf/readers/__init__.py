"""One source of spans a file. A module here has

- `accepts(source)`: is this a source for it? (a path, `-`, or a URL, as given on the command line);
- `read(source, query)`: yields `model.SpanRecord`, and where `query.reports` asks for them also `RecordedRun`;
  raises `ReadError` with one clear line for what is wrong, after what was good has been yielded.

Nothing registers a module: being in this folder, or in the entry point group `otel_agentperf.readers`, is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class ReadError(Exception):
    """What is wrong with a source, and where."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which traces to ask a backend for; files are read whole."""

    services: tuple[str, ...] = ()
    """empty: all"""
    lookback_s: float = 3_600.0
    limit: int = 100
    """traces a service"""
    reports: bool = False
    """also yield the runs of reports that were made earlier"""


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run of a report that was made earlier: an entry of `runs` in `agentperf.report/v1`."""

    content: Mapping[str, Any]
