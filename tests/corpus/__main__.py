"""`python -m tests.corpus --seeds 20`: precision, recall and saving error of each kind of finding, as Markdown."""

from __future__ import annotations

import re
from pathlib import Path

import click

from . import table
from .measure import Measured, measure
from .reports import write_documents
from .scoring import Outcome


@click.command()
@click.option("--seeds", default=20, show_default=True, help="How many seeds; each draws every program once.")
@click.option("--first", default=1, show_default=True, help="The first seed.")
@click.option("--kind", help="Only the programs about this kind.")
@click.option("--details", is_flag=True, help="Also list each label that was missed and each false alarm.")
@click.option("--keep", type=click.Path(path_type=Path), help="Write the traces of what went wrong to this folder.")
@click.option("--into", type=click.Path(path_type=Path), help="Replace the tables in this Markdown file.")
def main(seeds: int, first: int, kind: str | None, details: bool, keep: Path | None, into: Path | None) -> None:
    """Measure the findings of `agentperf report` against programs whose problems are known."""
    measured = measure(range(first, first + seeds), kind)
    wrong = [outcome for outcome in measured.outcomes if outcome.verdict in ("missed", "false")]
    wrong = [outcome for outcome in wrong if outcome.case.scenario.sort != "open"]
    tables = _tables(measured, seeds)
    click.echo(tables)
    if details:
        click.echo("\n".join(f"{one.verdict:6} {one.case.name} ({one.case.dialect}): {one.detail}" for one in wrong))
    if keep:
        _keep(wrong, keep)
    if into:
        text = into.read_text(encoding="utf-8")
        between = re.compile("(<!-- tables -->\n).*?(?=<!-- end of tables -->)", re.DOTALL)
        into.write_text(between.sub(lambda match: f"{match[1]}{tables}\n", text), encoding="utf-8")


def _tables(measured: Measured, seeds: int) -> str:
    spans = sum(
        len(scope["spans"])
        for case in measured.cases
        for document in case.documents
        for resource in document["resourceSpans"]
        for scope in resource["scopeSpans"]
    )
    head = (
        f"{len(measured.cases):,} runs of {len({case.scenario for case in measured.cases})} programs ({seeds} seeds), "
    )
    head += f"{spans:,} spans.\n"
    parts = [head, table.by_kind(measured.scores), "\nLeft open by the rules, and not counted:\n"]
    return "\n".join([*parts, table.left_open(measured.cases, measured.outcomes)])


def _keep(wrong: list[Outcome], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for outcome in wrong:
        path = folder / (outcome.case.name.replace("/", ".") + ".jsonl")
        path.unlink(missing_ok=True)
        write_documents(path, outcome.case.documents)


if __name__ == "__main__":
    main()
