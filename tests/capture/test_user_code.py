"""`OTEL_AGENTPERF_WRAP`: spans for code that may not be touched."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import ModuleType

import pytest

from _recording import Recording, recording
from otel_agentperf._config import Config
from otel_agentperf.capture import user_code
from otel_agentperf.capture.patching import Patches, forget_waiting

MODULE = """
LIMIT = 5

def search(query):
    return [query]

async def fetch(query):
    return query

class Planner:
    name = "planner-1"

    def run(self, task):
        return search(task)

    @classmethod
    def create(cls, task):
        return cls.__name__

    @staticmethod
    def version(major):
        return major

class Child(Planner):
    pass
"""

_numbers = count()


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of the user's, not imported yet."""
    name = f"users_app_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def patches() -> Iterator[Patches]:
    made = Patches()
    yield made
    forget_waiting()
    made.restore()


def wrapping(patches: Patches, wrap: str) -> None:
    from otel_agentperf.capture.tracing import state

    state.configure(Config(wrap=wrap))
    user_code.patch(patches)


def imported(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.mark.parametrize("first", ["imported", "wrapped"])
def test_before_and_after_the_import(app: str, patches: Patches, first: str) -> None:
    with recording() as recorded:
        if first == "imported":
            imported(app)
        wrapping(patches, f"{app}:search=tool, {app}:Planner.run=agent ,{app}:fetch=retrieval")
        module = imported(app)
        assert module.Planner().run("tea") == ["tea"]
        assert asyncio.run(module.fetch("tea")) == "tea"
        assert recorded.names == ["execute_tool search", "invoke_agent planner-1", "retrieval fetch"]
        assert recorded.parent_of("execute_tool search") == "invoke_agent planner-1"
        assert inspect.iscoroutinefunction(module.fetch)


def test_class_and_static_methods_and_inherited_ones(app: str, patches: Patches) -> None:
    with recording() as recorded:
        wrapping(patches, f"{app}:Planner.create=tool,{app}:Planner.version=cached,{app}:Child.run=agent")
        module = imported(app)
        assert module.Planner.create("x") == "Planner"
        assert module.Child.create("x") == "Child"
        assert module.Planner.version(3) == module.Planner().version(3) == 3
        module.Child().run("x")
        assert recorded.names == ["execute_tool create"] * 2 + ["cache get version"] * 2 + ["invoke_agent planner-1"]
        module.Planner().run("x")
        assert len(recorded.spans) == 5, "the class above was not asked for"


def test_restoring_gives_the_originals_back(app: str, patches: Patches) -> None:
    with recording() as recorded:
        module = imported(app)
        before = {"search": module.search, "run": vars(module.Planner)["run"], "create": vars(module.Planner)["create"]}
        wrapping(patches, f"{app}:search=tool,{app}:Planner.run=agent,{app}:Planner.create=tool,{app}:Child.run=agent")
        kept = module.search
        patches.restore()
        assert module.search is before["search"]
        assert vars(module.Planner)["run"] is before["run"]
        assert vars(module.Planner)["create"] is before["create"]
        assert "run" not in vars(module.Child)
        assert kept("x") == ["x"]
        assert not recorded.spans


def test_what_was_not_imported_when_restored_is_never_touched(app: str, patches: Patches) -> None:
    with recording():
        wrapping(patches, f"{app}:search=tool")
        forget_waiting()
        patches.restore()
        assert type(imported(app).search).__name__ == "function"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("APP:nonsense=tool", "nonsense"),
        ("APP:Planner.nonsense=tool", "nonsense"),
        ("APP:Nonsense.run=tool", "Nonsense"),
        ("APP:LIMIT=tool", "has no function LIMIT"),
        ("APP:search=toll", "kind one of agent"),
        ("APP:search", "kind one of agent"),
        ("APP=tool", "expected module:function=kind"),
        (":search=tool", "expected module:function=kind"),
        ("APP:=tool", "expected module:function=kind"),
        ("=", "expected module:function=kind"),
    ],
)
def test_a_wrong_entry_is_named_once_and_the_others_work(
    app: str, patches: Patches, entry: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    entry = entry.replace("APP", app)
    with recording() as recorded:
        wrapping(patches, f"{entry},{app}:search=tool,,")
        module = imported(app)
        assert module.LIMIT == 5
        assert type(module.LIMIT) is int
        module.search("x")
        recorded.only()
    (record,) = caplog.records
    assert "OTEL_AGENTPERF_WRAP" in record.getMessage()
    assert repr(entry) in record.getMessage()
    assert reason in record.getMessage()


def test_a_module_that_does_not_exist_troubles_nobody(app: str, patches: Patches) -> None:
    with recording() as recorded:
        wrapping(patches, f"no_such_module_at_all:f=tool,{app}:search=tool")
        imported(app).search("x")
        recorded.only()
        with pytest.raises(ModuleNotFoundError):
            imported("no_such_module_at_all")


def test_a_module_that_fails_to_import_fails_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                       patches: Patches) -> None:  # fmt: skip
    (tmp_path / "broken_app.py").write_text("raise ValueError('own fault')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with recording():
        wrapping(patches, "broken_app:f=tool")
        with pytest.raises(ValueError, match="own fault"):
            imported("broken_app")


def test_by_environment(app: str, monkeypatch: pytest.MonkeyPatch, recorded: Recording) -> None:
    from otel_agentperf import instrument, uninstrument

    monkeypatch.setenv("OTEL_AGENTPERF_WRAP", f"{app}:search=tool")
    instrument(tracer_provider=recorded.provider)
    try:
        imported(app).search("x")
    finally:
        uninstrument()
    assert "execute_tool search" in recorded.names
