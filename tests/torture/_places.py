"""The guarded places of the package, read off its source: what stands between a fault of ours and the program."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "src" / "otel_agentperf"


@dataclass(frozen=True)
class Place:
    """One block or function whose ordinary exceptions are swallowed."""

    path: Path
    line: int
    form: str
    """with: a block; function: a decorated one; try: one that swallows by hand; value: a function that is wrapped"""
    node: ast.AST
    function: ast.AST | None
    """the function around it"""

    @property
    def name(self) -> str:
        return f"{self.path.relative_to(PACKAGE)}:{self.line}"


@cache
def places() -> tuple[Place, ...]:
    """All of the package, `_guard` itself left out."""
    return tuple(place for path in sorted(PACKAGE.rglob("*.py")) for place in _places_of(path))


def _places_of(path: Path) -> Iterator[Place]:
    if path.name != "_guard.py":
        yield from _below(path, ast.parse(path.read_text()), None)


def _below(path: Path, node: ast.AST, function: ast.AST | None) -> Iterator[Place]:
    form = form_of(node)
    if form is not None:
        yield Place(path, line_of(node), form, node, function)
    inside = node if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) else function
    for child in ast.iter_child_nodes(node):
        yield from _below(path, child, inside)


def line_of(node: ast.AST) -> int:
    """Of the guard itself, where a decorator or an `except` says it."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return next(decorator.lineno for decorator in node.decorator_list if _is_call(decorator, "guarded"))
    if isinstance(node, ast.Try):
        return next(handler.lineno for handler in node.handlers if _swallows(handler))
    line: int = node.lineno  # type: ignore[attr-defined]
    return line


def form_of(node: ast.AST) -> str | None:
    """See `Place.form`; None for what guards nothing."""
    if isinstance(node, (ast.With, ast.AsyncWith)):
        return "with" if any(_is_call(item.context_expr, "guard") for item in node.items) else None
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return "function" if any(_is_call(decorator, "guarded") for decorator in node.decorator_list) else None
    if isinstance(node, ast.Try):
        return "try" if any(map(_swallows, node.handlers)) else None
    return "value" if isinstance(node, ast.Call) and _is_call(node.func, "guarded") else None


def _is_call(node: ast.AST, name: str) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    return (isinstance(called, ast.Attribute) and called.attr == name) or (
        isinstance(called, ast.Name) and called.id == name
    )


def _swallows(handler: ast.ExceptHandler) -> bool:
    return any(_is_call(node, "swallowed") for statement in handler.body for node in ast.walk(statement))


def instrumented(path: Path, hook: str) -> ast.Module:
    """The module with a call of `hook(place, step, last step)` before each statement of each guarded place."""
    tree = ast.parse(path.read_text())
    for place in list(_below(path, tree, None)):
        if place.form == "value":
            _wrap_value(place, hook)
        else:
            _Steps(place, hook).insert()
    return ast.fix_missing_locations(tree)


def _wrap_value(place: Place, hook: str) -> None:
    """`guarded(…)(function)` becomes `guarded(…)(lambda *a, **k: (hook(…), function(*a, **k))[1])`."""
    call = place.node
    assert isinstance(call, ast.Call)
    source = f"lambda function: lambda *a, **k: ({hook}({place.name!r}, 0, 0), function(*a, **k))[1]"
    wrapper = ast.parse(source, mode="eval").body
    call.args[0] = ast.copy_location(ast.Call(wrapper, [call.args[0]], []), call.args[0])


class _Steps:
    """Puts the calls into one place."""

    def __init__(self, place: Place, hook: str) -> None:
        self._place = place
        self._hook = hook
        self._made: list[ast.Call] = []

    def insert(self) -> None:
        node = self._place.node
        assert isinstance(node, (ast.With, ast.AsyncWith, ast.FunctionDef, ast.AsyncFunctionDef, ast.Try))
        node.body = self._between(node.body)
        for call in self._made:
            call.args[2] = ast.Constant(len(self._made) - 1)

    def _between(self, body: list[ast.stmt]) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for statement in body:
            is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if not is_text and not isinstance(statement, (ast.Global, ast.Nonlocal)):
                found.append(self._step(statement))
            found.append(statement)
            self._inside(statement)
        if not isinstance(body[-1], (ast.Return, ast.Raise, ast.Continue, ast.Break)):
            found.append(self._step(body[-1]))
        return found

    def _inside(self, statement: ast.stmt) -> None:
        """The parts of a compound statement; not what has a guard of its own, or handles exceptions."""
        if isinstance(statement, (ast.If, ast.For, ast.While)):
            statement.body = self._between(statement.body)
            if statement.orelse:
                statement.orelse = self._between(statement.orelse)
        elif isinstance(statement, ast.With) and form_of(statement) is None:
            suppresses = any(_is_call(item.context_expr, "suppress") for item in statement.items)
            if not suppresses:
                statement.body = self._between(statement.body)

    def _step(self, near: ast.stmt) -> ast.stmt:
        arguments: list[ast.expr] = [ast.Constant(self._place.name), ast.Constant(len(self._made)), ast.Constant(0)]
        call = ast.Call(ast.Name(self._hook, ast.Load()), arguments, [])
        self._made.append(call)
        return ast.copy_location(ast.Expr(call), near)
