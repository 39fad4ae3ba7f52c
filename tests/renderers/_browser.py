"""A page in Chromium, as a reader has it: opened from a file, looked at, used with mouse and keyboard."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from otel_agentperf.model import Report
from otel_agentperf.renderers import html

_NUMBERS = count(1)


@dataclass(frozen=True)
class Page:
    driver: webdriver.Chrome
    folder: Path

    def open(self, *reports: Report, at: str = "") -> None:
        output = io.StringIO()
        html.render(reports, output)
        self.show(output.getvalue(), at)

    def show(self, text: str, at: str = "") -> None:
        path = self.folder / f"{next(_NUMBERS)}.html"
        path.write_text(text, encoding="ascii")
        self.driver.get(path.as_uri() + at)

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def colours(self, scheme: str) -> None:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def scripts(self, on: bool) -> None:
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not on})

    def script(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "body") -> str:
        return str(self.find(selector).get_property("innerText")).replace("\xa0", " ")

    def texts(self, selector: str) -> list[str]:
        return [str(found.get_property("innerText")).replace("\xa0", " ").strip() for found in self.all(selector)]

    def wait_for(self, selector: str, text: str = "") -> None:
        """The address changes at once after a click, and the page just after that."""
        WebDriverWait(self.driver, 10, poll_frequency=0.02).until(
            lambda _: self.script(
                "const [where, text] = arguments; return document.querySelector(where)?.textContent.includes(text)",
                selector,
                text,
            )
        )

    def press(self, *keys: str) -> WebElement:
        """On whatever has the focus; returns what has it then."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)
        return self.driver.switch_to.active_element

    def bottom_of(self, selector: str) -> float:
        return float(
            self.script("return document.querySelector(arguments[0]).getBoundingClientRect().bottom", selector)
        )

    def overflow(self) -> int:
        """Pixels that the page is wider than the window."""
        return int(self.script("return document.documentElement.scrollWidth - innerWidth"))

    def complaints(self) -> list[str]:
        """What the browser's console says since the last time: errors, and what the page's policy refused."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


@contextlib.contextmanager
def started(browser: Path, driver: Path, folder: Path) -> Iterator[Page]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(browser)
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(driver)))
    try:
        yield Page(running, folder)
    finally:
        running.quit()
