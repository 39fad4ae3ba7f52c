"""`agentperf run PROGRAM`: the program as it is, with tracing on, and the report when it ends."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any, NoReturn, TextIO

import click

from ..model import Report
from ..processor import on_report
from ._output import open_output, output_options, write

_MOST_REPORTS = 1_000
_ENDPOINTS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
_SIGNALS = ("TRACES", "METRICS", "LOGS")


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-m", "is_module", is_flag=True, help="PROGRAM is a module, as with python -m.")
@output_options
@click.argument("program")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(is_module: bool, format_: str, output: Path | None, program: str, args: Sequence[str]) -> None:
    """Run a Python program and print the report of its agent runs when it ends.

    Nothing in the program changes; its exit code is kept, and the report also comes when it fails or is
    interrupted. Traces and metrics are exported too when OTEL_EXPORTER_OTLP_ENDPOINT is set.
    """
    session = _Session(program, format_, open_output(output))
    code, globals_ = _load(program, is_module)
    sys.argv = [globals_["__file__"] if is_module else program, *args]
    atexit.register(session.finish)
    session.start()
    session.execute(code, globals_)


class _Session:
    """One program being run: its reports, and how it ended."""

    def __init__(self, program: str, format_: str, file: TextIO | None) -> None:
        self._program = program
        self._format = format_
        self._file = file
        self._reports: list[Report] = []
        self._left_out = 0
        self._signal: int | None = None
        self._pid = os.getpid()

    def start(self) -> None:
        """Set OpenTelemetry up as `opentelemetry-instrument` does, without an exporter unless one is asked for."""
        if not any(os.environ.get(name) for name in _ENDPOINTS):
            for name in _SIGNALS:
                os.environ.setdefault(f"OTEL_{name}_EXPORTER", "none")
        on_report(self._keep)
        from opentelemetry.instrumentation.auto_instrumentation import initialize

        initialize()
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._terminated)

    def execute(self, code: CodeType, globals_: dict[str, Any]) -> None:
        """Run the program as `__main__`; leaves as it does."""
        try:
            exec(code, globals_)
        except SystemExit:
            raise
        except KeyboardInterrupt as error:
            self._signal = signal.SIGINT
            _show(error)
            sys.exit(130)
        except BaseException as error:  # noqa: BLE001 - what Python itself would do with it, without our frames
            _show(error)
            sys.exit(1)

    def finish(self) -> None:
        """At exit, after the program's own exit functions: print the report."""
        if os.getpid() != self._pid:
            return  # a forked child
        _flush_providers()
        if not self._reports and self._format == "terminal":
            _say(f"{self._program} made no agent run that was seen. Supported libraries are traced by themselves; "
                 "mark your own code with @agent and @tool, or name it in OTEL_AGENTPERF_WRAP.")  # fmt: skip
        else:
            write(self._reports, self._format, self._file)
        if self._left_out:
            _say(f"only the last {_MOST_REPORTS} runs are shown; {self._left_out} earlier ones are left out")
        if self._signal is not None:
            signal.signal(self._signal, signal.SIG_DFL)
            os.kill(self._pid, self._signal)

    def _keep(self, report: Report) -> None:
        self._reports.append(report)
        if len(self._reports) > _MOST_REPORTS:
            del self._reports[0]
            self._left_out += 1

    def _terminated(self, number: int, frame: object) -> NoReturn:
        """The program had no handler for it: report what there is, then die of the signal after all."""
        self._signal = number
        sys.exit(128 + number)


def _load(program: str, is_module: bool) -> tuple[CodeType, dict[str, Any]]:
    """The program's code and the globals of its `__main__`, which it becomes, as under plain Python."""
    try:
        code, told = _load_module(program) if is_module else _load_file(program)
    except OSError as error:
        raise click.ClickException(f"cannot read {program}: {error.strerror}") from None
    except SyntaxError as error:
        raise click.ClickException(f"{program}, line {error.lineno}: {error.msg}") from None
    except ValueError as error:
        raise click.ClickException(f"{program} is no Python source: {error}") from None
    main = ModuleType("__main__")
    sys.modules["__main__"] = main
    vars(main).update(told)
    return code, vars(main)


def _load_file(program: str) -> tuple[CodeType, Mapping[str, Any]]:
    path = Path(program)
    if path.is_dir():
        path = path / "__main__.py"
        sys.path.insert(0, program)
    else:
        sys.path.insert(0, str(path.resolve().parent))
    code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    return code, {"__file__": str(path), "__cached__": None, "__builtins__": __builtins__, "__spec__": None}


def _load_module(program: str) -> tuple[CodeType, Mapping[str, Any]]:
    import importlib.util

    sys.path.insert(0, os.getcwd())
    spec = _find_spec(importlib.util.find_spec, program)
    code = spec.loader.get_code(spec.name)
    if code is None:
        raise click.ClickException(f"{program} has no Python code to run")
    told = {"__file__": spec.origin, "__spec__": spec, "__package__": spec.parent, "__loader__": spec.loader}
    return code, {**told, "__builtins__": __builtins__}


def _find_spec(find: Callable[[str], Any], program: str) -> Any:
    try:
        spec = find(program)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = find(f"{program}.__main__")
    except ImportError:
        spec = None
    if spec is None or not hasattr(spec.loader, "get_code"):
        raise click.ClickException(f"there is no module {program} (looked in {os.getcwd()} and the installed packages)")
    return spec


def _show(error: BaseException) -> None:
    """The traceback as Python would print it, from the program's first frame on."""
    trace: TracebackType | None = error.__traceback__
    sys.excepthook(type(error), error, trace.tb_next if trace else None)


def _flush_providers() -> None:
    """Open runs are reported when the provider shuts down, which its own exit function may not have done yet."""
    from opentelemetry import trace

    shutdown = getattr(trace.get_tracer_provider(), "shutdown", None)
    if shutdown is not None:
        shutdown()


def _say(message: str) -> None:
    click.echo(f"agentperf: {message}", err=True)
