"""What a container grants, by cgroup v1 and v2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from otel_agentperf.container import Container, container


def within(tmp_path: Path, groups: str, files: dict[str, str]) -> Container:
    """`groups`: /proc/self/cgroup; `files` below /sys/fs/cgroup."""
    process, mount = tmp_path / "proc", tmp_path / "cgroup"
    process.mkdir()
    mount.mkdir()
    (process / "cgroup").write_text(groups)
    for name, text in files.items():
        path = mount / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return container(process, mount)


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


def test_v2(tmp_path: Path) -> None:
    found = within(
        tmp_path,
        "0::/\n",
        {
            "cpu.max": "150000 100000\n",
            "memory.max": "536870912\n",
            "cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
            "memory.stat": "anon 1000000\nfile 900000000\nshmem 500\n",
        },
    )
    assert (found.cores, found.memory_bytes) == (1.5, 536_870_912)
    assert found.cpu_ns() == 2_500_000_000
    assert found.used_bytes() == 1_000_500, "without the page cache"


def test_v2_the_tightest_group_above_counts(tmp_path: Path) -> None:
    found = within(
        tmp_path,
        "0::/pod/app\n",
        {
            "pod/cpu.max": "200000 100000",
            "pod/memory.max": "1000000000",
            "pod/app/cpu.max": "max 100000",
            "pod/app/memory.max": "max",
        },
    )
    assert (found.cores, found.memory_bytes) == (2.0, 1_000_000_000)


def test_v1(tmp_path: Path) -> None:
    found = within(
        tmp_path,
        "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n",
        {
            "cpu/docker/abc/cpu.cfs_quota_us": "50000\n",
            "cpu/docker/abc/cpu.cfs_period_us": "100000\n",
            "cpuacct/docker/abc/cpuacct.usage": "7000000000\n",
            "memory/docker/abc/memory.limit_in_bytes": "268435456\n",
            "memory/docker/abc/memory.stat": "cache 5\nrss 3\ntotal_rss 1000\ntotal_shmem 24\n",
        },
    )
    assert (found.cores, found.memory_bytes) == (0.5, 268_435_456)
    assert (found.cpu_ns(), found.used_bytes()) == (7_000_000_000, 1_024)


def test_v1_inside_a_container_that_only_sees_its_own_group(tmp_path: Path) -> None:
    files = {
        "cpu/cpu.cfs_quota_us": "300000",
        "cpu/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": "1024",
    }
    found = within(tmp_path, "4:memory:/docker/abc\n3:cpu:/docker/abc\n", files)
    assert (found.cores, found.memory_bytes) == (3.0, 1024)


UNLIMITED = {
    "v2": ("0::/\n", {"cpu.max": "max 100000", "memory.max": "max"}),
    "v1": (
        "4:memory:/\n3:cpu:/\n",
        {
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": "9223372036854771712",
        },
    ),
    "no groups": ("", {}),
    "broken": ("nonsense\n::\n0:", {"cpu.max": "x y", "memory.max": "-5"}),
    "a quota larger than the machine": ("0::/\n", {"cpu.max": "9900000 100000"}),
}


@pytest.mark.parametrize(("groups", "files"), UNLIMITED.values(), ids=UNLIMITED.keys())
def test_without_limits(tmp_path: Path, groups: str, files: dict[str, str]) -> None:
    found = within(tmp_path, groups, files)
    assert (found.cores, found.memory_bytes, found.cpu_ns()) == (8.0, None, found.cpu_ns())
    assert found.used_bytes() is None


def test_this_machine() -> None:
    assert container().cores > 0
