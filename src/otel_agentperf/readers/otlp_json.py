"""OTLP JSON and JSON lines, as the Collector's file exporter writes them; gzip too; files, folders, or `-`."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from ..model import SpanRecord
from . import Query, ReadError
from ._otlp import listed, spans

_SUFFIXES = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz")
_GZIP = b"\x1f\x8b"


class _NoSpansError(ReadError):
    """Nothing is wrong with it, and nothing is in it."""


def accepts(source: str) -> bool:
    """Anything that is no URL."""
    return "://" not in source


def read(source: str, query: Query) -> Iterator[SpanRecord]:
    """The spans of a file, of all JSON files below a folder, or of standard input."""
    path = Path(source)
    if source == "-":
        yield from _spans(sys.stdin.buffer.read())
    elif not os.path.isdir(path):  # as Path.is_dir, which raises where looking is not permitted
        yield from _file(path)
    else:
        yield from _folder(path)


def _folder(path: Path) -> Iterator[SpanRecord]:
    """Files of something else, and those that nothing was written to yet, are no problem beside others."""
    files = sorted(file for file in path.rglob("*") if file.name.lower().endswith(_SUFFIXES) and os.path.isfile(file))
    if not files:
        raise ReadError(f"no trace files in it (looked for {', '.join(_SUFFIXES[:3])}, also with .gz)")
    problems = []
    without = 0
    for file in files:
        try:
            yield from _file(file)
        except _NoSpansError:
            without += 1
        except ReadError as error:
            problems.append(f"{file.relative_to(path)}: {error}")
    if problems:
        raise ReadError(listed(problems))
    if without == len(files):
        raise _NoSpansError(f"no spans in any of its {without} JSON files")


def _file(path: Path) -> Iterator[SpanRecord]:
    try:
        content = path.read_bytes()
    except OSError as error:
        hint = " (the address of a Jaeger starts with http://)" if re.fullmatch(r"[\w.-]+:\d+/?", str(path)) else ""
        raise ReadError(f"{error.strerror or error}{hint}") from None
    except ValueError as error:
        raise ReadError(f"not a path ({error})") from None
    yield from _spans(content)


def _spans(content: bytes) -> Iterator[SpanRecord]:
    problems = []
    if content.startswith(_GZIP):
        content, damage = _unzipped(content)
        problems.extend(damage)
    text = _text(content)
    found = False
    try:
        for record in spans(text):
            found = True
            yield record
    except ReadError as error:
        problems.append(str(error))
    if problems:
        raise ReadError("; ".join(problems))
    if not found:
        raise _NoSpansError('no spans in it; OTLP JSON with "resourceSpans" is expected' if text.strip() else "empty")


def _text(content: bytes) -> str:
    """UTF-8, or what a byte order mark says. One bad character, such as a last one that is cut off, is let pass."""
    encoding = json.detect_encoding(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        text = content.decode(encoding, "replace")
        if text.lstrip().startswith(("{", "[")):
            return text
        raise ReadError(f"not text (byte {error.start} is no {encoding}); OTLP JSON is expected") from None


def _unzipped(content: bytes) -> tuple[bytes, list[str]]:
    """All members of a gzip file up to where it is damaged, and what the damage is."""
    good = io.BytesIO()
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        try:
            while chunk := file.read1():
                good.write(chunk)
        except (OSError, EOFError, zlib.error) as error:
            return good.getvalue(), [f"damaged gzip ({error})"]
    return good.getvalue(), []
