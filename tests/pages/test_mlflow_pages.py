"""MLflow's own pages, served from a recorded database, show what a study left there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from harness.stores.recorder import Recorder
from tests.pages.conftest import Browser

pytestmark = pytest.mark.slow

START_SECONDS = 300  # a busy machine takes that long
DRAW_SECONDS = 120
UNFOLD = ".ag-row button[data-component-id*=runnamecell]"  # beside the study's name
TEXT = "return document.body.innerText"


@pytest.fixture(scope="module")
def server(recorded: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's server on the study's database; without its job runners, which take two gigabytes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder: Path = tmp_path_factory.mktemp("server")
    command = ["server", "--backend-store-uri", recorded.tracker.uri, "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command, "--workers", "1"], cwd=folder, stdout=log, stderr=log,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
            start_new_session=True,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        assert _answers(address, process), (folder / "log").read_text()[-2000:]
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def _answers(address: str, process: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    return False


def test_study_and_its_trials(browser: Browser, server: str, recorded: Recorder) -> None:
    """The list of runs shows the study, and unfolded its trials below it."""
    browser.open(f"{server}/#/experiments/{recorded.tracker.experiment}/runs", width=1600)
    assert browser.until(lambda: "made-up" in browser.ask(TEXT), seconds=DRAW_SECONDS), browser.ask(TEXT)
    assert "18 matching runs" in browser.ask(TEXT)
    assert "beats-small M=1" not in browser.ask(TEXT)
    browser.ask(f"document.querySelector('{UNFOLD}').click()")
    names = ("beats-small M=1 K1=15 K2=15 seed=0", "audiomae-small M=3 K1=15 K2=15 seed=1")
    found = browser.until(lambda: all(name in browser.ask(TEXT) for name in names), seconds=DRAW_SECONDS)
    assert found, browser.ask(TEXT)


def test_compared_metrics(browser: Browser, server: str, recorded: Recorder) -> None:
    """The comparison of two trials shows both names, and the metrics of both."""
    trials = recorded.results.trial_scores()
    chosen = trials[(trials["kind"] == "trial") & (trials["backbone"] == "beats-small") & (trials["seed"] == 0)]
    chosen = chosen[chosen["m"].isin([1, 3])]
    runs = quote(json.dumps(chosen["run_id"].tolist()))
    experiments = quote(json.dumps([recorded.tracker.experiment]))
    browser.open(f"{server}/#/compare-runs?runs={runs}&experiments={experiments}", width=1600)
    assert browser.until(lambda: "h_mean/fan" in browser.ask(TEXT), seconds=DRAW_SECONDS), browser.ask(TEXT)
    text = browser.ask(TEXT)
    assert "Comparing 2 Runs" in text
    assert all(f"beats-small M={m} K1=15 K2=15 seed=0" in text for m in (1, 3))
    metrics = recorded.results.metrics(chosen["key"].tolist())
    means = metrics[metrics["machine"] == "fan"]["h_mean"].tolist()
    shown = text[text.index("h_mean/fan") :].split()
    assert len(set(means)) == 2
    assert all(f"{round(value, 3):g}" in shown for value in means)


def test_tracking_address_opens_the_run(browser: Browser, server: str, recorded: Recorder) -> None:
    """The address that the report links to for a run on a server opens that run."""
    from harness.stores.tracker import Tracker

    run_id = recorded.results.trial_scores()["run_id"].iloc[0]
    assert recorded.results.experiment_of(run_id) == recorded.tracker.experiment  # what the report of a database links
    address = Tracker(server, code="test").address(run_id)
    assert address is not None
    browser.open(address, width=1600)
    assert browser.until(lambda: run_id in browser.ask(TEXT), seconds=DRAW_SECONDS), browser.ask(TEXT)


def test_the_description_links_to_the_columns_that_matter(browser: Browser, server: str, recorded: Recorder) -> None:
    """A click on it opens the list of runs among trained models, by official score, without an assistant's help."""
    browser.open(f"{server}/#/experiments/{recorded.tracker.experiment}/runs", width=1600)
    link = "[...document.querySelectorAll('a')].find(a => a.innerText.startsWith('The columns that matter'))"
    found = browser.until(lambda: browser.ask(f"return Boolean({link})"), seconds=DRAW_SECONDS)
    assert found, browser.ask(TEXT)
    browser.open(browser.ask(f"return {link}.href"), width=1600)
    browser.driver.refresh()  # the page reads a shared view when it is loaded
    shown = browser.until(
        lambda: all(word in browser.ask(TEXT) for word in ("official_score", "s_auc", "Sort: official_score")),
        seconds=DRAW_SECONDS,
    )
    assert shown, browser.ask(TEXT)
    assert "Model registry" in browser.ask(TEXT)
    assert "Judges" not in browser.ask(TEXT)
