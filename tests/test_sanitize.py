"""The door for values: hostile, huge and strange ones reach a span harmless, and equal ones have equal hashes."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import gc
import json
import math
import pathlib
import subprocess
import sys
import time
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _recording import attributes, recording
from otel_agentperf import sanitize, tool
from otel_agentperf._config import Config
from otel_agentperf.sanitize import Hasher, canonical

HASHER = Hasher("key")


def hashed(value: Any) -> str | None:
    return HASHER.fingerprint(value).hash


class Hostile:
    """Every method that a curious library might call raises."""

    def _no(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("do not touch")

    __repr__ = __str__ = __eq__ = __hash__ = __iter__ = __len__ = __bool__ = __getitem__ = keys = items = values = _no  # type: ignore[assignment]
    __format__ = __reduce_ex__ = __contains__ = __index__ = __int__ = __float__ = _no  # type: ignore[assignment]

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("do not touch")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("do not touch")


class HostileDict(dict):  # type: ignore[type-arg]
    keys = items = values = __iter__ = __len__ = __getitem__ = Hostile._no  # type: ignore[assignment]


class HostileList(list):  # type: ignore[type-arg]
    __iter__ = __len__ = __getitem__ = Hostile._no  # type: ignore[assignment]


class EndlessList(list):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[int]:
        while True:
            yield 1


class HostileStr(str):
    __len__ = __getitem__ = __str__ = __eq__ = __hash__ = encode = isprintable = Hostile._no  # type: ignore[assignment]


class HostileInt(int):
    __int__ = __index__ = __eq__ = __hash__ = __lt__ = __ge__ = __repr__ = Hostile._no  # type: ignore[assignment]


def deep(levels: int, make: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = make(value)
    return value


def cycle() -> list[Any]:
    found: list[Any] = [1]
    found.append({"self": found})
    return found


STRANGE: dict[str, Callable[[], Any]] = {
    "hostile": Hostile,
    "hostile inside": lambda: {"a": [Hostile()]},
    "hostile dict": lambda: HostileDict(a=1),
    "hostile list": lambda: HostileList([1]),
    "endless list": lambda: EndlessList([1]),
    "hostile str": lambda: HostileStr("x"),
    "hostile int": lambda: HostileInt(2**70),
    "lone surrogate": lambda: "a\ud800b",
    "lone surrogate as key": lambda: {"\udfff": "\ud800"},
    "NUL": lambda: "a\x00b",
    "NaN": lambda: [math.nan, math.inf, -math.inf],
    "cycle": cycle,
    "deep lists": lambda: deep(10_000, lambda value: [value]),
    "deep dicts": lambda: deep(10_000, lambda value: {"a": value}),
    "deep tuples": lambda: deep(900, lambda value: (value,)),
    "50 MB text": lambda: "x" * 50_000_000,
    "50 MB bytes": lambda: b"x" * 50_000_000,
    "50 MB in a list": lambda: ["x" * 50_000_000],
    "a million numbers": lambda: list(range(1_000_000)),
    "a wide dict": lambda: {str(number): number for number in range(200_000)},
    "a set": lambda: set(range(100_000)),
    "2**70": lambda: 2**70,
    "a number of 100,000 digits": lambda: 10**100_000,
    "a class": lambda: Hostile,
    "a module": lambda: types,
    "a function": lambda: len,
    "an iterator": lambda: iter([1, 2]),
    "a memoryview": lambda: memoryview(b"abc"),
    "mixed keys": lambda: {1: "a", "b": 2, None: 3},
    "tuple keys": lambda: {(1, 2): 3},
    "an exception": lambda: ValueError("\ud800"),
    "NotImplemented": lambda: NotImplemented,
    "a mapping proxy": lambda: types.MappingProxyType({"a": Hostile()}),
}


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("strange", STRANGE)
def test_a_call_with_a_strange_value_is_untouched_and_its_span_can_be_sent(strange: str, content: bool) -> None:
    value = STRANGE[strange]()
    limit = sys.getrecursionlimit()
    with recording(config=Config(content=content)) as recorded:
        started = time.perf_counter()
        assert tool(lambda *args, **kwargs: args[0])(value, key=value) is value
        assert time.perf_counter() - started < 1.0
        span = recorded.only()
        assert span.attributes.get("agentperf.result.size", 0) >= 0
        assert isinstance(span.attributes["agentperf.result.type"], str)
        assert recorded.encoded()
        assert max(len(str(item)) for item in attributes(span).values()) <= 4_096
    assert sys.getrecursionlimit() == limit


def test_the_size_of_what_is_no_data_is_not_told() -> None:
    with recording() as recorded:
        tool(name="data")(lambda: [1, 2])()
        tool(name="object")(lambda: memoryview(bytes(1_000)))()
        data, thing = recorded.spans
    assert data.attributes["agentperf.result.size"] == len("[1,2]")
    assert "agentperf.result.size" not in thing.attributes
    assert thing.attributes["agentperf.result.type"] == "memoryview"


@pytest.mark.parametrize("strange", STRANGE)
def test_as_an_attribute_of_the_users_own(strange: str, swallow: None) -> None:
    value = STRANGE[strange]()
    with recording() as recorded:
        with tool("search") as call:
            call.set("own", value)
            call.set("after", 1)
        assert recorded.only().attributes["after"] == 1
        assert recorded.encoded()


@pytest.mark.parametrize("strange", ["lone surrogate", "NUL", "50 MB text", "2**70", "a function"])
def test_as_a_name(strange: str) -> None:
    with recording() as recorded:
        tool(name=STRANGE[strange]())(lambda: None)()
        assert recorded.encoded()
        assert all(len(span.name) < 300 for span in recorded.spans)


def test_10_000_attributes_survive_as_many_as_the_span_may_have() -> None:
    with recording() as recorded:
        with tool("search") as call:
            for number in range(10_000):
                call.set(f"own.{number}", number)
        assert len(attributes(recorded.only())) <= 128
        assert recorded.encoded()


def test_10_000_arguments() -> None:
    with recording() as recorded:
        tool(lambda *args, **kwargs: None)(*range(10_000), **{f"k{number}": number for number in range(10_000)})
        assert recorded.only().attributes["agentperf.args.size"] > 10_000


def test_looking_at_a_value_does_not_keep_it() -> None:
    class Large:
        pass

    large = Large()
    gone = __import__("weakref").ref(large)
    with recording():
        tool(lambda value: value)(large)
    del large
    gc.collect()
    assert gone() is None


# --- hashes -----------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@dataclasses.dataclass(slots=True)
class SlottedPoint:
    x: int


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class TextColour(str, enum.Enum):
    RED = "red"


EQUAL: list[tuple[Any, Any]] = [
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({"a": {"c": 1, "b": [2]}}, {"a": {"b": [2], "c": 1}}),
    ({1, 2, 3}, {3, 2, 1}),
    ([1, 2], (1, 2)),
    (Point(1, 2), Point(1, 2)),
    (SlottedPoint(1), SlottedPoint(1)),
    (datetime.date(2026, 1, 2), datetime.date(2026, 1, 2)),
    (decimal.Decimal("1.5"), decimal.Decimal("1.5")),
    (uuid.UUID(int=5), uuid.UUID(int=5)),
    (pathlib.PurePosixPath("/a"), pathlib.PurePosixPath("/a")),
    (b"abc", b"abc"),
    (collections.OrderedDict(a=1), {"a": 1}),
    (collections.Counter("aab"), {"a": 2, "b": 1}),
    (Colour.RED, Colour.RED),
    ("a\ud800", "a\ud800"),
    (math.nan, math.nan),
]

DIFFERENT: list[tuple[Any, Any]] = [
    (1, "1"),
    (1, True),
    (1, 1.0),
    (0, False),
    (0, None),
    ("", None),
    ("null", None),
    ("true", True),
    ('{"a":1}', {"a": 1}),
    ("[1]", [1]),
    ([1, 2], [2, 1]),
    ({"a": 1}, {"a": 2}),
    ({"a": None}, {}),
    ([], {}),
    ([[]], [[], []]),
    ("a b", "a  b"),
    ("é", "e\u0301"),
    (Point(1, 2), Point(2, 1)),
    (Point(1), SlottedPoint(1)),
    (Colour.RED, Colour.GREEN),
    (b"abc", b"abd"),
    (b"a" * 5_000, b"a" * 4_999 + b"b"),
    (datetime.date(2026, 1, 2), datetime.date(2026, 1, 3)),
    (0.1 + 0.2, 0.3),
    (2**70, 2**70 + 1),
]


@pytest.mark.parametrize(("first", "second"), EQUAL)
def test_equal_values_have_equal_hashes(first: Any, second: Any) -> None:
    assert hashed(first) == hashed(second) is not None


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_different_values_have_different_hashes(first: Any, second: Any) -> None:
    assert None not in (hashed(first), hashed(second))
    assert hashed(first) != hashed(second)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
    max_leaves=20,
)


@given(PLAIN)
def test_a_copy_has_the_same_hash(value: Any) -> None:
    assert hashed(value) == hashed(json.loads(json.dumps(value)))


@given(PLAIN, PLAIN)
def test_only_equal_values_share_a_hash(first: Any, second: Any) -> None:
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (hashed(first) == hashed(second)) is same


def test_however_the_arguments_are_given_the_call_is_the_same() -> None:
    def f(x: int, y: int = 2, *, z: int = 3) -> None: ...

    with recording() as recorded:
        marked = tool(f)
        for args, kwargs in (
            ((1,), {}),
            ((1, 2), {}),
            ((), {"x": 1}),
            ((1,), {"z": 3}),
            ((), {"z": 3, "y": 2, "x": 1}),
        ):
            marked(*args, **kwargs)
        marked(2)
        marked(1, 3)
        hashes = [span.attributes["agentperf.args.hash"] for span in recorded.spans]
    assert len(set(hashes[:5])) == 1
    assert len(set(hashes)) == 3


def test_an_object_is_equal_only_to_itself() -> None:
    class Session:
        pass

    first, second = Session(), Session()
    assert hashed({"s": first}) == hashed({"s": first}) is not None
    assert hashed({"s": first}) != hashed({"s": second})


def test_a_new_object_at_the_address_of_an_old_one_is_another() -> None:
    class Query:
        pass

    assert len({hashed(Query()) for _ in range(100)}) == 100


def test_more_objects_than_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sanitize, "_MOST_OBJECTS", 10)
    alive = [type("Thing", (), {})() for _ in range(50)]
    assert len({hashed(thing) for thing in alive}) == 50
    assert len(sanitize._identities._numbers) <= 10


def test_a_result_that_is_no_data_has_no_hash_because_a_new_object_says_nothing() -> None:
    class Answer:
        pass

    with recording() as recorded:
        tool(lambda: [Answer()])()
        assert "agentperf.result.hash" not in recorded.only().attributes


def test_fields_that_are_objects_themselves() -> None:
    class Session:
        pass

    @dataclasses.dataclass
    class Holder:
        inner: Any

    shared = Session()
    assert hashed(Holder(shared)) == hashed(Holder(shared)) is not None
    assert hashed(Holder(Session())) != hashed(Holder(shared))


def test_fields_are_read_without_asking_for_them() -> None:
    class Model:
        model_fields = {"old": "as pydantic's"}  # noqa: RUF012

        def __init__(self, old: int) -> None:
            vars(self)["old"] = old

        @property
        def old(self) -> int:
            raise DeprecationWarning

    assert hashed(Model(1)) == hashed(Model(1)) is not None
    assert hashed(Model(1)) != hashed(Model(2))


def test_keys_make_hashes_comparable_and_their_absence_makes_them_not() -> None:
    assert Hasher("a").fingerprint("x").hash == Hasher("a").fingerprint("x").hash
    assert Hasher("a").fingerprint("x").hash != Hasher("b").fingerprint("x").hash
    assert Hasher().fingerprint("x").hash != Hasher().fingerprint("x").hash
    assert Hasher("\ud800" * 100).fingerprint("x").hash


@pytest.mark.parametrize(("key", "equal"), [("", False), ("secret", True)])
def test_across_processes(key: str, equal: bool) -> None:
    code = "from otel_agentperf.capture.tracing import state; print(state.hasher.fingerprint({'a': 1}).hash)"
    environ = {"OTEL_AGENTPERF_HASH_KEY": key, "PYTHONHASHSEED": "0"}
    outputs = {subprocess.check_output([sys.executable, "-c", code], env=environ) for _ in range(2)}
    assert (len(outputs) == 1) is equal


def test_the_hash_is_16_hexadecimal_digits_and_none_for_what_was_not_read_whole() -> None:
    assert len(hashed("x") or "") == 16
    assert int(hashed("x") or "", 16)
    large = HASHER.fingerprint("x" * 1_000_000)
    assert large == (None, 1_000_000, "str", None)


# --- the rest of the door ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("two\nlines\tand\x00NUL", "two lines and NUL"),
        ("\ud800x", "x"),
        ("é→", "é→"),
        ("x" * 1_000, "x" * 256),
        (5, "int"),
        (None, "NoneType"),
    ],
)
def test_names(value: Any, text: str) -> None:
    assert sanitize.name(value).strip() == text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (5, 5),
        (-(2**63), -(2**63)),
        (2**63, str(2**63)),
        (1.5, 1.5),
        ("text", "text"),
        (None, None),
        ([1, 2], (1, 2)),
        ((1.5, 2.5), (1.5, 2.5)),
        ([True, False], (True, False)),
        (["a", "b"], ("a", "b")),
        ([1, "a"], ("1", "a")),
        ([], ()),
        ({"b": 1, "a": 2}, '{"a":2,"b":1}'),
        ("a\ud800", "a?"),
    ],
)
def test_attributes(value: Any, expected: Any) -> None:
    found = sanitize.attribute(value)
    assert found == expected
    assert type(found) is type(expected)


def test_sizes_are_exact_where_the_value_was_read_and_estimated_where_not() -> None:
    assert HASHER.fingerprint({"a": "é"}).size == len('{"a":"é"}'.encode())
    assert 4_000_000 < HASHER.fingerprint(["x" * 1_000] * 5_000).size < 6_000_000
    assert HASHER.fingerprint({str(number): "y" * 100 for number in range(50_000)}).size > 4_000_000


def test_canonical_is_json_with_sorted_keys() -> None:
    assert canonical({"b": [1, None, True, "é"], "a": {"d": 1.5}}) == '{"a":{"d":1.5},"b":[1,null,true,"é"]}'
    assert canonical("as it is") == "as it is"
