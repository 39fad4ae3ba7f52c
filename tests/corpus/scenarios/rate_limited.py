from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..cases import Label, Part, negative, positive
from ..program import Program
from ..world import World

KIND = "rate_limited"


def _refused(
    program: Program, call: Callable[[float, bool], Any], waits: list[float], seconds: float, repaired: bool
) -> None:
    """Short refused attempts, each with the wait until the next, then the one that works; or only that."""
    for wait in () if repaired else waits:
        call(0.06, True)
        program.wait(wait)
    call(seconds, False)


@positive(KIND)
def model_says_too_many_requests(world: World) -> Part:
    """The model's service refuses one to three times; the client waits as long as it was told."""
    waits, seconds = world.times(world.count(1, 3), 1.0, 12.0), world.log_uniform(0.8, 3.0)
    key, model, messages = world.key(), world.other_model(), (("user", world.text(6)),)
    error = world.pick(("RateLimitError", "429"))

    def body(program: Program) -> None:
        def call(took: float, refused: bool) -> None:
            told = (None, None, None) if refused else (300, round(60 * took), None)
            program.call("llm", model, took, error=error if refused else None, tokens=told, messages=messages)

        with program.inside("tool", "summarize_mail", args={"q": world.agent}, result={"text": "short"}):
            _refused(program, call, waits, seconds, program.repaired(key))

    return Part(body, (Label(KIND, (model,), key),))


@positive(KIND)
def request_answered_with_429(world: World) -> Part:
    """A tool's request is refused with 429 and waits."""
    waits, tool, key = world.times(world.count(1, 3), 0.6, 8.0), world.tool_name(), world.key()

    def body(program: Program) -> None:
        def call(took: float, refused: bool) -> None:
            program.http("https://api.maps.io/route", took, status=429 if refused else 200)

        with program.inside("tool", tool, args={"q": world.agent}, result={"km": 12}):
            _refused(program, call, waits, 0.3, program.repaired(key))

    return Part(body, (Label(KIND, ("https://api.maps.io/route",), key),))


@positive(KIND)
def service_unavailable_retry_after(world: World) -> Part:
    """503 with a Retry-After that the program respects."""
    wait, tool, key = world.count(2, 15), world.tool_name(), world.key()

    def body(program: Program) -> None:
        def call(took: float, refused: bool) -> None:
            told = {"status": 503, "retry_after": wait} if refused else {}
            program.http("https://api.maps.io/route", took, **told)

        with program.inside("tool", tool, args={"q": world.agent}, result={"km": 12}):
            _refused(program, call, [float(wait)], 0.3, program.repaired(key))

    return Part(body, (Label(KIND, ("https://api.maps.io/route",), key),))


@positive(KIND)
def tool_is_throttled(world: World) -> Part:
    """A cloud service's tool raises its throttling error."""
    waits, tool, key = world.times(world.count(1, 4), 0.6, 6.0), world.tool_name(), world.key()
    args = {"q": world.text()}

    def body(program: Program) -> None:
        def call(took: float, refused: bool) -> None:
            program.tool(tool, took, args, {"rows": 5511}, error="ThrottlingException" if refused else None)

        with program.inside("step", "with_backoff"):
            _refused(program, call, waits, 1.0, program.repaired(key))

    return Part(body, (Label(KIND, (tool,), key),))


@positive(KIND)
def growing_waits(world: World) -> Part:
    """Four refusals with waits that double: a limit, not a storm."""
    first, tool, key = world.log_uniform(0.3, 1.5), world.tool_name(), world.key()
    waits = [first * 2**place for place in range(4)]

    def body(program: Program) -> None:
        def call(took: float, refused: bool) -> None:
            program.http("https://api.search.io/query", took, status=429 if refused else 200)

        with program.inside("tool", tool, args={"q": world.agent}, result={"hits": 12}):
            _refused(program, call, waits, 0.3, program.repaired(key))

    return Part(body, (Label(KIND, ("https://api.search.io/query",), key),))


@negative(KIND)
def works_at_once(world: World) -> Part:
    """Refused, and let through a moment later."""
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"km": 12}):
            program.http("https://api.maps.io/route", 0.02, status=429)
            program.wait(0.02)
            program.http("https://api.maps.io/route", 0.3)

    return Part(body)


@negative(KIND)
def another_kind_of_error(world: World) -> Part:
    """Server errors with waits between them are retries, not limits."""
    tool, key = world.tool_name(), world.key()
    waits = world.times(3, 0.4, 1.5)

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"km": 12}):
            for wait in () if program.repaired(key) else waits:
                program.http("https://api.maps.io/route", 0.3, status=500)
                program.wait(wait)
            program.http("https://api.maps.io/route", 0.3)

    return Part(body, (Label("retry_storm", ("https://api.maps.io/route",), key),))


@negative(KIND)
def nobody_waits_for_it(world: World) -> Part:
    """The limit is waited out beside a longer call."""
    tool, other = world.tool_name(), world.tool_name()
    wait = world.log_uniform(0.5, 1.2)

    def body(program: Program) -> None:
        def limited() -> None:
            with program.inside("tool", tool, args={"q": world.agent}, result={"km": 12}):
                program.http("https://api.maps.io/route", 0.02, status=429)
                program.wait(wait)
                program.http("https://api.maps.io/route", 0.3)

        program.gather(limited, lambda: program.tool(other, 3.5, {"q": world.agent}))

    return Part(body)


@negative(KIND)
def other_work_meanwhile(world: World) -> Part:
    """While the limit lasts, the program does something else."""
    tool, other = world.tool_name(), world.tool_name()
    seconds = world.log_uniform(1.0, 3.5)

    def body(program: Program) -> None:
        with program.inside("step", "collect"):
            program.tool(tool, 0.02, {"q": "a"}, error="RateLimitError")
            program.tool(other, seconds, {"q": "b"})
            program.tool(tool, 0.5, {"q": "a"}, {"rows": 5511})

    return Part(body)


@negative(KIND)
def given_up_at_once(world: World) -> Part:
    """Refused, and the program goes on without."""
    tool, other = world.tool_name(), world.tool_name()

    def body(program: Program) -> None:
        with program.inside("step", "collect"):
            program.tool(tool, 0.05, {"q": "a"}, error="RateLimitError")
            program.tool(other, 1.0, {"q": "b"})

    return Part(body)


@negative(KIND)
def another_model(world: World) -> Part:
    """The first model refuses, another one answers at once."""

    def body(program: Program) -> None:
        with program.inside("tool", "summarize_mail", args={"q": world.agent}, result={"text": "short"}):
            program.call("llm", "small-model", 0.05, error="RateLimitError")
            program.call("llm", "other-model", 1.5, tokens=(300, 90, None))

    return Part(body)


@negative(KIND)
def not_allowed(world: World) -> Part:
    """A refusal for want of rights, and a new token."""
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"km": 12}):
            program.http("https://api.maps.io/route", 0.05, status=401)
            program.http("https://auth.maps.io/token", 0.3, sent=80)
            program.http("https://api.maps.io/route", 0.3)

    return Part(body)
