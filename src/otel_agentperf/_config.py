"""Settings: defaults, then a TOML file, then the environment, into one frozen `Config`.

A wrong value is reported once, by name, and the default is used. docs/configuration.md has them all in one table.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")
_logger = logging.getLogger("otel_agentperf")
_PREFIX = "OTEL_AGENTPERF_"
_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting. The field `some_name` is `OTEL_AGENTPERF_SOME_NAME`, or `some_name` in agentperf.toml."""

    enabled: bool = True
    """false: nothing is patched, analysed or added"""
    content: bool = False
    """record prompts, arguments and results (`OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`)"""
    content_limit: int = 4096
    """characters of content an attribute holds"""
    redact: str = ""
    """regular expression; what it matches in content becomes [redacted]"""
    hash_key: str = field(default="", repr=False)
    """key of the argument and result hashes; random per process unless given"""
    wrap: str = ""
    """`module:Class.function=kind` entries, separated by commas: code that may not be touched"""
    disabled_integrations: str = ""
    """names of integrations to leave out, separated by commas"""
    cache_spans: str = "remote"
    """which cache look-ups become spans: all, remote or none"""
    baseline_s: float = 10.0
    """the duration at which a run's speed is 0"""
    baselines: str = ""
    """the same for single agents: `planner=20,writer=60`"""
    weights: str = "0.4,0.3,0.3"
    """of success, speed and resource"""
    thresholds: str = ""
    """`kind.name=number` entries, separated by commas"""
    max_runs: int = 1_000
    """runs collected at the same time"""
    max_spans: int = 10_000
    """spans kept of one run"""
    max_age_s: float = 3_600.0
    """seconds after which a run that never ended is forgotten"""

    def baseline(self, agent: str) -> float:
        """Seconds at which the speed of `agent` is 0."""
        return dict(_numbers(self.baselines)).get(agent, self.baseline_s)

    def weight_triple(self) -> tuple[float, float, float]:
        """Weights of success, speed and resource."""
        success, speed, resource = (float(part) for part in self.weights.split(","))
        return success, speed, resource

    def threshold_map(self) -> Mapping[str, float]:
        """The user's thresholds by `kind.name`."""
        return dict(_numbers(self.thresholds))


def load(environ: Mapping[str, str] | None = None, directory: Path | None = None) -> Config:
    """The configuration from `OTEL_AGENTPERF_CONFIG` or ./agentperf.toml, and the environment, which wins."""
    environ = os.environ if environ is None else environ
    config = _checked(Config(), _from_toml(environ, directory or Path()))
    return _checked(config, _from_environ(environ))


def parse_names(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(",") if part.strip())


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    ours = {name: value.strip() for name, value in environ.items() if name.startswith(_PREFIX) and value.strip()}
    given: dict[str, Any] = {
        name.removeprefix(_PREFIX).lower(): value for name, value in ours.items() if name != _PREFIX + "CONFIG"
    }
    if environ.get(_CONTENT, "").strip():
        given["content"] = environ[_CONTENT].strip()
    return given


def _from_toml(environ: Mapping[str, str], directory: Path) -> dict[str, Any]:
    told = environ.get(_PREFIX + "CONFIG", "").strip()
    path = Path(told) if told else directory / "agentperf.toml"
    if not told and not path.is_file():
        return {}
    try:
        given: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        _warn(f"cannot read {path}: {error}; it is ignored")
        return {}
    tables = {name: value for name, value in given.items() if isinstance(value, dict)}
    for name, table in tables.items():
        given[name] = ",".join(f"{key}={value}" for key, value in _flat(table))
    return given


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """[thresholds.slow_operation] and [thresholds] "slow_operation.db_s" are the same."""
    entries: list[tuple[str, Any]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            entries.extend(_flat(value, f"{prefix}{key}."))
        else:
            entries.append((prefix + key, value))
    return entries


def _checked(config: Config, given: Mapping[str, Any]) -> Config:
    known = {setting.name: getattr(Config(), setting.name) for setting in fields(Config)}
    changes: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            _warn(f"unknown setting {name}; it is ignored")
            continue
        try:
            changes[name] = _PARSERS.get(name, _CONVERT[type(known[name])])(value)
        except ValueError as error:
            _report(name, value, str(error))
    return replace(config, **changes)


def _report(setting: str, value: object, expected: str) -> None:
    shown = "its value" if setting == "hash_key" else repr(value)
    _warn(f"{_PREFIX}{setting.upper()}: {shown} is not valid (expected {expected}); the default is used")


@cache
def _warn(message: str) -> None:
    """Once a process: settings are read when the package is imported, and again when it is asked to instrument."""
    _logger.warning("otel-agentperf: %s", message)


def _boolean(value: object) -> bool:
    text = str(value).strip().lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise ValueError("true or false")


def _content(value: object) -> bool:
    """The GenAI instrumentations' values besides true and false say where the content goes."""
    text = str(value).strip().lower()
    return True if text in ("span_only", "event_only", "span_and_event") else text != "no_content" and _boolean(value)


def _positive(convert: Callable[[Any], T]) -> Callable[[Any], T]:
    def parse(value: object) -> T:
        try:
            number = convert(value)
        except (ValueError, TypeError):
            raise ValueError("a number") from None
        if not number > 0:  # type: ignore[operator]
            raise ValueError("a number above 0")
        return number

    return parse


def _choice(*allowed: str) -> Callable[[Any], str]:
    def parse(value: object) -> str:
        if value in allowed:
            return str(value)
        raise ValueError(" or ".join(allowed))

    return parse


def _numbers(text: str) -> Iterator[tuple[str, float]]:
    """The entries of `a=1,b=2.5`; raises ValueError naming the first wrong one."""
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = entry.partition("=")
        try:
            if not name.strip():
                raise ValueError
            yield name.strip(), float(number)
        except ValueError:
            raise ValueError(f"name=number, which {entry!r} is not") from None


def _text(value: object) -> str:
    """A TOML list stands for its members separated by commas."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _pattern(value: object) -> str:
    try:
        return re.compile(str(value)).pattern
    except re.error as error:
        raise ValueError(f"a regular expression; {error}") from None


def _number_list(value: object) -> str:
    text = str(value)
    list(_numbers(text))
    return text


def _weights(value: object) -> str:
    text = value if isinstance(value, str) else ",".join(map(str, value)) if isinstance(value, list) else ""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or min(numbers) < 0 or not sum(numbers):
        raise ValueError("three numbers such as 0.4,0.3,0.3")
    return text


_CONVERT: dict[type, Callable[[Any], Any]] = {
    bool: _boolean,
    int: _positive(int),
    float: _positive(float),
    str: _text,
}
_PARSERS: dict[str, Callable[[Any], Any]] = {
    "content": _content,
    "cache_spans": _choice("all", "remote", "none"),
    "weights": _weights,
    "redact": _pattern,
    "thresholds": _number_list,
    "baselines": _number_list,
}
