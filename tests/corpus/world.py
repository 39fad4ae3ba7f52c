"""What one case is drawn with: how its spans are written, how its clock ticks, and every number in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")

DIALECTS = ("agentperf", "semconv", "semconv_hidden", "openinference", "openllmetry")
NEEDS: dict[str, tuple[str, ...]] = {
    "": DIALECTS,
    "arguments": ("agentperf", "semconv", "openinference", "openllmetry"),
    "texts": ("agentperf", "openinference", "openllmetry"),
    "content": ("semconv", "openinference", "openllmetry"),
    "hidden": ("semconv_hidden",),
    "agentperf": ("agentperf",),
}
"""what of the content a program's label rests on, and the dialects that show it (`agentperf` shows hashes, and the
GenAI conventions have no place for the text of an embedding)"""

_TOOLS = """search_web get_weather fetch_profile lookup_order find_hotels read_file get_quote list_issues query_kb
    stock_price describe_table check_inventory geocode translate_text summarize_page load_invoice parse_pdf
    search_flights find_contacts get_calendar rank_results read_sensor extract_entities find_law list_files""".split()
_AGENTS = "planner researcher support_bot concierge analyst coder reporter dispatcher tutor assistant".split()
_MODELS = ("gpt-4.1", "gpt-4o-mini", "claude-sonnet-4", "gemini-2.5-pro", "llama-3.3-70b")
_WORDS = """amber basin cedar delta ember fjord grove harbor inlet juniper kelp lagoon meadow nectar opal prairie
    quartz ridge saffron tundra umber valley willow yarrow zephyr""".split()


class World:
    """Seeded draws. Everything a program needs is drawn before it runs, so that its slow and its repaired version
    differ in nothing but the repair."""

    def __init__(self, seed: str, needs: str = "") -> None:
        self.random = Random(seed)
        self.dialect = self.random.choice(NEEDS[needs])
        self.overhead_s = self.log_uniform(20e-6, 1e-3)
        """the program's own time before each call"""
        self.jitter_s = self.random.choice((0.0, 5e-6, 50e-6, 1e-3))
        """how far recorded times are from the true ones, at most"""
        self.depth = self.random.choice((0, 0, 1, 2))
        """framework steps around model turns and tools"""
        self.turn_s = self.log_uniform(0.4, 2.5)
        self.bound_sql = self.random.random() < 0.4
        self.old_names = self.random.random() < 0.3
        """db and http attributes as they were called before their conventions became stable"""
        self.call_ids = self.random.random() < 0.7
        self.failed_prompts_shown = self.random.random() < 0.5
        """some instrumentations record the prompt only when the answer is there"""
        self.service = self.random.choice(("shop-agents", "backoffice", "copilot", "svc-7"))
        self._tools = self.random.sample(_TOOLS, len(_TOOLS))
        self._agents = self.random.sample(_AGENTS, len(_AGENTS))
        self._keys = 0
        self.agent = self.agent_name()
        self._models = self.random.sample(_MODELS, len(_MODELS))
        self.model = self._models.pop()

    @property
    def arguments_known(self) -> bool:
        """Can calls be told apart by their arguments, in the clear or by hash?"""
        return self.dialect != "semconv_hidden"

    @property
    def content_shown(self) -> bool:
        return self.dialect in NEEDS["content"]

    def count(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def log_uniform(self, low: float, high: float) -> float:
        return math.exp(self.random.uniform(math.log(low), math.log(high)))

    def times(self, count: int, low: float, high: float, spread: float = 0.3) -> list[float]:
        """`count` durations of one operation: around one drawn mean, none an outlier among them."""
        middle = self.log_uniform(low, high)
        return [middle * self.random.uniform(1 - spread, 1 + spread) for _ in range(count)]

    def pick(self, options: Sequence[T]) -> T:
        return self.random.choice(options)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def tool_name(self) -> str:
        """A reading tool that this case has not used yet."""
        return self._tools.pop()

    def agent_name(self) -> str:
        return self._agents.pop()

    def other_model(self) -> str:
        """One that this case has not used yet."""
        return self._models.pop()

    def text(self, words: int = 3) -> str:
        return " ".join(self.random.choice(_WORDS) for _ in range(words)) + f" {self.random.randrange(10**6)}"

    def identifier(self, prefix: str = "item") -> str:
        return f"{prefix}-{self.random.randrange(10**6, 10**7)}"

    def prose(self, characters: int) -> str:
        """Text of about that length, different every time."""
        words = [self.random.choice(_WORDS) for _ in range(characters // 6)]
        return " ".join(words)

    def key(self) -> str:
        """Names a repair, once a case."""
        self._keys += 1
        return f"repair {self._keys}"

    def sql_name(self, template: str) -> str:
        """How a report names a query whose values are at the `{}`."""
        parts = template.split("{}")
        if not self.bound_sql:
            return "?".join(parts)
        return "".join(part + (f"${place}" if place < len(parts) else "") for place, part in enumerate(parts, 1))

    @staticmethod
    def url_name(template: str) -> str:
        return template.replace("{}", "{id}")
