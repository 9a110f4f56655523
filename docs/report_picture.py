"""Make the picture of the report: build the page from a recorded database and photograph it in Chromium.

Example: python docs/report_picture.py --db sqlite:///mlflow.db --study demo
"""

from __future__ import annotations

import argparse
import base64
import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from harness import verbs
from harness.errors import HarnessError
from harness.places import find_places

WIDTH, HEIGHT = 1180, 1660  # pixels of the page that are shown
MOST_BYTES = 300_000
COLOURS = (256, 128, 64, 32)  # of the palette, fewer until the file is small enough


def main() -> None:
    """Write the picture that the command line asks for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--db", default=None, help="recorded database [default: sqlite:///mlflow.db]")
    options.add_argument("--study", default=None, help="only this study's trials")
    options.add_argument("--dark", action="store_true", help="in the dark")
    options.add_argument("--out", type=Path, default=Path(__file__).with_name("report.png"))
    chosen = options.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "report.html"
            verbs.report(page, study=chosen.study, log=False, places=find_places(tracking=chosen.db))
            content = smaller(photograph(page, dark=chosen.dark))
    except HarnessError as error:
        sys.exit(str(error))
    beside = chosen.out.with_name(f".{chosen.out.name}.part")
    beside.write_bytes(content)
    beside.replace(chosen.out)
    sys.stdout.write(f"{chosen.out}: {len(content) / 1000:.0f} kB\n")


def photograph(page: Path, *, dark: bool = False) -> bytes:
    """Return the upper part of a page as PNG, as headless Chromium shows it.

    Raises:
        HarnessError: there is no Chromium with its driver.
    """
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        raise HarnessError("The picture is taken by Chromium with its driver, but there is none; run `make browser`.")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        window = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        browser.get(page.as_uri())
        taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    finally:
        browser.quit()
    return base64.b64decode(taken["data"])


def smaller(content: bytes) -> bytes:
    """Return a picture of few colours as a PNG of at most MOST_BYTES."""
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    for colours in COLOURS:
        held = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(held, "PNG", optimize=True)
        if held.tell() <= MOST_BYTES:
            return held.getvalue()
    raise HarnessError(f"The picture must have at most {MOST_BYTES:,} bytes, but has {held.tell():,}; show less of it.")


if __name__ == "__main__":
    main()
