"""`stack`: one Collector, Jaeger and Prometheus for the whole test run."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from e2e._stack import CI, Missing, Stack, collector_binary, installed, jaeger_binary, running, tail


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Skips where a program is missing, but fails in CI: there a skip would hide that nothing was tested."""
    try:
        with running(tmp_path_factory.mktemp("stack")) as started:
            yield started
    except Missing as missing:
        if CI:
            raise
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def programs() -> None:
    """For tests that start a Collector or a Jaeger of their own: the same where the programs are missing."""
    try:
        collector_binary(), jaeger_binary(), installed("openssl", "openssl")
    except Missing as missing:
        if CI:
            raise
        pytest.skip(str(missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of the servers' logs with a failed test."""
    report = yield
    started = getattr(item, "funcargs", {}).get("stack")
    if report.failed and isinstance(started, Stack):
        report.sections += [(log.name, tail(log)) for log in started.logs]
    return report
