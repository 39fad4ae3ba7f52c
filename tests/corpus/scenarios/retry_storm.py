from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..cases import Label, Part, negative, positive, unclear
from ..program import Program
from ..world import World

KIND = "retry_storm"
ERRORS = ("TimeoutError", "ConnectionError", "InternalServerError")


def _attempts(
    program: Program, call: Callable[[float, str | None], Any], failed: list[float], seconds: float, waits: list[float],
    error: str, repaired: bool,
) -> None:  # fmt: skip
    """Failed attempts, each with the wait after it, and then the one that works; or only that."""
    if not repaired:
        for took, wait in zip(failed, waits, strict=True):
            call(took, error)
            program.wait(wait)
    call(seconds, None)


def _waits(world: World, count: int) -> list[float]:
    first = world.log_uniform(0.05, 0.6)
    return [first * 2**place for place in range(count)]


@positive(KIND)
def tool_that_fails(world: World) -> Part:
    """A tool fails two to four times, with growing waits, before it works."""
    failed = world.times(world.count(2, 4), 0.2, 2.0)
    waits, error, tool, key = _waits(world, len(failed)), world.pick(ERRORS), world.tool_name(), world.key()
    args = {"q": world.text()}

    def body(program: Program) -> None:
        def call(seconds: float, failure: str | None) -> None:
            program.tool(tool, seconds, args, {"found": 8121}, error=failure)

        with program.inside("step", "with_retries"):
            _attempts(program, call, failed, failed[0], waits, error, program.repaired(key))

    return Part(body, (Label(KIND, (tool,), key),))


@positive(KIND)
def request_that_fails(world: World) -> Part:
    """A tool's request gets 500, 502 or 504 a few times."""
    failed = world.times(world.count(3, 5), 0.1, 0.38)
    waits, status, tool, key = _waits(world, len(failed)), world.pick((500, 502, 504)), world.tool_name(), world.key()

    def body(program: Program) -> None:
        def call(seconds: float, failure: str | None) -> None:
            program.http("https://api.crm.io/contacts", seconds, status=status if failure else 200)

        with program.inside("tool", tool, args={"q": world.agent}, result={"rows": 9}):
            _attempts(program, call, failed, failed[0], waits, "HTTPStatusError", program.repaired(key))

    return Part(body, (Label(KIND, ("https://api.crm.io/contacts",), key),))


@positive(KIND)
def model_that_fails(world: World) -> Part:
    """The model's service has an internal error three times."""
    failed, seconds = world.times(world.count(2, 4), 0.5, 3.0), world.log_uniform(0.8, 3.0)
    waits, key, model = _waits(world, len(failed)), world.key(), world.other_model()
    messages = (("user", world.text(6)),)

    def body(program: Program) -> None:
        def call(took: float, failure: str | None) -> None:
            told = (None, None, None) if failure else (300, round(60 * took), None)
            program.call("llm", model, took, error=failure, tokens=told, messages=messages, answer="fine")

        with program.inside("tool", "summarize_thread", args={"q": world.agent}, result={"text": "short"}):
            _attempts(program, call, failed, seconds, waits, "InternalServerError", program.repaired(key))

    return Part(body, (Label(KIND, (model,), key),))


@positive(KIND)
def deadlocks(world: World) -> Part:
    """A transaction is the victim of a deadlock again and again."""
    update = "UPDATE stock SET n = n - {} WHERE sku = {}"
    failed = world.times(world.count(3, 5), 0.15, 0.6)
    waits, key = _waits(world, len(failed)), world.key()

    def body(program: Program) -> None:
        def call(seconds: float, failure: str | None) -> None:
            program.db(update, seconds, 1, "a-1", error=failure)

        with program.inside("tool", "reserve_item", args={"q": world.agent}, result={"ok": True}):
            _attempts(program, call, failed, failed[0], waits, "DeadlockDetected", program.repaired(key))

    return Part(body, (Label(KIND, (world.sql_name(update),), key),))


@positive(KIND)
def one_long_failure(world: World) -> Part:
    """One attempt alone, but it ran into a timeout that is a good part of the run."""
    tool, key, failed = world.tool_name(), world.key(), world.log_uniform(2.0, 4.0)
    args = {"q": world.text()}

    def body(program: Program) -> None:
        with program.inside("agent", world.agent):
            program.turn(0.8)
            if not program.repaired(key):
                program.tool(tool, failed, args, error="TimeoutError")
            program.tool(tool, 0.4, args, {"found": 8121})
            program.turn(0.9)

    return Part(body, (Label(KIND, (tool,), key, share_s=failed),), whole=True)


@positive(KIND)
def given_up(world: World) -> Part:
    """Four attempts, all in vain."""
    failed = world.times(world.count(4, 6), 0.3, 2.0)
    waits, tool, key, args = _waits(world, len(failed)), world.tool_name(), world.key(), {"q": world.text()}

    def body(program: Program) -> None:
        with program.inside("step", "with_retries"):
            for place, seconds in enumerate(failed):
                program.tool(tool, seconds, args, error="ConnectionError")
                if program.repaired(key):
                    break
                program.wait(waits[place] if place < len(failed) - 1 else 0)

    return Part(body, (Label(KIND, (tool,), key),))


@positive(KIND)
def tool_whose_requests_fail(world: World) -> Part:
    """Each attempt is a tool with a failing request inside: one storm, by whichever name."""
    failed = world.times(3, 0.2, 0.38)
    waits, tool, key, args = _waits(world, 3), world.tool_name(), world.key(), {"q": world.text()}
    url = "https://api.bank.io/rates"

    def body(program: Program) -> None:
        def call(seconds: float, failure: str | None) -> None:
            with program.inside("tool", tool, args=args, result={"rate": 1.07}, error=failure):
                program.http(url, seconds, status=500 if failure else 200)

        with program.inside("step", "with_retries"):
            _attempts(program, call, failed, failed[0], waits, "HTTPStatusError", program.repaired(key))

    return Part(body, (Label(KIND, (tool, url), key),))


@negative(KIND)
def one_retry_that_helped(world: World) -> Part:
    """A quick failure, and it works the second time."""
    tool, args, failed = world.tool_name(), {"q": world.text()}, world.log_uniform(0.01, 0.06)

    def body(program: Program) -> None:
        with program.inside("step", "with_retries"):
            program.tool(tool, failed, args, error="ConnectionError")
            program.wait(0.02)
            program.tool(tool, 1.2, args, {"found": 8121})

    return Part(body)


@negative(KIND, needs="arguments")
def some_items_fail(world: World) -> Part:
    """Of ten different items three fail, and none is tried again."""
    times, tool = world.times(8, 0.3, 1.0), world.tool_name()
    items = [world.identifier() for _ in times]

    def body(program: Program) -> None:
        for place, seconds in enumerate(times):
            program.turn(0.4, asks=(tool,))
            error = "NotFoundError" if place in (1, 4, 6) else None
            program.tool(tool, seconds, {"item": items[place]}, {"n": place * 7919}, error=error, asked=True)

    return Part(body, turns=True)


@negative(KIND)
def failures_side_by_side(world: World) -> Part:
    """Of six calls at the same time three fail."""
    times, tool = world.times(6, 0.5, 2.0), world.tool_name()

    def body(program: Program) -> None:
        calls = [
            lambda at=at: program.tool(  # type: ignore[misc]
                tool, times[at], {"item": f"i{at}"}, {"n": at * 7919}, error="NotFoundError" if at % 2 else None
            )
            for at in range(6)
        ]
        program.gather(*calls)

    return Part(body)


@negative(KIND)
def another_way(world: World) -> Part:
    """The first source fails, so the program asks another one."""
    first, second, args = world.tool_name(), world.tool_name(), {"q": world.text()}

    def body(program: Program) -> None:
        with program.inside("step", "search"):
            program.tool(first, world.turn_s, args, error="ConnectionError")
            program.tool(second, world.turn_s, args, {"found": 8121})

    return Part(body)


@negative(KIND)
def each_agent_fails_once(world: World) -> Part:
    """Three agents have one failure each, of the same tool."""
    tool, names = world.tool_name(), [world.agent_name() for _ in range(3)]

    def body(program: Program) -> None:
        with program.inside("workflow", "team"):
            for name in names:
                with program.inside("agent", name):
                    program.turn(2.0, asks=(tool,))
                    program.tool(tool, 0.3, {"for": name}, error="ConnectionError", asked=True)
                    program.turn(2.0)

    return Part(body, whole=True)


@negative(KIND)
def quick_failures(world: World) -> Part:
    """Three failures of three milliseconds with short waits."""
    tool, args = world.tool_name(), {"q": world.text()}

    def body(program: Program) -> None:
        with program.inside("step", "with_retries"):
            for _ in range(3):
                program.tool(tool, 0.003, args, error="ConnectionError")
                program.wait(0.005)
            program.tool(tool, 0.6, args, {"found": 8121})

    return Part(body)


@negative(KIND, needs="arguments")
def the_model_corrects_itself(world: World) -> Part:
    """The tool refuses wrong arguments, and the model gives better ones."""
    tool = world.tool_name()

    def body(program: Program) -> None:
        program.turn(2.5, asks=(tool,))
        program.tool(tool, 0.02, {"date": "tomorrow"}, error="ValueError", asked=True)
        program.turn(2.5, asks=(tool,))
        program.tool(tool, 0.5, {"date": "2026-11-30"}, {"found": 8121}, asked=True)

    return Part(body, turns=True)


@negative(KIND)
def it_was_not_there(world: World) -> Part:
    """A request finds nothing, which is an answer; another one creates it."""
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"ok": True}):
            program.http("https://api.crm.io/contacts/{}", 0.15, 417, status=404)
            program.http("https://api.crm.io/contacts", 0.2, sent=300, status=201)

    return Part(body)


@unclear(KIND, needs="arguments")
def the_model_tries_again(world: World) -> Part:
    """The model itself repeats a failing call, turn by turn."""
    tool, args = world.tool_name(), {"q": world.text()}

    def body(program: Program) -> None:
        for place in range(4):
            program.turn(asks=(tool,))
            program.tool(tool, 1.0, args, {"n": 8121}, error="TimeoutError" if place < 3 else None, asked=True)

    return Part(body, turns=True)


@positive(KIND)
def in_the_branch_that_all_wait_for(world: World) -> Part:
    """Of two branches the one with the failures is waited for."""
    failed = world.times(3, 0.6, 2.0)
    waits, tool, other, key, args = (
        _waits(world, 3),
        world.tool_name(),
        world.tool_name(),
        world.key(),
        {"q": world.text()},
    )

    def body(program: Program) -> None:
        def call(seconds: float, failure: str | None) -> None:
            program.tool(tool, seconds, args, {"found": 8121}, error=failure)

        def failing() -> None:
            with program.inside("step", "with_retries"):
                _attempts(program, call, failed, failed[0], waits, "TimeoutError", program.repaired(key))

        program.gather(failing, lambda: program.tool(other, 0.4, {"q": world.agent}))

    return Part(body, (Label(KIND, (tool,), key),))


@negative(KIND)
def failures_beside_a_longer_call(world: World) -> Part:
    """Three failures and their waits are over before the other branch is."""
    tool, other, args = world.tool_name(), world.tool_name(), {"q": world.text()}

    def body(program: Program) -> None:
        def failing() -> None:
            with program.inside("step", "with_retries"):
                for _ in range(3):
                    program.tool(tool, 0.3, args, error="TimeoutError")
                    program.wait(0.1)
                program.tool(tool, 0.3, args, {"found": 8121})

        program.gather(failing, lambda: program.tool(other, 3.5, {"q": world.agent}))

    return Part(body)
