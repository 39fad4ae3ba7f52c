"""The user's program: found, compiled, and made `__main__`, as plain Python would."""

from __future__ import annotations

import builtins
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

import click

Globals = dict[str, Any]
_SCRIPTS = os.path.dirname(os.path.realpath(sys.argv[0]))


def load(program: str, is_module: bool) -> tuple[CodeType, Globals]:
    """The program's code and the globals of its `__main__`. Sets `sys.path[0]` and `sys.modules["__main__"]`.

    Raises `click.ClickException` where there is no such program, and what importing the parents of a module raises.
    """
    try:
        code, told = _load_module(program) if is_module else _load_file(program)
    except OSError as error:
        raise click.ClickException(_unreadable(program, error)) from None
    except ValueError as error:  # null bytes
        raise click.ClickException(f"{program} is no Python source ({error})") from None
    main = ModuleType("__main__")
    if "__annotations__" in vars(sys.modules["__main__"]):  # not any more from Python 3.14 on
        main.__annotations__ = {}
    sys.modules["__main__"] = main
    vars(main).update(told, __builtins__=builtins)
    return code, vars(main)


def _load_file(program: str) -> tuple[CodeType, Mapping[str, Any]]:
    path = os.path.join(os.getcwd(), program)
    importer: Any = pkgutil.get_importer(path)  # of a folder or zip file
    spec = None if importer is None else importer.find_spec("__main__")
    if spec is not None:
        _first_on_path(path)
        return _load_spec(spec, program)
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.isdir(path):
        path = os.path.join(path, "__main__.py")  # to be told as missing
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    _first_on_path(folder)
    return code, {"__file__": path, "__loader__": SourceFileLoader("__main__", path), "__cached__": None}


def _load_module(program: str) -> tuple[CodeType, Mapping[str, Any]]:
    _first_on_path(os.getcwd())
    return _load_spec(_find_spec(program), program)


def _load_spec(spec: Any, program: str) -> tuple[CodeType, Mapping[str, Any]]:
    code = spec.loader.get_code(spec.name)
    if code is None:
        raise click.ClickException(f"{program} has no Python code to run")
    told = {"__file__": spec.origin, "__spec__": spec, "__package__": spec.parent, "__loader__": spec.loader,
            "__cached__": spec.cached}  # fmt: skip
    return code, told


def _find_spec(program: str) -> Any:
    """The module's spec, a package's `__main__`. This imports its parents, which may fail in ways of their own."""
    try:
        spec = importlib.util.find_spec(program)
        if spec is not None and spec.submodule_search_locations is not None:
            program += ".__main__"
            spec = importlib.util.find_spec(program)
    except ModuleNotFoundError as error:
        if not f"{program}.".startswith(f"{error.name}."):
            raise
        spec = None
    except (ImportError, ValueError) as error:
        if type(error) is ImportError and error.name:
            raise
        spec = None  # no module name at all: relative, or empty
    if spec is None or not hasattr(spec.loader, "get_code"):
        hint = f"; -m takes a name such as {program[:-3]}, not a file" if program.endswith(".py") else ""
        raise click.ClickException(
            f"there is no module {program} (looked in {os.getcwd()} and the installed packages){hint}"
        )
    return spec


def _unreadable(program: str, error: OSError) -> str:
    hint = ""
    if isinstance(error, FileNotFoundError):
        hint = "; PROGRAM is a Python file, a folder or zip file with a __main__.py, or with -m a module"
    return f"cannot read {program}: {error.strerror}{hint}"


def _first_on_path(folder: str) -> None:
    """In place of the folder of the `agentperf` script, which plain Python would not have on the path."""
    if sys.path and sys.path[0] == _SCRIPTS:
        del sys.path[0]
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, folder)
