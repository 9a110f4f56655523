"""A headless Chromium, and pages for it to open."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.answers.question import Question
from harness.report.page import report
from harness.stores.recorder import Recorder
from harness.stores.results import Results
from tests.harness.made_up import record_study

selenium = pytest.importorskip("selenium", reason="selenium drives the browser; it is among the dev dependencies")

TALL = 900  # pixels of the window


class Browser:
    """A Chromium that is told what to open and asked what it saw."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, address: str, *, width: int = 1200, dark: bool = False, media: str = "screen") -> None:
        """Open a page in a window of a width in pixels, in the light or the dark."""
        self.told(
            "Emulation.setDeviceMetricsOverride", width=width, height=TALL, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.told("Emulation.setEmulatedMedia", media=media, features=[scheme])
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)  # forget what was before
        self.driver.get(address)

    def ask(self, script: str, *arguments: object) -> Any:
        """Return what a script in the page returns."""
        return self.driver.execute_script(script, *arguments)

    def told(self, command: str, **options: object) -> Any:
        """Send a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(command, options)

    def complaints(self) -> list[str]:
        """Return what stands in the console."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the addresses that were asked for."""
        said = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [each["params"]["request"]["url"] for each in said if each["method"] == "Network.requestWillBeSent"]

    def until(self, condition: Callable[[], bool], *, seconds: float = 30) -> bool:
        """Wait for a condition; False where it did not come true."""
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        try:
            return bool(WebDriverWait(self.driver, seconds).until(lambda _: condition()))
        except TimeoutException:
            return False


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all tests."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    chromium = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    chromedriver = shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("no Chromium with its driver here; `make browser` installs both")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    yield Browser(driver)
    driver.quit()


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """The stores of a made-up study of two backbones."""
    from harness.stores.tracker import Tracker

    path = tmp_path_factory.mktemp("recorded") / "mlflow.db"
    tracker = Tracker(f"sqlite:///{path}", code="a" * 40)
    results = Results(f"sqlite:///{path}")
    recorder = Recorder(tracker, results)
    record_study(recorder)
    yield recorder
    results.close()


@pytest.fixture(scope="session")
def address(recorded: Recorder, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the study's report page is."""
    out: Path = tmp_path_factory.mktemp("page") / "report.html"
    report(recorded.results, out, Question(study="made-up", resamples=100), tracking=recorded.tracker.uri)
    return out.as_uri()
