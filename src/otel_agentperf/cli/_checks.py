"""What `agentperf doctor` looks at: versions, who instruments what, where telemetry goes, what traces cannot show."""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType
from typing import Any

from packaging.requirements import Requirement

from .. import _config, _versions
from .._discover import discover
from ._output import without_credentials

SOURCES = {
    "wrapped": "agentperf wraps it",
    "hook": "agentperf, through its own callbacks",
    "native": "its own spans, completed by agentperf",
    "counted": "agentperf counts it",
}
_OURS = "otel-agentperf"
_TESTED_SDK = ">=1.44,<1.46"
_TIMEOUT_S = 3.0
_CORE = (
    "opentelemetry-api", "opentelemetry-sdk", "opentelemetry-instrumentation", "opentelemetry-semantic-conventions",
    "opentelemetry-exporter-otlp", "wrapt",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Library:
    """An installed library that there is an integration for."""

    integration: str
    distribution: str
    version: str
    tested: str
    in_range: bool
    source: str
    disabled: bool
    others: Sequence[str]
    """distributions that instrument it as well"""
    limits: Sequence[str]


@dataclass(frozen=True, slots=True)
class Export:
    """Where a signal goes, and why it does not arrive (None: it does, or nothing was tried)."""

    signal: str
    exporter: str
    endpoint: str | None
    problem: str | None
    configured: bool


@dataclass(frozen=True, slots=True)
class Diagnosis:
    versions: Mapping[str, str]
    libraries: Sequence[Library]
    exports: Sequence[Export]
    problems: Sequence[str]
    notes: Sequence[str]


def diagnose(connect: bool = True) -> Diagnosis:
    """Look at this environment. With `connect`, an empty batch is sent to the endpoints."""
    config = _config.load()
    libraries = sorted(_libraries(config), key=lambda library: library.distribution)
    exports = list(_exports(connect))
    versions = {name: version for name in (_OURS, *_CORE) if (version := _versions.installed(name))}
    problems = [*_config.warned, *_off(config), *_misfits(), *_unreachable(exports)]
    notes = [*_sdk_notes(versions), *_twice(libraries), *_outside(libraries), *_distro_notes(), *_loss()]
    return Diagnosis(versions, libraries, exports, problems, notes)


def _libraries(config: _config.Config) -> Iterator[Library]:
    disabled = _config.parse_names(config.disabled_integrations)
    others = _other_instrumentors()
    for name, module in discover("integrations").items():
        version = _versions.installed(module.DISTRIBUTION) if module.DISTRIBUTION else None
        if version is not None:
            yield _library(name, module, version, name in disabled, others.get(module.DISTRIBUTION, ()))


def _library(name: str, module: ModuleType, version: str, disabled: bool, others: Sequence[str]) -> Library:
    in_range = _versions.within(version, module.VERSIONS)
    limits = tuple(getattr(module, "LIMITS", ()))
    return Library(
        name, module.DISTRIBUTION, version, module.VERSIONS, in_range, module.SOURCE, disabled, others, limits
    )


def _other_instrumentors() -> dict[str, list[str]]:
    """By library, the distributions that instrument it when `opentelemetry-instrument` finds them.

    What they instrument is what their extra `instruments` requires, by a convention of the contrib repository that
    OpenInference and OpenLLMetry follow.
    """
    off = _config.parse_names(os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", ""))
    found: dict[str, list[str]] = defaultdict(list)
    for entry_point in metadata.entry_points(group="opentelemetry_instrumentor"):
        distribution = entry_point.dist
        if distribution is None or distribution.name == _OURS or entry_point.name in off:
            continue
        for requirement in map(Requirement, distribution.requires or ()):
            if requirement.marker is not None and "instruments" in str(requirement.marker):
                found[requirement.name].append(distribution.name)
    return {name: sorted(set(distributions)) for name, distributions in found.items()}


def _misfits() -> Iterator[str]:
    """Pins among OpenTelemetry's own packages that what is installed does not meet."""
    for distribution in metadata.distributions():
        name = distribution.name or ""
        if not name.startswith("opentelemetry-"):
            continue
        for requirement in map(Requirement, distribution.requires or ()):
            if not requirement.name.startswith("opentelemetry-") or requirement.marker is not None:
                continue
            version = _versions.installed(requirement.name)
            if version is not None and not requirement.specifier.contains(version, prereleases=True):
                yield f"{name} {distribution.version} needs {requirement}, and {version} is installed."


def _off(config: _config.Config) -> Iterator[str]:
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield "OTEL_SDK_DISABLED=true: nothing is traced."
    if not config.enabled:
        yield "OTEL_AGENTPERF_ENABLED=false: nothing is instrumented nor analysed."
    if "agentperf" in _config.parse_names(os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "")):
        yield "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS names agentperf: opentelemetry-instrument leaves it out."


def _sdk_notes(versions: Mapping[str, str]) -> Iterator[str]:
    sdk = versions.get("opentelemetry-sdk")
    if sdk is not None and not _versions.within(sdk, _TESTED_SDK):
        yield f"opentelemetry-sdk {sdk} is not in the range that agentperf was tested with ({_TESTED_SDK})."


def _twice(libraries: Sequence[Library]) -> Iterator[str]:
    for library in libraries:
        if library.others and not library.disabled:
            names = " and ".join(library.others)
            yield (
                f"{library.distribution} is instrumented by agentperf and by {names}: each call is counted once, but "
                f"makes more than one span. OTEL_AGENTPERF_DISABLED_INTEGRATIONS={library.integration} leaves ours out."
            )


def _outside(libraries: Sequence[Library]) -> Iterator[str]:
    for library in libraries:
        if not library.in_range:
            yield (
                f"{library.distribution} {library.version} is not in the range that agentperf was tested with "
                f"({library.tested}): it is tried all the same."
            )


def _distro_notes() -> Iterator[str]:
    names = sorted({entry_point.name for entry_point in metadata.entry_points(group="opentelemetry_distro")})
    if len(names) > 1 and not os.environ.get("OTEL_PYTHON_DISTRO"):
        yield (
            f"opentelemetry-instrument finds several distros ({', '.join(names)}) and takes the first it meets; "
            "OTEL_PYTHON_DISTRO=agentperf chooses ours."
        )


def _loss() -> Iterator[str]:
    """Settings of OpenTelemetry by which traces lose something."""
    sampler = os.environ.get("OTEL_TRACES_SAMPLER", "")
    if sampler and sampler not in ("always_on", "parentbased_always_on", "agentperf"):
        yield f"OTEL_TRACES_SAMPLER={sampler}: runs that are not sampled get no report."
    for name in ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"):
        told = os.environ.get(name, "")
        if told.isdigit() and int(told) < 128:
            yield f"{name}={told}: the report on a run's root span takes up to 60 attributes, beside the others."


def _exports(connect: bool) -> Iterator[Export]:
    """What `opentelemetry-instrument` with our distro would set up; `agentperf run` does without unless configured."""
    for signal in ("traces", "metrics"):
        upper = signal.upper()
        told = os.environ.get(f"OTEL_{upper}_EXPORTER", "")
        endpoints = (f"OTEL_EXPORTER_OTLP_{upper}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
        configured = bool(told) or any(map(os.environ.get, endpoints))
        for exporter in _config.parse_names(told) or ("otlp",):
            endpoint, problem = (text and without_credentials(text) for text in _try(signal, exporter, connect))
            yield Export(signal, exporter, endpoint, problem, configured)


def _try(signal: str, exporter: str, connect: bool) -> tuple[str | None, str | None]:
    """The endpoint, and what became of an empty batch sent there."""
    if not exporter.startswith("otlp"):
        return None, None
    http = exporter == "otlp_proto_http" or (exporter == "otlp" and _protocol(signal).startswith("http"))
    with _logged("opentelemetry.exporter.otlp") as told:
        try:
            sender = _exporter(signal, http)
            endpoint = str(getattr(sender, "_endpoint", "")) or None
            if not connect:
                return endpoint, None
            arrived = _send_nothing(sender, signal)
        except Exception as error:  # noqa: BLE001 - a certificate that is not there, an address that is none
            return None, f"{type(error).__name__}: {error}"
    if arrived:
        return endpoint, None
    return endpoint, re.sub(r"^Failed to export .*? to [^ ,]+, ", "", told[-1]) if told else "the batch was not taken"


def _protocol(signal: str) -> str:
    names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    return next((value for name in names if (value := os.environ.get(name, "").strip())), "grpc")


def _exporter(signal: str, http: bool) -> Any:
    """The SDK's own, so that headers, certificates and compression are what a program's would be."""
    if signal == "traces":
        if http:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans

            return HttpSpans(timeout=_TIMEOUT_S)
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans

        return GrpcSpans(timeout=_TIMEOUT_S)
    if http:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics

        return HttpMetrics(timeout=_TIMEOUT_S)
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics

    return GrpcMetrics(timeout=_TIMEOUT_S)


def _send_nothing(sender: Any, signal: str) -> bool:
    from opentelemetry.sdk.metrics.export import MetricsData

    try:
        return str(getattr(sender.export([] if signal == "traces" else MetricsData([])), "name", "")) == "SUCCESS"
    finally:
        sender.shutdown()


def _unreachable(exports: Sequence[Export]) -> Iterator[str]:
    """Of what the settings ask for: nothing listens at the default address where no telemetry is wanted."""
    signals: dict[tuple[str | None, str], list[str]] = defaultdict(list)
    for export in exports:
        if export.problem is not None and export.configured:
            signals[export.endpoint, export.problem].append(export.signal)
    for (endpoint, problem), told in signals.items():
        where = f"at {endpoint} " if endpoint else ""
        yield f"The exporter's endpoint {where}does not take {' and '.join(told)}: {problem}"


@contextmanager
def _logged(name: str) -> Iterator[list[str]]:
    """What is logged under a name meanwhile, which goes nowhere else."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage().removeprefix("otel-agentperf: "))  # type: ignore[method-assign]
    logger = logging.getLogger(name)
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
