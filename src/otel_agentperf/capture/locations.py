"""What a function is called and where it is, in words that a report may show: paths that make sense on any machine,
and never an absolute path, the home directory, source text or values."""

from __future__ import annotations

import os
import sys
import sysconfig
from functools import lru_cache
from types import CodeType, FrameType

from ..analysis.hot_frames import Place
from ..sanitize import name

_INSTALLED = [sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")]
_LIBRARIES = sorted({real(path) + os.sep for path in _INSTALLED for real in (str, os.path.realpath)}, key=len)[::-1]
_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_STANDARD = tuple(os.path.join(sysconfig.get_path(key), "") for key in ("stdlib", "platstdlib"))
_DEEPEST = 200
OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def place(code: CodeType) -> Place:
    """Function, file and line of the definition."""
    function: str = getattr(code, "co_qualname", code.co_name)
    return Place(name(function.replace("<locals>.", "")), name(short(code.co_filename)), code.co_firstlineno)


def blocking_location(frame: FrameType) -> str | None:
    """Where a thread is, as `app/tools.py:42 search`: the program's own code nearest to what it is doing; where a
    library works for itself, the library's. None: the work is ours, or the interpreter's."""
    library: str | None = None
    current: FrameType | None = frame
    for _ in range(_DEEPEST):
        if current is None:
            break
        path = current.f_code.co_filename
        if path.startswith(OURS):
            if library is None or library.startswith("opentelemetry/"):
                return None  # what our own code takes is not the program's doing
        elif not is_standard(path):
            if not is_library(path):
                return _words(current)
            library = library or _words(current)
        current = current.f_back
    return library


def _words(frame: FrameType) -> str:
    return f"{name(short(frame.f_code.co_filename))}:{frame.f_lineno} {name(frame.f_code.co_name)}"


@lru_cache(maxsize=4_096)
def is_standard(path: str) -> bool:
    """Of Python itself (asyncio, selectors, ssl, …), which says nothing about who called it."""
    installed = any(packages in path for packages in _PACKAGES)
    return path.startswith("<frozen ") or (path.startswith(_STANDARD) and not installed)


@lru_cache(maxsize=4_096)
def is_library(path: str) -> bool:
    """Of Python or an installed package; otherwise it is the program's own."""
    return path.startswith("<frozen ") or _in_library(path) is not None


def short(path: str) -> str:
    """The path inside the library, the working directory or the import path; elsewhere only the file's name."""
    if not os.path.isabs(path):
        return path
    return (_in_library(path) or _in_program(path) or os.path.basename(path)).replace(os.sep, "/")


def _in_library(path: str) -> str | None:
    for packages in _PACKAGES:
        if packages in path:
            return path.rpartition(packages)[2]
    return next((path[len(library) :] for library in _LIBRARIES if path.startswith(library)), None)


def _in_program(path: str) -> str | None:
    """Below the working directory, unless the home directory is too: its name is somebody's."""
    home = os.path.join(os.path.expanduser("~"), "")
    for folder in (_working_directory(), *sorted(filter(None, sys.path), key=len, reverse=True)):
        inside = os.path.join(folder, "")
        if path.startswith(inside) and not (home.startswith(inside) and home != inside):
            return path[len(inside) :]
    return None


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return "?"
