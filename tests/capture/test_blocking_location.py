"""A code location names the program's own code, never paths, text or values."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def located(tmp_path: Path, main: str, modules: dict[str, str]) -> str:
    """What the program `main` prints; `modules` are written beside it, by their paths."""
    for name, text in modules.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    (tmp_path / "main.py").write_text(textwrap.dedent(main))
    paths = os.pathsep.join([str(tmp_path), str(tmp_path / "lib" / "site-packages")])
    done = subprocess.run(
        [sys.executable, str(tmp_path / "main.py")],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": paths},
        check=True,
    )
    return done.stdout.strip()


LOOK = """
import sys
from otel_agentperf.capture.locations import blocking_location
def look():
    return blocking_location(sys._getframe())
"""
CALLER = """
def run(function):
    return function()
"""


@pytest.mark.parametrize(
    ("main", "modules", "expected"),
    [
        (LOOK + "print(look())", {}, "main.py:5 look"),
        ("from app.tools import look\nprint(look())", {"app/tools.py": LOOK}, "app/tools.py:5 look"),
        ("from app import look\nprint(look())", {"app/__init__.py": LOOK}, "app/__init__.py:5 look"),
        (
            "from client.http import look\ndef search():\n    return look()\nprint(search())",
            {"lib/site-packages/client/http.py": LOOK},
            "main.py:3 search",
        ),
        (
            "from client.loop import run\nfrom client.http import look\nimport threading, sys\n"
            "threading.Thread(target=lambda: None)\nprint(run(look))",
            {"lib/site-packages/client/http.py": LOOK, "lib/site-packages/client/loop.py": CALLER},
            "main.py:5 <module>",
        ),
    ],
)
def test_the_programs_own_code_is_named(tmp_path: Path, main: str, modules: dict[str, str], expected: str) -> None:
    assert located(tmp_path, main, modules) == expected


def test_a_library_that_works_for_itself_is_named_by_its_own_path(tmp_path: Path) -> None:
    look = LOOK.replace("return blocking", "found.append(blocking").replace("())", "()))") + "found = []\n"
    main = """
        import threading
        from client import http
        thread = threading.Thread(target=http.look)
        thread.start()
        thread.join()
        print(http.found[0])
    """
    assert located(tmp_path, main, {"lib/site-packages/client/http.py": look}) == "client/http.py:5 look"


def test_our_own_work_is_not_the_programs(tmp_path: Path) -> None:
    main = """
        import sys
        from otel_agentperf import _guard
        from otel_agentperf.capture.locations import blocking_location
        names = {}
        exec(compile("def ours(f):\\n    return f()", _guard.__file__, "exec"), names)
        frame = names["ours"](lambda: sys._getframe(1))
        print(frame.f_code.co_name, blocking_location(frame))
    """
    assert located(tmp_path, main, {}) == "ours None"
