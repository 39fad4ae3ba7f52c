"""Readings of CPU and memory: means as ever, peaks and full stretches besides, and little cost."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time

import psutil
import pytest

from _recording import recording
from otel_agentperf import AgentPerfSpanProcessor, agent, on_report, tool
from otel_agentperf._config import Config
from otel_agentperf.container import Container
from otel_agentperf.model import FullCpu, Report
from otel_agentperf.processor import off_report
from otel_agentperf.resources import Peaks, Resources, _cpu, _linux_cpu, _linux_memory

ONE_CORE = Container(1.0, None)


def burn(seconds: float, resources: Resources | None = None) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        hashlib.sha256(b"x" * 20_000).digest()
        if resources is not None:
            resources.sample(time.perf_counter())


@pytest.mark.usefixtures("swallow")
def test_a_system_that_tells_nothing_of_the_process(monkeypatch: pytest.MonkeyPatch, reports: list[Report]) -> None:
    def denied(*_: object) -> None:
        raise psutil.AccessDenied(1)

    for name in ("Process", "virtual_memory", "cpu_times"):
        monkeypatch.setattr(psutil, name, denied)
    with recording(AgentPerfSpanProcessor()), agent("run"):
        pass
    assert len(reports) == 1


def test_means_since_the_mark() -> None:
    resources = Resources()
    mark = resources.mark()
    began, cpu = time.perf_counter(), time.process_time()
    burn(0.3)
    usage = resources.since(mark)
    assert usage is not None
    share = 100 * (time.process_time() - cpu) / (time.perf_counter() - began)
    assert usage.cpu_percent == pytest.approx(share, rel=0.1)
    assert usage.memory_mb is not None
    assert 10 < usage.memory_mb < 5_000
    assert usage.cores == resources._within.cores
    assert usage.memory_limit_mb is not None
    assert usage.memory_limit_mb > usage.memory_mb
    assert usage.machine_cpu_percent is not None
    assert 0 <= usage.machine_cpu_percent <= 100
    assert usage.machine_memory_percent is not None


def test_memory_that_was_only_taken_for_a_moment_is_seen() -> None:
    resources = Resources()
    mark = resources.mark()
    # More than the process ever had: the system itself remembers the most.
    held = b"x" * (int((mark.most_mb or 0) * 1e6) + 100_000_000)
    size_mb = len(held) / 1e6
    del held
    time.sleep(0.12)
    usage = resources.since(mark)
    assert usage is not None
    assert usage.memory_peak_mb is not None
    assert usage.memory_mb is not None
    assert usage.memory_peak_mb > size_mb > usage.memory_mb


def test_a_full_core_is_a_full_stretch() -> None:
    resources = Resources(full=0.4, within=ONE_CORE)
    started = time.time_ns()
    mark = resources.mark()
    time.sleep(0.3)
    resources.sample(time.perf_counter())
    burn(0.8, resources)
    usage = resources.since(mark, started)
    assert usage is not None
    (full,) = usage.full_cpu
    assert 0.4 <= full.own <= 1.0
    assert 0.4e9 < full.duration_ns < 1.0e9
    assert full.start_ns - started > 0.2e9
    assert usage.cpu_peak_percent is not None
    assert usage.cpu_percent is not None
    assert usage.cpu_peak_percent > usage.cpu_percent


def test_one_busy_thread_does_not_fill_many_cores() -> None:
    resources = Resources(within=Container(64.0, None))
    mark = resources.mark()
    burn(0.6, resources)
    usage = resources.since(mark, 0)
    assert usage is not None
    assert all(full.own < 0.1 for full in usage.full_cpu), "only others can have filled the machine"


def test_a_machine_that_others_fill_matters_only_to_who_works() -> None:
    resources = Resources(within=Container(64.0, None))
    idle, busy = (0.0, 100.0), (99.0, 200.0)
    resources._machine = idle
    for wanted, found in ((0.01, 0), (0.9, 1)):
        resources._full.clear()
        last = _reading(0.0, 0.0, idle)
        resources._compare(last, _reading(1.0, wanted, busy))
        assert len(resources._full) == found


def _reading(wall_s: float, cpu_s: float, machine: tuple[float, float]) -> object:
    from otel_agentperf.resources import _Reading

    return _Reading(wall_s, cpu_s, None, machine)


def test_the_work_of_the_whole_container_counts() -> None:
    taken = iter((0, 950_000_000))
    resources = Resources(within=Container(1.0, None, cpu_ns=lambda: next(taken)))
    resources._read(time.perf_counter() - 1.0, 0.0)
    resources._read(time.perf_counter(), 0.0)
    (full,) = resources._full
    assert full.own == pytest.approx(0.95, abs=0.01)


def test_stretches_that_touch_are_one() -> None:
    resources = Resources()
    for number in range(3):
        resources._note_full(FullCpu(number * 10**9, 10**9, 0.9 + number / 100, 0.5))
    resources._note_full(FullCpu(9 * 10**9, 10**9, 1.0, 1.0))
    first, second = resources._full
    assert (first.start_ns, first.duration_ns) == (0, 3 * 10**9)
    assert first.own == pytest.approx(0.91)
    assert second.start_ns == 9 * 10**9


def test_peaks() -> None:
    peaks = Peaks()
    assert peaks.since(0.0) is None
    for moment, value in enumerate([5.0, 9.0, 3.0, 7.0, 1.0]):
        peaks.add(moment, value)
    assert [peaks.since(moment) for moment in range(6)] == [9.0, 9.0, 7.0, 7.0, 1.0, None]
    for moment in range(10_000):
        peaks.add(10.0 + moment, -float(moment))
    assert len(peaks._kept) <= 512


def test_readings_are_rare() -> None:
    resources = Resources()
    taken = 0
    read = resources._read_cpu

    def counted(now: float) -> None:
        nonlocal taken
        taken += 1
        read(now)

    resources._read_cpu = counted  # type: ignore[method-assign]
    until = time.perf_counter() + 1.0
    while time.perf_counter() < until:
        resources.sample(time.perf_counter())
        resources.mark()
    assert 1 <= taken <= 11


def test_a_reading_that_takes_long_is_taken_less_often() -> None:
    resources = Resources()
    read = resources._read_memory

    def slow(now: float) -> None:
        burn(0.02)
        read(now)

    resources._read_memory = slow  # type: ignore[method-assign]
    resources.sample(time.perf_counter())
    assert resources._every_s >= 5.0


def test_a_reading_that_waits_is_taken_less_often_at_the_ends_of_runs_too() -> None:
    resources = Resources()
    read, taken = resources._read_memory, []

    def waiting(now: float) -> None:
        taken.append(now)
        time.sleep(0.02)
        read(now)

    resources._read_memory = waiting  # type: ignore[method-assign]
    mark = resources.mark()
    time.sleep(0.15)  # long enough for another one, where it is cheap
    resources.since(mark)
    assert len(taken) == 1
    assert resources._every_s >= 2.0


def test_switched_off_nothing_is_read() -> None:
    resources = Resources(enabled=False)
    mark = resources.mark()
    resources.sample(time.perf_counter())
    assert resources._last is None
    assert resources.since(mark) is None


@pytest.mark.usefixtures("swallow")
def test_a_failing_reading_measures_nothing_and_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    resources = Resources()

    def fail(now: float) -> None:
        raise OSError("no such file")

    monkeypatch.setattr(resources, "_read_memory", fail)
    usage = resources.since(resources.mark())
    assert usage is not None
    assert usage.memory_mb is None
    assert usage.memory_peak_mb is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_reads_itself_even_if_a_reading_was_going_on() -> None:
    resources = Resources()
    resources.mark()
    resources._lock.acquire()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            usage = resources.since(resources.mark())
            status = 0 if usage and usage.memory_mb else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    resources._lock.release()


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="Linux")
def test_what_is_read_is_what_psutil_reads() -> None:
    assert (_linux_memory() or 0) / 1e6 == pytest.approx(psutil.Process().memory_info().rss / 1e6, rel=0.2)
    told, ours = _cpu(), _linux_cpu()
    assert ours is not None
    ticks = os.sysconf("SC_CLK_TCK")
    assert [value / ticks for value in ours] == pytest.approx(list(told), rel=0.01)


def test_many_threads_may_read_at_once() -> None:
    resources = Resources()
    faults: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(200):
                mark = resources.mark()
                resources._read(time.perf_counter(), 0.0)
                resources.since(mark)
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def run_report(config: Config) -> Report:
    reports: list[Report] = []
    on_report(reports.append)
    try:
        with recording(AgentPerfSpanProcessor(config)):

            @tool
            def crunch() -> None:
                burn(0.4)

            with agent("planner"):
                crunch()
                crunch()
    finally:
        off_report(reports.append)
    return reports[-1]


def test_a_run_carries_what_was_used() -> None:
    usage = run_report(Config()).root.usage
    assert usage is not None
    assert usage.cpu_percent is not None
    assert usage.cpu_percent > 20
    assert usage.memory_peak_mb is not None
    assert usage.cores is not None


def test_a_run_with_readings_switched_off() -> None:
    report = run_report(Config(resource_monitor=False))
    assert report.root.usage is None
    assert report.score_parts.resource is None


def test_peaks_may_be_asked_while_another_thread_adds() -> None:
    peaks, stop = Peaks(), threading.Event()

    def adding() -> None:
        moment = 0.0
        while not stop.is_set():
            moment += 1.0
            peaks.add(moment, -moment % 512)

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    adder = threading.Thread(target=adding)
    adder.start()
    try:
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            found = peaks.since(0.0)
            assert found is None or found >= 0
    finally:
        stop.set()
        adder.join()
        sys.setswitchinterval(switch)
