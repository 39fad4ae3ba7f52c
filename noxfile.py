"""The frameworks' tests, in the environments that their requirements need: `nox`, or `nox -s crewai`.

Frameworks conflict with each other, so a test file of an integration that is not in the `test` extra names at its top
the environments it runs in, and what it needs beside the integration's own package:

    ENVIRONMENTS = ("crewai",)
    REQUIRES = ("litellm>=1.100",)

Only these names are read here, without importing the file. An environment is what its files name, nothing else.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import nox

nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True

SOURCE = Path("src/otel_agentperf/integrations")
TESTS = Path("tests/integrations")
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
"""otherwise it asks the network for prices when it is imported"""
WARNINGS = ("default", "error::RuntimeWarning", "error::pytest.PytestUnraisableExceptionWarning")
"""what libraries warn each other of is not ours to mend; what we might cause fails"""
ALWAYS = ("pytest>=8.4", "hypothesis>=6.100", "jsonschema>=4.20")


def constants(path: Path) -> dict[str, object]:
    """The literals that a module assigns to names at its top level."""
    found = {}
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                found[statement.targets[0].id] = ast.literal_eval(statement.value)
            except ValueError:
                continue
    return found


def environments() -> dict[str, tuple[list[Path], list[str]]]:
    """Test files and requirements by environment."""
    found: dict[str, tuple[list[Path], list[str]]] = defaultdict(lambda: ([], []))
    for path in sorted(TESTS.glob("test_*.py")):
        told = constants(path)
        for environment in told.get("ENVIRONMENTS", ()):
            files, requirements = found[environment]
            files.append(path)
            requirements += _requirements(path, told)
    return found


def _requirements(path: Path, told: dict[str, object]) -> list[str]:
    integration = SOURCE / re.sub("^test_", "", path.name)
    named = constants(integration) if integration.exists() else {}
    own = [f"{named['DISTRIBUTION']}{named['VERSIONS']}"] if named.get("DISTRIBUTION") else []
    return own + list(told.get("REQUIRES", ()))


def _session(files: list[Path], requirements: list[str]) -> Callable[[nox.Session], None]:
    def run(session: nox.Session) -> None:
        session.install("-e", ".", *ALWAYS, *dict.fromkeys(requirements))
        warnings = [f"-W{action}" for action in WARNINGS]
        session.run(
            "pytest", *warnings, *map(str, files), str(TESTS / "test_contract.py"), *session.posargs, env=OFFLINE
        )

    run.__doc__ = ", ".join(re.sub("^test_", "", path.stem) for path in files)
    return run


for name, (files, requirements) in environments().items():
    nox.session(_session(files, requirements), name=name)
