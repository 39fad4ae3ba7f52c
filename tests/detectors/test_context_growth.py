from __future__ import annotations

import pytest

from _traces import agent, findings, llm, node, run_of, span, the_finding, together, tool

KIND = "context_growth"
GROWING = (1_000, 2_500, 4_000, 6_000)
WORKFLOW = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": "batch"}
TEXT = "word" * 3_000


def _call(size: int | None, seconds: float = 0.5, **fields):
    return llm(seconds, tokens=(size, 50), **fields)


def _turns(sizes, read: float = 0.0, **fields):
    """A model call for each size, each followed by a tool."""
    for number, size in enumerate(sizes):
        cached = {"gen_ai.usage.cache_read.input_tokens": int(read * size)} if read else None
        yield from (_call(size, more=cached, **fields), tool("look_up", 0.1, args={"n": number}, result=f"r{number}"))


def _messages(*texts: str):
    return [{"role": "user", "parts": [{"type": "text", "content": text}]} for text in texts]


def _shown(size: int, *texts: str):
    return _call(size, messages=_messages(*texts))


SILENT = {
    "two calls": agent("a", *_turns((1_000, 6_000))),
    "below 4,000": agent("a", *_turns((500, 1_500, 2_500, 3_900))),
    "less than twice the first": agent("a", *_turns((6_000, 7_500, 9_000, 11_000))),
    "always the same": agent("a", *_turns((5_000,) * 6)),
    "falling": agent("a", *_turns((8_000, 4_000, 2_000))),
    "cut again and again": agent("a", *_turns((1_000, 4_500, 1_200, 4_600, 1_100, 4_700))),
    "most of it from the provider's cache": agent("a", *_turns(GROWING, read=0.8)),
    "tokens not told": agent("a", *_turns((None,) * 6)),
    "two of three not told": agent("a", *[_call(size) for size in (1_000, None, None, 6_000)]),
    "failed calls": agent("a", *_turns(GROWING, error="overloaded")),
    "each in an invocation of its own": agent("boss", *[agent("w", *_turns((size,))) for size in GROWING]),
    "each by another model": agent("a", *[_call(size, model=f"m{size}") for size in GROWING]),
    "each by another agent": agent("a", *[_call(size, more={"gen_ai.agent.name": f"w{size}"}) for size in GROWING]),
    "at the same time": agent("a", together(*[_call(size) for size in GROWING])),
    "a few calls without a tool between": agent("a", *[_call(size) for size in GROWING]),
    "a program's loop over documents": span("batch", *_turns((1_000, 2_000, 3_000, 4_000, 5_000)), attributes=WORKFLOW),
    "visible prompts of one message about other texts": agent(
        "a", *[part for size in GROWING for part in (_shown(size, f"{size}" + TEXT), tool("t", 0.1, args={"n": size}))]
    ),
}


@pytest.mark.parametrize("trace", SILENT.values(), ids=SILENT.keys())
def test_silent(trace):
    assert findings(run_of(trace), KIND) == []


LOUD = {
    "turn by turn": agent("a", *_turns(GROWING)),
    "in nodes of a graph": agent("a", *[node("step", part) for part in _turns(GROWING)]),
    "with a question on the side": agent("a", *_turns((1_000, 2_500, 200, 4_000, 6_000))),
    "after the history was cut": agent("a", *_turns((1_000, 3_000, 3_500)), *_turns(GROWING)),
    "many calls without a tool between": agent("a", *[_call(size) for size in (1_000, *GROWING)]),
    "with a part of it from the provider's cache": agent("a", *_turns(GROWING, read=0.4)),
    "by one large result": agent("a", *_turns((1_000, 5_600, 5_800, 6_000))),
    "in a sub-agent": agent("boss", _call(9_000), agent("a", *_turns(GROWING))),
    "visible prompts with more and more messages": agent(
        "a", *[_shown(size, *[f"{number}" + TEXT for number in range(count)]) for count, size in enumerate(GROWING, 1)]
    ),
    "one visible message that gets longer": span(
        "batch", *[_shown(size, TEXT * count) for count, size in enumerate(GROWING, 1)], attributes=WORKFLOW
    ),
    "prompts of which only the last message is shown": agent(
        "a",
        *[
            part
            for size in GROWING
            for part in (_call(size, messages=_messages(f"q{size}")), tool("t", 0.1, args={"n": size}))
        ],
    ),
}


@pytest.mark.parametrize("trace", LOUD.values(), ids=LOUD.keys())
def test_loud(trace):
    run = run_of(trace)
    finding = the_finding(run, KIND)
    assert finding.operation == "gpt"
    assert finding.calls == len(finding.evidence) >= 4
    assert all(run.by_id[span_id].kind == "llm" for span_id in finding.evidence)
    assert (finding.wasted_s, finding.saving_s, finding.change) == (0.0, 0.0, None)
    assert "from 1,000 to 6,000 tokens" in finding.recommendation


def test_the_recommendation_says_what_is_sent_again():
    text = the_finding(run_of(agent("planner", *_turns(GROWING))), KIND).recommendation
    assert "prompts of planner to gpt grew from 1,000 to 6,000 tokens in 4 calls, 9,500 tokens more" in text


def test_it_is_a_warning_when_half_of_the_tokens_are_history():
    assert the_finding(run_of(agent("a", *_turns(GROWING))), KIND).severity == "warning"
    assert the_finding(run_of(agent("a", *_turns((3_000, 3_500, 4_500, 6_000)))), KIND).severity == "info"


def test_two_invocations_of_one_agent_are_one_finding():
    worker = agent("w", *_turns(GROWING))
    assert the_finding(run_of(agent("boss", worker, worker)), KIND).calls == 8


def test_the_user_sets_the_limits():
    run = agent("a", *_turns(GROWING))
    for name, value in (("calls", 5), ("factor", 7), ("tokens@gpt", 8_000)):
        assert findings(run_of(run, thresholds={f"{KIND}.{name}": value}), KIND) == []
