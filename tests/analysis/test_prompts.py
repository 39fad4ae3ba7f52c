from __future__ import annotations

import json

from otel_agentperf.analysis.prompts import visible_prompt
from otel_agentperf.model import PROMPT_BLOCK, Prompt

SYSTEM = "".join(f"{number}. be careful " for number in range(200))
IN = "llm.input_messages."


def _prompt(**attributes: str) -> Prompt:
    prompt = visible_prompt({key.replace("__", "."): value for key, value in attributes.items()})
    assert prompt is not None
    return prompt


def _messages(*texts: str) -> Prompt:
    shown = json.dumps([{"role": "user", "content": text} for text in texts])
    return _prompt(gen_ai__input__messages=shown)


def _common(one: Prompt, other: Prompt) -> int:
    same = [a == b for a, b in zip(one.blocks, other.blocks, strict=False)]
    return same.index(False) if False in same else len(same)


def test_nothing_shown():
    assert visible_prompt({"gen_ai.request.model": "gpt"}) is None
    assert visible_prompt({"gen_ai.input.messages": ""}) is None


def test_a_prompt_that_goes_on_begins_with_the_same_blocks():
    one, other = _messages(SYSTEM, "tea?"), _messages(SYSTEM, "tea?", "green", "why?")
    assert _common(one, other) == len(one.blocks) == one.size // PROMPT_BLOCK > 4
    assert (one.messages, other.messages) == (2, 4)


def test_a_difference_at_the_beginning_leaves_nothing_in_common():
    assert _common(_messages("9:01 " + SYSTEM), _messages("9:02 " + SYSTEM)) == 0


def test_tools_and_instructions_come_before_the_messages():
    one, other = (
        _prompt(gen_ai__input__messages=question, gen_ai__system_instructions=SYSTEM) for question in ("tea?", "ale?")
    )
    assert _common(one, other) == len(one.blocks) > 4


def test_spread_messages_are_read_in_the_order_of_their_numbers():
    spread = {f"{IN}{number}.message.content": f"{number:04}" * 128 for number in range(12)}
    later = {f"{IN}12.message.content": "x" * 512, **spread}
    one, other = visible_prompt(spread), visible_prompt(later)
    assert one is not None
    assert other is not None
    assert (one.messages, other.messages) == (12, 13)
    assert _common(one, other) == len(one.blocks) == 12


def test_openllmetrys_spelling():
    prompt = visible_prompt({"gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": SYSTEM})
    assert prompt is not None
    assert prompt.messages == 1
    assert prompt.blocks


def test_langsmiths_spelling():
    one, other = (_prompt(gen_ai__prompt=json.dumps({"messages": [SYSTEM, text]})) for text in ("tea?", "more tea?"))
    assert _common(one, other) > 4
    assert _common(one, _prompt(gen_ai__prompt=json.dumps({"messages": ["hello", SYSTEM]}))) == 0


def test_nothing_after_a_text_that_was_cut_off():
    one = visible_prompt({f"{IN}0.message.content": SYSTEM + "...", f"{IN}1.message.content": SYSTEM})
    assert one is not None
    assert one.size == len(SYSTEM) + 3


def test_the_text_itself_is_not_kept():
    assert "careful" not in repr(_messages(SYSTEM))


def test_a_long_prompt_is_not_kept_without_end():
    assert len(_messages("x" * 10_000_000).blocks) <= 256
