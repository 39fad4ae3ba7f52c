"""The tracer and settings that everything which makes a span shares."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

from .. import _config
from ..sanitize import Hasher
from .dependence import Siblings

SCOPE = "otel_agentperf"


SUPPRESSED = _SUPPRESS_INSTRUMENTATION_KEY
"""context key: somebody (an exporter, a user) asked not to be traced"""


class State:
    """Settings of the process. `tracer` is got once: getting one takes a lock of the SDK that a signal handler
    which traces could find held."""

    __slots__ = ("config", "hasher", "redact", "siblings", "tracer")

    def __init__(self) -> None:
        self.siblings = Siblings()
        self.tracer = trace.get_tracer(SCOPE, library_version())
        self.configure(_config.load())

    def configure(self, config: _config.Config) -> None:
        """Take over settings; a redaction pattern that does not compile is reported by `_config`."""
        self.config = config
        self.hasher = Hasher(config.hash_key)
        self.redact = re.compile(config.redact) if config.redact else None

    def use(self, provider: trace.TracerProvider | None) -> None:
        """Trace with `provider` instead of the global one."""
        self.tracer = trace.get_tracer(SCOPE, library_version(), provider)


@cache
def library_version() -> str:
    try:
        return version("otel-agentperf")
    except PackageNotFoundError:
        return "0"


state = State()
