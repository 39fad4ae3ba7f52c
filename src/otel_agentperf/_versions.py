"""Which version of a library is here, and whether we were tested with it."""

from __future__ import annotations

from types import ModuleType


def installed(distribution: str) -> str | None:
    """The version of a distribution; None where there is none."""
    from importlib import metadata  # 10 ms

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def within(version: str, tested: str) -> bool:
    """Whether a version is in a range such as `>=2,<4`; one that is no version of PEP 440 is not."""
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(tested).contains(version, prereleases=True)
    except InvalidVersion:
        return False


def untested(integration: ModuleType) -> str | None:
    """The version of the integration's library, where it is outside of the range it was tested with."""
    distribution: str = getattr(integration, "DISTRIBUTION", "")
    version = installed(distribution) if distribution else None
    return version if version is not None and not within(version, integration.VERSIONS) else None
