"""A study runs every cell once, records it in every store, and goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import verbs
from harness.verbs.stores import open_results
from tests.harness.toy_study import counts, official, places_in, run

pytestmark = pytest.mark.slow


def test_stores_agree(finished: Path) -> None:
    """MLflow, the results tables and Optuna hold every trial once."""
    assert counts(finished) == {"mlflow": {"FINISHED": 7}, "tables": {"finished": 7}, "optuna": {"COMPLETE": 4}}


def test_running_again_runs_nothing(root: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished study run again starts no trial and no Ray, and leaves every store as it was."""
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("Ray was started, but nothing is left to run"))
    before = counts(finished)
    outcome = run(root, finished, monkeypatch)
    assert (outcome.progress.started, outcome.progress.finished) == (0, 7)
    assert counts(finished) == before


def test_workers_change_no_number(
    root: Path, undisturbed: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker and two give the same numbers, trial by trial, to the last bit."""
    run(root, tmp_path, monkeypatch, workers=1)
    assert official(tmp_path) == undisturbed


def test_one_trial_equals_the_studys(
    root: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frozen trial of the command line, in this process, has the score of the study's worker."""
    monkeypatch.setenv("ASDBENCH_CACHE", str(tmp_path / "cache"))
    found = verbs.trial(
        root,
        protocol="dcase2023",
        backbone="tiny",
        m=None,
        recipe={"clip_seconds": 1.0},
        places=places_in(tmp_path),
    )
    with open_results(places_in(finished)) as results:
        rows = results.trial_scores()
    frozen = rows[(rows["kind"] == "frozen") & (rows["seed"] == 0) & (rows["scorer"] == "knn")]
    assert found["status"] == "finished"
    assert found["official_score"] == frozen["official_score"].item()
    assert {row["machine"] for row in found["rows"]} == {"fan", "ToyCar"}


def test_leaderboard_and_compare(finished: Path) -> None:
    """The leaderboard ranks every kind of row for both scorers, and compare pairs M = 3 with M = 1 over two seeds."""
    rows = verbs.leaderboard(places=places_in(finished), study="toy", references=False)
    assert {(row["kind"], row["m"], row["scorer"]) for row in rows} == {
        ("level", None, "level"),
        *((kind, m, scorer) for kind, m in (("frozen", None), ("trial", 1), ("trial", 3)) for scorer in SCORERS),
    }
    assert [row["rank"] for row in rows] == list(range(1, 8))
    scores = [row["official_score"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    (row, *_) = verbs.compare(places=places_in(finished), study="toy", scorer="knn", resamples=200)
    assert (row["m"], row["pairs"], row["seeds"]) == (3, 4, [0, 1])
    assert row["ci_low"] <= row["delta"] <= row["ci_high"]


SCORERS = ("knn", "mahalanobis")


@pytest.mark.long  # test_searcher.py has failures of three kinds, tests/backbones/training losses that are not finite
def test_failed_trials_are_recorded_and_the_study_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A learning rate that explodes fails the learned trials with their reason; references still finish."""
    outcome = run(root, tmp_path, monkeypatch, rate="100\nweight_decay = 100")
    assert (outcome.progress.finished, outcome.progress.failed) == (3, 4)
    assert all("finite" in reason or "nan" in reason.lower() for reason in outcome.failures.values())
    assert counts(tmp_path) == {
        "mlflow": {"FINISHED": 3, "FAILED": 4},
        "tables": {"finished": 3, "failed": 4},
        "optuna": {"FAIL": 4},
    }
    status = verbs.study_status("toy", places=places_in(tmp_path))
    assert (status["planned"], status["finished"], status["failed"], status["running"]) == (7, 3, 4, 0)
