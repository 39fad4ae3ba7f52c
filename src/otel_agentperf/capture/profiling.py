"""A statistical profile of a run: which functions the CPU time of its spans went to (docs/adr/0006).

pyinstrument's sampler calls us on the profiled thread itself, between two calls of the program, so the span that is
current in the thread's context is asked for then and there: tasks of an event loop are told apart, and nothing is
recorded but sums. One run is profiled at a time, on the threads that start spans in it.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from types import CodeType, FrameType
from typing import NamedTuple

from opentelemetry import trace

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

from .. import _guard
from .._config import Config
from ..analysis.hot_frames import SpanSamples, hottest
from ..model import Report, SpanProfile, SpanRecord
from .locations import OURS, is_library, place

_logger = logging.getLogger("otel_agentperf")

_THREAD: int | None = getattr(resource, "RUSAGE_THREAD", None)  # Linux only
_MISSING = (
    'profiling was asked for, but pyinstrument is not installed: pip install "otel-agentperf[profile]". '
    "The program runs without a profile"
)
_BUSY = "not profiled: another run was being profiled"
_DISTURBED = "sampled in part: a thread has a profiler of its own, or sampling it had to stop"
_NOTHING_HOT = "no call used the CPU for 50 ms itself"

_MOST_SPANS, _MOST_FRAMES, _MOST_NAMES = 10_000, 20_000, 1_000
_FARTHEST_CALLER = 100
_TIME_BUDGETS = (".duration_s", ".cpu_s")
_AGAIN_S = 600.0
"""between two profiles of one name that nobody asked for: being profiled makes a run slower"""


class Result(NamedTuple):
    """What goes on a run's root."""

    profile: tuple[SpanProfile, ...] = ()
    note: str = ""
    """why there is less of it than was asked for"""


class Profiling:
    """Decides which runs are profiled; made by `profiling`. Processors have one each, but share the one profile."""

    def __init__(self, config: Config, install: _Install) -> None:
        self._install = install
        self._asked = config.profile == "on"
        self._due: set[str] = set()
        self._begun: dict[str, float] = {}

    def begin(self, name: str, is_agent: bool, trace_id: int, root_id: int, is_open: Callable[[], bool]) -> None:
        """A root has started: of a run, or of something that may turn out to be one, or to have runs inside."""
        if (self._asked or name in self._due) and _take(_Session(trace_id, root_id, is_agent, is_open)):
            self._due.discard(name)
            if not self._asked:
                self._begun.pop(name, None)
                self._begun[name] = time.monotonic()

    def started(self, trace_id: int) -> None:
        """A span has started on this thread: watch it, if the span is of the run that is profiled."""
        session = _current
        if session is not None and session.trace_id == trace_id:
            session.watch(self._install)

    def result(self, trace_id: int, records: Iterable[SpanRecord]) -> Result:
        """The profile of the run that consists of `records`."""
        session = _current
        if session is None or session.trace_id != trace_id:
            return Result(note=_BUSY if self._asked else "")
        return session.result(records)

    def ended(self, trace_id: int, root_id: int) -> None:
        """What `begin` told of has ended, and has been reported."""
        session = _current
        if session is not None and (session.trace_id, session.root_id) == (trace_id, root_id):
            _release(session)
            sampler = _mine()
            if sampler is not None and sampler.session is session:
                sampler.remove()

    def learn(self, report: Report) -> None:
        """Without being asked: after a run that was too slow, the next of its name is profiled."""
        name, now = report.root.name, time.monotonic()
        if self._asked or not is_too_slow(report) or now - self._begun.get(name, -_AGAIN_S) < _AGAIN_S:
            return
        while len(self._begun) >= _MOST_NAMES:
            del self._begun[next(iter(self._begun))]
        if len(self._due) < _MOST_NAMES:
            self._due.add(name)


def is_too_slow(report: Report) -> bool:
    """Was a budget of time exceeded, or was a call slow that spent at least a quarter of its time on the CPU?"""
    return any(
        (finding.kind == "budget_exceeded" and finding.threshold.partition(" = ")[0].endswith(_TIME_BUDGETS))
        or (finding.kind == "slow_operation" and any(_is_busy(report, span_id) for span_id in finding.evidence))
        for finding in report.findings
    )


def _is_busy(report: Report, span_id: str) -> bool:
    span = report.run.by_id[span_id]
    return span.cpu_ns is not None and 4 * span.cpu_ns >= span.duration_ns


_Install = Callable[["_Sampler | None"], None]


def profiling(config: Config) -> Profiling | None:
    """None: profiling is off, or pyinstrument is missing, which is said once."""
    if config.profile == "off":
        return None
    try:
        from pyinstrument.low_level.stat_profile import setstatprofile, walltime_coarse_resolution
    except ImportError:
        _say_missing()
        return None
    interval, resolution = config.profile_interval_s, walltime_coarse_resolution()
    # The clock is read at every call that the program makes; the coarse one costs next to nothing.
    timer = "walltime" if resolution is None or resolution > interval else "walltime_coarse"
    return Profiling(config, partial(setstatprofile, interval=interval, timer_type=timer))


_said_missing = False


def _say_missing() -> None:
    global _said_missing
    if not _said_missing:
        _said_missing = True
        _logger.warning("otel-agentperf: %s", _MISSING)


class _Session:
    """The samples of one run, from all its threads."""

    def __init__(self, trace_id: int, root_id: int, is_agent: bool, is_open: Callable[[], bool]) -> None:
        self.trace_id = trace_id
        self.root_id = root_id
        self.is_agent = is_agent
        self.is_open = is_open
        self.is_over = False
        self._spans: dict[int, SpanSamples] = {}
        self._codes: dict[int, CodeType] = {}
        """by id, which they keep while they are here: hashing a code object costs more than a sample"""
        self._frames = 0
        self._disturbed = False

    def watch(self, install: _Install) -> None:
        """Sample this thread, unless a profiler of somebody else does."""
        active, sampler = sys.getprofile(), _mine()
        if active is None:
            # Ours was here, and is not any more: somebody's came and went.
            self._disturbed |= sampler is not None and sampler.session is self
            _here.sampler = _Sampler(self, install)
            install(_here.sampler)
            _here.installed = sys.getprofile()
        elif sampler is None or active is not _here.installed:
            self._disturbed = True
        elif sampler.session is not self:
            sampler.turn_to(self)

    def end(self) -> None:
        """Let go of the samples, as samplers of other threads only find out when they are called next."""
        self.is_over = True
        self._spans, self._codes = {}, {}

    def book(self, span_id: int, frame: FrameType | None, spent: int) -> None:
        """`spent` nanoseconds of CPU went to `frame`, or nobody knows where (None), while the span was current."""
        span = self._spans.get(span_id)
        if span is None:
            if len(self._spans) >= _MOST_SPANS:
                return
            span = self._spans[span_id] = SpanSamples()
        span.cpu_ns += spent
        if frame is None:
            return
        span.samples += 1
        stack = self._number(frame.f_code), self._number(_caller(frame))
        known = span.frames.get(stack)
        if known is not None:
            span.frames[stack] = known + spent
        elif self._frames < _MOST_FRAMES:
            self._frames += 1
            span.frames[stack] = spent

    def _number(self, code: CodeType | None) -> int:
        if code is None:
            return 0
        self._codes[id(code)] = code
        return id(code)

    def result(self, records: Iterable[SpanRecord]) -> Result:
        sampler = _mine()
        if sampler is not None and sampler.session is self and sys.getprofile() is not _here.installed:
            self._disturbed = True
        spans, codes = self._spans, self._codes
        sampled = []
        for record in records:
            samples = spans.get(int(record.span_id, 16))
            if samples is not None:  # copied, as other threads may still add to it
                sampled.append((record, SpanSamples(samples.cpu_ns, samples.samples, dict(samples.frames))))
        found = hottest(sampled, lambda number: place(codes[number]))
        return Result(found, _DISTURBED if self._disturbed else "" if found else _NOTHING_HOT)


class _Sampler:
    """What pyinstrument calls on one thread, every few milliseconds."""

    __slots__ = ("_cpu_ns", "_install", "_waits", "_wall_ns", "session")

    def __init__(self, session: _Session, install: _Install) -> None:
        self._install = install
        self.turn_to(session)

    def turn_to(self, session: _Session) -> None:
        """Sample for this run from now on."""
        self.session: _Session | None = session
        self._wall_ns, self._cpu_ns, self._waits = time.perf_counter_ns(), time.thread_time_ns(), _waits()

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        try:
            self._sample(frame, event)
        except RecursionError:
            return  # the program is as deep as it may go: there is no room to say so either
        except Exception as fault:  # noqa: BLE001 - ours; it would be raised in the middle of the program
            _guard.swallowed("profiling.sample", fault)

    def _sample(self, frame: FrameType, event: str) -> None:
        wall, cpu, waits = time.perf_counter_ns(), time.thread_time_ns(), _waits()
        passed, spent, has_waited = wall - self._wall_ns, cpu - self._cpu_ns, waits != self._waits or waits < 0
        self._wall_ns, self._cpu_ns, self._waits = wall, cpu, waits
        session = self.session
        if session is None or session.is_over:
            self.remove()
            return
        context = trace.get_current_span().get_span_context()
        if context.trace_id != session.trace_id:
            return
        # A sample that was due while a built-in function waited comes at its end: what ran before is not known.
        unknown = has_waited and 2 * spent < passed and event in ("c_return", "c_exception")
        ran = frame.f_back or frame if event == "call" else frame
        session.book(context.span_id, None if unknown else ran, spent)

    def remove(self) -> None:
        """From this thread, if it is still there: a profiler that somebody has started since stays. `_here` keeps
        both our objects, as we may have been called by them."""
        self.session = None
        if sys.getprofile() is _here.installed:
            self._install(None)


def _waits() -> int:
    """How often the thread has given up the CPU to wait: on a busy machine, time alone does not tell that from having
    to share it. Below 0: this system does not say."""
    return -1 if _THREAD is None else resource.getrusage(_THREAD).ru_nvcsw


def _caller(frame: FrameType) -> CodeType | None:
    """The nearest function of the program's own, for a frame in a library; not beyond a span that we made."""
    above: FrameType | None = frame
    for _ in range(_FARTHEST_CALLER):
        if above is None or above.f_code.co_filename.startswith(OURS):
            return None
        if not is_library(above.f_code.co_filename):
            return None if above is frame else above.f_code
        above = above.f_back
    return None


_here = threading.local()
"""`sampler`: the last one of this thread; `installed`: what `sys.getprofile` says while it is there"""
_lock = threading.RLock()
_current: _Session | None = None


def _mine() -> _Sampler | None:
    """The sampler that we put on this thread."""
    found: _Sampler | None = getattr(_here, "sampler", None)
    return found


def _take(session: _Session) -> bool:
    """Make it the one that is profiled, unless one is that is open. An agent need not wait for what is none."""
    global _current
    with _lock:
        now = _current
        if now is not None and now.is_open():
            if now.trace_id == session.trace_id:
                now.is_agent |= session.is_agent
                return False
            if now.is_agent or not session.is_agent:
                return False
        if now is not None:
            now.end()
        _current = session
        return True


def _release(session: _Session) -> None:
    global _current
    with _lock:
        session.end()
        if _current is session:
            _current = None


def _after_fork_in_child() -> None:
    """The run goes on in the parent; here the sampler goes when it is called next."""
    global _lock
    _lock = threading.RLock()
    if _current is not None:
        _release(_current)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
