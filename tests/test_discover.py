from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest

from otel_agentperf import _guard
from otel_agentperf._discover import discover


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    """Installs a distribution with the given modules and entry points."""

    def install(entry_points: str, **modules: str) -> None:
        info = tmp_path / "agentperf_extra-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: agentperf-extra\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)
        for name, text in modules.items():
            (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))

    yield install
    for name in ("extra_detector", "extra_broken"):
        sys.modules.pop(name, None)


def test_the_modules_of_a_folder():
    found = discover("detectors")
    assert {"n_plus_one_calls", "duplicate_calls", "slow_operation"} <= set(found)
    assert all(isinstance(module, ModuleType) and callable(module.detect) for module in found.values())


def test_shared_code_is_no_member():
    assert not [name for name in discover("detectors") if name.startswith("_")]


def test_entry_points_of_third_parties(third_party):
    third_party(
        "[otel_agentperf.detectors]\nextra = extra_detector\n[otel_agentperf.readers]\nother = extra_broken\n",
        extra_detector="def detect(run):\n    return ()\n",
    )
    found = discover("detectors")
    assert found["extra"].detect(None) == ()
    assert "other" not in found
    assert "n_plus_one_calls" in found


def test_one_that_does_not_load_disables_no_other(third_party, swallow):
    third_party(
        "[otel_agentperf.detectors]\nbad = extra_broken\ngone = no_such_module_x\nextra = extra_detector\n",
        extra_detector="",
        extra_broken="raise RuntimeError('at import')\n",
    )
    found = discover("detectors")
    assert "extra" in found
    assert not {"bad", "gone"} & set(found)
    assert {kind for _, kind in _guard.counts} == {"RuntimeError", "ModuleNotFoundError"}
    assert all("otel_agentperf.detectors:" in place for place, _ in _guard.counts)


def test_an_unknown_folder():
    with pytest.raises(ModuleNotFoundError):
        discover("no_such_folder")


def test_one_of_our_own_that_does_not_load_disables_no_other(monkeypatch, swallow):
    real = importlib.import_module

    def broken(name, *more):
        if name == "otel_agentperf.detectors.slow_operation":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(importlib, "import_module", broken)
    found = discover("detectors")
    assert "slow_operation" not in found
    assert "n_plus_one_calls" in found
    assert ("module detectors.slow_operation", "ImportError") in _guard.counts
