"""What the integrations' tests look at: the finished spans as a tree, and the reports of the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_agentperf.model import Report


@dataclass
class Recorded:
    """A provider of the test's own, what was exported through it, and the reports."""

    provider: TracerProvider
    exporter: InMemorySpanExporter
    reports: list[Report]

    @property
    def spans(self) -> list[ReadableSpan]:
        """The finished spans, by start."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    @property
    def report(self) -> Report:
        """The only report."""
        assert len(self.reports) == 1, [report.root.name for report in self.reports]
        return self.reports[0]

    def forget(self) -> None:
        """What was recorded so far."""
        self.exporter.clear()
        self.reports.clear()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        found = self.named(name)
        assert len(found) == 1, (name, [span.name for span in self.spans])
        return found[0]

    def parent(self, span: ReadableSpan) -> str | None:
        """The name of the span's parent."""
        if span.parent is None:
            return None
        return next(other.name for other in self.spans if other.context.span_id == span.parent.span_id)

    @property
    def tree(self) -> list[Any]:
        """The spans as nested lists: a name, or a name followed by its children, by start."""
        return self._below(None, self.spans)

    @property
    def traces(self) -> int:
        return len({span.context.trace_id for span in self.spans})

    def _below(self, parent: int | None, spans: Sequence[ReadableSpan]) -> list[Any]:
        ids = {span.context.span_id for span in spans}
        found: list[Any] = []
        for span in spans:
            above = span.parent.span_id if span.parent is not None and span.parent.span_id in ids else None
            if above == parent:
                children = self._below(span.context.span_id, spans)
                found.append((span.name, children) if children else span.name)
        return found


def counted(report: Report, kind: str) -> dict[str, int]:
    """The calls of a kind, by name."""
    return {operation.name: operation.calls for operation in report.operations if operation.kind == kind}
