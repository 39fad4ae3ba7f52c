"""`agentperf run PROGRAM`: the program as it is, with tracing on, and the report when it ends."""

from __future__ import annotations

import atexit
import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import CodeType
from typing import Any, TextIO

import click
from click.globals import pop_context, push_context
from opentelemetry import trace

from .. import _config, _guard
from ..model import Report
from ..processor import on_report, processor_of
from ._fail_on import FAILED, Gate, fail_on_option
from ._output import open_output, output_options, write
from ._program import Globals, load
from ._sources import one_line
from ._telemetry import set_up, shut_down

_MOST_REPORTS = 1_000
_MOST_SPANS = 200_000
"""of all reports that are kept"""


@click.command(
    "run", short_help="Run a program and report its agent runs.", context_settings={"allow_interspersed_args": False}
)
@click.option("-m", "is_module", is_flag=True, help="PROGRAM is a module or package, as with python -m.")
@click.option("--profile", is_flag=True, help="Say which functions the CPU time of each run went to; slows it down.")
@fail_on_option
@output_options
@click.argument("program")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(
    is_module: bool,
    profile: bool,
    fail_on: Any,
    format_: str,
    output: Path | None,
    program: str,
    args: Sequence[str],
) -> None:
    """Run a Python program and print the report of its agent runs when it ends.

    \b
    agentperf run app.py --its-own options
    agentperf run -m package.module
    agentperf run --format json --output report.json app.py
    agentperf run --fail-on warning,'duration>20s' app.py

    What follows PROGRAM belongs to it. Nothing in the program changes: it reads and prints as it always does, its
    exit code is kept, and the report also comes when it fails, is interrupted (Ctrl-C) or terminated. Only where it
    ends well and --fail-on is met, the exit code is 3.

    The supported libraries are traced by themselves. Mark your own code with @agent and @tool of otel_agentperf, or
    name it from outside: OTEL_AGENTPERF_WRAP="app.tools:search=tool,app:plan=agent".

    With OTEL_EXPORTER_OTLP_ENDPOINT set, traces and metrics are exported as well; otherwise nothing is sent anywhere.
    """
    session = _Session(program, format_, open_output(output), Gate(fail_on))
    with _outside_click():
        session.start({"OTEL_AGENTPERF_PROFILE": "on"} if profile else {})
        session.execute(lambda: load(program, is_module), args)


@contextmanager
def _outside_click() -> Iterator[None]:
    """The program may use click itself, and must not find itself inside our command."""
    contexts = []
    while (context := click.get_current_context(silent=True)) is not None:
        contexts.append(context)
        pop_context()
    try:
        yield
    finally:
        for context in reversed(contexts):
            push_context(context)


class _Session:
    """One program being run: its reports, and how it ended."""

    def __init__(self, program: str, format_: str, file: TextIO | None, gate: Gate) -> None:
        self._program = program
        self._format = format_
        self._file = file
        self._gate = gate
        self._encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        self._stdout = _identity(1)
        self._reports: dict[tuple[str, str], Report] = {}
        self._spans = 0
        self._lock = threading.RLock()
        """runs end on any thread, and in a signal handler on the one that holds it"""
        self._left_out = 0
        self._signal: int | None = None
        self._terminated = False
        self._running = False
        self._ended_well = False
        self._forking = False
        self._processor: Any = None
        self._pid = os.getpid()

    def start(self, settings: Mapping[str, str]) -> None:
        """Set OpenTelemetry up, with these besides the environment's. Exit functions run in reverse: the program's, the
        providers', and then ours."""
        atexit.register(self.finish)
        on_report(self._keep)
        set_up(settings)
        self._processor = processor_of(trace.get_tracer_provider())
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._terminate)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(before=self._before_fork, after_in_parent=self._after_fork)

    def execute(self, loaded: Callable[[], tuple[CodeType, Globals]], args: Sequence[str]) -> None:
        """Run the program as `__main__`; leaves as it does."""
        try:
            sys.argv = [self._program, *args]
            code, globals_ = loaded()
            spec = globals_["__spec__"]
            if spec and spec.name != "__main__":  # a module; a folder or zip file goes by what it was called by
                sys.argv[0] = globals_["__file__"]
            self._running = True
            exec(code, globals_)
            self._ended_well = True
        except (SystemExit, click.ClickException) as error:
            if self._running and isinstance(error, click.ClickException):
                _show(error)
                sys.exit(1)
            self._ended_well = isinstance(error, SystemExit) and error.code in (None, 0)
            raise
        except KeyboardInterrupt as error:
            self._signal = signal.SIGINT
            _show(error)
            sys.exit(130)
        except BaseException as error:  # noqa: BLE001 - what Python itself would do with it, without our frames
            _show(error)
            sys.exit(1)
        finally:
            if self._terminated:
                # Python would now wait for threads and call exit functions; the signal would not have.
                shut_down()
                self.finish()

    def finish(self) -> None:
        """At exit, after the program's own exit functions: print the report."""
        if not self._running:
            return
        self._running = False
        if os.getpid() == self._pid:  # not in a forked child
            with _guard.guard("run.shutdown"):
                if self._processor is not None:
                    self._processor.shutdown()  # runs that are still open
            self._print()
            self._judge()
        if self._signal is not None:
            signal.signal(self._signal, signal.SIG_DFL)
            os.kill(os.getpid(), self._signal)

    def _judge(self) -> None:
        """Say which conditions the runs meet, and fail a program that ended well."""
        with self._lock:
            for report in self._reports.values():
                self._gate.check(report)
        for line in self._gate.told():
            _say(one_line(line))
        if self._gate.failed and self._ended_well and self._signal is None:
            # An exit function cannot change the exit code, but this is the last one: of those that were there before
            # it, logging's alone has something to do.
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):
                    stream.flush()
            os._exit(FAILED)

    def _print(self) -> None:
        with self._lock:
            reports = list(self._reports.values())
        if not reports:
            _say(f"{self._program} made no agent run that was seen{_why_none()}")
        dropped = sum(self._processor.dropped.get(reason, 0) for reason in ("full", "old")) if self._processor else 0
        if dropped:
            _say(f"{dropped:,} spans were dropped: more of one run, more runs at once, or for longer, than "
                 "OTEL_AGENTPERF_MAX_SPANS, MAX_RUNS and MAX_AGE_S allow")  # fmt: skip
        if self._left_out:
            _say(f"only the last {len(reports):,} runs are shown; {self._left_out:,} earlier ones are left out")
        if reports or self._format != "terminal":
            try:
                write(reports, self._format, self._file or self._standard_output())
            except Exception as error:  # noqa: BLE001 - the program ended as it did, whatever becomes of the report
                _say(f"cannot write the report: {getattr(error, 'strerror', None) or repr(error)}")

    def _standard_output(self) -> TextIO:
        """A stream of its own, as the program may have replaced, detached or closed `sys.stdout`; the report starts
        on a new line, wherever the program's last one ended. Raises `OSError` where file 1 is another by now."""
        if self._stdout is None or _identity(1) != self._stdout:
            raise OSError(errno.EBADF, "standard output is closed, or was replaced; give --output FILE")
        for stream in (sys.stdout, sys.__stdout__):
            with suppress(Exception):
                stream.flush()  # type: ignore[union-attr]
        output = os.fdopen(os.dup(1), "w", encoding=self._encoding, errors="replace")
        output.write("\n")
        return output

    def _keep(self, report: Report) -> None:
        """The last runs, as many as there is room for. One that is reported twice is one run."""
        if os.getpid() != self._pid:
            return  # a forked child, which prints nothing
        key = report.root.trace_id, report.root.span_id
        with self._lock:
            self._spans += len(report.run.spans) - self._forget(key)
            self._reports[key] = report
            while len(self._reports) > _MOST_REPORTS or (self._spans > _MOST_SPANS and len(self._reports) > 1):
                oldest = next(iter(self._reports))
                self._gate.check(self._reports[oldest])
                self._spans -= self._forget(oldest)
                self._left_out += 1

    def _forget(self, key: tuple[str, str]) -> int:
        report = self._reports.pop(key, None)
        return len(report.run.spans) if report else 0

    def _terminate(self, number: int, frame: object) -> None:
        """The program had no handler for it: report what there is, then die of the signal after all."""
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != self._pid:
            os.kill(os.getpid(), number)  # a child forked by another thread, with nothing to report
            return
        self._signal, self._terminated = number, True
        sys.exit(128 + number)

    def _before_fork(self) -> None:
        """Children die of the signal as they always did, also of one that comes before they are ready for handlers."""
        in_main = threading.current_thread() is threading.main_thread()
        self._forking = in_main and signal.getsignal(signal.SIGTERM) == self._terminate
        if self._forking:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _after_fork(self) -> None:
        if self._forking:
            signal.signal(signal.SIGTERM, self._terminate)


def _show(error: BaseException) -> None:
    """The traceback as Python would print it, from the program's first frame on."""
    trace_ = error.__traceback__
    ours = {function.__code__.co_filename for function in (_show, load)}
    while trace_ is not None and trace_.tb_frame.f_code.co_filename in ours:
        trace_ = trace_.tb_next
    sys.excepthook(type(error), error.with_traceback(trace_), trace_)


def _identity(descriptor: int) -> tuple[int, int] | None:
    """What file it is, None where it is closed."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _why_none() -> str:
    """The setting that keeps runs from being seen, otherwise what makes them."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ": OTEL_SDK_DISABLED is true."
    if os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower().endswith("always_off"):
        return ": OTEL_TRACES_SAMPLER leaves all of them out."
    if not _config.load().enabled:
        return ": otel-agentperf is not enabled (OTEL_AGENTPERF_ENABLED)."
    return (
        ". Supported libraries are traced by themselves; mark your own code with @agent and @tool, "
        "or name it in OTEL_AGENTPERF_WRAP."
    )


def _say(message: str) -> None:
    with suppress(OSError, ValueError):  # the program may have closed it
        click.echo(f"agentperf: {message}", err=True)
