"""Locations of code that mean something elsewhere, and tell nothing about the machine."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from otel_agentperf.capture.locations import is_library, place, short


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with a project in it, in which the program runs."""
    found = tmp_path / "home" / "bob"
    (found / "project").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(found))
    monkeypatch.setenv("USERPROFILE", str(found))
    monkeypatch.setattr(sys, "path", [str(found / "lib")])
    monkeypatch.chdir(found / "project")
    return found


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("project/tools/search.py", "tools/search.py"),
        ("project/.venv/lib/python3.11/site-packages/pkg/mod.py", "pkg/mod.py"),
        ("lib/helper/mod.py", "helper/mod.py"),
        ("elsewhere/mod.py", "mod.py"),
    ],
)
def test_paths_are_told_from_where_the_program_runs(home: Path, path: str, shown: str) -> None:
    assert short(str(home / path)) == shown


def test_a_path_from_above_the_home_directory_is_not_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home.parent.parent)
    assert short(str(home / "project" / "app.py")) == "app.py"
    monkeypatch.chdir(home)
    assert short(str(home / "project" / "app.py")) == "project/app.py"


def test_a_working_directory_that_is_gone_is_no_error(home: Path) -> None:
    os.rmdir(home / "project")
    assert short(str(home / "project" / "app.py")) == "app.py"


@pytest.mark.parametrize("path", ["<string>", "<frozen importlib._bootstrap>", "app.py", "<ipython-input-1>"])
def test_what_is_no_absolute_path_stays(path: str) -> None:
    assert short(path) == path


def test_libraries_are_told_from_the_program() -> None:
    assert is_library(json.__file__)
    assert is_library(asyncio.__file__)
    assert is_library(pytest.__file__)
    assert is_library("<frozen importlib._bootstrap>")
    assert not is_library(__file__)
    assert not is_library("<string>")


def test_a_function_is_told_by_its_definition() -> None:
    def inner() -> None: ...

    line = inner.__code__.co_firstlineno
    told = place(inner.__code__)
    assert (told.function.rpartition(".")[2], told.line) == ("inner", line)
    assert "<locals>" not in told.function
    assert str(place(json.dumps.__code__)).startswith("dumps json/__init__.py:")
