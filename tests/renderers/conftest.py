"""`page`: the HTML report in a real browser, Chromium without a window."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from renderers._browser import Page, started

CI = os.environ.get("CI", "").lower() in {"1", "true"}


@pytest.fixture(scope="session")
def _browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Skips where there is no browser, but fails in CI: there a skip would hide that nothing was tested."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        message = "chromium and chromedriver are not installed (apt-get install chromium chromium-driver)"
        if CI:
            pytest.fail(message)
        pytest.skip(message)
    with started(*map(Path, filter(None, programs)), tmp_path_factory.mktemp("pages")) as page:
        yield page


@pytest.fixture
def page(_browser: Page) -> Iterator[Page]:
    """A desktop window in light colours. Whatever the page complains of, or asks the network for, fails the test."""
    _browser.resize(1280, 800)
    _browser.colours("light")
    yield _browser
    assert _browser.complaints() == []
    assert _browser.script("return performance.getEntriesByType('resource').map((entry) => entry.name)") == []
