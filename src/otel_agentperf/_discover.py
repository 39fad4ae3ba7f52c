"""Finds the modules of a folder (detectors, integrations, readers, renderers) and third parties' entry points."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points
from types import ModuleType

from . import _guard


def discover(folder: str) -> dict[str, ModuleType]:
    """The modules of `otel_agentperf.<folder>` and of the entry point group of the same name, by name.

    A module whose name starts with an underscore is shared code, not a member. One that does not load is swallowed
    and counted: it must not disable the others.
    """
    package = importlib.import_module(f"otel_agentperf.{folder}")
    found = {}
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            with _guard.guard(f"module {folder}.{module.name}"):
                found[module.name] = importlib.import_module(f"{package.__name__}.{module.name}")
    for entry_point in entry_points(group=f"otel_agentperf.{folder}"):
        with _guard.guard(f"entry point {entry_point.group}:{entry_point.name}"):
            found[entry_point.name] = entry_point.load()
    return found
