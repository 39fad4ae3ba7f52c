"""Finds the modules of a folder (detectors, integrations, readers, renderers) and third parties' entry points."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import _guard

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_METADATA = (".dist-info", ".egg-info")


def discover(folder: str) -> dict[str, ModuleType]:
    """The modules of `otel_agentperf.<folder>` and of the entry point group of the same name, by name.

    A module whose name starts with an underscore is shared code, not a member. One that does not load is swallowed
    and counted: it must not disable the others.
    """
    found = {}
    for name in members(folder):
        module = load(folder, name)
        if module is not None:
            found[name] = module
    return found | third_parties(folder)


def members(folder: str) -> list[str]:
    """The names of our own modules of a folder, none of which is loaded for that."""
    package = importlib.import_module(f"{__package__}.{folder}")
    return [module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")]


def load(folder: str, name: str) -> ModuleType | None:
    """The member of a folder; None where it does not load, which is swallowed and counted."""
    with _guard.guard(f"module {folder}.{name}"):
        return importlib.import_module(f"{__package__}.{folder}.{name}")
    return None


def third_parties(folder: str) -> dict[str, ModuleType]:
    """What other distributions add to a folder."""
    found = {}
    for entry_point in _entry_points(f"{__package__}.{folder}"):
        with _guard.guard(f"entry point {entry_point.group}:{entry_point.name}"):
            found[entry_point.name] = entry_point.load()
    return found


def constant(folder: str, name: str, told: str) -> Any:
    """The value of `TOLD = (…)`, a literal on a line of its own in a member's source, without loading the member:
    loading all integrations would take 15 ms of every program's start. None where it cannot be read off."""
    package = importlib.import_module(f"{__package__}.{folder}")
    try:
        with open(os.path.join(package.__path__[0], f"{name}.py"), encoding="utf-8") as file:
            line = re.search(rf"^{told}\b[^=\n]*=(.*)$", file.read(), re.MULTILINE)
        return None if line is None else ast.literal_eval(line[1].strip())
    except (OSError, ValueError, SyntaxError):  # in an archive, compiled only, or no literal
        return None


def _entry_points(group: str) -> Iterator[EntryPoint]:
    """Most programs have none of ours, and to load `importlib.metadata` and search with it takes them 25 ms."""
    if _may_be_offered(group, tuple(sys.path)):
        from importlib.metadata import entry_points

        yield from entry_points(group=group)


@lru_cache(maxsize=1)
def _texts(paths: tuple[str, ...]) -> str | None:
    """The entry points of all that is installed, as text; None where that is not in folders."""
    found = []
    for path in paths:
        try:
            installed = [entry.path for entry in os.scandir(path or os.curdir) if entry.name.endswith(_METADATA)]
        except NotADirectoryError:
            return None  # a zip archive
        except OSError:
            continue
        for folder in installed:
            try:
                with open(os.path.join(folder, "entry_points.txt"), encoding="utf-8") as file:
                    found.append(file.read())
            except (OSError, ValueError):
                continue
    return "\n".join(found)


def _may_be_offered(group: str, paths: tuple[str, ...]) -> bool:
    texts = _texts(paths)
    return texts is None or f"[{group}]" in texts
