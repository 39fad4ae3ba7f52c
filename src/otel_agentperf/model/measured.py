"""What only the process itself knows of a run; it travels on the run's root span."""

from __future__ import annotations

from dataclasses import dataclass

from .kinds import Kind


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """What an in-process cache did during a run: counted, because a span costs more than such a lookup."""

    name: str
    lookups: int
    hits: int
    hit_s: float = 0.0
    """mean seconds of a hit, 0 where not measured"""
    miss_s: float = 0.0
    """mean seconds of a miss, computation included"""


@dataclass(frozen=True, slots=True)
class FullCpu:
    """A stretch of time in which the cores that the process may use were all but taken."""

    start_ns: int
    duration_ns: int
    own: float
    """share of them that the process itself took, or all of its container; 0 to 1"""
    machine: float
    """share of the machine's cores that all programs together took; 0 to 1"""


@dataclass(frozen=True, slots=True)
class Stall:
    """An event loop that was held up by one callback, so that no other task on it could go on."""

    start_ns: int
    duration_ns: int
    frame: str
    """where the callback was: `app/tools.py:42 search`"""
    span_id: str = ""
    """the last span that the callback's task had started; empty: unknown"""
    waiting: tuple[str, ...] = ()
    """spans of other tasks that stood ready and started only when the loop was free again"""
    due_ns: tuple[int, ...] = ()
    """after the start: when timers and sockets of others fell due, in time order; as far as that can be seen"""
    elsewhere: bool = False
    """the callback belonged to another trace; `span_id` is empty then"""
    ready: tuple[tuple[str, int], ...] = ()
    """other tasks that stood ready: the last span that each had started, and since when, in nanoseconds after the
    start; as far as that can be seen"""


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """What the process used while the run was going on."""

    memory_mb: float | None = None
    cpu_percent: float | None = None
    """100 is one core"""
    memory_peak_mb: float | None = None
    memory_limit_mb: float | None = None
    """what the container grants, or the machine has"""
    cpu_peak_percent: float | None = None
    """of the busiest moment between two readings"""
    cores: float | None = None
    """what the process may use: CPU affinity and the container's quota"""
    machine_cpu_percent: float | None = None
    """of the whole machine, all its programs; 100 is all cores"""
    machine_memory_percent: float | None = None
    """the same for memory, at its fullest"""
    full_cpu: tuple[FullCpu, ...] = ()
    """when the cores were all but taken, in time order; the longest ones"""


@dataclass(frozen=True, slots=True)
class PastCalls:
    """How long an operation's successful calls took in the runs before this one."""

    kind: Kind
    operation: str
    calls: int
    p50_s: float
    p95_s: float


@dataclass(frozen=True, slots=True)
class HotFrame:
    """A function that CPU time went to. Built-in functions count as the function that calls them."""

    function: str
    file: str
    """inside the working directory, the library, or the import path; never absolute"""
    line: int
    """of the function's definition"""
    share: float
    """of the CPU time of the span it belongs to"""
    caller: str = ""
    """the program's own function that led to it most, as `function file:line`; empty where it is one itself"""


@dataclass(frozen=True, slots=True)
class SpanProfile:
    """What a profiler saw a span do itself; what spans inside it did is theirs."""

    span_id: str
    name: str
    """the span's operation"""
    samples: int
    frames: tuple[HotFrame, ...]
    """hottest first"""
    cpu_s: float
    calls: int = 1
    """more than one: of the operation, all of them short, of which the span took longest"""
