"""Actions that wait for an import: of a module to come, of one that is there, of one that is just being imported."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path

import pytest
import wrapt

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
    assert type(sys.modules["waited_for.front"].__spec__) is ModuleSpec


def test_a_module_that_is_still_to_come(library: Path) -> None:
    """Its spec and its loader are those that it has without us, and who only looks for it disturbs nobody."""
    seen: list[bool] = []
    when_imported(("waited_for.front",), lambda: seen.append(sys.modules["waited_for.front"].ready))
    assert "waited_for.front" in repr(importlib.util.find_spec("waited_for.front"))
    assert seen == []
    __import__("waited_for.front")
    assert seen == [True]
    spec = sys.modules["waited_for.front"].__spec__
    assert type(spec) is ModuleSpec
    assert type(spec.loader) is SourceFileLoader
    assert spec.origin == str(library / "front.py")


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("first", ["otel_agentperf", "wrapt"])
def test_beside_another_hook_of_the_kind(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    wrapt.register_post_import_hook(lambda module: seen.append("wrapt"), "waited_for.front")
    when_imported(("waited_for.front",), lambda: seen.append("otel_agentperf"))
    hooks = [finder for finder in sys.meta_path if type(finder).__module__.startswith(("otel_agentperf", "wrapt"))]
    hooks.sort(key=lambda finder: not type(finder).__module__.startswith(first))
    assert len(hooks) == 2
    monkeypatch.setattr(sys, "meta_path", [*hooks, *(finder for finder in sys.meta_path if finder not in hooks)])
    __import__("waited_for.front")
    assert sorted(seen) == ["otel_agentperf", "wrapt"]


@pytest.mark.usefixtures("library")
def test_an_import_that_failed_and_is_tried_again(library: Path) -> None:
    seen: list[str] = []
    when_imported(("waited_for.front",), lambda: seen.append("front"))
    (library / "front.py").write_text("raise LookupError\n")
    with pytest.raises(LookupError):
        __import__("waited_for.front")
    assert seen == []
    (library / "front.py").write_text("ready = True  # mended\n")
    __import__("waited_for.front")
    assert seen == ["front"]


@pytest.mark.usefixtures("library")
def test_nothing_of_it_is_left() -> None:
    when_imported(("waited_for.front",), lambda: pytest.fail("it was to be forgotten"))
    forget_waiting()
    assert not [finder for finder in sys.meta_path if type(finder).__module__.startswith("otel_agentperf")]
    __import__("waited_for.front")


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
