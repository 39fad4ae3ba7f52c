"""One source of spans a file. A module here has

- `accepts(source)`: is this a source for it? (a path, `-`, or a URL, as given on the command line);
- `read(source, query)`: yields `model.SpanRecord`; raises `ReadError` with one clear line for what is wrong,
  after what was good has been yielded.

Nothing registers a module: being in this folder, or in the entry point group `otel_agentperf.readers`, is enough.
"""

from __future__ import annotations

from dataclasses import dataclass


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
