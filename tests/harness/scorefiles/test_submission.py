"""`asdbench submit`: what it writes is what the trial scored, in each year's own files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from benchmarks.contract import DatasetPart, Protocol
from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.synthetic.generator import generate
from harness import plugins, verbs
from harness.errors import HarnessError
from harness.places import Places, find_places
from harness.scorefiles.submission import submit
from harness.scoring.thresholds import Threshold, decision_threshold, training_scores
from harness.stores.recorder import Recorder
from tests.harness.made_up import make_result, make_spec


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated recordings of two machine types."""
    folder = tmp_path_factory.mktemp("recordings")
    generate(folder, DATASET, machines=("fan", "valve"), train_source=8, train_target=3, test_per_cell=3, seconds=1.0)
    return folder


@pytest.fixture(scope="module")
def trial(root: Path, empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Places]:
    """A recorded trial with two scorers, and the stores that hold it."""
    folder = tmp_path_factory.mktemp("stores")
    shutil.copy(empty_mlflow, folder / "mlflow.db")
    places = replace(find_places(tracking=f"sqlite:///{folder / 'mlflow.db'}"), cache=folder / "cache")
    found = verbs.trial(
        root, protocol="dcase2023", backbone="tiny", recipe={"epochs": 1, "clip_seconds": 1.0, "batch_size": 8},
        scorers=("knn", "mahalanobis"), places=places,
    )  # fmt: skip
    return found, places


def read(path: Path) -> list[list[str]]:
    """Return the cells of a written file."""
    return [line.split(",") for line in path.read_text().splitlines()]


def test_what_is_submitted_scores_as_recorded(trial: tuple[dict[str, Any], Places], tmp_path: Path) -> None:
    """`score` on what `submit` wrote is the trial's official score; decisions are its scores above its thresholds."""
    one, places = trial
    files = tmp_path / "files"
    written = verbs.submit(one["key"][:6], out=files, scorer="knn", places=places)
    assert (written["key"], written["notes"], len(written["rows"])) == (one["key"], [], 2)
    assert sorted(path.name for path in files.iterdir()) == [
        f"{front}_{machine}_section_00_test.csv"
        for front in ("anomaly_score", "decision_result")
        for machine in ("fan", "valve")
    ]
    found = verbs.score(files, dataset="dcase2023", resamples=100)
    assert found["official_score"] == pytest.approx(one["official_score"], abs=1e-12)
    for row in written["rows"]:
        scores = read(files / row["file"])
        decided = read(files / row["file"].replace("anomaly_score", "decision_result"))
        assert [name for name, _ in scores] == [name for name, _ in decided] == sorted(name for name, _ in scores)
        assert [each == "1" for _, each in decided] == [float(score) > row["threshold"] for _, score in scores]
    assert verbs.submit(one["run_id"], out=files, scorer="mahalanobis", places=places)["key"] == one["key"]


def test_submit_speaks_json_and_one_sentence(trial: tuple[dict[str, Any], Places], asdbench: Any) -> None:
    """The verb prints what it wrote; without a scorer, or with a wrong one, it says which there are."""
    one, places = trial
    line = f"submit {one['key']} --out files --db {places.results}"
    status, out, err = asdbench(f"{line} --scorer knn --json")
    assert (status, err, json.loads(out)["quantile"]) == (0, "", 0.9)
    assert "anomaly_score_fan_section_00_test.csv" in asdbench(f"{line} --scorer knn")[1]
    status, _, err = asdbench(line)
    assert (status, "has the scorers knn, mahalanobis, but a submission is of one" in err) == (1, True)
    status, _, err = asdbench(f"{line} --scorer knm")
    assert (status, "Did you mean 'knn'?" in err) == (1, True)


def test_a_trial_is_logged_with_intervals_and_thresholds(trial: tuple[dict[str, Any], Places], tmp_path: Path) -> None:
    """MLflow's run has the ends of the intervals, a threshold a section, and the pictures."""
    one, places = trial
    client = MlflowClient(tracking_uri=places.tracking)
    metrics = client.get_run(one["run_id"]).data.metrics
    low, high = metrics["official_score_ci_low"], metrics["official_score_ci_high"]
    assert low <= metrics["official_score"] <= high
    assert {"official_score_machines_ci_low", "mahalanobis/official_score_ci_high"} <= metrics.keys()
    assert {"threshold/dcase2023.fan.00", "mahalanobis/threshold/dcase2023.valve.00"} <= metrics.keys()
    names = {each.path for each in client.list_artifacts(one["run_id"])}
    assert names >= {"scores_knn.png", "roc_knn.png", "domains_knn.png", "roc_mahalanobis.png"}
    detail = json.loads(Path(client.download_artifacts(one["run_id"], "trial.json", str(tmp_path))).read_text())
    assert detail["intervals"]["knn"]["official"] == [low, high]
    assert detail["thresholds"]["knn"][0]["value"] == metrics["threshold/dcase2023.fan.00"]


def recorded(recorder: Recorder, year: str, **changes: Any) -> str:
    """Record a made-up trial on a year's development clips and return its key."""
    part = DatasetPart(year, "dev")
    spec = make_spec(protocol=Protocol(year, train=(part,), score=(part,)), test_data=f"{year}{len(changes)}")
    result = make_result(spec)
    names = {
        "dcase2020": lambda row, i: f"{row.condition}_id_02_{i:08d}",
        "dcase2021": lambda row, i: f"section_00_{row.domain}_test_{row.condition}_{i:04d}",
    }
    name = names.get(year, lambda row, i: f"section_00_{row.domain}_test_{row.condition}_{i:04d}_m-n_W")
    rows = list(result.scored.itertuples())
    ids = [f"{year}/dev/{row.machine}/test/{name(row, i)}" for i, row in enumerate(rows)]
    scored = result.scored.assign(clip_id=ids, dataset=year, section="02" if year == "dcase2020" else "00")
    object.__setattr__(result, "scored", scored.assign(domain=None) if year == "dcase2020" else scored)
    for field, value in changes.items():
        object.__setattr__(result, field, value)
    recorder.finish(recorder.begin(spec), result)
    return spec.key()


@pytest.mark.parametrize(
    ("year", "endings"),
    [
        ("dcase2020", ["ToyCar_id_02", "fan_id_02"]),
        (
            "dcase2021",
            [f"{machine}_section_00_{domain}_test" for machine in ("ToyCar", "fan") for domain in ("source", "target")],
        ),
        ("dcase2025", ["ToyCar_section_00_test", "fan_section_00_test"]),
    ],
)
def test_each_year_has_its_own_file_names(recorder: Recorder, year: str, endings: list[str], tmp_path: Path) -> None:
    """2020 writes machine IDs, 2021 a file a domain, later years one of both; all are read back as they were."""
    section = endings[0].split("_")[2]
    thresholds = {"knn": tuple(Threshold(year, machine, section, 0.5) for machine in ("fan", "ToyCar"))}
    key = recorded(recorder, year, thresholds=thresholds)
    submit(recorder.results, key, out=tmp_path / "files")
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == [
        f"{front}_{ending}.csv" for front in ("anomaly_score", "decision_result") for ending in endings
    ]
    clips = recorder.results.clip_scores([key], "knn")[key]
    found = verbs.score(tmp_path / "files", dataset=year, resamples=100)
    assert found["clips"] == len(clips)
    scores = dict(zip(clips["clip_id"].str.rsplit("/", n=1).str[1] + ".wav", clips["score"], strict=True))
    for path in (tmp_path / "files").glob("anomaly_score_*"):
        assert all(float(score) == scores[name] for name, score in read(path))


def test_without_thresholds_there_are_scores_alone(recorder: Recorder, tmp_path: Path) -> None:
    """A trial without training scores has score files, no decisions, and a note that says so."""
    found = submit(recorder.results, recorded(recorder, "dcase2023"), out=tmp_path / "files")
    assert not list((tmp_path / "files").glob("decision_result_*"))
    assert found["notes"] == ["There are no decisions: the trial was recorded without scores of its training clips."]
    gone = {"knn": (Threshold("dcase2023", "fan", "00", None, "too few."), Threshold("dcase2023", "ToyCar", "00", 1.0))}
    found = submit(recorder.results, recorded(recorder, "dcase2023", thresholds=gone), out=tmp_path / "more")
    assert found["notes"] == ["There are no decisions of dcase2023 fan section 00: too few."]
    assert [path.name for path in (tmp_path / "more").glob("decision_*")] == [
        "decision_result_ToyCar_section_00_test.csv"
    ]


def test_an_external_system_has_no_decisions(places: Places, tmp_path: Path) -> None:
    """What was recorded from score files comes back as score files."""
    folder = tmp_path / "scores"
    folder.mkdir()
    lines = [
        f"section_00_{domain}_test_{condition}_{i:04d}.wav,{i + (condition == 'anomaly')}\n"
        for domain in ("source", "target")
        for condition in ("anomaly", "normal")
        for i in range(3)
    ]
    (folder / "anomaly_score_fan_section_00_test.csv").write_text("".join(lines))
    found = verbs.score(folder, dataset="dcase2023", resamples=100, record="theirs", places=places)
    written = verbs.submit(found["key"], out=tmp_path / "again", places=places)
    assert "an external system" in written["notes"][0]
    again = verbs.score(tmp_path / "again", dataset="dcase2023", resamples=100)
    assert again["official_score"] == pytest.approx(found["official_score"], abs=1e-12)


def test_a_scorer_is_named_as_studies_name_it(trial: tuple[dict[str, Any], Places], tmp_path: Path) -> None:
    """Options may be said in any order, and those that are the default besides."""
    written = verbs.submit(trial[0]["key"], out=tmp_path, scorer="mahalanobis:covariance=shared", places=trial[1])
    assert written["scorer"] == "mahalanobis"


def test_what_cannot_be_submitted_is_said(recorder: Recorder, tmp_path: Path) -> None:
    """An unknown key, an ambiguous one, a folder with other files, and a file for a folder are one sentence each."""
    key = recorded(recorder, "dcase2023")
    for wrong in ("zz", ""):
        with pytest.raises(HarnessError, match="must be recorded as finished"):
            submit(recorder.results, wrong, out=tmp_path / "files")
    other = recorded(recorder, "dcase2024")
    both = [first for first in (key[:n] for n in range(1, 9)) if other.startswith(first)]
    for first in both[:1]:
        with pytest.raises(HarnessError, match="give more digits"):
            submit(recorder.results, first, out=tmp_path / "files")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "anomaly_score_valve_section_00_test.csv").write_text("")
    with pytest.raises(HarnessError, match="holds anomaly_score_valve_section_00"):
        submit(recorder.results, key, out=tmp_path / "files")
    (tmp_path / "taken").write_text("")
    with pytest.raises(HarnessError, match="is a file"):
        submit(recorder.results, key, out=tmp_path / "taken")


def test_thresholds_come_from_training_clips_of_the_same_section(asdbench: Any, root: Path, tmp_path: Path) -> None:
    """The level row's threshold is the rule applied to levels of training clips, each left out of its references."""
    from harness.cache import Cache
    from harness.scoring.contract import ScoreRequest
    from harness.trials.recordings import objects, prepare_recordings
    from harness.trials.trial import run_trial

    part = DatasetPart("dcase2023", "dev")
    recordings = prepare_recordings(root, Protocol("toy", train=(part,), score=(part,)), Cache(tmp_path / "cache"))
    spec = make_spec(
        kind="level", backbone=None, scorers=("level",), protocol=Protocol("toy", train=(part,), score=(part,))
    )
    result = run_trial(spec, recordings, Cache(tmp_path / "cache"))
    fans = recordings.train[recordings.train["machine"] == "fan"]
    levels = recordings.packed.levels_db(fans["clip_id"].to_numpy(dtype=str))[:, None].astype(np.float32)
    request = ScoreRequest(levels, objects(fans["domain"]), levels[:1])
    expected = decision_threshold(training_scores(plugins.load("scorer", "level"), request))
    assert result.thresholds["level"][0] == Threshold("dcase2023", "fan", "00", expected)
