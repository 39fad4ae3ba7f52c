"""Actions that wait for an import: of a module to come, of one that is there, of one that is just being imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_agentperf.capture.patching import forget_waiting, when_imported


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package whose `front` imports its `core`, wherever a program begins."""
    package = tmp_path / "waited_for"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "core.py").write_text("")
    (package / "front.py").write_text("from . import core\nready = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    for name in [name for name in sys.modules if name.startswith("waited_for")]:
        del sys.modules[name]
    forget_waiting()


@pytest.mark.usefixtures("library")
def test_a_module_whose_import_is_under_way() -> None:
    """A part is asked for by an action that runs in the middle of the part's own import."""
    seen: list[bool] = []

    def core_imported() -> None:
        assert "waited_for.front" in sys.modules
        when_imported(("waited_for.front",), lambda: seen.append(sys.modules["waited_for.front"].ready))

    when_imported(("waited_for.core",), core_imported)
    __import__("waited_for.front")
    assert seen == [True]
    assert type(sys.modules["waited_for.front"].__spec__).__name__ == "ModuleSpec"


def test_an_import_that_fails(library: Path) -> None:
    (library / "front.py").write_text("from . import core\nraise LookupError\n")
    seen: list[str] = []
    when_imported(("waited_for.core",), lambda: when_imported(("waited_for.front",), lambda: seen.append("front")))
    with pytest.raises(LookupError):
        __import__("waited_for.front")
    assert seen == []


@pytest.mark.usefixtures("library")
def test_a_module_that_is_there() -> None:
    __import__("waited_for.front")
    seen: list[str] = []
    when_imported(("waited_for.core", "waited_for.front"), lambda: seen.append("both"))
    assert seen == ["both"]
