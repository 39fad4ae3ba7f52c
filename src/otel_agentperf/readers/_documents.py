"""JSON documents in a text that comes in pieces: one, one a line, or one after another."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from . import ReadError
from ._problems import Problems

_PIECE = 1 << 20
_HEAD = 4_096
_BETWEEN = re.compile("[ \t\r\n,\x1e\ufeff]*")
_NEXT_DOCUMENT = re.compile(r"^[{\[]", re.MULTILINE)
_NEAR_THE_END = 16
"""characters; a number, `false` or a `\\u` escape that is cut off is a fault at its start"""


def documents(pieces: Iterable[str], problems: Problems) -> Iterator[tuple[int, Any]]:
    """All JSON documents, each with the line it starts on. Each piece ends at the end of a line, but for the last.

    One document is held at a time. After one that does not parse, which goes to `problems`, the next is looked for at
    the start of a line.
    """
    decode = json.JSONDecoder().raw_decode
    text = _Text(pieces)
    while text.skip_between():
        try:
            document, end = decode(text.held, text.at)
        except (ValueError, RecursionError) as error:
            if not (text.may_go_on_after(error) and text.read_on()):
                problems.append(_fault(text, error))
                text.skip_to_next_document()
        else:
            yield text.line, document
            text.move_to(end)


class _Text:
    """Where the reading is, and what is held of the text from there on."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self._pieces = iter(pieces)
        self.held = ""
        self.at = 0
        self.line = 1

    def read_on(self) -> bool:
        """Hold at least twice as much, so that a long document is tried few times; False at the end."""
        held = [self.held[self.at :]]
        wanted = max(1, len(held[0]))
        for piece in self._pieces:
            held.append(piece)
            wanted -= len(piece)
            if wanted <= 0:
                break
        if len(held) == 1:
            return False
        self.held, self.at = "".join(held), 0
        return True

    def move_to(self, place: int) -> None:
        self.line += self.held.count("\n", self.at, place)
        self.at = place

    def skip_between(self) -> bool:
        """Go to where the next document starts; False at the end."""
        while True:
            self.move_to(_BETWEEN.match(self.held, self.at).end())  # type: ignore[union-attr]
            if self.at < len(self.held):
                return True
            if not self.read_on():
                return False

    def skip_to_next_document(self) -> None:
        start = self.at + 1
        while (found := _NEXT_DOCUMENT.search(self.held, start)) is None:
            self.move_to(len(self.held))
            if not self.read_on():
                return
            start = 0
        self.move_to(found.start())

    def may_go_on_after(self, error: Exception) -> bool:
        """Is the fault only that the document goes on in what is not read yet?"""
        place = getattr(error, "pos", None)
        if place is None:
            return False
        return place >= len(self.held) - _NEAR_THE_END or str(error).startswith("Unterminated string")


def _fault(text: _Text, error: Exception) -> str:
    wrong = text.line + text.held.count("\n", text.at, getattr(error, "pos", text.at))
    where = f"line {wrong}" if wrong == text.line else f"line {wrong} (of what starts on line {text.line})"
    other = "nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
    return f"{where}: not JSON, or cut off ({getattr(error, 'msg', other)})"


def pieces(file: BinaryIO) -> Iterator[str]:
    """The text of a file, in pieces that end with a line: UTF-8, or what a byte order mark says. A bad character in
    JSON, such as a last one that is cut off, is let pass.

    Raises `ReadError` for what is no text.
    """
    head = file.read(_HEAD)
    encoding = json.detect_encoding(head)
    _require_text(head, encoding)
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    unfinished: list[str] = []
    chunk = head
    while chunk:
        whole, newline, rest = decoder.decode(chunk).rpartition("\n")
        if newline:
            yield "".join([*unfinished, whole, newline])
            unfinished.clear()
        unfinished.append(rest)
        chunk = file.read(_PIECE)
    last = "".join([*unfinished, decoder.decode(b"", final=True)])
    if last:
        yield last


def _require_text(head: bytes, encoding: str) -> None:
    try:
        codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError as error:
        if not head.decode(encoding, "replace").lstrip().startswith(("{", "[")):
            raise ReadError(
                f"not text (byte {error.start} is no {encoding}), nor OTLP protobuf; "
                "OTLP as JSON or protobuf, or Jaeger's JSON, is expected"
            ) from None
