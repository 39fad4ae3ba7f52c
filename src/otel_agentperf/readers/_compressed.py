"""Files as they were before gzip or zstd, whatever their names say."""

from __future__ import annotations

import gzip
import importlib
import io
import zlib
from typing import Any, BinaryIO, cast

from . import ReadError
from ._problems import Problems

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
HEAD = 4_096
"""bytes"""
_BUFFER = 1 << 18


def unpacked(file: BinaryIO, problems: Problems) -> io.BufferedReader:
    """The content of a compressed file up to where it is damaged, which goes to `problems`; any other as it is. What
    it begins with (`HEAD` bytes) can be peeked at."""
    start = _peekable(file, file.read(HEAD))
    head = start.peek(HEAD)
    if head.startswith(GZIP):
        inside: BinaryIO = cast("BinaryIO", gzip.GzipFile(fileobj=start))
    elif head.startswith(ZSTD):
        inside = open_zstd(cast("BinaryIO", start))
    else:
        return start
    undamaged = io.BufferedReader(_UpToDamage(inside, "gzip" if head.startswith(GZIP) else "zstd", problems), _BUFFER)
    return _peekable(cast("BinaryIO", undamaged), undamaged.read(HEAD))


def _peekable(file: BinaryIO, head: bytes) -> io.BufferedReader:
    """The file with what was read of it in front. A pipe may hand over less at once than is needed to know it."""
    return io.BufferedReader(_Rejoined(head, file), _BUFFER)


def open_zstd(file: BinaryIO) -> BinaryIO:
    """The content of all frames. Raises `ReadError` where Python has nothing to read zstd with."""
    try:
        return cast("BinaryIO", importlib.import_module("compression.zstd").ZstdFile(file))  # Python 3.14 and later
    except ImportError:
        pass
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError:
        raise ReadError(
            "compressed with zstd, which this Python cannot read: pip install zstandard, or unpack it with zstd -d"
        ) from None
    return cast("BinaryIO", zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))


class _Rejoined(io.RawIOBase):
    """What was read of a file, and then the file; does not close it."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self._head = head
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._head[: len(buffer)] or self._file.read(len(buffer))
        self._head = self._head[len(chunk) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)


class _UpToDamage(io.RawIOBase):
    """Ends where the file does not go on, and says why, once."""

    def __init__(self, file: Any, name: str, problems: Problems) -> None:
        self._file = file
        self._name = name
        self._problems = problems
        self._is_at_the_damage = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._is_at_the_damage:
            return 0
        read = getattr(self._file, "read1", self._file.read)
        damaged: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error, *_zstd_errors())
        try:
            chunk = read(len(buffer))
        except damaged as error:
            self._is_at_the_damage = True
            self._problems.append(f"damaged {self._name} ({error})")
            return 0
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _zstd_errors() -> tuple[type[Exception], ...]:
    """What the modules that `open_zstd` takes raise, which are no `OSError`."""
    found = []
    for module in ("compression.zstd", "zstandard"):
        try:
            found.append(importlib.import_module(module).ZstdError)
        except ImportError:
            continue
    return tuple(found)
