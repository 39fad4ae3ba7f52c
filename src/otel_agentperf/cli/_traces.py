"""Spans grouped by trace. What does not fit in memory waits on disk, so that a file of any size can be read.

The parts of a trace may be anywhere in the sources, so nothing can be analysed before all is read. Held at a time are
about 64 MB of spans (twice that while they are written), 0.5 kB for each trace, and then the spans of one trace.
"""

from __future__ import annotations

import pickle
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from heapq import heappop, heappush
from typing import IO

from ..analysis.runs import find_runs
from ..model import AgentRun, SpanRecord

_MOST_HELD = 64_000_000
_RECORD_SIZE = 1_000
"""bytes of a record in memory, without its texts (measured: 900 to 1,100)"""


class Traces:
    """All spans read, by trace. `with` closes its file, which has no name and vanishes with the process."""

    def __init__(self, most_held: int = _MOST_HELD) -> None:
        self._most_held = most_held
        self._held: dict[str, list[SpanRecord]] = defaultdict(list)
        self._size = 0
        self._starts: dict[str, int] = {}
        self._places: dict[str, list[int]] = defaultdict(list)
        """where the batches of a trace begin in the file"""
        self._file: IO[bytes] | None = None
        self._closing = ExitStack()
        self.spans = 0

    def __enter__(self) -> Traces:
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, span: SpanRecord) -> None:
        """Raises `OSError` where the disk is full."""
        trace_id = span.trace_id
        self._held[trace_id].append(span)
        self._starts[trace_id] = min(span.start_ns, self._starts.get(trace_id, span.start_ns))
        self.spans += 1
        self._size += _RECORD_SIZE + len(span.args_text or "") + len(span.result_text or "")
        if self._size > self._most_held:
            self._write_out()

    def _write_out(self) -> None:
        if self._file is None:
            self._file = self._closing.enter_context(tempfile.TemporaryFile(prefix="agentperf-"))  # noqa: SIM115
        self._file.seek(0, 2)
        for trace_id, spans in self._held.items():
            self._places[trace_id].append(self._file.tell())
            pickle.dump(spans, self._file, pickle.HIGHEST_PROTOCOL)
        self._held.clear()
        self._size = 0

    def by_start(self) -> Iterator[tuple[int, list[SpanRecord]]]:
        """When each trace starts, in nanoseconds, and its spans as they were added; the earliest trace first."""
        for trace_id, start in sorted(self._starts.items(), key=lambda entry: entry[1]):
            spans = []
            for place in self._places.pop(trace_id, ()):
                assert self._file is not None
                self._file.seek(place)
                spans.extend(pickle.load(self._file))
            spans.extend(self._held.pop(trace_id, ()))
            yield start, spans


def runs_by_start(traces: Traces, thresholds: Mapping[str, float]) -> Iterator[tuple[int, AgentRun | None]]:
    """The runs of all traces as `find_runs` would order them, each with the number of traces looked at so far; a
    trace may also give none. A run is held only while a trace that started earlier may still have one before it."""
    waiting: list[tuple[int, str, str, AgentRun]] = []
    done = 0
    for start, spans in traces.by_start():
        while waiting and waiting[0][0] < start:
            yield done, heappop(waiting)[-1]
        for run in find_runs(spans, thresholds):
            root = run.root
            heappush(waiting, (root.start_ns, root.trace_id, root.span_id, run))
        done += 1
        yield done, None
    while waiting:
        yield done, heappop(waiting)[-1]
