"""Runs of `agentperf.report/v1`, just made or recorded earlier, as the figures that `analysis.compare` takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..analysis.comparison import FindingFigures, OperationFigures, RunFigures


def run_figures(run: Mapping[str, Any]) -> RunFigures:
    """Raises `ValueError` where it is not as the schema has it. Fields that later versions added may be missing."""
    try:
        return RunFigures(
            name=str(run["name"]),
            duration_s=float(run["duration_s"]),
            failed=run["status"] == "error",
            score=float(run["score"]),
            tokens=int(run["tokens"]["input"]) + int(run["tokens"]["output"]),
            cost_usd=_cost(run.get("cost")),
            operations=tuple(map(_operation, run["operations"])),
            findings=tuple(map(_finding, run["findings"])),
        )
    except KeyError as error:
        raise ValueError(f"it has no {error.args[0]}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(str(error)) from None


def identity(run: Mapping[str, Any]) -> tuple[str, str]:
    """The same for the same run, wherever it is recorded."""
    return str(run.get("trace_id")), str(run.get("root_span_id"))


def _cost(told: Any) -> float | None:
    """Known in part is not known: half of the models would look like half the price."""
    if not isinstance(told, Mapping) or told.get("usd") is None or told.get("complete") is False:
        return None
    return float(told["usd"])


def _operation(told: Mapping[str, Any]) -> OperationFigures:
    return OperationFigures(
        kind=str(told["kind"]),
        name=str(told["name"]),
        calls=int(told["calls"]),
        errors=int(told["errors"]),
        self_s=float(told["self_s"]),
        critical_s=float(told["critical_s"]),
    )


def _finding(told: Mapping[str, Any]) -> FindingFigures:
    kind, agent, operation = str(told["kind"]), str(told.get("agent") or ""), str(told["operation"])
    return FindingFigures(
        fingerprint=str(told.get("fingerprint") or "\0".join((kind, agent, operation))),
        kind=kind,
        agent=agent,
        operation=operation,
        severity=str(told["severity"]),
        saving_s=float(told["saving_s"]),
    )
