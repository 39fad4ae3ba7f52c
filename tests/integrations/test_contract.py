"""What every integration promises, whichever it is: discovered, so a new one is covered the day it appears."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

import otel_agentperf
from otel_agentperf import _guard
from otel_agentperf._discover import constant, discover
from otel_agentperf._versions import installed
from otel_agentperf.capture.patching import Patches
from otel_agentperf.integrations import COVERABLE

INTEGRATIONS = discover("integrations")
INSTALLED = [
    name
    for name, module in INTEGRATIONS.items()
    if not module.DISTRIBUTION or installed(module.DISTRIBUTION) is not None
]
every = pytest.mark.parametrize("name", INTEGRATIONS)
every_installed = pytest.mark.parametrize("name", INSTALLED)


@every
def test_it_says_what_it_needs(name: str) -> None:
    module = INTEGRATIONS[name]
    assert isinstance(module.MODULES, tuple)
    assert all(isinstance(needed, str) for needed in module.MODULES)
    assert isinstance(module.DISTRIBUTION, str)
    assert module.SOURCE in {"wrapped", "hook", "native", "counted"}
    assert module.COVERS
    assert set(module.COVERS) <= set(COVERABLE)
    assert all(limit.endswith(".") for limit in getattr(module, "LIMITS", ()))
    assert callable(module.patch)
    assert constant("integrations", name, "MODULES") == module.MODULES, "read off its source, on a line of its own"
    assert callable(getattr(module, "unpatch", lambda: None))
    assert (module.__doc__ or "").strip()
    tested = SpecifierSet(module.VERSIONS)
    if module.DISTRIBUTION and name in INSTALLED:
        assert tested.contains(version(module.DISTRIBUTION), prereleases=True)


@every
def test_importing_it_imports_no_library(name: str) -> None:
    code = f"""
import json, sys
import otel_agentperf.processor, otel_agentperf.instrumentor
before = set(sys.modules)
import otel_agentperf.integrations.{name}
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    added = {module.partition(".")[0] for module in json.loads(done.stdout)}
    assert added <= {"otel_agentperf"} | set(sys.stdlib_module_names), added


def test_instrumenting_imports_no_library() -> None:
    code = """
import sys
import otel_agentperf
otel_agentperf.instrument()
print(sorted(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    needed = {needed for module in INTEGRATIONS.values() for needed in module.MODULES}
    assert not needed & set(json.loads(done.stdout.replace("'", '"')))


def _everything() -> None:
    """Import what the integrations patch, all of it that is installed."""
    for name in INSTALLED:
        for needed in (*INTEGRATIONS[name].MODULES, *getattr(INTEGRATIONS[name], "PARTS", ())):
            with suppress(ImportError):
                importlib.import_module(needed)


@every_installed
def test_what_it_patches_is_put_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _everything()
    places: list[tuple[Any, str, Any, bool]] = []
    replace = Patches.replace

    def remember(self: Patches, holder: Any, attribute: str, new: Any) -> None:
        places.append((holder, attribute, vars(holder).get(attribute), attribute in vars(holder)))
        replace(self, holder, attribute, new)

    monkeypatch.setattr(Patches, "replace", remember)
    otel_agentperf.instrument()
    otel_agentperf.instrument()
    assert places or INTEGRATIONS[name].SOURCE == "native"
    assert len(places) == len({(id(holder), attribute) for holder, attribute, _, _ in places}), "patched twice"
    assert any(vars(holder).get(attribute) is not before for holder, attribute, before, _ in places)
    otel_agentperf.uninstrument()
    otel_agentperf.uninstrument()
    for holder, attribute, before, own in places:
        assert vars(holder).get(attribute) is before, (holder, attribute)
        assert (attribute in vars(holder)) is own, (holder, attribute)


@every_installed
def test_it_can_be_left_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    for other, module in INTEGRATIONS.items():
        monkeypatch.setattr(module, "patch", lambda patches, other=other: asked.append(other))
    from otel_agentperf._config import Config

    otel_agentperf.instrument(config=Config(disabled_integrations=name))
    otel_agentperf.uninstrument()
    assert name not in asked


@pytest.mark.usefixtures("swallow")
@every_installed
def test_a_library_of_another_shape_disables_only_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that lost what is patched, or another package of the same name."""
    _everything()

    def find(self: Patches, where: Any, path: str) -> Any:
        raise AttributeError(path)

    monkeypatch.setattr(Patches, "_find", find)
    otel_agentperf.instrument()
    otel_agentperf.uninstrument()
    assert any(name in place for place, _ in _guard.counts)
