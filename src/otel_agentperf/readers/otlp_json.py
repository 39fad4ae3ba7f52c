"""OTLP JSON and JSON lines, as the Collector's file exporter writes them; gzip too; files, folders, or `-`."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from ..model import SpanRecord
from . import Query, ReadError
from ._otlp import documents, records

_SUFFIXES = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz")
_GZIP = b"\x1f\x8b"


def accepts(source: str) -> bool:
    """Anything that is no URL."""
    return "://" not in source


def read(source: str, query: Query) -> Iterator[SpanRecord]:
    """The spans of a file, of all JSON files below a folder, or of standard input."""
    path = Path(source)
    if source == "-":
        yield from _spans(sys.stdin.buffer.read())
    elif not path.is_dir():
        yield from _file(path)
    else:
        yield from _folder(path)


def _folder(path: Path) -> Iterator[SpanRecord]:
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(_SUFFIXES))
    if not files:
        raise ReadError(f"no trace files in it (looked for {', '.join(_SUFFIXES[:3])}, also with .gz)")
    problems = []
    for file in files:
        try:
            yield from _file(file)
        except ReadError as error:
            problems.append(f"{file.relative_to(path)}: {error}")
    if problems:
        raise ReadError("; ".join(problems))


def _file(path: Path) -> Iterator[SpanRecord]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ReadError(error.strerror or str(error)) from None
    yield from _spans(content)


def _spans(content: bytes) -> Iterator[SpanRecord]:
    if content.startswith(_GZIP):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ReadError(f"damaged gzip ({error})") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReadError(f"not text: byte {error.start} is no UTF-8; OTLP JSON is expected") from None
    if not text.strip():
        raise ReadError("empty")
    found = False
    for document in documents(text):
        for record in records(document):
            found = True
            yield record
    if not found:
        raise ReadError('no spans in it; OTLP JSON with "resourceSpans" is expected')
