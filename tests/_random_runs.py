"""Random traces for hypothesis: any shape, with overlaps, overflows, equal times and spans of no length."""

from __future__ import annotations

from hypothesis import strategies as st

from _traces import Node, agent, cache, db, http, llm, node, retrieval, tool

_TIMES = st.sampled_from([0.0, 0.0, 0.05, 0.1, 0.1, 0.25, 0.5, 1.0, 2.0, 7.0])
_NUMBERS = st.integers(0, 4)


@st.composite
def trees(draw: st.DrawFn, most: int = 40) -> Node:
    """An agent with up to `most` spans below it."""
    # One seeded generator instead of a draw per span: hypothesis is slow with thousands of draws.
    random = draw(st.randoms(use_true_random=False, note_method_calls=False))
    size = draw(st.integers(0, most))
    parents = [random.randrange(max(0, place - random.choice((1, 3, 50))), place + 1) for place in range(size)]
    below: dict[int, list[Node]] = {place: [] for place in range(size + 1)}
    for place in range(size, 0, -1):
        below[parents[place - 1]].insert(0, _span(random, below[place]))
    return agent("root", *_seconds(random, below[0]), *below[0])


def _seconds(random, children: list[Node]) -> list[float]:
    """Mostly as long as the children last, otherwise anything."""
    return [] if children and random.random() < 0.7 else [random.choice((0.0, 0.05, 0.1, 0.5, 1.0, 7.0))]


def _span(random, children: list[Node]) -> Node:
    parts = [*_seconds(random, children), *children]
    fields: dict[str, object] = {"at": random.choice((None, None, None, 0.0, 0.1, 0.5, 3.0))}
    number = random.randrange(6)
    error = random.choice((None, None, None, "timeout"))
    kind = random.randrange(9)
    if kind == 0:
        return agent(f"agent{number % 2}", *parts, **fields)
    if kind in (1, 2):
        shown = {"args": random.choice((None, {"id": number})), "result": random.choice((None, f"r{number}"))}
        return tool(random.choice(("get", "set_x")), *parts, error=error, **shown, **fields)
    if kind == 3:
        return llm(*parts, tokens=random.choice(((None, None), (10, number * 100))), error=error, **fields)
    if kind == 4:
        return db(f"SELECT * FROM t WHERE id = {number}", *parts, error=error, **fields)
    if kind == 5:
        return http(f"https://x.io/a/{number}", *parts, status=random.choice((200, 503)), **fields)
    if kind == 6:
        return cache("c", *parts, key=f"k{number % 3}", hit=random.choice((True, False, None)), **fields)
    if kind == 7:
        return retrieval("docs", *parts, **fields)
    return node("step", *parts, **fields)
