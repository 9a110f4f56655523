"""Make the docs' pictures from a recorded database: the report of a study, and its runs in MLflow's pages.

Example: python docs/pictures.py --db sqlite:///mlflow.db --study demo
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from harness import verbs
from harness.errors import HarnessError
from harness.places import find_places
from harness.stores.run_names import EXPERIMENT, VIEW, VIEW_LINK

HERE = Path(__file__).parent
REPORT_PIXELS = 1180, 1660  # of the page that are shown
MLFLOW_PIXELS = 1500, 820
MOST_BYTES = 300_000
COLOURS = (256, 128, 64, 32)  # of the palette, fewer until the file is small enough
PATIENCE_SECONDS = 180  # MLflow's server imports for half a minute before it answers


def main() -> None:
    """Write the pictures that the command line asks for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--db", default=None, help="recorded database [default: sqlite:///mlflow.db]")
    options.add_argument("--study", default="demo", help="whose trials are shown [default: demo]")
    options.add_argument("--dark", action="store_true", help="the report in the dark")
    options.add_argument("--out", type=Path, default=HERE, help="folder of report.png and mlflow.png [default: docs]")
    chosen = options.parse_args()
    try:
        with chromium() as browser, tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "report.html"
            places = find_places(tracking=chosen.db)
            verbs.report(page, study=chosen.study, log=False, places=places)
            show(browser, page.as_uri(), REPORT_PIXELS, dark=chosen.dark)
            write(chosen.out / "report.png", photograph(browser))
            with served(places.tracking, Path(folder)) as address:
                open_runs(browser, address)
                write(chosen.out / "mlflow.png", photograph(browser))
    except HarnessError as error:
        sys.exit(str(error))


@contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """Yield a headless Chromium.

    Raises:
        HarnessError: there is none with its driver.
    """
    binary, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if binary is None or driver is None:
        raise HarnessError("Pictures are taken by Chromium with its driver, but there is none; run `make browser`.")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def show(browser: webdriver.Chrome, address: str, pixels: tuple[int, int], *, dark: bool = False) -> None:
    """Open a page in a window of a width and a height."""
    window = {"width": pixels[0], "height": pixels[1], "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(address)


def photograph(browser: webdriver.Chrome) -> bytes:
    """Return what the window shows, as PNG."""
    return base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])


@contextmanager
def served(tracking: str, folder: Path) -> Iterator[str]:
    """Yield the address of MLflow's own pages of a database, as `mlflow ui` serves them.

    Raises:
        HarnessError: they do not come.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["ui", "--backend-store-uri", tracking, "--port", str(port), "--workers", "1"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command], stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        end = time.monotonic() + PATIENCE_SECONDS
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if server.poll() is not None or time.monotonic() > end:
                raise HarnessError(f"MLflow must serve its pages, but said: {(folder / 'log').read_text()[-500:]}")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def open_runs(browser: webdriver.Chrome, address: str) -> None:
    """Open the list of runs as the experiment's description links to it, without the assistant beside it."""
    experiment = MlflowClient(tracking_uri=address).get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        raise HarnessError(f"The database must hold a study, but has no experiment {EXPERIMENT}; run one first.")
    show(browser, address, MLFLOW_PIXELS)
    for name, value in (("fab.autoOpenedOnFirstLoad_v1", "true"), ("panelOpen_v1", "false")):
        browser.execute_script(f"localStorage.setItem('mlflow.assistant.{name}', '{value}')")
    link = VIEW_LINK.format(experiment=experiment.experiment_id, view=VIEW)
    show(browser, f"{address}/?again{link}", MLFLOW_PIXELS)
    wait = WebDriverWait(browser, PATIENCE_SECONDS)
    wait.until(lambda _: "M=1" in browser.execute_script("return document.body.innerText"))
    time.sleep(2)  # its charts and columns move into place


def write(out: Path, content: bytes) -> None:
    """Write a picture of few colours of at most MOST_BYTES."""
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    for colours in COLOURS:
        held = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(held, "PNG", optimize=True)
        if held.tell() <= MOST_BYTES:
            break
    else:
        raise HarnessError(f"A picture must have at most {MOST_BYTES:,} bytes, not {held.tell():,}; show less.")
    beside = out.with_name(f".{out.name}.part")
    beside.write_bytes(held.getvalue())
    beside.replace(out)
    sys.stdout.write(f"{out}: {held.tell() / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
