"""The only door for values on their way into a span: type, size, Unicode, redaction, and keyed hashes.

Values belong to the user's program and may be hostile: nothing here calls their `__repr__`, `__str__`, `__eq__`
or `__hash__`, and nothing walks more than a bounded part of them.
"""

from __future__ import annotations

import enum
import json
import os
import re
import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from . import _guard

try:
    from _blake2 import blake2b as blake2b  # hashlib has it from there, and loads OpenSSL besides: 4 MB
except ImportError:
    from hashlib import blake2b as blake2b

_LONGEST_STRING = 262_144
_MOST_NODES = 2_000
_LONGEST_NAME = 256
_CUT_MARGIN = 1_024
_MOST_OBJECTS = 4_096
_SCALARS = frozenset({int, float, bool, type(None)})
PLAIN = frozenset({str, *_SCALARS})
_STRINGABLE = {
    "datetime": ("date", "time", "timedelta"),
    "decimal": ("Decimal",),
    "uuid": ("UUID",),
    "pathlib": ("PurePath",),
}
"""classes by module, whose text is the value; not imported here, which would take 5 ms of every program's start"""
_SECRETS = (
    r"(?i)\b(?:sk|pk|rk)[-_][\w-]{16,}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}"
    r"|\bglpat-[\w-]{16,}|\bhf_\w{16,}|\bnpm_\w{30,}"
    r"|\bxox[abeoprs]-[\w-]{10,}|\bAIza[\w-]{30,}|\beyJ[\w-]{10,}(?:\.[\w-]*){0,2}|\bbearer\s+[\w.~+/-]{8,}=*"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.)*?(?:-----END [A-Z ]*-----|\Z)"
    # user:password@ in an address
    r"|(?<=://)[^/\s:@\"']*:[^/\s@\"']+(?=@)"
    # A value by its key: in JSON, in JSON within a JSON string, in a repr, a header, a query, a setting.
    r"|(?P<key>(?:api[-_]?key|passw(?:or)?d|passphrase|secret(?:[-_]\w{1,40})?|credentials?|private[-_]?key|authorization|cookie|token)"
    r"\\*[\"']?\s*[:=]\s*(?!\[redacted)\[?(?P<quote>\\*[\"'])?)"
    r"(?(quote)(?:(?!(?P=quote))(?:\\(?s:.)|[^\\]))*"
    r"|(?:(?:basic|bearer|digest|token)\s+)?[^\s&;\"'\\]+(?:;\s*[^\s;\"'\\]+)*)"
)
REDACTED = "[redacted]"


class Fingerprint(NamedTuple):
    """What is always recorded of arguments and results, and never shows them."""

    hash: str | None
    """16 hexadecimal digits; None when the value is too large to be read whole, or cannot be told from others"""
    size: int | None
    """bytes of its JSON, estimated for what is too large; None of what cannot be told"""
    type: str
    text: str | None
    """the canonical text, for in-process comparison only; None with `hash`"""


class Hasher:
    """Keyed hashes: equal values are recognised, and nobody without the key can guess one."""

    def __init__(self, key: str = "") -> None:
        secret = _digest(key) if key else os.urandom(32)
        # Copying a keyed hash costs half of making one.
        self._keyed = blake2b(digest_size=8, key=secret)

    def fingerprint(self, value: Any, *, by_identity: bool = True) -> Fingerprint:
        """Hash, size and type of any value; raises nothing. `by_identity`: see `canonical`."""
        return Fingerprint(*self.parts(value, by_identity))

    def parts(self, value: Any, by_identity: bool = True) -> tuple[str | None, int | None, str, str | None]:
        """The same as a plain tuple, which costs less; for the hot path."""
        kind = type(value)
        text = canonical(value, by_identity=by_identity)
        if text is None:
            return None, rough_size(value), kind.__name__, None
        data = text.encode("utf-8", "surrogatepass")
        hashed = self._keyed.copy()
        if kind is str:
            hashed.update(b'"')  # "1" is not 1
        hashed.update(data)
        return hashed.hexdigest(), len(data), kind.__name__, text


def _digest(key: str) -> bytes:
    import hashlib

    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


def canonical(value: Any, *, by_identity: bool = True) -> str | None:
    """JSON with sorted keys; a text as it is. None for what is too large, not a tree, or not told from others.

    An object that is not data (a client, a session) counts as the same only where it is the very same one;
    with `by_identity` False it has no canonical text: a new object a call does not say that the results differ.
    """
    kind = type(value)
    if kind is str:
        return value if len(value) <= _LONGEST_STRING else None
    try:
        if (kind is not dict or not _is_flat(value)) and not _is_readable(value):
            return None
        try:
            return "".join(_encode_plain(value, 0))
        except _NotPlainError:
            return _encoder(_Fields(by_identity)).encode(value)
    except Exception as fault:  # whatever the value's own methods raise: it has no canonical text
        if _guard.is_from_signal_handler(fault):
            raise
        return None


def rough_size(value: Any) -> int | None:
    """Bytes, from the strings of a bounded part of the value, scaled up; None of an object that is not data."""
    try:
        return None if _base(type(value)) is None else _size(value, 4)
    except Exception as fault:  # see canonical
        if _guard.is_from_signal_handler(fault):
            raise
        return None


def name(value: Any) -> str:
    """A span, tool or agent name: valid Unicode on one line, at most 256 characters."""
    if type(value) is str and value in _good_names:
        return value
    text = str.__getitem__(value, _NAME_PART) if issubclass(type(value), str) else type(value).__name__
    text = without_secrets(text)
    if text.isascii() and text.isprintable():
        if len(_good_names) < _MOST_NODES:
            _good_names.add(text)
        return text
    return valid("".join(c if c.isprintable() else " " for c in text[:_LONGEST_NAME]))


@lru_cache(maxsize=1_024)
def without_secrets(name: str) -> str:
    """A name, whoever gave it, without what looks like a key, a password or a token."""
    return _secrets().sub(_unless_words, name) if _MAY_HOLD_A_SECRET.search(name) else name


def _unless_words(found: re.Match[str]) -> str:
    """In a name, that is: `sk_learn_pipeline_builder` and `token:refresh` are words."""
    key, whole = found["key"] or "", found[0]
    value = whole[len(key) :]
    may_be_words = value.islower() and value.isascii() and not _DIGIT.search(value)
    sure = "=" in key or found.string[: found.start()].endswith("://")
    return whole if may_be_words and not sure else f"{key}{REDACTED}"


def content(value: Any, limit: int, redact: re.Pattern[str] | None = None) -> str:
    """Arguments, results or messages as text: redacted, valid Unicode, at most `limit` characters."""
    # Cut before searching, so that a huge value costs no more than a large one; the margin keeps a secret whole.
    most = limit + _CUT_MARGIN
    text = str.__getitem__(value, slice(most)) if issubclass(type(value), str) else canonical(value)
    if text is None:
        text = canonical(_beginning(value, most)) or f"<{type(value).__qualname__}>"
    is_cut = len(text) >= most
    text = _secrets().sub(rf"\g<key>{REDACTED}", text[:most])
    if redact is not None:
        text = redact.sub(REDACTED, text)
    if is_cut:
        # What was redacted before it has moved the beginning of a cut secret, which nothing recognises, to the front.
        text = text[:-_CUT_MARGIN] + "…"
    return valid(text if len(text) <= limit else text[: limit - 1] + "…")


@lru_cache(maxsize=1)
def _secrets() -> re.Pattern[str]:
    return re.compile(_SECRETS)


def attribute(value: Any) -> str | bool | int | float | tuple[str | bool | int | float, ...] | None:
    """A value that any exporter can encode: out-of-range integers and unknown types become text."""
    kind = type(value)
    if kind is bool or value is None:
        return value  # type: ignore[no-any-return]
    if issubclass(kind, int):
        return number(value)
    if issubclass(kind, float):
        return float.__float__(value)
    if kind is list or kind is tuple:
        items = [number(item) if type(item) is int else item for item in value[:128]]
        same = {type(item) for item in items}
        if len(same) == 1 and same <= {bool, int, float}:
            return tuple(items)
        return tuple(content(item, 4096) for item in items)
    return content(value, 4096)


def number(value: int) -> int | str:
    """An integer; as text where 64 bits do not hold it, which an exporter could not encode."""
    value = int.__int__(value)
    if -(2**63) <= value < 2**63:
        return value
    # Decimal digits of a very long integer take quadratic time, and Python refuses them.
    return f"{value:d}" if value.bit_length() < 800 else f"{value:#x}"[:_LONGEST_NAME]


def valid(text: str) -> str:
    """`text` without lone surrogates: one would make the exporter lose the whole batch."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


_NAME_PART = slice(_LONGEST_NAME)
_MAY_HOLD_A_SECRET = re.compile(r"[\w-]{20}|[:=]")
"""a cheap look: compiling the patterns takes 5 ms, and hardly a name needs them"""
_DIGIT = re.compile(r"\d")
_good_names: set[str] = set()
"""names that need no change: a program has few, and uses each of them often"""


class _NotPlainError(Exception):
    pass


def _refuse(value: object) -> object:
    raise _NotPlainError


def _encoder(default: Callable[[Any], Any]) -> json.JSONEncoder:
    return json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=default)


def _plain_encoder() -> Callable[[Any, int], Iterable[str]]:
    """`JSONEncoder.iterencode` without making a new C encoder each time, which is half of its cost."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return lambda value, _: _encoder(_refuse).iterencode(value)
    encode: Any = make(None, _refuse, json.encoder.encode_basestring, None, ":", ",", True, False, True)
    return encode  # type: ignore[no-any-return]


_encode_plain = _plain_encoder()


class _Identities:
    """A number for each living object. Its address is not enough: the next object may get the same one."""

    def __init__(self) -> None:
        self._numbers: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._last = 0

    def number(self, value: Any) -> int:
        """Raises TypeError for what cannot be weakly referred to."""
        known = self._numbers.get(id(value))
        if known is not None and known[0]() is value:
            return known[1]
        if len(self._numbers) >= _MOST_OBJECTS:
            self._numbers.clear()
        self._last += 1
        self._numbers[id(value)] = (weakref.ref(value), self._last)
        return self._last


_identities = _Identities()


class _Fields:
    """What stands for an object in the canonical text: its fields where it is data, its identity otherwise."""

    def __init__(self, by_identity: bool) -> None:
        self._left = _MOST_NODES
        self._by_identity = by_identity

    def __call__(self, value: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ValueError("too many objects")
        kind = type(value)
        if issubclass(kind, enum.Enum):
            return f"{kind.__qualname__}.{value.name}"
        if _is_stringable(kind):
            return str(value)
        if issubclass(kind, (set, frozenset)):
            return sorted(_encoder(self).encode(item) for item in value)
        if issubclass(kind, (bytes, bytearray)):
            return f"{kind.__name__}:{blake2b(value, digest_size=8).hexdigest()}:{len(value)}"
        fields = getattr(kind, "__dataclass_fields__", None) or getattr(kind, "model_fields", None)
        if fields is not None:
            held = getattr(value, "__dict__", {})  # pydantic warns who asks for a deprecated field
            told = {key: held[key] if key in held else getattr(value, key) for key in fields if key[:1] != "_"}
            return {"": kind.__qualname__, **told}
        if not self._by_identity:
            raise TypeError("an object that is not data")
        return f"<{kind.__qualname__} {_identities.number(value)}>"


def _is_stringable(kind: type) -> bool:
    """A class of the standard library itself: what a subclass says may be anything."""
    name = str(kind.__module__).partition(".")[0]  # pathlib is a package from Python 3.13
    module = sys.modules.get(name)
    return name in _STRINGABLE and issubclass(kind, tuple(getattr(module, inner) for inner in _STRINGABLE[name]))


def _is_flat(value: dict[Any, Any]) -> bool:
    """A few short scalars: the usual arguments, told apart cheaply."""
    if len(value) > 32:
        return False
    for item in value.values():
        kind = type(item)
        if kind is str:
            if len(item) > 1_000:
                return False
        elif kind not in _SCALARS:
            return False
    return True


def _base(kind: type) -> Any:
    """The built-in container or text that a value of this type is; its own methods are called instead of those
    a subclass may have overridden. None: neither."""
    return kind if kind in _MEMBERS else next((base for base in _MEMBERS if issubclass(kind, base)), None)


def _is_readable(value: Any) -> bool:
    """Is the JSON small, and made without iterating in the user's own way, which may never end? Looks at no more
    than _MOST_NODES members."""
    left = _MOST_NODES
    stack = [value]
    while stack:
        item = stack.pop()
        kind = type(item)
        base = None if kind in _SCALARS else _base(kind)
        if base is None:
            continue
        size, members = base.__len__(item), _MEMBERS[base]
        if members is None:
            if size > _LONGEST_STRING:
                return False
        else:
            left -= size + 1
            if left < 0 or (kind is not base and _iterates_in_its_own_way(kind, base)):
                return False
            stack.extend(members(item))
    return True


def _iterates_in_its_own_way(kind: type, base: type) -> bool:
    method = "items" if base is dict else "__iter__"
    own = next(vars(above)[method] for above in kind.__mro__ if method in vars(above))
    return own not in (vars(base)[method], OrderedDict.items)


def _beginning(value: Any, characters: int) -> Any:
    """A copy of what is too large: no more than its first members, and the first characters of each text."""
    left = _MOST_NODES // 8

    def cut(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        base = _base(type(value))
        if base is str:
            return str.__getitem__(value, slice(characters))
        if base is None or _MEMBERS[base] is None:
            return value
        if depth == 0:
            return "…"
        if base is dict:
            few = islice(dict.items(value), _MOST_NODES // 8)
            return {cut(key, 0): cut(item, depth - 1) for key, item in few if left > 0}
        return [cut(item, depth - 1) for item in islice(_MEMBERS[base](value), _MOST_NODES // 8) if left > 0]

    return cut(value, 8)


def _size(value: Any, depth: int) -> int:
    base = _base(type(value))
    if base is None:
        return 8
    size: int = base.__len__(value)
    if _MEMBERS[base] is None:
        return size
    sizes = [_size(item, depth - 1) + 4 for item in islice(_MEMBERS[base](value), 100)] if depth else []
    return sum(sizes) * size // len(sizes) if sizes else 8


_MEMBERS: dict[type, Any] = {
    dict: dict.values,
    list: list.__iter__,
    tuple: tuple.__iter__,
    set: set.__iter__,
    frozenset: frozenset.__iter__,
    str: None,
    bytes: None,
    bytearray: None,
}
"""how to get at the members of a built-in container; None: a text"""
