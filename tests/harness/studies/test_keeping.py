"""Encoders that a study keeps: the best is never lost, what is no longer best goes, and nobody else's is touched."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.detection.bundle import kept_folder
from harness.places import Places
from harness.stores.history import History
from harness.stores.kept import models
from harness.stores.kept.keeper import Keeper
from harness.stores.kept.models import KeptModel, KeptModels
from harness.stores.results import Results
from harness.stores.tracker import Tracker
from harness.studies.plan import make_plan
from harness.studies.study_file import StudyFile
from harness.trials.contract import TrialResult, TrialSpec
from tests.harness.studies.test_cells import RECORDINGS, answer, drive, driver, study

DATA = {"train_data": RECORDINGS.train_data, "test_data": RECORDINGS.test_data}


class KilledError(Exception):
    """Stands for the end of a driver."""


@pytest.fixture(autouse=True)
def _quick_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy a detector's folder instead of writing MLflow's files around it."""
    monkeypatch.setattr(models, "save_model", lambda folder, to, **_options: shutil.copytree(folder, to))


def answering(places: Places) -> Callable[[TrialSpec], TrialResult]:
    """Answer as a worker does that leaves its encoder."""

    def run(spec: TrialSpec) -> TrialResult:
        if spec.kind == "trial":
            folder = kept_folder(places.cache, spec.key())
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "detector.json").write_text(spec.key())
        return answer(spec)

    return run


def kept(places: Places) -> list[KeptModel]:
    """Every model that is there."""
    history = History(places.tracking)
    return KeptModels(history.client, history.experiment, history.uri).of()


def best_key(file: StudyFile) -> str:
    """The key of the best cell, M = 3; of equal scores the smallest key's."""
    return min(spec.key() for spec in make_plan(file).specs(**DATA) if spec.m == 3)


def test_the_best_alone_is_kept(places: Places) -> None:
    """After a study its best trial's encoder is there, whole and of the trial's run; no other is, nor its files."""
    file = study(keep="best")
    with driver(places, file) as cells:
        begun = drive(cells, answering(places))
    (model,) = kept(places)
    assert (model.key, model.whole) == (best_key(file), True)
    assert len(begun) == 7
    stored = list(Path(places.tracking.removeprefix("sqlite:///")).parent.glob("mlartifacts/models/*/artifacts/*"))
    assert [path.read_text() for path in stored] == [model.key]
    assert not list((places.cache / "kept").iterdir())
    results = Results(places.results)
    assert results.run_of(model.key) == model.run_id
    results.close()


def cut(owner: Any, name: str, *, after: bool) -> Callable[[pytest.MonkeyPatch], None]:
    """Kill the driver once: when the best trial reaches a point, before or after it."""

    def arm(monkeypatch: pytest.MonkeyPatch) -> None:
        whole, calls = getattr(owner, name), iter(range(100))

        def once(*arguments: Any, **options: Any) -> Any:
            dies = next(calls) == 4
            if dies and not after:
                raise KilledError
            found = whole(*arguments, **options)
            if dies:
                raise KilledError
            return found

        monkeypatch.setattr(owner, name, once)

    return arm


@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        (Results, "put_result", False),
        *(
            pytest.param(*point, after, marks=pytest.mark.slow)
            for point in ((KeptModels, "log"), (Keeper, "tidy"), (Keeper, "keep"), (Results, "put_result"))
            for after in (False, True)
        ),
    ],
)
def test_no_kill_loses_the_best(
    owner: Any, name: str, after: bool, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a driver ends, the next one's end leaves the best encoder, whole, and no other."""
    file = study(keep="best", seeds=[0, 1, 2])
    cut(owner, name, after=after)(monkeypatch)
    with pytest.raises(KilledError), driver(places, file) as cells:
        drive(cells, answering(places))
        raise KilledError  # the point was not reached so often
    with driver(places, file) as cells:
        drive(cells, answering(places))
    (model,) = kept(places)
    assert (model.key, model.whole) == (best_key(file), True)


def test_a_cut_upload_is_never_taken_for_a_whole_one(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose upload was cut is not whole; the next driver uploads it again and removes the half one."""
    file = study(keep="best", space={"backbone": ["tiny"], "m": [3]}, seeds=[0])
    with monkeypatch.context() as patched:
        patched.setattr(models.MlflowClient, "finalize_logged_model", lambda *_each, **_more: _raise())
        with pytest.raises(KilledError), driver(places, file) as cells:
            drive(cells, answering(places))
    assert [each.whole for each in kept(places)] == [False]
    with driver(places, file) as cells:
        drive(cells, answering(places))
    assert [each.whole for each in kept(places)] == [True]


def _raise() -> None:
    raise KilledError


@pytest.mark.slow
def test_a_recorded_study_trains_its_best_again_when_asked_to_keep(places: Places) -> None:
    """Keeping changes no key: a finished study that is asked to keep runs its best trial once more, and no other."""
    plain, asked = study(), study(keep="best")
    assert make_plan(plain).key(**DATA) == make_plan(asked).key(**DATA)
    with driver(places, plain) as cells:
        drive(cells, answering(places))
    shutil.rmtree(places.cache / "kept")
    with driver(places, asked) as cells:
        assert drive(cells, answering(places)) == [best_key(asked)]
        assert cells.progress.finished == cells.progress.planned
    assert [each.key for each in kept(places)] == [best_key(asked)]
    with driver(places, asked) as cells:
        assert drive(cells, answering(places)) == []


@pytest.mark.slow
def test_a_study_never_removes_what_another_keeps(places: Places) -> None:
    """Of two studies one keeps all and one its best among fewer trials: both have what they asked for."""
    everything, fewer = study(keep="all"), study(name="fewer", keep="best", space={"backbone": ["tiny"], "m": [1, 5]})
    for file in (everything, fewer):
        with driver(places, file) as cells:
            drive(cells, answering(places))
    there = kept(places)
    assert {each.key for each in there} >= {s.key() for s in make_plan(everything).specs(**DATA) if s.kind == "trial"}
    assert all(each.whole for each in there)


def test_what_is_beaten_goes_though_another_keeps_the_best(places: Places) -> None:
    """Where the best is kept already by who keeps all, a study that keeps its best keeps nothing of its own."""
    asked = study(keep="best", space={"backbone": ["tiny"], "m": [1, 3]}, seeds=[0], level=False)
    with driver(places, asked) as cells:
        drive(cells, answering(places), most=1)
    (first,) = kept(places)
    with driver(places, study(name="other", keep="all", space={"backbone": ["tiny"], "m": [3]}, seeds=[0])) as cells:
        drive(cells, answering(places))
    with driver(places, asked) as cells:
        assert drive(cells, answering(places)) == []
    (model,) = kept(places)
    assert (model.key != first.key, model.owner) == (True, "all")


def test_a_team_that_shares_the_artifacts_can_read_what_is_kept(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder of a group, models have the group's rights; elsewhere their owner's alone."""
    worker = tmp_path / "worker"
    worker.mkdir(mode=0o700)
    (worker / "detector.json").touch(mode=0o600)
    for name, mode, wanted in (("team", 0o2770, {0o770, 0o660}), ("own", 0o700, {0o700, 0o600})):
        folder = tmp_path / name
        folder.mkdir()
        folder.chmod(mode)
        monkeypatch.setenv("ASDBENCH_ARTIFACTS", str(folder))
        database = shutil.copy(tmp_path / "mlflow.db", tmp_path / f"{name}.db")
        tracker = Tracker(f"sqlite:///{database}", code="test")
        spec = make_plan(study()).specs(**DATA)[0]
        tracker.kept_models.log(tracker.start_trial(spec, parent=None, study=""), spec, worker, owner="all")
        assert {path.stat().st_mode & 0o777 for path in folder.glob("models/*/artifacts/**/*")} <= wanted
        assert list(folder.glob("models/*/artifacts/**/detector.json"))


@pytest.fixture
def two_drivers(places: Places) -> Iterator[tuple[Any, Any]]:
    """Two drivers of a study that keeps its best."""
    file = study(keep="best", seeds=[0, 1, 2])
    with driver(places, file) as one, driver(places, file) as other:
        yield one, other


@pytest.mark.slow
def test_many_drivers_keep_one_best(two_drivers: tuple[Any, Any], places: Places) -> None:
    """Drivers that end trials in turn leave the one best of all."""
    run, open_cells = answering(places), list(two_drivers)
    for _ in range(200):
        for cells in open_cells:
            if not cells.over and (spec := cells.next()) is not None:
                cells.end(spec.key(), run(spec))
        if all(cells.over for cells in open_cells):
            break
    (model,) = kept(places)
    assert (model.key, model.whole) == (best_key(study(seeds=[0, 1, 2])), True)


def test_without_scores_no_trial_is_the_best(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no official score is defined nothing is kept as the best, and the study ends."""

    def unlabelled(spec: TrialSpec) -> TrialResult:
        result = answering(places)(spec)
        return TrialResult(**{**vars(result), "official": dict.fromkeys(result.official)})

    with driver(places, study(keep="best")) as cells:
        drive(cells, unlabelled)
    assert kept(places) == []
