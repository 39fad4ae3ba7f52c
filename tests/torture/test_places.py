"""Each guarded place, by its source: found there, so that a new one is looked at the day it appears."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from torture._places import PACKAGE, Place, places

every = pytest.mark.parametrize("place", places(), ids=lambda place: place.name)
ROOT = PACKAGE.parents[1]


def body(place: Place) -> list[ast.AST]:
    """What is inside the guard, less functions that only are made there."""
    inside = place.node.body if not isinstance(place.node, ast.Call) else place.node.args  # type: ignore[attr-defined]
    return [node for statement in inside for node in _here(statement)]


def _here(node: ast.AST) -> list[ast.AST]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
        return [node]
    return [node, *(inner for child in ast.iter_child_nodes(node) for inner in _here(child))]


@every
def test_nothing_waits_or_yields_inside(place: Place) -> None:
    """Else what the program throws in would be swallowed; and a guarded coroutine function guards nothing."""
    assert not isinstance(place.node, (ast.AsyncFunctionDef, ast.AsyncWith))
    assert not [node for node in body(place) if isinstance(node, (ast.Await, ast.Yield, ast.YieldFrom))]


@every
def test_the_users_call_is_not_inside(place: Place) -> None:
    """Its exceptions are the program's."""
    called = [node.func for node in body(place) if isinstance(node, ast.Call)]
    assert not [one for one in called if isinstance(one, ast.Name) and one.id in ("wrapped", "original")]


@every
def test_what_it_did_not_come_to_is_not_needed_afterwards(place: Place) -> None:
    """A name that only the guarded block gives a value to, and that is read after it, is an UnboundLocalError of ours
    in the middle of the program."""
    if place.form not in ("with", "try") or place.function is None or _leaves(place):
        return
    own, function = set(map(id, body(place))), place.function
    names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
    parameters = {argument.arg for argument in ast.walk(function) if isinstance(argument, ast.arg)}
    given = {name.id for name in names if id(name) in own and isinstance(name.ctx, ast.Store)}
    outer = {name for node in ast.walk(function) if isinstance(node, (ast.Nonlocal, ast.Global)) for name in node.names}
    elsewhere = {name.id for name in names if id(name) not in own and isinstance(name.ctx, ast.Store)}
    end = place.node.end_lineno or 0  # type: ignore[attr-defined]
    after = {name.id for name in names if isinstance(name.ctx, ast.Load) and name.lineno > end}
    assert not (given & after) - parameters - outer - elsewhere


def _leaves(place: Place) -> bool:
    """Does the handler of a `try` leave the function?"""
    if not isinstance(place.node, ast.Try):
        return False
    return all(isinstance(handler.body[-1], (ast.Return, ast.Raise)) for handler in place.node.handlers)


@every
def test_only_ordinary_exceptions_are_swallowed(place: Place) -> None:
    """KeyboardInterrupt, SystemExit, CancelledError and GeneratorExit pass."""
    if isinstance(place.node, ast.Try):
        swallowing = [one for one in place.node.handlers if "swallowed" in ast.dump(one)]
        assert [ast.unparse(handler.type or ast.Name("")) for handler in swallowing] == ["Exception"]


def test_no_other_place_swallows_what_is_no_exception() -> None:
    """Each `except BaseException`, and each bare one, raises on, hands it to the program's generator, or ends our own
    command."""
    passing = re.compile(r"\braise\b|throw, |_thrown\(|sys\.exit")
    found = [
        f"{path.name}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or "BaseException" in ast.unparse(node.type))
        and not passing.search(ast.unparse(node))
    ]
    assert found == []


PROGRAMS = (
    "tests/capture/test_decorators.py",
    "tests/capture/test_streams.py",
    "tests/capture/test_streams_inside.py",
    "tests/capture/test_blocks.py",
    "tests/capture/test_user_code.py",
    "tests/integrations/test_lru_cache.py",
)
FROM_HERE = ("capture/callables.py", "capture/decorators.py", "capture/invocation.py", "capture/streams.py")
"""the tests above come by all of their places"""


@pytest.mark.parametrize("plan", ["start", "end", "anywhere"])
def test_programs_go_on_whatever_fails_and_are_traced_again_afterwards(plan: str, tmp_path: Path) -> None:
    kept = with_faults(tmp_path / "kept", f"--faults={plan}", *PROGRAMS)
    missed = [
        place.name
        for place in places()
        if str(place.path.relative_to(PACKAGE)) in FROM_HERE and f'"{place.name}"' not in kept
    ]
    assert missed == []


PASSING = ("KeyboardInterrupt", "SystemExit", "CancelledError", "GeneratorExit")
INTERRUPTED = (*PROGRAMS, "tests/capture/test_counts.py")


@pytest.mark.parametrize("kind", PASSING)
def test_what_is_no_ordinary_exception_passes_and_leaves_nothing_behind(kind: str, tmp_path: Path) -> None:
    """Once from each step of each place: it gets to the program, the context is what it was, all spans have ended (but
    see `_faults._STARTING`), no lock is held, and the test then passes as ever."""
    with_faults(tmp_path / "kept", f"--faults-raise={kind}", *INTERRUPTED)


def with_faults(kept: Path, *options: str) -> str:
    """In a process of its own, whose copy of the package is compiled with faults: see `_faults`. What was struck."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "torture._faults", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"--faults-kept={kept}", *options],
        cwd=ROOT, env={**_environ(), "PYTHONPATH": "tests"}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8_000:]
    return kept.read_text()


def _environ() -> dict[str, str]:
    import os

    return {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
