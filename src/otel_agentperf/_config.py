"""Settings: defaults, then pyproject.toml, agentperf.toml and the environment, into one frozen `Config`.

A wrong value is reported once, by name, and the default is used. docs/configuration.md has them all in one table.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from . import _entries, _patterns
from ._entries import Budget, ModelPrice, SamplingRule, Suppression

T = TypeVar("T")
_logger = logging.getLogger("otel_agentperf")
_PREFIX = "OTEL_AGENTPERF_"

_LONGEST_FILE = 1_000_000
_LONGEST_MESSAGE = 1_500
warned: dict[str, None] = {}
"""what was said of wrong settings"""
_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting. The field `some_name` is `OTEL_AGENTPERF_SOME_NAME`, or `some_name` in a TOML file."""

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
    """`kind.name=number` entries, separated by commas; `kind.name@search=number` for one operation or agent"""
    max_runs: int = 1_000
    """runs collected at the same time"""
    max_spans: int = 10_000
    """spans kept of one run"""
    max_age_s: float = 3_600.0
    """seconds after which a run that never ended is forgotten"""
    budgets: str = ""
    """`run.tokens=50000,tool.search.duration_s=2`: what a run, an agent or a tool may take"""
    prices: str = ""
    """`model=input/output/cached` in USD per million tokens; they win over the price library's"""
    suppress: str = ""
    """`kind:operation@agent=reason` or `fingerprint=reason`, separated by semicolons: findings to leave out"""
    sampling: str = ""
    """`error=1,slow=1,agent:planner=0.5,0.1`: which share of which runs is exported; all of them unless given"""
    history: bool = True
    """compare calls with those of earlier runs of the process"""
    loop_monitor: bool = True
    """watch the event loops that agents run on for callbacks that hold them up"""
    resource_monitor: bool = True
    """read CPU and memory of the process and the machine while runs are open"""
    profile: str = "off"
    """which runs get a CPU profile: on (all), auto (the next one after one that was too slow) or off"""
    profile_interval_s: float = 0.005
    """seconds between two samples"""
    told_in: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """no setting: where each of those that were given came from"""

    def baseline(self, agent: str) -> float:
        """Seconds at which the speed of `agent` is 0."""
        return dict(_entries.numbers(self.baselines)).get(agent, self.baseline_s)

    def weight_triple(self) -> tuple[float, float, float]:
        """Weights of success, speed and resource."""
        success, speed, resource = (float(part) for part in self.weights.split(","))
        return success, speed, resource

    def threshold_map(self) -> Mapping[str, float]:
        """The user's thresholds by `kind.name` or `kind.name@operation-or-agent`."""
        return dict(_entries.numbers(self.thresholds))

    def budget_list(self) -> tuple[Budget, ...]:
        return _entries.budgets(self.budgets, self.source("budgets"))

    def price_list(self) -> tuple[ModelPrice, ...]:
        return _entries.prices(self.prices)

    def suppression_list(self) -> tuple[Suppression, ...]:
        return _entries.suppressions(self.suppress)

    def sampling_rules(self) -> tuple[SamplingRule, ...]:
        return _entries.sampling(self.sampling)

    def source(self, setting: str) -> str:
        """Where a setting was given: the environment variable, or the name of the file."""
        return self.told_in.get(setting, _variable(setting))

    def where(self, setting: str) -> str:
        """The same with the setting's name, for messages."""
        source = self.source(setting)
        return source if source == _variable(setting) else f"{setting} in {source}"


SETTINGS = tuple(setting.name for setting in fields(Config) if setting.name != "told_in")


def load(environ: Mapping[str, str] | None = None, directory: str | os.PathLike[str] = "") -> Config:
    """The configuration from pyproject.toml and agentperf.toml (or the file that `OTEL_AGENTPERF_CONFIG` names) in
    the working directory, and from the environment. The later one wins."""
    environ = os.environ if environ is None else environ
    config = Config()
    for path, given in _from_files(environ, os.fspath(directory)):
        config = _checked(config, given, os.path.basename(path))
    config = _checked(config, _from_environ(environ), "")
    for setting in _entries.LISTS:
        for fault in _entries.faults(setting, getattr(config, setting)):
            _warn(f"{config.where(setting)}: {fault}")
    return config


def warn_once(messages: Iterable[str]) -> None:
    """Log each message unless it has been in this process."""
    for message in messages:
        _warn(message)


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


def _from_files(environ: Mapping[str, str], directory: str) -> list[tuple[str, dict[str, Any]]]:
    told = environ.get(_PREFIX + "CONFIG", "").strip()
    paths = [os.path.join(directory, "pyproject.toml"), told or os.path.join(directory, "agentperf.toml")]
    return [(path, _from_toml(path)) for path in paths if os.path.isfile(path) or path == told]


def _from_toml(path: str) -> dict[str, Any]:
    """The settings of a file: all of agentperf.toml, our table of pyproject.toml."""
    projects = os.path.basename(path) == "pyproject.toml"
    try:
        text = _read(path)
        # A project's file that does not speak of us is none of our business, nor are its faults.
        given: dict[str, Any] = _toml(text) if not projects or "agentperf" in text else {}
    except (OSError, ValueError, RecursionError) as error:
        _warn(f"cannot read {_shown(path)}: {error}; it is ignored")
        return {}
    if not projects:
        return given
    tools = given.get("tool")
    tables = [tools.get(name) for name in ("agentperf", "otel-agentperf")] if isinstance(tools, dict) else []
    return {name: value for table in tables if isinstance(table, dict) for name, value in table.items()}


def _read(path: str) -> str:
    """A pipe would keep the program waiting, and a device such as /dev/zero never ends."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError("not a file")
    with open(path, encoding="utf-8") as file:
        text = file.read(_LONGEST_FILE + 1)
    if len(text) > _LONGEST_FILE:
        raise ValueError(f"it has more than {_LONGEST_FILE} characters")
    return text


def _toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    table: dict[str, Any] = tomllib.loads(text)
    return table


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """[thresholds.slow_operation] and [thresholds] "slow_operation.db_s" are the same."""
    entries: list[tuple[str, Any]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            entries.extend(_flat(value, f"{prefix}{key}."))
        else:
            entries.append((prefix + key, value))
    return entries


def _checked(config: Config, given: Mapping[str, Any], file: str) -> Config:
    """With what was given, in `file` or, where that is empty, the environment."""
    changes: dict[str, Any] = {}
    for name, value in given.items():
        where = f"{name} in {file}" if file else _variable(name)
        if name not in SETTINGS:
            _warn(f"unknown setting {where}; it is ignored")
            continue
        try:
            parse = _PARSERS.get(name, _CONVERT[type(getattr(Config(), name))])
            changes[name] = _numbers(value, where, _NUMBER_LISTS[name]) if name in _NUMBER_LISTS else parse(value)
        except ValueError as error:
            _report(where, name, value, str(error))
            if name == "redact":
                changes[name] = _patterns.EVERYTHING
    told_in = {name: file or _variable(name) for name in changes}
    return replace(config, **changes, told_in={**config.told_in, **told_in})


def _variable(setting: str) -> str:
    return _CONTENT if setting == "content" else _PREFIX + setting.upper()


def _report(where: str, setting: str, value: object, expected: str) -> None:
    shown = "its value" if setting == "hash_key" else _shown(repr(value))
    instead = "all content is redacted" if setting == "redact" else "the default is used"
    _warn(f"{where}: {shown} is not valid (expected {expected}); {instead}")


def _warn(message: str) -> None:
    """Once a process: settings are read when the package is imported, and again when it is asked to instrument."""
    message = _shown(message, _LONGEST_MESSAGE)
    if message not in warned:
        warned[message] = None
        _logger.warning("otel-agentperf: %s", message)


def _shown(text: str, most: int = 200) -> str:
    """What a setting holds, for a line of a log: without control characters, and no longer than helps."""
    line = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text[:most])
    return line if len(text) <= most else line + "…"


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
        except (ValueError, TypeError, OverflowError):
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


def _text(value: object) -> str:
    """A TOML list stands for its members separated by commas, a table for its `key=value` entries."""
    if isinstance(value, dict):
        value = [f"{key}={entry}" for key, entry in _flat(value)]
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _prices(value: object) -> str:
    """In TOML a price may be a table: `{ input = 3, output = 15, cached = 0.3 }`."""
    return _text(_with_prices_as_text(value))


def _with_prices_as_text(value: object) -> object:
    if not isinstance(value, dict):
        return value
    if {"input", "output"} <= value.keys() <= {"input", "output", "cached"}:
        return "/".join(str(value[part]) for part in ("input", "output", "cached") if part in value)
    return {key: _with_prices_as_text(inner) for key, inner in value.items()}


def _suppress(value: object) -> str:
    """A TOML list of tables as JSON; the environment's text as it is."""
    if isinstance(value, dict):
        value = [value]
    return json.dumps(value, default=str) if isinstance(value, list) else str(value)


def _pattern(value: object) -> str:
    """A TOML list stands for any of its members."""
    given = value if isinstance(value, list) else [value]
    try:
        patterns = [_patterns.checked(str(pattern)) for pattern in given]
        together = patterns[0] if len(patterns) == 1 else "|".join(f"(?:{pattern})" for pattern in patterns)
        return _patterns.checked(together)
    except ValueError as error:
        raise ValueError(f"a regular expression; {error}") from None


def _numbers(value: object, where: str, least: float) -> str:
    """A wrong entry is reported and left out; the others count."""
    text = _text(value)
    wrong = _entries.wrong_numbers(text, least)
    above = " above 0" if least == 0 else ""
    for entry in wrong:
        _warn(f"{where}: {entry!r} is not name=number{above}; it is left out")
    return _entries.without(text, wrong)


def _weights(value: object) -> str:
    text = value if isinstance(value, str) else ",".join(map(str, value)) if isinstance(value, list) else ""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or not all(number >= 0 for number in numbers) or not 0 < sum(numbers) < math.inf:
        raise ValueError("three numbers such as 0.4,0.3,0.3")
    return text


_CONVERT: dict[type, Callable[[Any], Any]] = {
    bool: _boolean,
    int: _positive(int),
    float: _positive(float),
    str: _text,
}
_NUMBER_LISTS = {"thresholds": -math.inf, "baselines": 0.0}
"""what each of their numbers is above"""
_PARSERS: dict[str, Callable[[Any], Any]] = {
    "content": _content,
    "cache_spans": _choice("all", "remote", "none"),
    "profile": lambda value: _choice("on", "auto", "off")("on" if value is True else value or "off"),
    "weights": _weights,
    "redact": _pattern,
    "prices": _prices,
    "suppress": _suppress,
}
