"""A headless Chromium for the tests of pages; tests that ask for it skip where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class Browser:
    """Opens pages from disk and says what they do."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, *, width: int = 1200, dark: bool = False) -> None:
        """Open a page in a window of some width and wait for its charts."""
        self.window(width, dark=dark)
        self.driver.get(path.as_uri())
        self.wait("return document.body.dataset.charts === 'drawn'")

    def window(self, width: int, *, dark: bool = False) -> None:
        """Set the window's width, and whether its user likes it dark, and forget earlier errors."""
        self.errors()
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})

    def wait(self, script: str) -> None:
        """Wait until a script says so."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 30).until(lambda driver: driver.execute_script(script))

    def errors(self) -> list[str]:
        """Return what the console complained of since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        """Return the first element of a CSS selector."""
        return self.driver.find_element("css selector", selector)

    def find_all(self, selector: str) -> list[Any]:
        """Return all elements of a CSS selector."""
        return list(self.driver.find_elements("css selector", selector))

    def charts_without_marks(self) -> int:
        """Count the charts in which nothing is drawn."""
        return int(
            self.run(
                "return [...document.querySelectorAll('figure.chart')].filter(f => "
                "!f.querySelector('svg .mark-group path, svg [class^=mark-] path, "
                "svg [class^=mark-] line, svg [class^=mark-] text')).length"
            )
        )

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        wider = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(self.run(wider))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("chromium and chromedriver aren't installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
