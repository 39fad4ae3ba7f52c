"""A tracer provider whose exported spans a test can look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Sampler

from otel_agentperf._config import Config
from otel_agentperf.capture.dependence import Siblings
from otel_agentperf.capture.tracing import state


class Kept(SpanExporter):
    """Keeps what it is given. No lock, so that a signal handler may trace too."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS


class Recording:
    """What a provider exported."""

    def __init__(self, provider: TracerProvider, kept: Kept) -> None:
        self.provider = provider
        self.kept = kept

    @property
    def spans(self) -> list[ReadableSpan]:
        self.provider.force_flush()
        return self.kept.spans

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    def one(self, name: str) -> ReadableSpan:
        found = [span for span in self.spans if span.name == name]
        assert len(found) == 1, f"{len(found)} spans {name!r} among {self.names}"
        return found[0]

    def only(self) -> ReadableSpan:
        assert len(self.spans) == 1, self.names
        return self.spans[0]

    def parent_of(self, name: str) -> str | None:
        """The name of the parent."""
        parent = self.one(name).parent
        if parent is None:
            return None
        return next((span.name for span in self.spans if span.context.span_id == parent.span_id), "unknown")

    def encoded(self) -> bytes:
        """The spans as an exporter would send them."""
        return encode_spans(self.spans).SerializeToString()


@contextmanager
def recording(
    *processors: SpanProcessor, sampler: Sampler | None = None, config: Config | None = None
) -> Iterator[Recording]:
    """Our capture traces with a provider of its own, exporting at once; settings and tracer are restored."""
    before = {name: getattr(state, name) for name in type(state).__slots__}
    kept = Kept()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    for processor in processors:
        provider.add_span_processor(processor)
    state.use(provider)
    state.configure(config or Config())
    state.siblings = Siblings()
    try:
        yield Recording(provider, kept)
    finally:
        for name, value in before.items():
            setattr(state, name, value)


def everything(spans: Sequence[ReadableSpan]) -> str:
    """All text that the spans hold, to look for what must not be there."""
    return "\n".join(text for span in spans for text in _texts(span))


def _texts(span: ReadableSpan) -> Iterator[str]:
    yield from (span.name, str(span.status.description), repr(dict(span.attributes or {})))
    for event in span.events:
        yield from (event.name, repr(dict(event.attributes or {})))
    for link in span.links:
        yield repr(dict(link.attributes or {}))


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})
