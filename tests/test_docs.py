"""What the docs list is what there is."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from otel_agentperf import _config, _semconv
from otel_agentperf._discover import discover

ROOT = Path(__file__).parent.parent
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
REPORT = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("setting", _config.SETTINGS)
def test_every_setting_is_in_the_table(setting: str) -> None:
    name = (
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
        if setting == "content"
        else f"OTEL_AGENTPERF_{setting.upper()}"
    )
    assert f"`{name}`" in CONFIGURATION


def test_every_threshold_is_in_the_table() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    used = set(re.findall(r'threshold\(\s*"([\w.]+)"', source))
    assert len(used) > 8
    missing = {name for name in used if f"`{name}`" not in CONFIGURATION}
    assert not missing


@pytest.mark.parametrize("kind", sorted(discover("detectors")))
def test_every_kind_of_finding_is_in_the_docs(kind: str) -> None:
    assert f"`{kind}`" in REPORT


def test_every_metric_is_in_the_docs() -> None:
    metrics = [value for name, value in vars(_semconv).items() if name.startswith("METRIC_")]
    assert metrics
    missing = [name for name in metrics if name not in REPORT]
    assert not missing


def test_the_tables_of_libraries_are_those_of_the_integrations() -> None:
    """`python docs/integrations.py` writes them."""
    generated = runpy.run_path(str(ROOT / "docs" / "integrations.py"))["generated"]()
    for path, text in generated.items():
        assert path.read_text(encoding="utf-8") == text, path
