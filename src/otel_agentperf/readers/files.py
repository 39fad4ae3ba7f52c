"""Files, folders and standard input: OTLP as JSON or protobuf, as the Collector's file exporter writes it, and
Jaeger's JSON; gzip and zstd too. What a file holds is told by its content."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..model import SpanRecord
from . import Query, ReadError, RecordedRun, _json, _otlp_proto
from ._compressed import HEAD, unpacked
from ._documents import pieces
from ._problems import Problems

_SUFFIXES = (".json", ".jsonl", ".ndjson", ".pb", ".bin", ".binpb", ".proto", ".otlp")
_PACKED = ("", ".gz", ".zst")
_ENDINGS = tuple(suffix + packed for suffix in _SUFFIXES for packed in _PACKED)

Item = SpanRecord | RecordedRun


class _NoSpansError(ReadError):
    """Nothing is wrong with it, and nothing is in it."""


def accepts(source: str) -> bool:
    """Anything that is no URL."""
    return "://" not in source


def read(source: str, query: Query) -> Iterator[Item]:
    """The spans of a file, of all trace files below a folder, or of standard input; one message, or one document, of
    a file is held at a time."""
    path = Path(source)
    if source == "-":
        yield from _items(sys.stdin.buffer, query)
    elif not os.path.isdir(path):  # as Path.is_dir, which raises where looking is not permitted
        yield from _file(path, query)
    else:
        yield from _folder(path, query)


def _folder(path: Path, query: Query) -> Iterator[Item]:
    """Files of something else, and those that nothing was written to yet, are no problem beside others."""
    files = sorted(file for file in path.rglob("*") if file.name.lower().endswith(_ENDINGS) and os.path.isfile(file))
    if not files:
        raise ReadError(f"no trace files in it (looked for {', '.join(_SUFFIXES)}; also with .gz and .zst)")
    problems = Problems()
    without = 0
    for file in files:
        try:
            yield from _file(file, query)
        except _NoSpansError:
            without += 1
        except ReadError as error:
            problems.append(f"{file.relative_to(path)}: {error}")
    if problems:
        raise ReadError(str(problems))
    if without == len(files):
        raise _NoSpansError(f"no spans in any of its {without} files")


def _file(path: Path, query: Query) -> Iterator[Item]:
    try:
        with path.open("rb") as file:
            yield from _items(file, query)
    except OSError as error:
        hint = " (the address of a Jaeger starts with http://)" if re.fullmatch(r"[\w.-]+:\d+/?", str(path)) else ""
        raise ReadError(f"{error.strerror or error}{hint}") from None
    except ValueError as error:
        raise ReadError(f"not a path ({error})") from None


def _items(packed: BinaryIO, query: Query) -> Iterator[Item]:
    problems = Problems()
    found = is_report = is_empty = False
    try:
        file = unpacked(packed, problems)
        is_empty = not file.peek(HEAD).strip()
        for item in _content(file, problems):
            is_report = is_report or isinstance(item, RecordedRun)
            if query.reports or isinstance(item, SpanRecord):
                found = True
                yield item
    except ReadError as error:
        problems.append(str(error))
    if problems:
        raise ReadError(str(problems))
    if not found:
        raise _NoSpansError(_nothing(is_empty, is_report))


def _content(file: io.BufferedReader, problems: Problems) -> Iterator[Item]:
    if not _otlp_proto.accepts(file.peek(HEAD)):
        yield from _json.items(pieces(file), problems)
        return
    for number, message in enumerate(_otlp_proto.messages(file, problems), 1):
        if message.lstrip().startswith((b"{", b"[")) and not _otlp_proto.is_bare(message):
            yield from _json.items([message.decode("utf-8", "replace")], problems)
            continue
        for record in _otlp_proto.records(message):
            if isinstance(record, SpanRecord):
                yield record
            else:
                problems.append(f"message {number}: {record}")


def _nothing(is_empty: bool, is_report: bool) -> str:
    if is_report:
        return "no spans in it: it is a report, which agentperf diff compares with another"
    return "empty" if is_empty else "no spans in it; OTLP as JSON or protobuf, or Jaeger's JSON, is expected"
