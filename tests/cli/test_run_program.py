"""A program under `agentperf run` is the program that it is under `python`."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import zipapp

import pytest

from cli._run import AGENTPERF, PLANNER, Folder

IDENTITY = '''
"""The docstring."""
from __future__ import annotations
import __main__, json, sys
print(json.dumps({
    "name": __name__, "doc": __doc__, "file": __file__, "package": __package__, "argv": sys.argv, "path": sys.path,
    "spec": __spec__ and __spec__.name, "loader": type(__loader__).__name__, "builtins": type(__builtins__).__name__,
    "main": __main__.__dict__ is globals(), "annotations": __annotations__, "stdin": sys.stdin.read(),
    "names": sorted(set(globals()) - {"__annotations__"}), "otel": {k: v for k, v in __import__("os").environ.items() if "OTEL" in k},
}))
'''  # noqa: E501
ARGS = ("-x", "--format", "json", "-m", "--", "--help", "-o", "a b", "")


@pytest.mark.parametrize(
    "program",
    [
        ("app.py",),
        ("./sub/../app.py",),
        ("/tmp/link.py",),
        ("package",),
        ("app.pyz",),
        ("-m", "package.module"),
        ("-m", "package"),
        ("-m", "app"),
    ],
    ids=" ".join,
)
def test_a_program_sees_what_it_sees_under_python(folder: Folder, program: tuple[str, ...]) -> None:
    for name in ("app.py", "package/__main__.py", "package/module.py", "sub/other.py"):
        folder.write(IDENTITY, name)
    (folder.path / "link.py").symlink_to(folder.path / "app.py")
    zipapp.create_archive(folder.path / "package", folder.path / "app.pyz")
    program = tuple(part.replace("/tmp", str(folder.path)) for part in program)
    plain = folder.run(sys.executable, *program, *ARGS, stdin="typed")
    ours = folder.agentperf("run", *program, *ARGS, stdin="typed")
    assert (plain.code, plain.err) == (0, "")
    assert ours.out == plain.out
    assert ours.code == 0


def test_a_folder_with_a_main_is_a_program(folder: Folder) -> None:
    folder.write("import beside, sys; print(beside.__name__, __name__, sys.argv)", "tool/__main__.py")
    folder.write("", "tool/beside.py")
    assert folder.agentperf("run", "tool", "x").out == "beside __main__ ['tool', 'x']\n"


def test_a_program_in_another_folder_finds_its_neighbours_and_keeps_the_working_folder(folder: Folder) -> None:
    folder.write("import beside, os; os.chdir('/'); print(beside.here, __file__)", "sub/app.py")
    folder.write("import os; here = os.getcwd()", "sub/beside.py")
    assert folder.agentperf("run", "sub/app.py").out == f"{folder.path} {folder.path}/sub/app.py\n"


MAIN_CLASSES = """
import dataclasses, multiprocessing, pickle, sys
@dataclasses.dataclass
class Point:
    x: "int"
def double(point):
    return Point(point.x * 2)
if __name__ == "__main__":
    assert pickle.loads(pickle.dumps(Point(1))) == Point(1)
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        print(pool.map(double, [Point(3)]))
    child = multiprocessing.get_context(sys.argv[1]).Process(target=__import__("time").sleep, args=(30,))
    child.start()
    child.terminate()
    child.join()
    print(child.exitcode)
    planner()
"""


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_classes_of_main_pickle_and_processes_start_and_end(folder: Folder, method: str) -> None:
    done = folder.report_of(MAIN_CLASSES, method)
    assert done.err == ""
    assert done.out.splitlines()[:2] == ["[Point(x=6)]", "-15"]
    assert done.runs == ["planner"]


ENDINGS = {
    "it returns": ("", 0, ""),
    "sys.exit(3)": ("sys.exit(3)", 3, ""),
    "sys.exit(None)": ("sys.exit()", 0, ""),
    "sys.exit(text)": ("sys.exit('no such city')", 1, "no such city\n"),
    "click in it exits": ("import click; click.Command('c', callback=lambda: sys.exit(4)).main([])", 4, ""),
    "a thread goes on": ("threading.Thread(target=lambda: (time.sleep(0.2), planner())).start()", 0, ""),
    "its exit function": ("atexit.register(lambda: (planner(), print('last words')))", 0, ""),
    "its standard output is closed": ("sys.stdout.close()", 0, ""),
    "its standard output is another": ("sys.stdout = open(os.devnull, 'w')", 0, None),
    "its standard output is detached": (
        "import io; sys.stdout = io.TextIOWrapper(sys.stdout.detach()); print('x')",
        0,
        "",
    ),
    "its standard error is closed": ("sys.stderr.close()", 0, ""),
    "runs end on many threads": (
        "from concurrent.futures import ThreadPoolExecutor as P\nfor _ in P(8).map(lambda _: planner(), range(60)): 0",
        0,
        "",
    ),
    "no newline at the end": ("print('bye', end='')", 0, ""),
    "it forks": ("(os.fork() and os.wait()) or print('child', flush=True)", 0, ""),
    "a fork exits": ("if not os.fork(): sys.exit(9)\nelse: os.wait()", 0, ""),
    "a fork fails": ("if not os.fork(): os.dup2(os.open(os.devnull, 1), 2); 1/0\nelse: os.wait()", 0, ""),
    "a fork makes runs": ("if not os.fork(): planner(); sys.exit()\nelse: os.wait()", 0, ""),
    "the provider is shut down": ("from opentelemetry import trace; trace.get_tracer_provider().shutdown()", 0, ""),
}


@pytest.mark.parametrize(("code", "status", "err"), ENDINGS.values(), ids=ENDINGS.keys())
def test_however_it_ends_the_report_is_the_last_line_and_the_exit_code_stays(
    folder: Folder, code: str, status: int, err: str | None
) -> None:
    done = folder.report_of(f"import atexit, os, sys, threading\nplanner()\n{code}\n")
    assert done.code == status
    assert set(done.runs) == {"planner"}
    assert done.out.count("agentperf.report/v1") == 1
    assert err is None or done.err == err


def test_what_runs_in_exit_functions_and_threads_is_in_the_report(folder: Folder) -> None:
    code = """
        import atexit, threading
        atexit.register(lambda: (planner(), print("last words")))
        threading.Thread(target=lambda: (time.sleep(0.2), planner())).start()
        planner()
    """
    done = folder.report_of(code)
    assert done.runs == ["planner"] * 3
    assert done.out.splitlines()[0] == "last words"


def test_os_exit_leaves_as_it_is_asked_to(folder: Folder) -> None:
    done = folder.report_of("planner(); import os; os._exit(5)")
    assert (done.code, done.out, done.err) == (5, "", "")


FAILURES = ("1/0", "raise BaseException('out')", "import click; raise click.Abort()",
            "raise ExceptionGroup('two', [ValueError(1)])", "raise BrokenPipeError()")  # fmt: skip


@pytest.mark.parametrize("failure", FAILURES)
def test_a_traceback_is_pythons(folder: Folder, failure: str) -> None:
    if "Group" in failure and sys.version_info < (3, 11):
        pytest.skip("has no exception groups")
    code = PLANNER + f"planner()\ndef main():\n    {failure}\nmain()\n"
    folder.write(code)
    plain = folder.run(sys.executable, "app.py")
    ours = folder.agentperf("run", "--format", "json", "app.py")
    assert ours.err == plain.err
    assert f'  File "{folder.path}/app.py", line 15, in <module>' in ours.err
    assert ours.code == plain.code == 1
    assert ours.runs == ["planner"]


def test_an_excepthook_of_the_program_is_used(folder: Folder) -> None:
    hook = "import sys; sys.excepthook = lambda kind, error, trace: print('hook', kind.__name__, file=sys.stderr)"
    done = folder.report_of(f"{hook}\nplanner()\n1/0")
    assert (done.code, done.err) == (1, "hook ZeroDivisionError\n")


def test_a_failing_import_of_a_modules_parent_is_the_programs_own_failure(folder: Folder) -> None:
    folder.write("import nothing_of_this_name", "package/__init__.py")
    folder.write("", "package/__main__.py")
    done = folder.agentperf("run", "-m", "package")
    assert done.code == 1
    assert "ModuleNotFoundError: No module named 'nothing_of_this_name'" in done.err
    assert "otel_agentperf" not in done.err


WAITING = """
@agent
def waiting():
    search(1)
    print("ready", flush=True)
    time.sleep(30)
"""
INTERRUPTED = {
    "Ctrl-C": (signal.SIGINT, "waiting()", "KeyboardInterrupt"),
    "terminated": (signal.SIGTERM, "waiting()", ""),
    "terminated in asyncio": (signal.SIGTERM, "import asyncio\nasync def main(): waiting()\nasyncio.run(main())", ""),
    "terminated with a thread that goes on": (
        signal.SIGTERM, "import threading\nthreading.Thread(target=time.sleep, args=(30,)).start()\nwaiting()", ""),
    "terminated though it would not": (
        signal.SIGTERM, "try: waiting()\nexcept BaseException: pass", ""),
    "exit functions are not for the terminated": (
        signal.SIGTERM, "import atexit; atexit.register(lambda: print('last words'))\nwaiting()", ""),
}  # fmt: skip


@pytest.mark.parametrize(("number", "code", "err"), INTERRUPTED.values(), ids=INTERRUPTED.keys())
def test_a_signal_ends_it_as_it_would_and_the_report_comes(
    folder: Folder, number: signal.Signals, code: str, err: str
) -> None:
    folder.write(PLANNER + WAITING + "planner()\n" + code)
    with folder.start(AGENTPERF, "run", "--format", "json", "app.py") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        started = time.monotonic()
        process.send_signal(number)
        out, said = process.communicate(timeout=20)
    assert process.returncode == -number
    assert time.monotonic() - started < 5
    assert out.startswith("\n{")
    assert '"name": "waiting"' in out
    assert out.count("agentperf.report/v1") == 1
    assert (err in said) if err else said == ""


def test_a_handler_of_the_program_keeps_its_signal(folder: Folder) -> None:
    code = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: print('mine'))\nsignal.raise_signal(15)\nplanner()"
    done = folder.report_of(code)
    assert done.code == 0
    assert done.out.startswith("mine\n")


def test_a_killed_fork_dies_of_its_signal(folder: Folder) -> None:
    code = """
        import os, signal
        child = os.fork()
        if not child:
            time.sleep(30)
            os._exit(1)
        os.kill(child, signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
        planner()
    """
    done = folder.report_of(code)
    assert done.out.startswith("-15\n")
    assert done.runs == ["planner"]


def test_a_run_that_is_still_open_is_reported_as_incomplete(folder: Folder) -> None:
    code = """
        import threading
        @agent
        def endless(): search(1); time.sleep(30)
        threading.Thread(target=endless, daemon=True).start()
        time.sleep(0.1)
    """
    done = folder.report_of(code)
    (run,) = done.document["runs"]
    assert (run["name"], run["incomplete"]) == ("endless", True)


def test_a_program_that_uses_click_is_not_inside_of_our_command(folder: Folder) -> None:
    code = "import click\nassert click.get_current_context(silent=True) is None\nplanner()"
    assert folder.report_of(code).code == 0


WRONG_PROGRAMS = {
    "no such file": (("none.py",), "cannot read none.py: No such file or directory"),
    "a command": (
        ("python", "app.py"),
        "PROGRAM is a Python file, a folder or zip file with a __main__.py, or with -m a module",
    ),
    "no such module": (("-m", "none.such"), "there is no module none.such"),
    "a file for -m": (("-m", "app.py"), "-m takes a name such as app, not a file"),
    "a package without a main": (("-m", "email"), "there is no module email.__main__"),
    "a built-in": (("-m", "sys"), "has no Python code to run"),
    "an empty name": (("-m", ""), "there is no module"),
    "a relative name": (("-m", ".app"), "there is no module .app"),
    "a folder without a main": (("empty",), "cannot read empty: No such file or directory"),
    "a binary": (("binary",), "null bytes"),
    "our own option, unknown": (("-x", "app.py"), "No such option"),
    "nothing": ((), "Missing argument 'PROGRAM'"),
}


@pytest.mark.parametrize(("args", "expected"), WRONG_PROGRAMS.values(), ids=WRONG_PROGRAMS.keys())
def test_what_is_no_program_is_said_in_a_line(folder: Folder, args: tuple[str, ...], expected: str) -> None:
    folder.write("", "app.py")
    (folder.path / "empty").mkdir()
    (folder.path / "binary").write_bytes(b"\x7fELF\x00\x00\x01")
    done = folder.agentperf("run", *args)
    assert done.code in (1, 2)
    assert done.out == ""
    assert expected in done.err
    assert "Traceback" not in done.err


def test_a_syntax_error_is_shown_as_python_shows_it(folder: Folder) -> None:
    folder.write("planner = (\n")
    plain = folder.run(sys.executable, "app.py")
    ours = folder.agentperf("run", "app.py")
    assert (ours.code, ours.err, ours.out) == (1, plain.err, "")


def test_stdin_and_binary_output_pass_untouched(folder: Folder) -> None:
    folder.write("import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read()[::-1]); sys.stderr.write('e')")
    done = subprocess.run(
        [AGENTPERF, "run", "app.py"], input=b"\x00\xff\r\n", capture_output=True, cwd=folder.path, check=False
    )
    assert done.stdout == b"\n\r\xff\x00"
    assert done.stderr.startswith(b"e")
