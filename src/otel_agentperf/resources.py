"""What the process and the machine use while runs go on.

Read when a run starts and ends and now and then in between, by whoever comes by (a span, the loop monitor): no thread
is needed, because CPU time adds up, so that two readings tell all between them. A reading is taken a few times a
second, and less often where it costs more.

On Linux two files are read as they are. psutil's buffered reading lets go of the interpreter lock three times as often,
and where a thread computes each time is a wait of 5 ms for the lock: 24 of them in one reading were measured.
"""

from __future__ import annotations

import os
import sys
import time
from bisect import bisect_left
from collections import deque
from operator import itemgetter
from threading import Lock
from typing import NamedTuple

import psutil

from . import _guard
from ._fork import call_in_child
from .container import Container, container
from .model import FullCpu, ResourceUsage

_YOUNG_S = 0.1
_EVERY_S = 0.25
_MACHINE_EVERY_S = 2.0
"""between readings of the machine's memory"""
_COST_SHARE = 1_000
"""a reading takes this part of the time at most: 0.1 %"""
_WAIT_SHARE = 100
"""… and its waits for the interpreter lock, which other threads get at each look at a file, 1 %"""
_LONGEST_WINDOW_S = 60.0
_WANTED = 0.5
"""A machine that others keep busy is this run's matter where the process itself wants a core: takes half a one."""
_MOST_FULL = 256
_MOST_OF_A_RUN = 32
_TOUCHING_NS = 20_000_000


class Mark(NamedTuple):
    """The moment a run started."""

    wall_s: float
    cpu_s: float
    memory_mb: float | None
    most_mb: float | None = None
    """the most that the process ever had used"""
    machine: tuple[float, float] | None = None
    """how much the machine's cores had worked, and all of their time"""


class _Reading(NamedTuple):
    wall_s: float
    cpu_s: float
    container_ns: int | None
    machine: tuple[float, float] | None


class Peaks:
    """The highest of the values since any moment: older ones that a later one tops are forgotten."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, float]] = deque(maxlen=512)

    def add(self, moment: float, value: float) -> None:
        while self._kept and self._kept[-1][1] <= value:
            self._kept.pop()
        self._kept.append((moment, value))

    def since(self, moment: float) -> float | None:
        """The highest value added at or after `moment`."""
        kept = list(self._kept)  # in one step: another thread may be adding
        index = bisect_left(kept, moment, key=itemgetter(0))
        return kept[index][1] if index < len(kept) else None


class Resources:
    """Memory and CPU. `full`: share of the cores from which the CPU counts as full. `enabled`: false reads nothing."""

    def __init__(self, full: float = 0.9, enabled: bool = True, within: Container | None = None) -> None:
        self._enabled = enabled
        self._full_share = full
        self._within = within or container()
        self._limit_mb = self._within.memory_bytes / 1e6 if self._within.memory_bytes else None
        self._reset()
        call_in_child(self._reset)

    def _reset(self) -> None:
        """At the start, and in a forked child: another process, which may find the lock held by a thread it lacks."""
        self._memory_mb: float | None = None
        self._machine: tuple[float, float] | None = None
        self._last: _Reading | None = None
        self.due_s = self._machine_read_s = float("-inf")
        self._machine_memory: float | None = None
        self._every_s = _EVERY_S
        self._memory_peaks, self._cpu_peaks, self._machine_peaks = Peaks(), Peaks(), Peaks()
        self._full: deque[FullCpu] = deque(maxlen=_MOST_FULL)
        self._lock = Lock()

    def mark(self) -> Mark:
        """Now."""
        now = time.perf_counter()
        if self._enabled:
            self._read_at_end(now)
        return Mark(now, time.process_time(), self._memory_mb, most_mb(), self._machine)

    def sample(self, now_s: float | None = None) -> None:
        """Read again if it is time; `now_s` is `perf_counter`. Cheap when it is not."""
        if self._enabled and (now_s is None or now_s >= self.due_s):
            self._read(time.perf_counter(), self._every_s)

    def since(self, mark: Mark, start_ns: int = 0) -> ResourceUsage | None:
        """What was used since `mark`; memory and CPU (percent of one core) as means. `start_ns`: the same moment
        since the epoch. None when nothing is read."""
        if not self._enabled:
            return None
        now = time.perf_counter()
        self._read_at_end(now)
        memory = [value for value in (mark.memory_mb, self._memory_mb) if value is not None]
        wall = now - mark.wall_s
        cpu = 100.0 * (time.process_time() - mark.cpu_s) / wall if wall > 0 else None
        return ResourceUsage(
            memory_mb=sum(memory) / len(memory) if memory else None,
            cpu_percent=cpu,
            memory_peak_mb=self._memory_peak(mark, memory),
            memory_limit_mb=self._limit_mb,
            cpu_peak_percent=_most(self._cpu_peaks.since(mark.wall_s), cpu),
            cores=self._within.cores,
            machine_cpu_percent=_busy_percent(mark.machine, self._machine),
            machine_memory_percent=self._machine_peaks.since(mark.wall_s),
            full_cpu=self._full_since(start_ns),
        )

    def _read_at_end(self, now: float) -> None:
        """At either end of a run; more often than in between, where that is cheap."""
        self._read(now, _YOUNG_S if self._every_s <= _EVERY_S else self._every_s)

    def _read(self, now: float, old_s: float) -> None:
        """Take a reading, unless the last one is younger or another thread is taking one."""
        last = self._last
        if (last is not None and now - last.wall_s < old_s) or not self._lock.acquire(blocking=False):
            return
        try:
            self.due_s = now + self._every_s
            began, began_cpu = time.perf_counter(), time.thread_time()
            with _guard.guard("resources.memory"):
                self._read_memory(now)
            with _guard.guard("resources.cpu"):
                self._read_cpu(now)
            cost, waited = time.thread_time() - began_cpu, time.perf_counter() - began
            self._every_s = max(_EVERY_S, _COST_SHARE * cost, _WAIT_SHARE * waited)
            self.due_s = now + self._every_s
        finally:
            self._lock.release()

    def _read_memory(self, now: float) -> None:
        self._memory_mb = (_linux_memory() or psutil.Process().memory_info().rss) / 1e6
        used = self._within.used_bytes()
        self._memory_peaks.add(now, max(self._memory_mb, used / 1e6 if used else 0.0))
        if now - self._machine_read_s > _MACHINE_EVERY_S:
            self._machine_read_s = now
            machine = psutil.virtual_memory()
            self._machine_memory = machine.percent
            self._limit_mb = self._limit_mb or machine.total / 1e6
        if self._machine_memory is not None:
            self._machine_peaks.add(now, self._machine_memory)

    def _read_cpu(self, now: float) -> None:
        self._machine = _linux_cpu() or _cpu()
        reading = _Reading(now, time.process_time(), self._within.cpu_ns(), self._machine)
        last, self._last = self._last, reading
        if last is not None and 0 < now - last.wall_s < _LONGEST_WINDOW_S:
            self._compare(last, reading)

    def _compare(self, last: _Reading, now: _Reading) -> None:
        wall, cores = now.wall_s - last.wall_s, self._within.cores
        process = (now.cpu_s - last.cpu_s) / wall
        own = process
        if now.container_ns is not None and last.container_ns is not None:
            own = max(own, (now.container_ns - last.container_ns) / 1e9 / wall)
        self._cpu_peaks.add(now.wall_s, 100.0 * process)
        machine = (_busy_percent(last.machine, now.machine) or 0.0) / 100.0
        if own / cores >= self._full_share or (machine >= self._full_share and process >= _WANTED):
            end_ns = time.time_ns() - int((time.perf_counter() - now.wall_s) * 1e9)
            self._note_full(FullCpu(end_ns - int(wall * 1e9), int(wall * 1e9), min(1.0, own / cores), machine))

    def _note_full(self, new: FullCpu) -> None:
        """Stretches that touch are one."""
        last = self._full[-1] if self._full else None
        if last is not None and abs(new.start_ns - (last.start_ns + last.duration_ns)) < _TOUCHING_NS:
            end = new.start_ns + new.duration_ns
            weight = new.duration_ns / (last.duration_ns + new.duration_ns)
            own, machine = (
                before + weight * (after - before)
                for before, after in ((last.own, new.own), (last.machine, new.machine))
            )
            self._full[-1] = FullCpu(last.start_ns, end - last.start_ns, own, machine)
        else:
            self._full.append(new)

    def _full_since(self, start_ns: int) -> tuple[FullCpu, ...]:
        found = [full for full in list(self._full) if full.start_ns + full.duration_ns > start_ns]
        longest = sorted(found, key=lambda full: -full.duration_ns)[:_MOST_OF_A_RUN]
        return tuple(sorted(longest, key=lambda full: full.start_ns))

    def _memory_peak(self, mark: Mark, at_ends: list[float]) -> float | None:
        """Of the readings; and of all moments, where the process never had used so much before."""
        seen = _most(self._memory_peaks.since(mark.wall_s), *at_ends)
        most = most_mb()
        return _most(seen, most) if most is not None and mark.most_mb is not None and most > mark.most_mb else seen


def _linux_memory() -> int | None:
    """Bytes that the process holds."""
    fields = _first_bytes("/proc/self/statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else None


def _linux_cpu() -> tuple[float, float] | None:
    """How much the machine's cores have worked, and all of their time, in ticks (proc_stat(5))."""
    label, *fields = _first_bytes("/proc/stat").partition(b"\n")[0].split() or [b""]
    if label != b"cpu" or len(fields) < 5:
        return None
    ticks = [int(field) for field in fields[:8]]  # the guests' are among the users'
    return float(sum(ticks) - ticks[3] - ticks[4]), float(sum(ticks))


def _cpu() -> tuple[float, float]:
    """The same in seconds."""
    times = psutil.cpu_times()
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total


def _first_bytes(path: str) -> bytes:
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(file, 4_096)
    finally:
        os.close(file)


def most_mb() -> float | None:
    """The most memory that the process ever used; None where the system does not say (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6


def _most(*values: float | None) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _busy_percent(before: tuple[float, float] | None, after: tuple[float, float] | None) -> float | None:
    """Of the machine's cores, between two readings of their times; None between readings too close to tell."""
    if before is None or after is None or after[1] <= before[1]:
        return None
    return min(100.0, max(0.0, 100.0 * (after[0] - before[0]) / (after[1] - before[1])))
