"""The instrumentor that `opentelemetry-instrument` finds. A module of its own: what it stands on takes 25 ms to import,
which `instrument()` in code does without."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from . import wiring


class AgentPerfInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Patches the installed libraries when they are imported, and adds the processor to the tracer provider."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: what is not installed is not touched."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        wiring.instrument(**kwargs)

    def _uninstrument(self, **kwargs: Any) -> None:
        wiring.uninstrument()

    @property
    def _is_instrumented_by_opentelemetry(self) -> bool:
        return wiring.is_on()

    @_is_instrumented_by_opentelemetry.setter
    def _is_instrumented_by_opentelemetry(self, value: bool) -> None:
        """`wiring` knows: the functions of the package do the same."""
