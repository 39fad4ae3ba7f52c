"""Sets up the SDK for `opentelemetry-instrument` where no other distro does. A module of its own, because the SDK's
set-up loads its metrics and logs, which `instrument()` in code does not need."""

from __future__ import annotations

import logging
import os
from typing import Any

from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]
from opentelemetry.sdk._configuration import _OTelSDKConfigurator

from . import _guard

_logger = logging.getLogger("otel_agentperf")


class AgentPerfDistro(BaseDistro):  # type: ignore[misc]
    """Defaults for `opentelemetry-instrument` where no other distro is installed: export by OTLP."""

    def _configure(self, **kwargs: Any) -> None:
        for signal in ("TRACES", "METRICS"):
            os.environ.setdefault(f"OTEL_{signal}_EXPORTER", "otlp")
        os.environ.setdefault("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")


class AgentPerfConfigurator(_OTelSDKConfigurator):
    """Sets up the SDK from its environment variables, as distros do. A set-up that fails is reported, and the
    program runs on without telemetry: raising here would stop `opentelemetry-instrument` itself."""

    def _configure(self, **kwargs: Any) -> None:
        try:
            super()._configure(**kwargs)  # type: ignore[no-untyped-call]
        except Exception as fault:  # noqa: BLE001 - see above
            _guard.swallowed("configurator", fault)
            _logger.warning("otel-agentperf: OpenTelemetry is not set up: %s", fault)
