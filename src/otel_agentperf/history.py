"""How long operations took in the earlier runs of this process: a quantile sketch of each, a bounded number of them.

A sketch (DDSketch, https://www.vldb.org/pvldb/vol12/p2195-masson.pdf) holds any number of durations in at most
`_BINS` counters and tells each quantile to within 2 %. Measured: 0.5 µs a call, 8 µs for two quantiles, 8 kB at most.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from threading import RLock
from typing import Any

from ._fork import call_in_child
from .model import AgentRun, Kind, PastCalls, SpanRecord

_MOST_OPERATIONS = 500
_MOST_TOLD = 64
"""operations of one run; read back by `analysis.measurements.history`"""
_LEAST_CALLS = 30
_ACCURACY, _BINS = 0.02, 512
_KINDS: frozenset[Kind] = frozenset({"agent", "tool", "llm", "embedding", "retrieval", "db", "http", "mcp"})


class History:
    """Thread-safe; a forked child goes on with what its parent knew. Names that are seen once (an address with a
    number in it) do not drive out the others: the operation that was not seen for longest is forgotten."""

    def __init__(self, most: int = _MOST_OPERATIONS) -> None:
        # Here and not above: who only uses the decorators does without.
        from ddsketch import LogCollapsingLowestDenseDDSketch

        self._make = LogCollapsingLowestDenseDDSketch
        self._sketches: OrderedDict[tuple[Kind, str], Any] = OrderedDict()
        self._told: dict[tuple[Kind, str], PastCalls] = {}
        """what was told last: a few more calls do not change it by more than a sketch is wrong"""
        self._most = most
        self._lock = RLock()
        call_in_child(self._after_fork)

    def known(self, spans: Iterable[SpanRecord]) -> tuple[PastCalls, ...]:
        """Of the operations among `spans` those with enough earlier calls, the most called first."""
        keys = {(span.kind, span.operation) for span in spans}
        enough = []
        with self._lock:
            for key in keys:
                sketch = self._sketches.get(key)
                if sketch is not None and sketch.count >= _LEAST_CALLS:
                    enough.append(self._past_calls(key, sketch))
        return tuple(sorted(enough, key=lambda one: (-one.calls, one.kind, one.operation))[:_MOST_TOLD])

    def learn(self, run: AgentRun) -> None:
        """Add the successful calls of a run that has been analysed. Those of an incomplete one may have been cut."""
        if run.incomplete:
            return
        with self._lock:
            for span in run.spans:
                if span.kind in _KINDS and span.error is None:
                    self._sketch(span.kind, span.operation).add(span.duration_s)

    def _sketch(self, kind: Kind, operation: str) -> Any:
        key = kind, operation
        sketch = self._sketches.get(key)
        if sketch is None:
            sketch = self._sketches[key] = self._make(_ACCURACY, _BINS)
            if len(self._sketches) > self._most:
                forgotten, _ = self._sketches.popitem(last=False)
                self._told.pop(forgotten, None)
        else:
            self._sketches.move_to_end(key)
        return sketch

    def _past_calls(self, key: tuple[Kind, str], sketch: Any) -> PastCalls:
        told = self._told.get(key)
        if told is None or not told.calls <= sketch.count <= told.calls * (1 + _ACCURACY):
            told = self._told[key] = _past_calls(*key, sketch)
        return told

    def _after_fork(self) -> None:
        self._lock = RLock()  # a thread that the child lacks may have held it


def _past_calls(kind: Kind, operation: str, sketch: Any) -> PastCalls:
    """Rounded to microseconds, as they are told on the root: live and recorded runs are judged by the same numbers."""
    p50, p95 = (round(sketch.get_quantile_value(share), 6) for share in (0.5, 0.95))
    return PastCalls(kind, operation, int(sketch.count), p50, max(p50, p95))
