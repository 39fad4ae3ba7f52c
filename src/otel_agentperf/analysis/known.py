"""Names in the user's settings that nothing goes by: a misspelt threshold would otherwise be silent."""

from __future__ import annotations

from collections.abc import Iterator

from .._config import Config
from .analyze import SEVERITIES, THRESHOLDS, detectors


def unknown_names(config: Config) -> Iterator[str]:
    """A sentence for each threshold that no detector asks for, and each kind that none finds."""
    for name in config.threshold_map():
        fault = _threshold_fault(name.partition("@")[0])
        if fault:
            yield f"{config.where('thresholds')}: there is no threshold {name}; it has no effect ({fault})"
    for suppression in config.suppression_list():
        if suppression.kind and "*" not in suppression.kind and suppression.kind not in detectors():
            kinds = ", ".join(detectors())
            yield f"{config.where('suppress')}: there is no kind {suppression.kind}; it suppresses nothing ({kinds})"
    for rule in config.sampling_rules():
        if rule.condition == "findings" and rule.value and rule.value not in (*SEVERITIES, *detectors()):
            known = ", ".join((*SEVERITIES, *detectors()))
            yield f"{config.where('sampling')}: there are no findings {rule.value}; no run meets {rule.key} ({known})"


def _threshold_fault(name: str) -> str:
    """What there is instead; empty where the name is known, or a detector does not say what it asks for."""
    kind, _, rest = name.partition(".")
    if name in THRESHOLDS:
        return ""
    if kind not in detectors():
        return f"kinds: {', '.join(detectors())}; for all kinds: {', '.join(sorted(THRESHOLDS))}"
    own: frozenset[str] | None = getattr(detectors()[kind], "THRESHOLDS", None)
    if own is None or rest in own:
        return ""
    return f"{kind} has: {', '.join(sorted(own)) or 'none'}"
