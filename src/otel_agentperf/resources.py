"""What the process uses while runs go on. Read when a run starts and ends, and now and then in between: a reading
costs more than a span (psutil: 17 µs for the memory), so a young one is used again."""

from __future__ import annotations

import time
from typing import NamedTuple

import psutil

from . import _guard
from .model import ResourceUsage

_YOUNG_S = 0.1


class Mark(NamedTuple):
    """The moment a run started."""

    wall_s: float
    cpu_s: float
    memory_mb: float | None


class Resources:
    """Memory and CPU of this process."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._read_at = float("-inf")
        self._memory_mb: float | None = None

    def mark(self) -> Mark:
        """Now."""
        now = time.perf_counter()
        return Mark(now, time.process_time(), self._memory(now))

    def since(self, mark: Mark) -> ResourceUsage:
        """Mean memory, and CPU in percent of one core, since `mark`."""
        now = time.perf_counter()
        memory = [value for value in (mark.memory_mb, self._memory(now)) if value is not None]
        wall = now - mark.wall_s
        cpu = 100.0 * (time.process_time() - mark.cpu_s) / wall if wall > 0 else None
        return ResourceUsage(sum(memory) / len(memory) if memory else None, cpu)

    def _memory(self, now: float) -> float | None:
        if now - self._read_at > _YOUNG_S:
            self._read_at = now
            with _guard.guard("resources.memory"):
                self._memory_mb = self._process.memory_info().rss / 1e6
        return self._memory_mb
