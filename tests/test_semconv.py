from __future__ import annotations

import importlib
from enum import Enum
from pathlib import Path

import opentelemetry.semconv
import pytest

from otel_agentperf import _semconv as names

OURS = {name: value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}
STANDARD = {name: value for name, value in OURS.items() if not value.startswith("agentperf.")}

NOT_YET_IN_THE_PACKAGE = {"gen_ai.invoke_agent.duration", "gen_ai.execute_tool.duration"}
"""metrics of the conventions' text; when the package has them this fails, and the line goes"""


def _constants() -> dict[str, set[str]]:
    """Every text that opentelemetry.semconv defines, with the names of its constants."""
    folder = Path(opentelemetry.semconv.__path__[0])
    found: dict[str, set[str]] = {}
    # Not pkgutil: the folder of the names in development is a namespace package.
    for path in folder.rglob("*.py"):
        inside = path.relative_to(folder).with_suffix("").parts
        module = importlib.import_module(".".join(["opentelemetry.semconv", *inside]).removesuffix(".__init__"))
        for name, value in vars(module).items():
            for text in _texts(value):
                found.setdefault(text, set()).add(name)
    return found


def _texts(value: object) -> list[str]:
    if isinstance(value, type) and issubclass(value, Enum):
        return [str(member.value) for member in value]
    return [value] if isinstance(value, str) else []


@pytest.fixture(scope="module")
def constants():
    return _constants()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_each_standard_name_is_a_constant_of_the_conventions(constants):
    assert {value for value in STANDARD.values() if value not in constants} == NOT_YET_IN_THE_PACKAGE


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", [name for name in STANDARD if name.startswith("GEN_AI_")])
def test_a_constant_of_the_same_name_has_the_same_value(constants, name):
    same = {value for value, named in constants.items() if name in named}
    assert same <= {STANDARD[name]}


def test_what_has_no_convention_has_our_prefix():
    assert all(value.startswith("agentperf.") for name, value in OURS.items() if name not in STANDARD)
    assert len(set(OURS.values())) >= len(OURS) - 1, "only the event and the flag's prefix may resemble each other"
