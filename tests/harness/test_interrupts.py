"""Ctrl-C at any moment leaves no run open and no record half-written; a second one does not wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from mlflow import MlflowClient

from harness import interrupts
from harness.engine import tune as study
from harness.interrupts import whole
from harness.places import Places
from harness.stores.claims import Claims
from harness.stores.recorder import Recorder
from harness.stores.results import Results
from harness.stores.tracker import Tracker
from tests.harness.made_up import make_result, make_spec
from tests.harness.quick_driver import DATA, in_this_process, quick_plan
from tests.harness.stores.test_faults import assert_whole


def stop() -> None:
    """Press Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


def test_a_block_ends_before_it_stops() -> None:
    """The request is answered once the block has ended."""
    done = []
    with pytest.raises(KeyboardInterrupt), whole():
        stop()
        done.append(1)
    assert done == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_several_at_once_count_as_one() -> None:
    """Who presses the key three times in a row leaves the block whole, too."""
    done = []
    with pytest.raises(KeyboardInterrupt), whole():
        stop()
        stop()
        stop()
        done.append(1)
    assert done == [1]


def test_a_second_one_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks again a while later is not kept waiting, and is not stopped once more afterwards."""
    monkeypatch.setattr(interrupts, "PATIENCE_SECONDS", 0.0)
    done = []
    with pytest.raises(KeyboardInterrupt), whole():
        stop()
        stop()
        done.append(1)
    assert not done


def test_a_command_line_is_stopped_once_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is closed after Ctrl-C is not cut by the same key; later it is."""
    asked = interrupts.answer_stops()
    with pytest.raises(KeyboardInterrupt):
        stop()
    stop()
    assert asked == [signal.SIGINT]
    monkeypatch.setattr(interrupts, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt), whole():
        signal.raise_signal(signal.SIGTERM)
    assert asked == [signal.SIGINT, signal.SIGTERM]


def test_waiting_for_another_driver_is_not_held_back(places: Places) -> None:
    """Who waits for a lock within a block has written nothing, and stops at once."""
    results = Results(places.results)
    with Claims(results) as mine, Claims(results) as other, other.alone("ask"):
        began = time.monotonic()
        press = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        press.start()
        with pytest.raises(KeyboardInterrupt), whole(), mine.alone("ask"):
            pytest.fail("the lock was another driver's")
        assert time.monotonic() - began < 10
    results.close()
    interrupts.stop_if_asked()


def test_blocks_within_blocks() -> None:
    """The outer block ends, too."""
    done = []
    with pytest.raises(KeyboardInterrupt), whole():
        with whole():
            stop()
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]


def test_an_error_is_not_swallowed() -> None:
    """What the block raised is told beside the request to stop."""
    with pytest.raises(KeyboardInterrupt) as told, whole():
        stop()
        raise ValueError("a store's")
    assert isinstance(told.value.__context__, ValueError)
    with pytest.raises(ValueError, match="a store's"), whole():
        raise ValueError("a store's")


def test_other_threads_hold_nothing_back() -> None:
    """Python answers signals in the main thread, where a block of another thread changes nothing."""
    within, over = threading.Event(), threading.Event()

    def block() -> None:
        with whole():
            within.set()
            over.wait(30)

    thread = threading.Thread(target=block)
    thread.start()
    within.wait(30)
    with pytest.raises(KeyboardInterrupt):
        stop()
    over.set()
    thread.join()


@contextmanager
def interrupted_at(statement: int) -> Iterator[list[str]]:
    """Press Ctrl-C as some database is sent so manyeth statement of this block."""
    sent: list[str] = []

    def count(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            sent.append(text)
            if len(sent) == statement:
                stop()

    sa.event.listen(sa.Engine, "before_cursor_execute", count)
    try:
        yield sent
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", count)


def run(places: Places) -> None:
    """Run the quick study from wherever it stopped."""
    recordings: Any = SimpleNamespace(
        **DATA, truth_data="", place=places.cache, skipped=0, packed=SimpleNamespace(heard=True)
    )
    results = Results(places.results)
    try:
        recorder = Recorder(Tracker(places.tracking, code="test"), results)
        study.run_study(quick_plan(), recordings, recorder, places)
    finally:
        results.close()


def left_open(places: Places) -> list[str]:
    """What is left running, in MLflow and in Optuna."""
    client = MlflowClient(tracking_uri=places.tracking)
    experiment = client.get_experiment_by_name("asdbench")
    runs = client.search_runs([experiment.experiment_id], max_results=5000) if experiment else []
    storage = optuna.storages.RDBStorage(places.optuna)
    trials = [
        trial
        for each in optuna.get_all_study_names(storage)
        for trial in optuna.load_study(storage=storage, study_name=each).get_trials(deepcopy=False)
    ]
    return [
        *(run.data.tags["mlflow.runName"] for run in runs if run.info.status == "RUNNING"),
        *(trial.user_attrs["key"] for trial in trials if trial.state.name == "RUNNING"),
    ]


@pytest.mark.slow
def test_interrupted_at_any_statement(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """One life after the other is stopped a few statements later than the one before, until the study has ended."""
    monkeypatch.setattr(study, "_run", in_this_process)
    stopped, at = Counter[str](), 1
    while True:
        with interrupted_at(at) as sent:
            try:
                run(places)
            except KeyboardInterrupt:
                stopped[sent[at - 1].split()[0]] += 1
                assert left_open(places) == [], f"stopped at statement {at}: {sent[at - 1]}"
                at += 5
                continue
        break
    assert sum(stopped.values()) > 30, stopped
    assert_whole(places)


@pytest.mark.parametrize("at", ["begin", "finish"])
def test_a_lone_trial_is_left_closed(places: Places, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """The run of a trial of no study is closed as what it was."""
    results = Results(places.results)
    recorder = Recorder(Tracker(places.tracking, code="test"), results)
    spec = make_spec()
    owner, name = (recorder, "begin") if at == "begin" else (recorder.tracker, "log_result")
    write = getattr(owner, name)

    def interrupted(*arguments: Any, **options: Any) -> Any:
        stop()
        return write(*arguments, **options)

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt), recorder.open_trial(spec) as run_id:
        recorder.finish(run_id, make_result(spec))
    client = MlflowClient(tracking_uri=places.tracking)
    (run,) = client.search_runs([client.get_experiment_by_name("asdbench").experiment_id])
    assert run.info.status == ("KILLED" if at == "begin" else "FINISHED")
    assert list(results.finished([spec.key()])) == ([] if at == "begin" else [spec.key()])
    results.close()


def test_an_error_is_the_reason(places: Places) -> None:
    """A lone trial that an error ended says so."""
    results = Results(places.results)
    recorder = Recorder(Tracker(places.tracking, code="test"), results)
    with pytest.raises(RuntimeError, match="too warm"), recorder.open_trial(make_spec()):
        raise RuntimeError("too warm")
    client = MlflowClient(tracking_uri=places.tracking)
    (run,) = client.search_runs([client.get_experiment_by_name("asdbench").experiment_id])
    assert (run.info.status, run.data.tags["asd.reason"]) == ("KILLED", "RuntimeError: too warm")
    results.close()


def test_a_run_that_could_not_be_begun_is_closed(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped between its making and its parameters, a run is not left open."""
    tracker = Tracker(places.tracking, code="test")

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tracker.client, "log_inputs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tracker.start_trial(make_spec(), parent=None, study="")
    (run,) = tracker.client.search_runs([tracker.experiment])
    assert run.info.status == "KILLED"


def test_terminated(tmp_path: Path) -> None:
    """SIGTERM ends the command line like Ctrl-C, with a status of its own."""
    text = (
        "import signal, sys\n"
        "from harness.cli import main as cli\n"
        "sys.argv = ['asdbench', 'ls']\n"
        "import harness.verbs\n"
        "harness.verbs.ls = lambda kind: signal.raise_signal(signal.SIGTERM)\n"
        "cli.main()\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert process.returncode == 143, process.stderr
    assert "Run the same command again" in process.stderr
    assert "Traceback" not in process.stderr
