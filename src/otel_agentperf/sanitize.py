"""The only door for values on their way into a span: type, size, Unicode, redaction, and keyed hashes.

Values belong to the user's program and may be hostile: nothing here calls their `__repr__`, `__str__`, `__eq__`
or `__hash__`, and nothing walks more than a bounded part of them.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import hashlib
import json
import os
import pathlib
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

_LONGEST_STRING = 262_144
_MOST_NODES = 2_000
_LONGEST_NAME = 256
_SCALARS = frozenset({int, float, bool, type(None)})
_PLAIN = frozenset({str, *_SCALARS})
_STRINGABLE = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID, pathlib.PurePath)
_SECRETS = re.compile(
    r"(?i)\b(?:sk|pk|rk)[-_][\w-]{16,}|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{20,}|\bxox[abprs]-[\w-]{10,}"
    r"|\beyJ[\w-]+\.[\w-]+\.[\w-]+|\bbearer\s+[\w.~+/-]{8,}=*"
    r"|(?<=[\"'])(?:api[-_]?key|password|passwd|secret|authorization|access[-_]?token)[\"']\s*:\s*[\"'][^\"']*"
)
REDACTED = "[redacted]"


class Fingerprint(NamedTuple):
    """What is always recorded of arguments and results, and never shows them."""

    hash: str | None
    """16 hexadecimal digits; None when the value is too large to be read whole"""
    size: int
    """bytes of its JSON, estimated for what is too large"""
    type: str
    text: str | None
    """the canonical text, for in-process comparison only; None with `hash`"""


class Hasher:
    """Keyed hashes: equal values are recognised, and nobody without the key can guess one."""

    def __init__(self, key: str = "") -> None:
        secret = hashlib.sha256(key.encode("utf-8", "replace")).digest() if key else os.urandom(32)
        # Copying a keyed hash costs half of making one.
        self._keyed = hashlib.blake2b(digest_size=8, key=secret)

    def fingerprint(self, value: Any) -> Fingerprint:
        """Hash, size and type of any value; raises nothing."""
        text = canonical(value)
        if text is None:
            return Fingerprint(None, rough_size(value), type(value).__name__, None)
        data = text.encode("utf-8", "surrogatepass")
        hashed = self._keyed.copy()
        hashed.update(data)
        return Fingerprint(hashed.hexdigest(), len(data), type(value).__name__, text)


def canonical(value: Any) -> str | None:
    """JSON with sorted keys, objects by their fields or identity; None for what is too large or not a tree."""
    if type(value) is str:
        return value if len(value) <= _LONGEST_STRING else None
    try:
        if not (type(value) is dict and _is_flat(value)) and _is_large(value):
            return None
        try:
            return _encode_plain(value)
        except _NotPlainError:
            return _encoder(_Fields()).encode(value)
    except Exception:  # noqa: BLE001 - whatever the value's own methods raise: it has no canonical text
        return None


def rough_size(value: Any) -> int:
    """Bytes, from the strings of a bounded part of the value, scaled up."""
    try:
        return _size(value, 4)
    except Exception:  # noqa: BLE001 - see canonical
        return 0


def name(value: object) -> str:
    """A span, tool or agent name: valid Unicode on one line, at most 256 characters."""
    text = value if isinstance(value, str) else type(value).__name__
    text = text[:_LONGEST_NAME]
    return (
        text if text.isprintable() and text.isascii() else _valid("".join(c if c.isprintable() else " " for c in text))
    )


def content(value: Any, limit: int, redact: re.Pattern[str] | None = None) -> str | None:
    """Arguments, results or messages as text: redacted, valid Unicode, at most `limit` characters."""
    text = canonical(value)
    if text is None:
        return None
    # Cut before searching, so that a huge value costs no more than a large one; the margin keeps a secret whole.
    text = _SECRETS.sub(REDACTED, text[: limit + 1024])
    if redact is not None:
        text = redact.sub(REDACTED, text)
    return _valid(text if len(text) <= limit else text[: limit - 1] + "…")


def attribute(value: Any) -> str | bool | int | float | tuple[str, ...] | None:
    """A value that any exporter can encode: out-of-range integers and unknown types become text."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else f"{int(value)}"[:_LONGEST_NAME]
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (list, tuple)):
        return tuple(str(attribute(item)) for item in value[:128])
    return content(value, 4096)


def _valid(text: str) -> str:
    """A lone surrogate would make the exporter lose the whole batch."""
    return text.encode("utf-8", "replace").decode("utf-8")


class _NotPlainError(Exception):
    pass


def _refuse(value: object) -> object:
    raise _NotPlainError


def _encoder(default: Callable[[Any], Any]) -> json.JSONEncoder:
    return json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=default)


def _plain_encoder() -> Callable[[Any], str]:
    """`JSONEncoder.encode` without making a new C encoder each time, which is half of its cost."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return _encoder(_refuse).encode
    encode = make(None, _refuse, json.encoder.encode_basestring, None, ":", ",", True, False, True)
    return lambda value: "".join(encode(value, 0))


_encode_plain = _plain_encoder()


class _Fields:
    """What stands for an object in the canonical text: its fields where it is data, its identity otherwise."""

    def __init__(self) -> None:
        self._left = _MOST_NODES

    def __call__(self, value: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ValueError("too many objects")
        kind = type(value)
        if isinstance(value, enum.Enum):
            return f"{kind.__qualname__}.{value.name}"
        if isinstance(value, _STRINGABLE) and kind.__module__ in ("datetime", "decimal", "uuid", "pathlib"):
            return str(value)
        if isinstance(value, (set, frozenset)):
            return sorted(_encoder(self).encode(item) for item in value)
        if isinstance(value, (bytes, bytearray)):
            return f"{kind.__name__}:{hashlib.blake2b(value[:_LONGEST_STRING], digest_size=8).hexdigest()}:{len(value)}"
        if hasattr(kind, "__dataclass_fields__") or hasattr(kind, "model_fields"):
            fields = {key: item for key, item in vars(value).items() if not key.startswith("_")}
            return {"": kind.__qualname__, **fields}
        return f"<{kind.__qualname__} {id(value)}>"


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


def _is_large(value: Any) -> bool:
    """Would the JSON be large? Looks at no more than _MOST_NODES members."""
    if type(value) in _PLAIN:
        return False
    left = _MOST_NODES
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, (str, bytes, bytearray)):
            if len(item) > _LONGEST_STRING:
                return True
        elif isinstance(item, (Mapping, list, tuple, set, frozenset)):
            left -= len(item) + 1
            if left < 0:
                return True
            stack.extend(item.values() if isinstance(item, Mapping) else item)
    return False


def _size(value: Any, depth: int) -> int:
    if isinstance(value, (str, bytes, bytearray)):
        return len(value)
    if not isinstance(value, (Mapping, list, tuple)) or depth == 0 or not value:
        return 8
    items = list(zip(range(100), value.values() if isinstance(value, Mapping) else value, strict=False))
    return sum(_size(item, depth - 1) + 4 for _, item in items) * len(value) // len(items)
