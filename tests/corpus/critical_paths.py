"""Small traces whose critical path is known: the shapes that critical-path tools are tested with.

Our own reconstructions, with numbers of our own, of shapes in the test cases of CRISP (github.com/uber-research/CRISP,
Apache-2.0; Zhang et al., "CRISP: Critical Path Analysis of Large-Scale Microservice Architectures", USENIX ATC 2022)
and of the Jaeger UI. Times in milliseconds from the start of the root, which is called `A`.
"""

from __future__ import annotations

from typing import NamedTuple

Row = tuple[str, str, float, float]
"""name, parent, start, end"""
Segment = tuple[str, float, float]


class KnownPath(NamedTuple):
    sentence: str
    rows: tuple[Row, ...]
    path: tuple[Segment, ...]


ROOT: Row = ("A", "", 0, 1000)

KNOWN = (
    KnownPath("a root alone is its own path", (ROOT,), (("A", 0, 1000),)),
    KnownPath(
        "a child takes its stretch out of the parent's",
        (ROOT, ("B", "A", 300, 700)),
        (("A", 0, 300), ("B", 300, 700), ("A", 700, 1000)),
    ),
    KnownPath("a child as long as its parent takes all of it", (ROOT, ("B", "A", 0, 1000)), (("B", 0, 1000),)),
    KnownPath(
        "a child's child is on the path within it",
        (ROOT, ("B", "A", 100, 800), ("C", "B", 300, 500)),
        (("A", 0, 100), ("B", 100, 300), ("C", 300, 500), ("B", 500, 800), ("A", 800, 1000)),
    ),
    KnownPath(
        "children in sequence are all on the path",
        (ROOT, ("B", "A", 100, 300), ("C", "A", 400, 500), ("D", "A", 600, 900)),
        (
            ("A", 0, 100), ("B", 100, 300), ("A", 300, 400), ("C", 400, 500), ("A", 500, 600), ("D", 600, 900),
            ("A", 900, 1000),
        ),
    ),
    KnownPath(
        "children that touch exactly are in sequence",
        (ROOT, ("B", "A", 0, 400), ("C", "A", 400, 1000)),
        (("B", 0, 400), ("C", 400, 1000)),
    ),
    KnownPath(
        "of children in parallel the one that ends last is waited for",
        (ROOT, ("B", "A", 100, 500), ("C", "A", 100, 900)),
        (("A", 0, 100), ("C", 100, 900), ("A", 900, 1000)),
    ),
    KnownPath(
        "of a staircase of overlapping children every second one is waited for",
        (("A", "", 0, 800), ("B", "A", 100, 300), ("C", "A", 200, 450), ("D", "A", 400, 650)),
        (("A", 0, 100), ("B", 100, 300), ("A", 300, 400), ("D", 400, 650), ("A", 650, 800)),
    ),
    KnownPath(
        "overlaps by a hair, from clocks that are not quite right, are a sequence",
        (ROOT, ("B", "A", 10, 210), ("C", "A", 209.5, 310), ("D", "A", 309.5, 610)),
        (("A", 0, 10), ("B", 10, 209.5), ("C", 209.5, 309.5), ("D", 309.5, 610), ("A", 610, 1000)),
    ),
    KnownPath(
        "a child that outlives its parent is cut off there",
        (ROOT, ("B", "A", 100, 1100), ("C", "B", 400, 500)),
        (("A", 0, 100), ("B", 100, 400), ("C", 400, 500), ("B", 500, 1000)),
    ),
    KnownPath(
        "so is a grandchild, at the child's end",
        (ROOT, ("B", "A", 100, 700), ("C", "B", 200, 1200)),
        (("A", 0, 100), ("B", 100, 200), ("C", 200, 700), ("A", 700, 1000)),
    ),
    KnownPath(
        "a child that starts after its parent ended is not on the path, nor is what is below it",
        (ROOT, ("B", "A", 1100, 1600), ("C", "B", 1200, 1500), ("D", "A", 600, 900)),
        (("A", 0, 600), ("D", 600, 900), ("A", 900, 1000)),
    ),
    KnownPath(
        "children without length change nothing, wherever they are",
        (ROOT, ("B", "A", 0, 0), ("C", "A", 500, 500), ("D", "A", 500, 500), ("E", "A", 1000, 1000)),
        (("A", 0, 500), ("A", 500, 1000)),
    ),
    KnownPath(
        "two that overlap in the middle do not hide what comes before and after",
        (("A", "", 0, 1100), ("B", "A", 100, 200), ("C", "A", 150, 350), ("D", "A", 300, 400), ("E", "A", 500, 600),
         ("F", "A", 700, 1000), ("G", "F", 800, 900)),
        (
            ("A", 0, 100), ("B", 100, 200), ("A", 200, 300), ("D", 300, 400), ("A", 400, 500), ("E", 500, 600),
            ("A", 600, 700), ("F", 700, 800), ("G", 800, 900), ("F", 900, 1000), ("A", 1000, 1100),
        ),
    ),
)  # fmt: skip
