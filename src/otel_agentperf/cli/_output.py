"""Where reports go: the format and file options that commands share, and the writing itself."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

from .._discover import discover
from ..model import Report

F = TypeVar("F", bound=Callable[..., Any])
_LOGIN = re.compile(r"(?<=://)[^\s/@]+@|(?<![\w./-])[^\s/@:]+:[^\s/@]+@")
_QUERY = re.compile(r"(?<=://)([^\s?\"']*\?)[^\s\"']+")


def output_options(function: F) -> F:
    """`--format` and `--output`."""
    formats = discover("renderers")
    told = "; ".join(f"{name}: {getattr(module, 'SUMMARY', name)}" for name, module in sorted(formats.items()))
    as_format = click.option(
        "--format",
        "format_",
        type=click.Choice(sorted(formats)),
        default="terminal",
        show_default=True,
        help=told + ".",
    )
    to_file = click.option(
        "--output",
        "-o",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Write the report to this file, not to standard output.",
    )
    return as_format(to_file(function))


def without_credentials(text: str) -> str:
    """What is said of an address, for logs that others see: without its login, and without what its query holds."""
    return _QUERY.sub(r"\1…", _LOGIN.sub("***@", text))


def open_output(path: Path | None) -> TextIO | None:
    """The file for the report, opened before the work starts so that a wrong path costs nothing; None: stdout."""
    if path is None:
        return None
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise click.BadParameter(f"cannot write {path}: {error.strerror}", param_hint="--output") from None


def write(reports: Iterable[Report], format_: str, file: TextIO | None) -> None:
    """Render to `file`, which is then closed, or to standard output. A reader that went away (`| head`) is no error.

    Raises `OSError` where the disk is full, and the like.
    """
    renderer = discover("renderers")[format_]
    write_with(lambda stream: renderer.render(reports, stream), file)


def write_with(render: Callable[[TextIO], None], file: TextIO | None) -> None:
    """The same for whatever writes to a stream."""
    try:
        if file is not None:
            with file:
                render(file)
        elif sys.stdout is None:
            raise OSError(errno.EBADF, "standard output is closed; give --output FILE")
        else:
            render(sys.stdout)
            sys.stdout.flush()
    except BrokenPipeError:
        if file is None:
            # Python would complain once more when it flushes standard output at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
