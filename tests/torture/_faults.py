"""A pytest plugin: each test runs twice, first with faults in the guarded places of the package, then in good health.

    PYTHONPATH=tests python -m pytest -p torture._faults --faults=start tests/capture

What the first run finds in the spans does not matter, for they are broken. It fails when a fault of ours gets out of
its guard, when anything else is raised by a line of ours, or when OpenTelemetry logs an error. The second run is the
test itself: whatever the faults left behind must not keep later calls from being traced.

With `--faults-raise=KeyboardInterrupt` (or SystemExit, CancelledError, GeneratorExit) the faults are no ordinary
exceptions: each test runs again and again, until each step of each guarded place that it comes by has raised one, in
this test or an earlier one. It must get to the program; afterwards the context is what it was, every span has ended,
and no lock of ours is held.

The guarded places are found in the source (`_places`), which is compiled with a possible fault before each statement
inside of them: a new place is covered as soon as a test comes by.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import gc
import inspect
import json
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import pytest
from opentelemetry.context import Context, attach, get_current
from opentelemetry.sdk.trace import Span

from torture._places import PACKAGE, Place, instrumented, places

HOOK = "_agentperf_fault"
PLANS = ("start", "end", "anywhere")
_SHARE = 0.3
"""of the places, and of their steps, that fail"""
_UNDOING = frozenset({"uninstrument", "restore", "unpatch"})
"""functions whose faults leave undone what they are for, by definition"""
_CLOSABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_LONGEST_S = 20.0
"""that a test may take with faults"""


class InjectedError(Exception):
    """A fault of ours."""


class CutError(BaseException):
    """A test waits for spans that never come."""


PASSING: dict[str, type[BaseException]] = {
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": SystemExit,
    "CancelledError": asyncio.CancelledError,
    "GeneratorExit": GeneratorExit,
}
"""what no guard may keep from the program"""


class Faults:
    """Where faults happen, and what became of them."""

    def __init__(self) -> None:
        self.plan = PLANS[0]
        self.kind: type[BaseException] = InjectedError
        self.on = False
        self.passed: set[str] = set()
        """names of the places that the tests came by"""
        self.struck: set[str] = set()
        """names of the places that had a fault"""
        self.raised = 0
        self.random = random.Random(0)
        self._faulty: dict[str, bool] = {}
        self.failed_now: dict[str, int] = {}
        """faults by place, in the test that is running"""
        self._loose: dict[int, BaseException] = {}
        """faults that no guard has swallowed so far"""
        self._met: set[tuple[str, int]] = set()
        """steps that have raised what passes"""
        self.ends = {place.name for place in places() if _is_ending(place)}

    def pass_by(self, place: str, step: int, last: int) -> None:
        """What the compiled source calls before step `step` of `place`."""
        self.passed.add(place)
        if self.on and (self._is_due(place, step, last) if self.kind is InjectedError else self._is_new(place, step)):
            fault = self.kind(place)
            self.struck.add(place)
            self.failed_now[place] = self.failed_now.get(place, 0) + 1
            self._loose[id(fault)] = fault
            self.raised += 1
            raise fault

    def begin(self) -> None:
        """A test begins. A few places fail throughout it: were it all of them, one would hide the next."""
        self._faulty = {place.name: False for place in places() if getattr(place.function, "name", "") in _UNDOING}
        self.failed_now.clear()
        self.on = True
        self._loose.clear()

    def _is_new(self, place: str, step: int) -> bool:
        """One such fault a run: it is to end the program, or what of it is affected."""
        if self.failed_now or (place, step) in self._met:
            return False
        self._met.add((place, step))
        return True

    def _is_due(self, place: str, step: int, last: int) -> bool:
        if place not in self._faulty:
            self._faulty[place] = self.random.random() < _SHARE
        if not self._faulty[place]:
            return False
        if self.plan == "anywhere":
            return self.random.random() < _SHARE
        return step == (0 if self.plan == "start" else last)

    def swallowed(self, error: BaseException | None) -> None:
        """A guard has swallowed `error`, and with it what that was raised from."""
        seen: set[int] = set()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            self._loose.pop(id(error), None)
            error = error.__cause__ or error.__context__

    def kept(self) -> list[str]:
        """The places whose fault, of a kind that passes, did not get out of the lines of ours: the last frame that saw
        it is one of them. What a generator raises while it is closed ends there by Python's own rules."""
        found = []
        for fault in self._loose.values():
            frame = fault.__traceback__.tb_frame if fault.__traceback__ is not None else None
            if frame is None or not frame.f_code.co_filename.startswith(str(PACKAGE)):
                continue
            if not (isinstance(fault, GeneratorExit) and frame.f_code.co_flags & _CLOSABLE):
                found.append(f"{fault} in {frame.f_code.co_name}")
        self._loose.clear()
        return found

    def escaped(self) -> list[str]:
        """The places whose faults nobody swallowed, since this was last asked."""
        found = [str(fault) for fault in self._loose.values()]
        self._loose.clear()
        return found


class Loader(SourceFileLoader):
    """Compiles a module of ours with possible faults; no byte code is read or kept."""

    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.path)
        return compile(instrumented(source, HOOK), self.path, "exec")


class Finder:
    """Stands before the import system's own."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] != "otel_agentperf" or name.endswith("._guard"):
            return None
        spec = PathFinder.find_spec(name, path if path is not None else [str(PACKAGE.parent)])
        if spec is not None and spec.origin is not None:
            spec.loader = Loader(name, spec.origin)
        return spec


class Errors(logging.Handler):
    """What OpenTelemetry logs as an error, such as "Failed to detach context", where a line of ours asked it to: some
    frameworks make it do so themselves."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and _is_between(frame.f_code.co_filename):
            frame = frame.f_back
        if frame is not None and frame.f_code.co_filename.startswith(str(PACKAGE)):
            self.messages.append(record.getMessage())


def _is_between(path: str) -> bool:
    """Code of those who log, not of those who made them."""
    return any(part in path for part in ("/logging/", "/opentelemetry/", "/contextlib.py"))


class Plugin:
    """Runs each test twice."""

    def __init__(self, faults: Faults, kept: Path | None) -> None:
        self._faults = faults
        self._kept = kept
        self._errors = Errors()
        logging.getLogger("opentelemetry").addHandler(self._errors)
        self._found: list[str] = []
        self._is_first = False
        """the test runs with faults"""
        self._guard = self._watched_guard()
        self._started = _watched_spans()

    def _watched_guard(self) -> Any:
        from otel_agentperf import _guard

        original = _guard.swallowed

        def swallowed(place: str, error: Exception) -> None:
            self._faults.swallowed(error)
            before, _guard.reraise = _guard.reraise, _guard.reraise and not self._faults.on
            try:
                original(place, error)
            finally:
                _guard.reraise = before

        _guard.swallowed = swallowed
        return _guard

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        from _pytest.runner import runtestprotocol

        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        self._run_with_faults(item)
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        for report in reports:
            if report.when == "call" and self._found:
                report.outcome = "failed"
                report.longrepr = "\n".join(dict.fromkeys(self._found))
            if report.failed:
                report.sections.append(
                    ("Faults in the first run", "\n".join(map(str, self._faults.failed_now.items())))
                )
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _run_with_faults(self, item: pytest.Item) -> None:
        self._found.clear()
        if self._faults.kind is InjectedError:
            self._run_with_fault(item)
            return
        before = None
        while before != self._faults.raised:
            before = self._faults.raised
            self._run_with_fault(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, object, object]:
        """Faults that pass happen in the test itself, which is over then: pytest need not know of them."""
        if self._faults.kind is InjectedError or not self._is_first:
            return (yield)
        context = get_current()
        self._faults.begin()
        with suppress(BaseException):
            yield
        self._faults.on = False
        for place in self._faults.failed_now:
            try:
                left = self._left_behind(context, place not in self._faults.ends)
            except Exception as error:
                left = [f"the check failed: {error!r}"]
            self._found += [f"{self._faults.kind.__name__} in {place}: {what}" for what in left]
        self._started.clear()
        return True

    def _left_behind(self, before: Context, are_ended: bool) -> list[str]:
        """By a fault that has passed."""
        found = [f"was kept from the program: {kept}" for kept in self._faults.kept()]
        if get_current() != before:
            found.append("the context is another one")
            attach(before)
        if are_ended and self._open_spans():
            gc.collect()  # the frames and coroutines that were left in the middle
            found += [f"did not end: {name}" for name in self._open_spans()]
        with ThreadPoolExecutor(1) as another:
            found += [
                f"a lock is held: {name}" for name, lock in locks() if not another.submit(_is_free, lock).result()
            ]
        return found

    def _open_spans(self) -> list[str]:
        return [span.name for span in self._started if span.is_recording()]

    def _run_with_fault(self, item: pytest.Item) -> None:
        from _pytest.runner import runtestprotocol

        self._errors.messages.clear()
        counted = dict(self._guard.counts)
        if self._faults.kind is InjectedError:
            self._faults.begin()
        self._is_first = True
        before = signal.signal(signal.SIGALRM, _cut)
        signal.setitimer(signal.ITIMER_REAL, _LONGEST_S)
        try:
            with warnings.catch_warnings():
                runtestprotocol(item, nextitem=item.parent, log=False)  # type: ignore[arg-type]
        finally:
            self._faults.on = self._is_first = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            self._guard.counts.clear()
            self._guard.counts.update(counted)
        self._found += [f"a fault got out of {place}" for place in self._faults.escaped()]
        self._found += [f"logged: {message}" for message in self._errors.messages]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> None:
        """Whatever the test thinks of it: was it raised by a line of ours?"""
        if call.excinfo is None or not self._faults.on:
            return
        for error in _chain(call.excinfo.value):
            where = _innermost(error)
            if where is not None and Path(where[0]).is_relative_to(PACKAGE):
                self._found.append(f"{type(error).__name__}: {error} from {where[0]}:{where[1]}")

    def pytest_sessionfinish(self) -> None:
        if self._kept is not None:
            self._kept.write_text(json.dumps({"passed": sorted(self._faults.passed), "raised": self._faults.raised}))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        every: set[Place] = set(places())
        missed = sorted(place.name for place in every if place.name not in self._faults.struck)
        terminalreporter.write_line(
            f"{self._faults.raised} faults in {len(every) - len(missed)} of {len(every)} guarded places"
        )


def _is_ending(place: Place) -> bool:
    """Is it all about ending a span, so that a fault before it leaves that open by definition?"""
    body = getattr(place.node, "body", None)
    return isinstance(body, list) and len(body) == 1 and ".end(" in ast.unparse(body[0])


def _watched_spans() -> list[Span]:
    """The spans of ours that have started while there are faults."""
    started: list[Span] = []
    original = Span.start

    def start(span: Span, *args: Any, **kwargs: Any) -> None:
        if faults.on and span.instrumentation_scope is not None and span.instrumentation_scope.name == "otel_agentperf":
            started.append(span)
        original(span, *args, **kwargs)

    Span.start = start  # type: ignore[method-assign]
    return started


def locks() -> Iterator[tuple[str, Any]]:
    """The locks of the package: of its modules, and of the objects of its classes."""
    kinds = type(threading.Lock()), type(threading.RLock())
    modules = [
        module for name, module in sys.modules.items() if name.startswith("otel_agentperf") and _has_lock(module)
    ]
    owners = [(module.__name__, vars(module)) for module in modules]
    classes = {value for _, values in owners for value in values.values() if isinstance(value, type)}
    for thing in gc.get_objects():
        if type(thing) in classes:
            slots = [key for kind in type(thing).__mro__ for key in getattr(kind, "__slots__", ())]
            keys = [*slots, *getattr(thing, "__dict__", ())]
            owners.append((type(thing).__module__, {key: getattr(thing, key, None) for key in keys}))
    for name, values in owners:
        yield from ((f"{name}.{key}", value) for key, value in list(values.items()) if type(value) in kinds)


@cache
def _has_lock(module: ModuleType) -> bool:
    return "Lock(" in Path(module.__file__ or os.devnull).read_text()


def _is_free(lock: Any) -> bool:
    is_free: bool = lock.acquire(timeout=1)
    if is_free:
        lock.release()
    return is_free


def _cut(number: int, frame: FrameType | None) -> None:
    raise CutError


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _innermost(error: BaseException) -> tuple[str, int] | None:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", choices=PLANS, default="start", help="where in a guarded place its fault happens")
    parser.addoption("--faults-raise", choices=PASSING, help="faults that pass, once for each step of each place")
    parser.addoption("--faults-seed", type=int, default=0, help="for --faults=anywhere")
    parser.addoption("--faults-kept", type=Path, help="a file for what was struck, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    faults.plan = config.getoption("--faults")
    faults.random.seed(config.getoption("--faults-seed"))
    faults.kind = PASSING.get(config.getoption("--faults-raise"), InjectedError)
    config.pluginmanager.register(Plugin(faults, config.getoption("--faults-kept")))


# Before any test file, and any conftest.py, imports the package.
assert "otel_agentperf" not in sys.modules
faults = Faults()
setattr(builtins, HOOK, faults.pass_by)
sys.meta_path.insert(0, Finder())  # type: ignore[arg-type]
