"""The soak command, for as long as a test may take: a leak of some kilobytes a run shows even in 15 s."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"
LIMIT_MB_H = 1_500
"""2 kB a run; what the allocator does in such a short time is a third of it"""


def soak(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SOAK), "--limit", str(LIMIT_MB_H), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_nothing_grows_and_every_report_arrives() -> None:
    done = soak("--seconds", "20")
    assert done.returncode == 0, done.stdout
    assert "0 errors swallowed" in done.stdout
    assert "reports and" in done.stdout


def test_nothing_grows_where_nobody_listens() -> None:
    done = soak("--seconds", "15", "--exporter", "dead")
    assert done.returncode == 0, done.stdout


def test_a_leak_is_seen() -> None:
    done = soak("--seconds", "10", "--leak", "30000")
    assert done.returncode == 1, done.stdout
    assert "memory grows" in done.stdout
