"""Settings that are lists of entries: numbers by name, budgets, prices, suppressions.

Each function takes the setting's text and gives its good entries; `faults` says what is wrong with the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Iterable, Iterator
from functools import lru_cache
from math import inf
from typing import Literal, NamedTuple, TypeVar, cast, get_args

E = TypeVar("E")
Scope = Literal["run", "agent", "tool"]
Metric = Literal["duration_s", "tokens", "cost", "calls", "memory_mb", "cpu_s"]
_METRICS: tuple[str, ...] = get_args(Metric)
_SELECTOR = re.compile(r"(?P<kind>[\w*]*)(:(?P<operation>.+?))?(@(?P<agent>.+))?", re.DOTALL)
_NUMBER_AT_END = re.compile(r"=\s*[-+\d./eE]+\s*$")


class Budget(NamedTuple):
    """The most that a run, an agent or a tool may take."""

    scope: Scope
    name: str
    """of the agent or tool, `*` standing for any characters; empty for the run"""
    metric: Metric
    limit: float
    source: str = ""
    """where it was set"""

    @property
    def key(self) -> str:
        return ".".join(filter(None, (self.scope, self.name, self.metric)))


class ModelPrice(NamedTuple):
    """USD per million tokens."""

    model: str
    """as the spans name it, `*` standing for any characters"""
    input: float
    output: float
    cached: float | None = None
    """of input tokens read from the provider's cache; None: they cost what other input does"""


class Suppression(NamedTuple):
    """Findings that the user knows of: those that match all that is given. `*` stands for any characters."""

    name: str = ""
    """a fingerprint, a kind or an operation"""
    fingerprint: str = ""
    kind: str = ""
    operation: str = ""
    agent: str = ""
    reason: str = ""


Condition = Literal["error", "slow", "budget", "findings", "grade", "agent", "env", "complexity", "rest"]
_CONDITIONS: tuple[str, ...] = get_args(Condition)


class SamplingRule(NamedTuple):
    """Which share of the runs that meet a condition is exported."""

    condition: Condition
    value: str
    """what the condition is about; empty where the default is meant"""
    share: float

    @property
    def key(self) -> str:
        return ":".join(filter(None, (self.condition, self.value)))


def matches(pattern: str, name: str) -> bool:
    """Only `*` is special: names of queries and addresses hold the other wildcards."""
    return pattern == name or ("*" in pattern and _compiled(pattern).fullmatch(name) is not None)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def best_match(patterns: Iterable[str], name: str) -> str | None:
    """The name itself where it is among the patterns, otherwise the longest pattern that matches."""
    return max((one for one in patterns if matches(one, name)), key=lambda one: (one == name, len(one)), default=None)


def numbers(text: str) -> Iterator[tuple[str, float]]:
    """The entries of `a=1,b=2.5`; raises ValueError naming the first wrong one."""
    for entry in _split(text):
        name, _, number = entry.rpartition("=")
        try:
            if not name.strip():
                raise ValueError
            yield name.strip(), float(number)
        except ValueError:
            raise ValueError(f"name=number, which {entry!r} is not") from None


def wrong_numbers(text: str, least: float = -inf) -> list[str]:
    """The entries that `numbers` would not take, are no number or not above `least`."""
    return [entry for entry in _split(text) if not _is_number(entry, least)]


def without(text: str, entries: Container[str]) -> str:
    """`text` less some of its entries."""
    return ",".join(entry for entry in _split(text) if entry not in entries)


def _is_number(entry: str, least: float) -> bool:
    try:
        [(_, number)] = numbers(entry)
    except ValueError:
        return False
    return number > least


def _split(text: str) -> Iterator[str]:
    """At the commas; but the operation after an @ may hold some itself, and goes on up to its number."""
    pending = ""
    for part in text.split(","):
        pending = f"{pending},{part}" if pending else part
        if "@" not in pending or _NUMBER_AT_END.search(pending):
            yield from filter(None, [pending.strip()])
            pending = ""
    yield from filter(None, [pending.strip()])


def budgets(text: str, source: str = "") -> tuple[Budget, ...]:
    """`run.duration_s=20,tool.search.calls=5`. The name of an agent or tool may hold dots."""
    return _good(_split(text), lambda entry: _budget(entry, source))


def prices(text: str) -> tuple[ModelPrice, ...]:
    """`model=input/output` or `model=input/output/cached`."""
    return _good(_split(text), _price)


def suppressions(text: str) -> tuple[Suppression, ...]:
    """`kind:operation@agent=reason;fingerprint=reason`, or the JSON of a list of objects."""
    return _good(_suppressed(text), _suppression)


def sampling(text: str) -> tuple[SamplingRule, ...]:
    """`error=1,slow:20=1,agent:planner=0.5,0.1`: the first rule that a run meets counts."""
    return _good(_split(text), _sampling_rule)


LISTS: dict[str, tuple[Callable[[str], Iterable[str]], Callable[[str], object]]]
"""how the text of each of these settings is split, and an entry read"""


def faults(setting: str, text: str) -> list[str]:
    """What is wrong with the entries of a setting of this module."""
    found: list[str] = []
    split, parse = LISTS[setting]
    for entry in split(text):
        try:
            parse(entry)
        except ValueError as error:
            found.append(f"{entry!r} is left out: {error}")
    return found


def _good(entries: Iterable[str], parse: Callable[[str], E]) -> tuple[E, ...]:
    parsed: list[E] = []
    for entry in entries:
        try:
            parsed.append(parse(entry))
        except ValueError:
            continue  # `faults` has named it
    return tuple(parsed)


def _budget(entry: str, source: str = "") -> Budget:
    key, _, told = entry.rpartition("=")
    scope, _, rest = key.strip().partition(".")
    name, _, metric = rest.rpartition(".")
    if scope not in get_args(Scope) or metric not in _METRICS or bool(name) == (scope == "run"):
        raise ValueError(
            f"a budget is run.METRIC, agent.NAME.METRIC or tool.NAME.METRIC = number, with {', '.join(_METRICS)}"
        )
    return Budget(cast("Scope", scope), name, cast("Metric", metric), _amount(told), source)


def _price(entry: str) -> ModelPrice:
    model, _, told = entry.rpartition("=")
    amounts = [_amount(part) for part in told.split("/")]
    if not model.strip() or len(amounts) not in (2, 3):
        raise ValueError("a price is model=input/output or model=input/output/cached, in USD per million tokens")
    return ModelPrice(model.strip(), *amounts)


def _sampling_rule(entry: str) -> SamplingRule:
    key, _, told = entry.rpartition("=")
    condition, _, value = (part.strip() for part in key.partition(":"))
    condition = condition or "rest"
    if condition not in _CONDITIONS or (condition in ("grade", "agent", "env", "complexity") and not value):
        raise ValueError(
            "a sampling rule is CONDITION=share, CONDITION:VALUE=share or only the share of the rest, with "
            + ", ".join(_CONDITIONS)
        )
    if condition == "slow" and value:
        _amount(value)
    if condition == "grade" and value.upper() not in ("A", "B", "C", "D", "E", "F"):
        raise ValueError(f"{value} is no grade from A to F")
    share = _amount(told)
    if share > 1:
        raise ValueError(f"{told.strip()} is no share from 0 to 1")
    return SamplingRule(cast("Condition", condition), value, share)


def _amount(told: str) -> float:
    try:
        amount = float(told)
    except ValueError:
        raise ValueError(f"{told.strip()!r} is no number") from None
    if not 0 <= amount < inf:
        raise ValueError(f"{told.strip()} is not a number from 0")
    return amount


def _suppressed(text: str) -> Iterator[str]:
    if not text.lstrip().startswith("["):
        yield from filter(None, (entry.strip() for entry in text.split(";")))
        return
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        yield text
        return
    for entry in given:
        yield json.dumps(entry) if isinstance(entry, dict) else str(entry)


def _suppression(entry: str) -> Suppression:
    if entry.startswith("{"):
        return _suppression_object(json.loads(entry))
    selector, _, reason = (part.strip() for part in entry.partition("="))
    match = _SELECTOR.fullmatch(selector)
    if selector.startswith("["):
        raise ValueError("what starts with [ must be the JSON of a list")
    if selector and ":" not in selector and "@" not in selector:
        return Suppression(name=selector, reason=reason)
    if not selector or match is None:
        raise ValueError("a suppression is KIND, KIND:OPERATION, :OPERATION (each with @AGENT) or FINGERPRINT = reason")
    kind, operation, agent = (match[part] or "" for part in ("kind", "operation", "agent"))
    return Suppression(kind=kind, operation=operation, agent=agent, reason=reason)


def _suppression_object(given: dict[str, object]) -> Suppression:
    known = {*Suppression._fields} - {"name"}
    if given.keys() - known or not given.keys() - {"reason"}:
        raise ValueError(f"a suppression has one or more of {', '.join(sorted(known - {'reason'}))}, and a reason")
    return Suppression(**{key: str(value) for key, value in given.items()})


LISTS = {
    "budgets": (_split, _budget),
    "prices": (_split, _price),
    "sampling": (_split, _sampling_rule),
    "suppress": (_suppressed, _suppression),
}
