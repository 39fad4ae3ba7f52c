"""What CPU and memory this process may use: of its container (cgroup v1 and v2), else of the machine.

https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max, memory.max, memory.stat) and cgroup-v1 (cpu.cfs_quota_us,
memory.limit_in_bytes). A limit of any group above counts; what is not there limits nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_MOST_BYTES = 1 << 60
"""v1 says "no limit" with the largest number of pages"""


@dataclass(frozen=True, slots=True)
class Container:
    """`cores`: what the process may use of them. Bytes of memory, None: no limit of its own."""

    cores: float
    memory_bytes: int | None
    cpu_ns: Callable[[], int | None] = lambda: None
    """CPU time of all in the container; known where its CPU is limited"""
    used_bytes: Callable[[], int | None] = lambda: None
    """memory of all in the container that cannot just be dropped; known where it is limited"""


def container(process: Path = Path("/proc/self"), groups: Path = Path("/sys/fs/cgroup")) -> Container:
    """Read once: limits of a running process seldom change."""
    cpu, memory = list(_folders(process, groups, "cpu")), list(_folders(process, groups, "memory"))
    quotas = [quota for quota in map(_quota, cpu) if quota is not None]
    limits = [(limit, folder) for folder in memory if (limit := _memory_limit(folder)) is not None]
    limit, folder = min(limits, default=(None, Path()))
    accounts = list(_folders(process, groups, "cpuacct"))
    return Container(
        cores=min([_machine_cores(), *quotas]),
        memory_bytes=limit,
        cpu_ns=(lambda: _cpu_ns(accounts[0])) if quotas and accounts else lambda: None,
        used_bytes=(lambda: _used_bytes(folder)) if limit is not None else lambda: None,
    )


def _machine_cores() -> float:
    try:
        return float(len(os.sched_getaffinity(0)))
    except (AttributeError, OSError):
        return float(os.cpu_count() or 1)


def _folders(process: Path, groups: Path, controller: str) -> Iterator[Path]:
    """The process's groups, the innermost first. Inside a container the path that the kernel tells may be the
    host's, which is not mounted there: then the mount itself is the container's group."""
    for line in _read(process / "cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        for top in (groups / (controller if controllers else ""), groups / (controllers or "unified")):
            if not top.is_dir():
                continue
            folder = top / path.strip("/")
            yield from (above for above in (folder, *folder.parents) if above.is_relative_to(top) and above.is_dir())
            break


def _quota(folder: Path) -> float | None:
    """Cores' worth of CPU time."""
    told = _read(folder / "cpu.max").split() or [
        _read(folder / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    ]
    try:
        quota, period = (int(number) for number in told)
    except ValueError:  # "max", or not there
        return None
    return quota / period if quota > 0 and period > 0 else None


def _memory_limit(folder: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        text = _read(folder / name).strip()
        if text.isdigit() and 0 < int(text) < _MOST_BYTES:
            return int(text)
    return None


def _cpu_ns(folder: Path) -> int | None:
    total = _read(folder / "cpuacct.usage").strip()
    if total.isdigit():
        return int(total)
    used = _table(folder / "cpu.stat").get("usage_usec")
    return None if used is None else used * 1_000


def _used_bytes(folder: Path) -> int | None:
    """Without the page cache, which fills every container that reads files and is dropped when needed."""
    table = _table(folder / "memory.stat")
    anonymous = table.get("anon", table.get("total_rss"))
    return None if anonymous is None else anonymous + table.get("shmem", table.get("total_shmem", 0))


def _table(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
