"""The Claude Agent SDK: runs read off Claude Code's messages; what it asks this process for is below its tool."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    HookMatcher,
    PermissionResultAllow,
    ResultMessage,
    create_sdk_mcp_server,
    query,
)
from claude_agent_sdk import tool as sdk_tool

import otel_agentperf
from _claude_code import (
    CACHED,
    INPUT,
    MODEL,
    OUTPUT,
    USAGE,
    Asks,
    ClaudeCode,
    Dies,
    Said,
    Step,
    Waits,
    answer,
    done,
    event,
    handshake,
    init,
    mcp,
    results,
    text,
    uses,
)
from _recorded import Recorded, counted
from _three_ways import three_ways

ENVIRONMENTS = ("modern",)
REQUIRES = ("mcp<2",)
TESTS = Path(__file__).parents[1]
ZERO = dict.fromkeys(USAGE, 0)
BEGUN = {**USAGE, "output_tokens": 1}
"""what Claude Code says of an answer that it has not got whole"""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def ask(*script: Step, **options: Any) -> list[Any]:
    async def work() -> list[Any]:
        claude = ClaudeCode(list(script))
        return [
            message async for message in query(prompt="hi", options=ClaudeAgentOptions(**options), transport=claude)
        ]

    return asyncio.run(work())


def talk(*scripts: list[Step]) -> list[Any]:
    async def work() -> list[Any]:
        taken = []
        async with ClaudeSDKClient(transport=ClaudeCode(*scripts)) as client:
            for number in range(len(scripts)):
                await client.query(f"prompt {number}")
                taken += [message async for message in client.receive_response()]
        return taken

    return asyncio.run(work())


def tokens(recorded: Recorded) -> tuple[Any, ...]:
    told = recorded.report.tokens
    return told.input, told.output, told.cache_read


def written(count: int) -> Said:
    """What a result says of all agents since the session began."""
    return {MODEL: {"inputTokens": 1, "outputTokens": count}}


def failed(recorded: Recorded) -> dict[str, int]:
    stats = [stat for report in recorded.reports for stat in report.operations if stat.kind in ("agent", "tool", "llm")]
    return {stat.name: stat.errors for stat in stats if stat.errors}


def test_an_agent_with_tools_and_a_model_call_an_answer(recorded: Recorded) -> None:
    asked = answer("m1", uses("t1", "Bash", command="ls")), answer("m1", uses("t2", "Read", file="a"))
    ask(init(), answer("m1", text("I look.")), *asked, results(t1="a b", t2="c"), answer("m2", text("Done.")), done())
    assert recorded.tree == [
        ("invoke_agent claude", [f"chat {MODEL}", "execute_tool Bash", "execute_tool Read", f"chat {MODEL}"])
    ]
    assert tokens(recorded) == (2 * INPUT, 2 * OUTPUT, 2 * CACHED)
    assert recorded.report.root.error is None


def test_what_was_said_stays_here(recorded: Recorded) -> None:
    ask(
        answer("m1", uses("t1", "Bash", command="secret")),
        results(t1="secret"),
        answer("m2", text("secret")),
        done("secret"),
    )
    for span in recorded.spans:
        assert "secret" not in span.to_json()
    told = dict(recorded.one("execute_tool Bash").attributes or {})
    assert told["gen_ai.tool.call.id"] == "t1"
    assert {"agentperf.args.hash", "agentperf.result.hash"} <= set(told)


def test_a_failed_tool_is_a_failed_call(recorded: Recorded) -> None:
    ask(answer("m1", uses("t1", "Bash"), uses("t2", "Bash")), results(failed=("t2",), t1="fine", t2="no"), done())
    assert counted(recorded.report, "tool") == {"Bash": 2}
    assert failed(recorded) == {"Bash": 1}


def test_a_sub_agent_is_below_the_tool_that_runs_it(recorded: Recorded) -> None:
    ask(
        answer("m1", uses("t1", "Task", subagent_type="reviewer"), uses("t2", "Agent", prompt="x")),
        answer("s1", uses("t3", "Read"), inside="t1"),
        answer("r1", text("hm"), inside="t2"),
        results(inside="t1", t3="file"),
        answer("s2", text("fine"), inside="t1"),
        results(t1="fine", t2="hm"),
        answer("m2", text("Done.")),
        done(),
    )
    assert counted(recorded.report, "agent") == {"claude": 1, "reviewer": 1, "general-purpose": 1}
    assert counted(recorded.report, "tool") == {"Task": 1, "Agent": 1, "Read": 1}
    assert counted(recorded.report, "llm") == {MODEL: 5}
    assert recorded.parent(recorded.one("invoke_agent reviewer")) == "execute_tool Task"
    assert recorded.parent(recorded.one("execute_tool Read")) == "invoke_agent reviewer"
    assert [recorded.parent(call) for call in recorded.named(f"chat {MODEL}")].count("invoke_agent reviewer") == 2
    assert recorded.traces == 1


@pytest.mark.parametrize("asked_for", [True, False])
def test_a_sub_agent_in_the_background_goes_on_after_its_tool_has_answered(recorded: Recorded, asked_for: bool) -> None:
    more = {"run_in_background": True} if asked_for else {}
    told = {"type": "system", "task_id": "x", "uuid": "u", "session_id": "s", "tool_use_id": "t1"}
    started = {"subtype": "task_started", "description": "", "is_backgrounded": True, **told}
    ended = {"subtype": "task_notification", "status": "failed", "output_file": "", "summary": "", **told}
    ask(
        answer("m1", uses("t1", "Task", subagent_type="worker", **more)), *([] if asked_for else [started]),
        results(t1="launched"), answer("s1", text("busy"), inside="t1"), Waits(0.05), ended, answer("m2"), done(),
    )  # fmt: skip
    worker, task = recorded.one("invoke_agent worker"), recorded.one("execute_tool Task")
    assert worker.end_time > task.end_time  # type: ignore[operator]
    assert failed(recorded) == {"worker": 1}


def test_the_end_of_something_else_in_the_background_ends_no_agent(recorded: Recorded) -> None:
    told = {"task_id": "x", "output_file": "", "summary": "", "uuid": "u", "session_id": "s", "status": "completed"}
    ask(answer("m1"), {"type": "system", "subtype": "task_notification", **told}, answer("m2"), done())
    assert counted(recorded.report, "llm") == {MODEL: 2}


@pytest.mark.parametrize("forwarded", [True, False])
def test_a_sub_agents_last_answer_is_told_with_the_result_of_its_tool(recorded: Recorded, forwarded: bool) -> None:
    last = [answer("s2", text("fine"), inside="t1", usage=BEGUN)] if forwarded else []
    told = {"status": "completed", "resolvedModel": MODEL, "usage": USAGE}
    ask(
        answer("m1", uses("t1", "Task", subagent_type="reviewer")), answer("s1", uses("t2", "Read"), inside="t1"),
        results(inside="t1", t2="file"), *last, {**results(t1="fine"), "tool_use_result": told}, answer("m2"), done(),
    )  # fmt: skip
    assert counted(recorded.report, "llm") == {MODEL: 4}
    assert [recorded.parent(call) for call in recorded.named(f"chat {MODEL}")].count("invoke_agent reviewer") == 2
    assert tokens(recorded) == (4 * INPUT, 4 * OUTPUT, 4 * CACHED)


def test_what_sub_agents_wrote_is_told_by_the_result(recorded: Recorded) -> None:
    total = {key: 2 * value for key, value in USAGE.items()}
    ask(
        answer("m1", uses("t1", "Task"), usage=BEGUN), answer("s1", text("hm"), inside="t1", usage=BEGUN),
        results(t1="hm"), answer("m2", usage=BEGUN), done(usage=total, modelUsage=written(3 * OUTPUT)),
    )  # fmt: skip
    assert tokens(recorded) == (3 * INPUT, 3 * OUTPUT, 3 * CACHED)


def test_what_was_written_before_a_session_was_taken_up_again_is_not_the_runs(recorded: Recorded) -> None:
    ask(answer("m1", usage=BEGUN), done(usage=USAGE, modelUsage=written(1000)), resume="s")
    assert tokens(recorded) == (INPUT, OUTPUT, CACHED)


def test_what_was_written_in_an_earlier_turn_is_not_the_runs(recorded: Recorded) -> None:
    talk(*([answer(f"m{n}", usage=BEGUN), done(usage=USAGE, modelUsage=written(n * OUTPUT))] for n in (1, 2)))
    assert [report.tokens.output for report in recorded.reports] == [OUTPUT, OUTPUT]


def test_the_form_of_an_answer_is_no_tool(recorded: Recorded) -> None:
    ask(answer("m1", uses("t1", "StructuredOutput", size=1)), results(t1="ok"), done())
    assert counted(recorded.report, "tool") == {}


@pytest.mark.parametrize("usage", [None, ZERO])
def test_tokens_that_only_the_result_tells_count(recorded: Recorded, usage: Said | None) -> None:
    ask(answer("m1", uses("t1", "Bash"), usage=usage), results(t1="x"), answer("m2", usage=usage), done(usage=USAGE))
    assert tokens(recorded) == (INPUT, OUTPUT, CACHED)


def test_the_result_adds_only_what_is_missing(recorded: Recorded) -> None:
    total = {key: 2 * value for key, value in USAGE.items()}
    ask(answer("m1", uses("t1", "Bash"), usage=BEGUN), results(t1="x"), answer("m2"), done(usage=total))
    assert tokens(recorded) == (2 * INPUT, 2 * OUTPUT, 2 * CACHED)


def test_of_an_answers_messages_the_highest_count_is_taken(recorded: Recorded) -> None:
    ask(answer("m1", text("a"), usage={**USAGE, "output_tokens": 1}), answer("m1", text("b")), done())
    assert tokens(recorded) == (INPUT, OUTPUT, CACHED)


def test_an_answer_that_goes_on_after_a_tools_result_is_one(recorded: Recorded) -> None:
    ask(answer("m1", uses("t1", "A")), results(t1="x"), answer("m1", uses("t2", "B")), results(t2="y"), done())
    assert counted(recorded.report, "llm") == {MODEL: 1}
    assert tokens(recorded) == (INPUT, OUTPUT, CACHED)


def test_without_ids_the_turn_says_which_messages_are_one_answer(recorded: Recorded) -> None:
    ask(answer(None, text("a")), answer(None, uses("t1", "A")), results(t1="x"), answer(None, text("b")), done())
    assert counted(recorded.report, "llm") == {MODEL: 2}


def test_each_prompt_of_a_client_is_a_run(recorded: Recorded) -> None:
    total = {key: 2 * value for key, value in USAGE.items()}
    talk([init(), answer("m1"), done(usage=USAGE)], [answer("m2", uses("t1", "A")), results(t1="x"), done(usage=total)])
    assert [counted(report, "llm") for report in recorded.reports] == [{MODEL: 1}] * 2
    assert [report.tokens.input for report in recorded.reports] == [INPUT, INPUT]
    assert recorded.traces == 2


def test_a_turn_that_nobody_prompted_is_a_run(recorded: Recorded) -> None:
    async def work() -> None:
        async with ClaudeSDKClient(transport=ClaudeCode([answer("m1"), done(), answer("m2"), done()])) as client:
            await client.query("hi")
            for _ in range(2):
                async for _ in client.receive_response():
                    pass

    asyncio.run(work())
    assert [counted(report, "llm") for report in recorded.reports] == [{MODEL: 1}] * 2


def test_a_prompt_at_the_connection_is_a_run(recorded: Recorded) -> None:
    async def work() -> None:
        client = ClaudeSDKClient(transport=ClaudeCode([answer("m1"), done()]))
        await client.connect("hi")
        async for message in client.receive_messages():
            if isinstance(message, ResultMessage):
                break
        await client.disconnect()

    asyncio.run(work())
    assert counted(recorded.report, "llm") == {MODEL: 1}


def test_who_leaves_early_does_not_know_the_rest(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        script: list[Step] = [answer("m1", uses("t1", "A")), results(t1="x"), answer("m2", uses("t2", "B")), done()]
        async for message in query(prompt="hi", transport=ClaudeCode(script)):
            if isinstance(message, AssistantMessage):
                break

    asyncio.run(work())
    assert counted(recorded.report, "tool") == {"A": 1}
    assert counted(recorded.report, "llm") == {MODEL: 1}
    assert failed(recorded) == {}
    assert "detach" not in caplog.text


def test_a_client_that_leaves_early_can_prompt_again(recorded: Recorded) -> None:
    async def work() -> None:
        async with ClaudeSDKClient(transport=ClaudeCode([answer("m1"), done()], [answer("m2"), done()])) as client:
            await client.query("one")
            async for _ in client.receive_response():
                break
            await client.query("two")
            for _ in range(2):
                async for _ in client.receive_response():
                    pass

    asyncio.run(work())
    assert [counted(report, "llm") for report in recorded.reports] == [{MODEL: 1}] * 2


def test_a_client_that_never_reads_ends_its_run_when_it_disconnects(recorded: Recorded) -> None:
    async def work() -> None:
        async with ClaudeSDKClient(transport=ClaudeCode([answer("m1"), done()])) as client:
            await client.query("one")

    asyncio.run(work())
    assert counted(recorded.report, "agent") == {"claude": 1}


def test_an_error_result_is_a_failed_run(recorded: Recorded) -> None:
    ask(answer("m1", uses("t1", "A")), done(subtype="error_max_turns", is_error=True))
    assert recorded.report.root.error == "error_max_turns"
    assert failed(recorded) == {"claude": 1}


def test_an_answer_that_is_an_error_is_a_failed_model_call(recorded: Recorded) -> None:
    written = {"model": "<synthetic>", "usage": ZERO}
    ask(answer("m1"), answer("m2", text("note"), **written), answer("m3", error="rate_limit", **written), done())
    assert counted(recorded.report, "llm") == {MODEL: 1, "<synthetic>": 1}
    assert failed(recorded) == {"<synthetic>": 1}


def test_a_process_that_dies_fails_the_run_and_raises(recorded: Recorded) -> None:
    with pytest.raises(OSError, match="gone"):
        ask(answer("m1", uses("t1", "A")), Dies(OSError("gone")))
    assert recorded.report.root.error == "OSError"
    assert failed(recorded) == {"claude": 1, "A": 1}
    recorded.forget()
    with pytest.raises(OSError, match="gone"):
        talk([answer("m1", uses("t1", "A")), Dies(OSError("gone"))])
    assert recorded.report.root.error == "OSError"


def test_a_cancelled_run_has_the_error_type_of_its_cancellation(recorded: Recorded) -> None:
    async def work() -> None:
        messages = query(prompt="hi", transport=ClaudeCode([answer("m1", uses("t1", "A")), Waits(30)]))
        await anext(messages.__aiter__())
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(messages.__aiter__()), 0.2)

    asyncio.run(work())
    assert recorded.report.root.error == "CancelledError"
    assert (recorded.one("execute_tool A").attributes or {})["error.type"] == "CancelledError"


class SlowToGo(ClaudeCode):
    async def close(self) -> None:
        await asyncio.sleep(0.5)
        await super().close()


def test_a_tool_does_not_last_until_claude_code_is_gone(recorded: Recorded) -> None:
    async def work() -> None:
        messages = query(prompt="hi", transport=SlowToGo([answer("m1", uses("t1", "A")), Waits(30)]))
        await anext(messages.__aiter__())
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(messages.__aiter__()), 0.1)

    asyncio.run(work())
    tool = recorded.one("execute_tool A")
    assert tool.end_time - tool.start_time < 0.4e9  # type: ignore[operator]


def test_an_answer_that_did_not_come_is_a_failed_model_call(recorded: Recorded) -> None:
    begun = {"id": "m1", "model": MODEL, "usage": ZERO}
    with pytest.raises(OSError, match="gone"):
        ask(event(type="message_start", message=begun), Dies(OSError("gone")))
    assert failed(recorded) == {"claude": 1, MODEL: 1}


def test_runs_at_once_are_kept_apart(recorded: Recorded) -> None:
    async def one(name: str) -> None:
        script: list[Step] = [answer("m1", uses("t1", name)), Waits(0.05), results(t1="x"), answer("m2"), done()]
        async for _ in query(prompt="hi", transport=ClaudeCode(script)):
            pass

    async def work() -> None:
        await asyncio.gather(one("A"), one("B"))

    asyncio.run(work())
    assert sorted(next(iter(counted(report, "tool"))) for report in recorded.reports) == ["A", "B"]
    assert [counted(report, "llm") for report in recorded.reports] == [{MODEL: 2}] * 2


def test_a_slow_reader_is_no_slow_agent(recorded: Recorded) -> None:
    async def work() -> None:
        script: list[Step] = [answer("m1", uses("t1", "A")), results(t1="x"), answer("m2"), done()]
        async with ClaudeSDKClient(transport=ClaudeCode(script)) as client:
            await client.query("hi")
            async for _ in client.receive_response():
                await asyncio.sleep(0.1)

    asyncio.run(work())
    assert recorded.report.run.root.duration_s < 0.1


def test_partial_messages_tell_when_the_answer_began_and_what_it_cost(recorded: Recorded) -> None:
    begun = {"id": "m1", "model": MODEL, "usage": {**USAGE, "output_tokens": 1}}
    ask(
        Waits(0.05), event(type="message_start", message=begun), event(type="content_block_delta", delta={}),
        answer("m1", text("hi"), usage={**USAGE, "output_tokens": 1}),
        event(type="message_delta", usage={"output_tokens": OUTPUT}), event(type="message_stop"), done(),
    )  # fmt: skip
    assert counted(recorded.report, "llm") == {MODEL: 1}
    assert tokens(recorded) == (INPUT, OUTPUT, CACHED)
    assert (recorded.one(f"chat {MODEL}").attributes or {})["gen_ai.response.time_to_first_chunk"] >= 0.05


@sdk_tool("get_weather", "The weather.", {"city": str})
async def get_weather(arguments: dict[str, Any]) -> dict[str, Any]:
    if arguments["city"] == "Atlantis":
        raise ValueError("no such city")
    with otel_agentperf.tool("look_up"):
        await asyncio.sleep(0.01)
    return {"content": [{"type": "text", "text": "sunny"}]}


def served(call_id: str, city: str) -> Asks:
    def check(told: Said) -> None:
        result = told["response"]["mcp_response"]["result"]
        assert result["isError" if city == "Atlantis" else "content"]

    meta = {"claudecode/toolUseId": call_id}
    return mcp("w", "tools/call", check, name="get_weather", arguments={"city": city}, _meta=meta)


WEATHER: list[Step] = [
    answer("m1", uses("t1", "mcp__w__get_weather", city="Rome"), uses("t2", "mcp__w__get_weather", city="Atlantis")),
    served("t2", "Atlantis"),
    served("t1", "Rome"),
    results(failed=("t2",), t1="sunny", t2="no"),
    answer("m2", text("Done.")),
    done(),
]


def test_a_tool_in_this_process_is_one_call_with_its_work_below(recorded: Recorded) -> None:
    server = create_sdk_mcp_server("w", tools=[get_weather])
    ask(init(), *handshake("w"), *WEATHER, mcp_servers={"w": server})
    assert counted(recorded.report, "tool") == {"mcp__w__get_weather": 2, "look_up": 1}
    assert failed(recorded) == {"mcp__w__get_weather": 1}
    work = recorded.one("execute_tool look_up")
    ours = {span.context.span_id: span for span in recorded.spans}
    above = ours[work.parent.span_id]  # type: ignore[union-attr]
    assert (above.name, recorded.parent(above)) == ("tools/call get_weather", "execute_tool mcp__w__get_weather")
    assert recorded.traces == 1


def test_the_tools_of_a_clients_second_prompt_are_below_it(recorded: Recorded) -> None:
    async def work() -> None:
        options = ClaudeAgentOptions(mcp_servers={"w": create_sdk_mcp_server("w", tools=[get_weather])})
        claude = ClaudeCode([init(), *handshake("w"), *WEATHER], WEATHER)
        async with ClaudeSDKClient(options, transport=claude) as client:
            for _ in range(2):
                await client.query("weather?")
                async for _ in client.receive_response():
                    await asyncio.sleep(0.01)

    asyncio.run(work())
    told = [counted(report, "tool") for report in recorded.reports]
    assert told == [{"mcp__w__get_weather": 2, "look_up": 1}] * 2


def test_hooks_and_permissions_are_inside_the_tool_they_are_about(recorded: Recorded) -> None:
    async def before(data: Any, call_id: str | None, context: Any) -> Any:
        with otel_agentperf.tool("hooked"):
            return {}

    async def allow(name: str, arguments: dict[str, Any], context: Any) -> Any:
        with otel_agentperf.tool("permitted"):
            return PermissionResultAllow()

    hook = {"subtype": "hook_callback", "callback_id": "hook_0", "tool_use_id": "t1", "input": {}}
    permission = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {}, "tool_use_id": "t1"}
    asked = (Asks(hook), Asks(permission))
    hooks = {"PreToolUse": [HookMatcher(hooks=[before])]}

    async def prompts() -> Any:
        yield {
            "type": "user",
            "message": {"role": "user", "content": "hi"},
            "parent_tool_use_id": None,
            "session_id": "s",
        }

    async def work() -> None:
        claude = ClaudeCode([answer("m1", uses("t1", "Bash")), *asked, results(t1="x"), done()])
        options = ClaudeAgentOptions(hooks=hooks, can_use_tool=allow)  # type: ignore[arg-type]
        async for _ in query(prompt=prompts(), options=options, transport=claude):
            pass

    asyncio.run(work())
    for name in ("hooked", "permitted"):
        assert recorded.parent(recorded.one(f"execute_tool {name}")) == "execute_tool Bash"


def test_the_program_gets_the_same_messages(recorded: Recorded) -> None:
    script: list[Step] = [init(), answer("m1", uses("t1", "A")), results(t1="x"), answer("m2"), done()]
    traced = [*ask(*script), *talk(script)]
    otel_agentperf.uninstrument()
    recorded.forget()
    assert [*ask(*script), *talk(script)] == traced
    assert recorded.spans == []


# What the SDK itself says of a query that is left early, now and then, with and without us.
PROGRAM = f"""
import asyncio, sys, warnings
warnings.filterwarnings("ignore", "coroutine '_Session._serve' was never awaited")
sys.path.insert(0, {str(TESTS)!r})
from _claude_code import ClaudeCode, answer, done, handshake, init, mcp, results, text, uses
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, create_sdk_mcp_server, query, tool

@tool("get_weather", "The weather.", {{"city": str}})
async def get_weather(arguments):
    return {{"content": [{{"type": "text", "text": "sunny"}}]}}

script = [
    init(), *handshake("w"), answer("m1", uses("t1", "mcp__w__get_weather", city="Rome"), uses("t2", "Task")),
    mcp("w", "tools/call", name="get_weather", arguments={{"city": "Rome"}}), answer("s1", text("hm"), inside="t2"),
    results(failed=("t2",), t1="sunny", t2="no"), answer("m2", text("Fine.")), done(),
]
options = ClaudeAgentOptions(mcp_servers={{"w": create_sdk_mcp_server("w", tools=[get_weather])}})

async def main():
    async for message in query(prompt="hi", options=options, transport=ClaudeCode(script)):
        print(message)
    async with ClaudeSDKClient(options, ClaudeCode(script)) as client:
        await client.query("hi")
        async for message in client.receive_response():
            print(message)
    async for message in query(prompt="hi", options=options, transport=ClaudeCode(script)):
        break

asyncio.run(main())
"""


def test_a_program_told_three_ways(tmp_path: Path) -> None:
    told = three_ways(PROGRAM, tmp_path)
    assert told.agents == {"claude": 3, "general-purpose": 2}
    assert told.tools == {"mcp__w__get_weather": 2, "Task": 2}
    assert told.llm == {MODEL: 6}
    assert (told.tokens["input"], told.tokens["output"]) == (6 * INPUT, 6 * OUTPUT)
