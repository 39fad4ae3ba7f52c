"""One ended span, whoever made it, in our terms."""

from __future__ import annotations

from dataclasses import dataclass

from .kinds import Kind
from .measured import CacheCounts, PastCalls, ResourceUsage, SpanProfile, Stall


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one model call, or of a run. `None` is "not told", never zero."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    """tokens of the input that the provider's cache held, and that it took in"""

    def __bool__(self) -> bool:
        return self.input is not None or self.output is not None


@dataclass(frozen=True, slots=True)
class CacheLookup:
    """One operation on a cache, as a span tells it. `hit` is None where the span does not say."""

    operation: str
    hit: bool | None
    key: str | None
    counted: bool = False
    """Its lookup is also in the run's `CacheCounts`, so it must not be counted again."""
    computed_after: bool = False
    """a counted one whose span is the look-up alone: what a miss makes necessary comes after it, not inside"""
    lookups: int = 1
    """several things may be looked up at once; `hit` says whether all of them were found"""
    found: int = 0
    """how many of them were found"""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a span shows of a model call's prompt, in the order the model reads it: enough to tell how much of it
    another call's has in common, and not the text."""

    blocks: tuple[int, ...]
    """hashes of the text from its beginning, `PROMPT_BLOCK` characters each; the rest fills none"""
    size: int
    """characters shown, at least"""
    messages: int | None = None


PROMPT_BLOCK = 512
"""characters of a block: 128 tokens at four characters each, the step in which providers' caches count"""


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """One ended span, whoever made it, in our terms. Made by `analysis.classify` only."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: Kind
    operation: str
    """the bare name a person would search for: tool, agent, model, cache, query or URL template"""
    start_ns: int
    end_ns: int
    error: str | None = None
    """`error.type`, None for a success"""
    scope: str = ""
    service: str = ""
    process: str = ""
    """tells the processes of a trace apart; empty where only one is looked at"""
    remote_parent: bool = False
    mutating: bool = False
    """the call changes something (INSERT, POST, set, `create_…`), as far as its name or verb tells"""
    args: str | None = None
    """identity of the canonical arguments; None: unknown"""
    args_text: str | None = None
    """the arguments themselves, where the span shows them whole"""
    result: str | None = None
    result_text: str | None = None
    result_size: int | None = None
    depends_on: tuple[str, ...] | None = None
    """earlier siblings whose result this call's arguments hold; None: unknown"""
    asked: bool = False
    """a model asked for this call: it carries the id of the model's tool call"""
    asks: tuple[str, ...] | None = None
    """of a model call: the names of the tools it asked for, one for each call; None: its answer is not visible"""
    chain: bool = False
    """a framework's chain: a workflow where it is the outermost, otherwise a step. `analysis.runs` decides"""
    cpu_ns: int | None = None
    """CPU time of a synchronous call"""
    first_chunk_s: float | None = None
    """seconds to the first chunk of a stream"""
    tokens: Tokens = Tokens()
    cache: CacheLookup | None = None
    counts: tuple[CacheCounts, ...] = ()
    """on a run's root: in-process caches"""
    usage: ResourceUsage | None = None
    """on a run's root"""
    incomplete: bool = False
    """on a run's root: whoever recorded it already knew that spans were missing"""
    profile: tuple[SpanProfile, ...] = ()
    """on a run's root, where it was profiled: its spans that took most CPU time"""
    profile_note: str = ""
    """on a run's root: why there is less of a profile than was asked for"""
    stalls: tuple[Stall, ...] = ()
    """on a run's root: what held up its event loops, in time order; the longest ones"""
    args_size: int | None = None
    """bytes of the arguments or of the request's body"""
    shown_size: int | None = None
    """characters of the result that the span shows: its bytes at least, where `result_size` is not told"""
    prompt: Prompt | None = None
    """of a model call, where it is visible"""
    agent: str = ""
    """of a model call: the agent that its span names"""
    provider: str = ""
    """of a model call: who answers it, as the span says; empty where it does not"""
    model: str = ""
    """of a model call: the model that answered, which may be a dated version of the one asked for"""
    history: tuple[PastCalls, ...] = ()
    """on a run's root: of its operations those that the process had seen often enough"""
    refused: bool = False
    """the call failed because too much was asked of the service: 429, 503, a throttling error"""
    retry_after_s: float | None = None
    """seconds after which a service that refused the call wants to be asked again"""
    double: bool = False
    """a call that another span describes, too: its kind is `other`, though it is no step"""

    @property
    def duration_ns(self) -> int:
        return max(0, self.end_ns - self.start_ns)

    @property
    def duration_s(self) -> float:
        return self.duration_ns / 1e9
