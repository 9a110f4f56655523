"""Drivers share cells: each is begun once, whoever asks, and what is lost comes back a stated number of times."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from harness import verbs
from harness.places import Places
from harness.stores.claims import Claims, drivers
from harness.stores.recorder import Recorder
from harness.stores.results import Results
from harness.studies.cells import DRIVER_DEATHS, Cells
from harness.studies.plan import make_plan
from harness.studies.session import study_session
from harness.studies.study_file import StudyFile
from harness.trials.contract import Failure, TrialResult, TrialSpec
from tests.harness.made_up import make_result

RECORDINGS: Any = SimpleNamespace(
    train_data="aaaa", test_data="bbbb", truth_data="", place=Path(), skipped=0, packed=SimpleNamespace(heard=True)
)

Answer = Callable[[TrialSpec], TrialResult | Failure]


def study(**changes: Any) -> StudyFile:
    """A grid of six cells and a level row."""
    table: dict[str, Any] = {
        "name": "toy",
        "protocol": "dcase2023",
        "seeds": [0, 1],
        "frozen": False,
        "space": {"backbone": ["tiny"], "m": [1, 3, 5]},
    }
    return StudyFile.model_validate({**table, **changes})


def answer(spec: TrialSpec) -> TrialResult:
    """A result whose score depends on M alone, and best at 3; larger M takes longer."""
    result = make_result(spec, shift=1.0 - abs((spec.m or 9) - 3) / 10, seed=0)
    if spec.kind == "level":
        return replace(
            result, metrics={"level": result.metrics["knn"]}, official={"level": result.official["knn"]},
            machines={"level": result.machines["knn"]},
            scored=result.scored.rename(columns={"score_knn": "score_level"}),
        )  # fmt: skip
    return replace(result, seconds={"rank": 100.0 / (spec.m or 1), "finetune": float(spec.m or 0)})


@contextmanager
def driver(places: Places, file: StudyFile, *, tracker: Any = None, **options: Any) -> Iterator[Cells]:
    """One driver of a study, without Ray, and without MLflow where another tracker is given."""
    from harness.stores.tracker import Tracker

    results = Results(places.results)
    recorder = Recorder(tracker or Tracker(places.tracking, code="test"), results)
    try:
        with study_session(make_plan(file), RECORDINGS, recorder, places, **options) as session:
            yield session.cells
    finally:
        results.close()


def drive(cells: Cells, run: Answer = answer, *, most: int = 1000) -> list[str]:
    """Run cells to the end, or as many as said; return the keys that were begun here."""
    begun: list[str] = []
    deadline = time.monotonic() + 60
    while not cells.over and len(begun) < most:
        assert time.monotonic() < deadline, "the study does not end"
        spec = cells.next()
        if spec is None:
            time.sleep(0.02)
            continue
        begun.append(spec.key())
        cells.end(spec.key(), run(spec))
    return begun


def states(places: Places) -> dict[str, Counter[str]]:
    """Optuna's trials by study, counted by state; duplicates apart."""
    storage = optuna.storages.get_storage(places.optuna)
    return {
        summary.study_name.split("-")[0]: Counter(
            "DUPLICATE" if "duplicate" in trial.user_attrs else trial.state.name
            for trial in optuna.load_study(storage=storage, study_name=summary.study_name).trials
        )
        for summary in optuna.get_all_study_summaries(storage)
    }


def runs(places: Places) -> Counter[str]:
    """MLflow's runs of trials, counted by status."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=places.tracking)
    (experiment,) = [each for each in client.search_experiments() if each.name == "asdbench"]
    found = client.search_runs([experiment.experiment_id], "tags.`asd.kind` != 'study'")
    return Counter(run.info.status for run in found)


def together(count: int, work: Callable[[int], None]) -> None:
    """Do something in several threads that start at once; what one of them raises is raised."""
    gate, errors = threading.Barrier(count), list[BaseException]()

    def run(number: int) -> None:
        try:
            gate.wait(30)
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.slow
def test_several_drivers_share_one_study(places: Places) -> None:
    """Three drivers that start one study at once begin each cell once, and each of them sees the study to its end."""
    begun: list[list[str]] = [[], [], []]
    finished: list[int] = [0, 0, 0]

    def work(number: int) -> None:
        with driver(places, study()) as cells:
            begun[number] = drive(cells, lambda spec: (time.sleep(0.02), answer(spec))[1])
            finished[number] = cells.progress.finished

    together(3, work)
    every = [key for keys in begun for key in keys]
    assert len(every) == len(set(every)) == 7
    assert finished == [7, 7, 7]
    assert states(places) == {"toy": Counter(COMPLETE=6)}  # Optuna does not see the reference
    assert runs(places) == Counter(FINISHED=7)


@pytest.mark.slow
def test_studies_that_share_cells_compute_them_once(places: Places) -> None:
    """Two studies at once, of which one holds three more cells: the shared ones run once and count for both."""
    begun: dict[int, list[str]] = {}

    def work(number: int) -> None:
        changes = {} if number == 0 else {"name": "wider", "seeds": [0, 1, 2]}
        with driver(places, study(**changes)) as cells:
            begun[number] = drive(cells, lambda spec: (time.sleep(0.02), answer(spec))[1])

    together(2, work)
    every = [*begun[0], *begun[1]]
    assert len(every) == len(set(every)) == 10
    assert states(places) == {"toy": Counter(COMPLETE=6), "wider": Counter(COMPLETE=9)}
    assert runs(places) == Counter(FINISHED=10)


def test_proposals_of_a_stopped_search_are_given_back(places: Places) -> None:
    """A search that is stopped while another study is at all that it proposed leaves nothing running in Optuna."""
    with driver(places, study()) as grid:
        while grid.next() is not None:
            pass
        with driver(places, study(name="search", level=False, sampler={"name": "tpe"})) as search:
            assert search.next() is None
            assert search.elsewhere
            assert states(places)["search"]["RUNNING"] > 0
        assert states(places)["search"]["RUNNING"] == 0
        assert states(places)["toy"]["RUNNING"] == 6


def test_a_reference_is_never_optunas_best(places: Places) -> None:
    """Optuna's best trial is a fine-tuned one, and so is the best that progress names, however loud the level is."""
    best: list[tuple[float, str] | None] = []

    def loud(spec: TrialSpec) -> TrialResult:
        found = answer(spec)
        return replace(found, official=dict.fromkeys(found.official, 1.0)) if spec.kind == "level" else found

    with driver(places, study(), listen=lambda progress: best.append(progress.best)) as cells:
        drive(cells, loud)
        assert cells.progress.trials == {}
        assert sum(cells.progress.waiting.values()) == 0
        assert cells.progress.seconds_left == 0.0
    assert "M=3" in optuna.load_study(study_name=_full(places), storage=places.optuna).best_trial.user_attrs["label"]
    assert best[0] is None
    assert best[-1] is not None
    assert "M=3" in best[-1][1]


def _full(places: Places) -> str:
    """The one study's name in Optuna."""
    (name,) = optuna.get_all_study_names(places.optuna)
    return str(name)


@pytest.mark.slow
def test_cells_of_a_dead_driver_are_taken_up(places: Places) -> None:
    """A driver that vanishes in the middle loses its cell to another, which closes its run and its Optuna trial."""
    with driver(places, study(level=False)) as first:
        lost = first.next()
        assert lost is not None
        with driver(places, study(level=False)) as second:
            drive(second, most=5)
            assert second.next() is None, "the first driver's cell was begun a second time"
            assert (second.over, second.progress.elsewhere) == (False, 1)
            with first.claims.engine.begin() as connection:  # what a killed process leaves: no lease
                connection.execute(drivers.delete().where(drivers.c.owner == first.claims.owner))
            assert drive(second) == [lost.key()]
            assert second.progress.finished == 6
        assert states(places) == {"toy": Counter(COMPLETE=6, FAIL=1)}
        assert runs(places) == Counter(FINISHED=6, KILLED=1)
        first.end(lost.key(), answer(lost))  # it was not dead after all: what it brings is too late
        assert first.progress.finished == 0
    assert states(places) == {"toy": Counter(COMPLETE=6, FAIL=1)}


def test_a_cell_that_kills_its_driver_ends(places: Places) -> None:
    """A cell that brought its driver down ten times is recorded as failed; the others ran before it."""
    file = study()
    with driver(places, file) as cells:
        victim = cells.next()
        assert victim is not None
        with cells.claims.engine.begin() as connection:
            connection.exec_driver_sql(
                f"update asd_claims set owner = 'gone', deaths = {DRIVER_DEATHS - 1} where key = '{victim.key()}'"
            )
    with driver(places, file) as cells:
        begun = drive(cells)
        assert len(begun) == 6
        assert victim.key() not in begun
        assert cells.failures == {
            victim.label(): f"its driver was killed {DRIVER_DEATHS} times while it ran; the trial may be the cause"
        }


def test_lost_trials_are_tried_again_a_stated_number_of_times(places: Places) -> None:
    """A trial whose worker dies is begun `retries` + 1 times, also across two drivers, then recorded as failed."""
    file = study(seeds=[0], level=False, space={"backbone": ["tiny"], "m": [1]}, resources={"retries": 2})
    died = Failure("its worker process died", again=True)
    with driver(places, file) as cells:
        assert len(drive(cells, lambda _spec: died, most=2)) == 2
        assert cells.progress.retried == 2
    with driver(places, file) as cells:
        assert len(drive(cells, lambda _spec: died)) == 1
        assert (cells.progress.failed, list(cells.failures.values())) == (1, ["its worker process died"])
    with driver(places, file) as cells:
        assert drive(cells) == []
    with driver(places, file, retry_failed=True) as cells:
        assert len(drive(cells)) == 1
    assert verbs.study_status("toy", places=places)["finished"] == 1


def test_pruned_trials_are_pruned_everywhere(places: Places) -> None:
    """A pruned trial is on no leaderboard and is not repeated.

    It is PRUNED in Optuna and killed, with a tag, in MLflow; a study without pruning runs it.
    """
    file = study(seeds=[0], level=False, pruning={"name": "asha"})
    with driver(places, file) as cells:
        spec = cells.next()
        assert spec is not None
        cells.prune(spec.key(), "after epoch 3 at 0.950 of guessing's loss")
        drive(cells)
        assert (cells.progress.finished, cells.progress.pruned, cells.over) == (2, 1, True)
    assert states(places) == {"toy": Counter(COMPLETE=2, PRUNED=1)}
    assert runs(places) == Counter(FINISHED=2, KILLED=1)
    status = verbs.study_status("toy", places=places)
    assert [status[name] for name in ("planned", "finished", "failed", "pruned", "running")] == [3, 2, 0, 1, 0]
    assert {row["m"] for row in verbs.leaderboard(places=places, references=False)} == {1, 3, 5} - {spec.m}
    with driver(places, file) as cells:
        assert drive(cells) == []
    with driver(places, study(seeds=[0], level=False, name="full")) as cells:
        assert drive(cells) == [spec.key()]
        assert cells.progress.finished == 3


def test_status_names_what_runs(places: Places) -> None:
    """While a driver is at a cell the status names it, with its driver and since when; afterwards what it cost."""
    with driver(places, study()) as cells:
        assert cells.next() is not None
        second = cells.next()
        assert second is not None
        cells.end(second.key(), answer(second))
        status = verbs.study_status("toy", places=places, trials=True)
        assert (status["planned"], status["finished"], status["running"]) == (7, 1, 1)
        (cell,) = status["cells"]
        assert cell["label"] == "level only"
        assert "process" in cell["driver"]
        assert cell["seconds"] < 60
        (cost,) = status["trials"]
        assert (cost["m"], cost["seconds"]["finetune"], cost["peak_mb"]) == (1, 1.0, 100.0)
    assert verbs.study_status("toy", places=places)["running"] == 0


def test_a_lease_of_another_host_ends(places: Places) -> None:
    """A driver of another host lives as long as its lease is renewed; then its claim is free."""
    results = Results(places.results)
    far = Claims(results, renew_seconds=0.05)
    far.owner = f"elsewhere|0|1|1.00|{far.owner[-8:]}"
    near = Claims(results, lease_seconds=0.5)
    with near:
        far._renew()
        assert far.take("cell") is not None
        assert near.take("cell") is None
        time.sleep(0.6)
        lost = near.take("cell")
        assert lost is not None
        assert lost.deaths == 1
        assert not far.holds("cell")
    results.close()


def test_the_lease_is_renewed_while_the_driver_works(places: Places) -> None:
    """The driver's thread renews its lease by itself."""
    results = Results(places.results)
    with Claims(results, renew_seconds=0.05) as claims, results.engine.connect() as connection:
        first = connection.exec_driver_sql("select renewed from asd_drivers").scalar()
        connection.rollback()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            time.sleep(0.05)
            now = connection.exec_driver_sql("select renewed from asd_drivers").scalar()
            connection.rollback()
            if now > first:
                break
        assert now > first
        assert claims.is_alive(claims.owner)
    assert not claims.is_alive(claims.owner)
    results.close()
