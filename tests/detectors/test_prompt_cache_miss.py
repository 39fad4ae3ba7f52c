from __future__ import annotations

import pytest

from _traces import agent, findings, llm, node, run_of, span, the_finding, together, tool, wait

KIND = "prompt_cache_miss"
WORKFLOW = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": "batch"}
SYSTEM = "You are careful. " * 400  # 1,700 tokens
READ = "gen_ai.usage.cache_read.input_tokens"
WRITE = "gen_ai.usage.cache_creation.input_tokens"


def _call(size: int | None, read: int | None = 0, shown=None, **fields):
    more = {} if read is None else {READ: read}
    return llm(0.5, tokens=(size, 50), messages=shown, more={**more, **fields.pop("more", {})}, **fields)


def _tool(number: int = 0):
    return tool("look_up", 0.1, args={"n": number}, result=f"r{number}")


def _turns(sizes, read: int | None = 0, **fields):
    return [part for number, size in enumerate(sizes) for part in (_call(size, read, **fields), _tool(number))]


def _about(question: str, system: str = SYSTEM):
    return [{"role": "system", "content": system}, {"role": "user", "content": question}]


def _shown(read: int | None, questions=("tea?", "coffee?", "water?"), **fields):
    return [_call(1_800, read, _about(question), **fields) for question in questions]


SILENT = {
    "half of it read": agent("a", *_turns((2_000, 2_500, 3_000), read=1_900)),
    "a first call that fills the cache": agent("a", _call(2_000), *_turns((2_500, 3_000, 3_500), read=2_000)),
    "one miss among many hits": agent(
        "a", *_turns((2_000, 2_500), read=2_000), *_turns((3_000,)), *_turns((3_500, 4_000), read=2_900)
    ),
    "nobody tells of cache reads": agent("a", *_turns((2_000, 2_500, 3_000), read=None)),
    "only another model tells": agent("a", _call(50, 0, model="m2"), *_turns((2_000, 2_500, 3_000), read=None)),
    "short prompts": agent("a", *_turns((700, 800, 900))),
    "one call": agent("a", *_turns((9_000,))),
    "more than five minutes later": agent("a", *_turns((2_000,)), wait(310), *_turns((2_500,))),
    "other prompts, hidden": agent("a", *_turns((5_000, 3_000, 2_000))),
    "a program's loop over documents": span("batch", *_turns((2_000, 2_500, 3_000)), attributes=WORKFLOW),
    "hidden prompts and no tool between": agent("a", _call(2_000), _call(2_500)),
    "each in an invocation of its own, hidden": agent("boss", *[agent("w", *_turns((2_000,))) for _ in range(4)]),
    "different models": agent("a", *[part for n in range(4) for part in (_call(2_000 + n, model=f"m{n}"), _tool())]),
    "different agents": agent(
        "a", *[part for n in range(4) for part in (_call(2_000 + n, more={"gen_ai.agent.name": f"w{n}"}), _tool())]
    ),
    "at the same time": agent("a", together(*_shown(0))),
    "failed calls": agent("a", *_shown(0, error="overloaded")),
    "visible prompts that begin differently": agent(
        "a",
        *[
            part
            for n in range(4)
            for part in (_call(1_800 + n, 0, _about("tea?", f"It is {n} o'clock. {SYSTEM}")), _tool(n))
        ],
    ),
    "visible prompts that begin differently, cut off later": agent(
        "a",
        *[part for n in range(4) for part in (_call(9_000 + n, 0, _about(f"{n} o'clock. {SYSTEM}...", "")), _tool(n))],
    ),
    "visible prompts that share a short beginning": agent(
        "a", *[_call(1_800, 0, _about(f"{n} {SYSTEM}", SYSTEM[:2_000])) for n in range(4)]
    ),
    "visible and read": agent("a", *_shown(1_500)),
}


@pytest.mark.parametrize("trace", SILENT.values(), ids=SILENT.keys())
def test_silent(trace):
    assert findings(run_of(trace), KIND) == []


LOUD = {
    "a conversation": (agent("a", *_turns((2_000, 2_500, 3_000))), 2),
    "in nodes of a graph": (agent("a", *[node("step", part) for part in _turns((2_000, 2_500, 3_000))]), 2),
    "told once, by another call of the model": (
        agent("a", _call(50, 0), *_turns((2_000, 2_500, 3_000), read=None)),
        2,
    ),
    "little of it read": (agent("a", *_turns((4_000, 4_500, 5_000), read=1_024)), 2),
    "in OpenInference's spelling": (
        agent("a", *_turns((2_000, 2_500, 3_000), None, more={"llm.token_count.prompt_details.cache_read": 0})),
        2,
    ),
    "many calls that grow without a tool between": (agent("a", *[_call(2_000 + n) for n in range(6)]), 5),
    "visible prompts that begin alike": (agent("a", *_shown(0)), 2),
    "visible prompts of a program's loop": (span("batch", *_shown(0), attributes=WORKFLOW), 2),
    "visible prompts in several invocations": (agent("boss", *[agent("w", call) for call in _shown(0)]), 2),
    "visible prompts, cut off after their beginning": (
        agent("a", *[_call(9_000, 0, _about(f"{SYSTEM}...")) for _ in range(3)]),
        2,
    ),
}


@pytest.mark.parametrize(("trace", "calls"), LOUD.values(), ids=LOUD.keys())
def test_loud(trace, calls):
    run = run_of(trace)
    finding = the_finding(run, KIND)
    assert finding.operation == "gpt"
    assert finding.calls == calls
    assert all(run.by_id[span_id].kind == "llm" for span_id in finding.evidence)
    assert (finding.wasted_s, finding.saving_s, finding.change) == (0.0, 0.0, None)


def test_the_tokens_in_common_and_those_read_are_told():
    text = the_finding(run_of(agent("a", *_turns((2_000, 2_500, 3_000), read=500))), KIND).recommendation
    assert "4,500 tokens in common, and 1,000 came from the provider's cache" in text


def test_visible_prompts_without_a_word_about_the_cache_are_only_information():
    finding = the_finding(run_of(agent("a", *_shown(None))), KIND)
    assert finding.severity == "info"
    assert "tells of no read" in finding.recommendation


def test_it_is_a_warning_when_half_of_the_tokens_are_paid_for_again():
    assert the_finding(run_of(agent("a", *_turns((2_000, 2_500, 3_000)))), KIND).severity == "warning"
    assert the_finding(run_of(agent("a", *_turns((2_000, 9_000)))), KIND).severity == "info"


def test_written_and_never_read_is_told_apart():
    trace = agent("a", *_turns((2_000, 2_500, 3_000), more={WRITE: 2_000}))
    assert "is not read again" in the_finding(run_of(trace), KIND).recommendation


def test_the_user_sets_the_limits():
    trace = agent("a", *_turns((2_000, 2_500, 3_000), read=500))
    for name, value in (("tokens", 4_000), ("share", 0.1), ("within_s@gpt", 0.01)):
        assert findings(run_of(trace, thresholds={f"{KIND}.{name}": value}), KIND) == []
