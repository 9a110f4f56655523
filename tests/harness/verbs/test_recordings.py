"""The `data` verbs: what they print is a contract, and recordings of anybody's go through a whole trial."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from backbones.training.recipe import FinetuneRecipe
from benchmarks.contract import PARTS
from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.protocols import find_protocol
from benchmarks.synthetic.generator import generate
from harness import verbs
from harness.cache import Cache
from harness.errors import HarnessError
from harness.trials.contract import BackboneChoice, TrialResult, TrialSpec
from harness.trials.recordings import prepare_recordings
from harness.trials.trial import run_trial

SMALL = {"train_source": 2, "train_target": 1, "test_per_cell": 2, "seconds": 0.5}
HEADER = ("file", "machine", "split", "domain", "condition", "attribute")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One machine type of each part of 2023, with its ground truth."""
    root = tmp_path_factory.mktemp("made")
    generate(root, DATASET, machines=["fan", "bandsaw"], parts=PARTS, **SMALL)
    return root


@pytest.fixture
def asdbench(asdbench: Any) -> Any:
    """Run the command line on words that may be paths: (exit status, stdout, stderr)."""
    return lambda *words: asdbench(" ".join(map(str, words)))


def test_index_with_ground_truth(made: Path, asdbench: Any) -> None:
    """Evaluation clips have no condition until the ground truth is given; the JSON counts what was left out."""
    arguments = ["data", "index", made, "--json", "--dataset", "dcase2023"]
    plain = json.loads(asdbench(*arguments)[1])
    told = json.loads(asdbench(*arguments, "--ground-truth", made / "ground_truth")[1])
    for document, conditions in ((plain, {None}), (told, {"normal", "anomaly"})):
        assert document["clips"] == sum(row["clips"] for row in document["rows"]) == 22
        assert document["skipped"] == 0
        assert {row["condition"] for row in document["rows"] if row["part"] == "eval"} == conditions


def test_bad_files_are_counted(made: Path, asdbench: Any, tmp_path: Path) -> None:
    """A bad name is one sentence and status 1; with --skip-bad it is left out and counted."""
    root = shutil.copytree(made, tmp_path / "root")
    folder = root / "dcase2023t2" / "dev_data" / "raw" / "fan" / "train"
    shutil.copy(next(folder.glob("*.wav")), folder / "recording1.wav")
    status, _, said = asdbench("data", "index", root)
    assert status == 1
    assert "recording1.wav is not a train clip of dcase2023: names must follow" in said
    status, out, _ = asdbench("data", "index", root, "--skip-bad", "--json")
    assert (status, json.loads(out)["skipped"], json.loads(out)["clips"]) == (0, 1, 22)


def test_doctor(made: Path, asdbench: Any, tmp_path: Path) -> None:
    """The doctor's JSON has parts, problems, counts and a verdict; its status is 1 where the protocol could not run."""
    status, out, _ = asdbench("data", "doctor", made, "--protocol", "dcase2023", "--json")
    document = json.loads(out)
    assert (status, document["protocol"]) == (0, {"name": "dcase2023", "runs": True, "why": ""})
    assert [part["clips"] for part in document["parts"]] == [11, 3, 8]
    assert document["counts"] == {"missing": 3}
    root = shutil.copytree(made, tmp_path / "root")
    bad = next((root / "dcase2023t2" / "dev_data" / "raw" / "fan" / "train").glob("*.wav"))
    bad.write_bytes(bad.read_bytes()[:-100])
    status, out, said = asdbench("data", "doctor", root, "--protocol", "dcase2023")
    assert status == 1
    assert f"{bad} is cut short" in out.replace("\n", "")
    assert "could not run" in said
    # one line a kind, the worst first, however many files there are of it
    assert "4 problems: 1 stops a study, 3 change numbers." in out
    assert out.index("truncated") < out.index("missing") and out.count("lacks") == 1
    assert asdbench("data", "doctor", root)[0] == 0


def test_the_doctor_shows_each_bad_value_once(asdbench: Any, tmp_path: Path) -> None:
    """Of several bad values of one kind each is an example of its own, the most frequent first; one round suffices."""
    root = make_own(tmp_path / "mine", anomalies=True)
    table = root / "list.csv"
    table.write_text(table.read_text().replace("source,normal", "sorce,normal").replace(",anomaly,", ",abnormal,"))
    status, out, _ = asdbench("data", "doctor", root)
    assert status == 0
    said = " ".join(out.split())
    assert "7 problems: 7 stop a study." in said
    assert said.index("is 'abnormal'") < said.index("is 'sorce'")
    assert (said.count("'abnormal'"), said.count("'sorce'")) == (1, 1)


def test_download_refuses_what_is_not_there(asdbench: Any, tmp_path: Path) -> None:
    """A machine type that a year does not have is answered with the nearest, before anything is fetched."""
    status, _, said = asdbench("data", "download", "dcase2023", "--to", tmp_path, "--machines", "toycar")
    assert status == 1
    assert "Did you mean ToyCar?" in said
    assert "own has no official archives" in asdbench("data", "download", "own", "--to", tmp_path)[2]


def make_own(folder: Path, *, anomalies: bool) -> Path:
    """Write own recordings of one machine type with a csv."""
    rng = np.random.default_rng(0)
    rows = []
    folder.mkdir()
    for number in range(16):
        train, anomaly = number < 8, anomalies and number >= 12
        soundfile.write(folder / f"{number}.wav", rng.normal(scale=0.3 if anomaly else 0.1, size=16_000), 16_000)
        domain = "target" if number % 4 == 3 else "source"
        condition = "" if train else "anomaly" if anomaly else "normal"
        rows.append((f"{number}.wav", "press", "train" if train else "test", domain, condition, f"speed_{number % 2}"))
    with (folder / "list.csv").open("w", newline="") as lines:
        csv.writer(lines).writerows([HEADER, *rows])
    return folder


def try_out(root: Path, protocol: str, cache: Path, **changes: Any) -> TrialResult:
    """Run one trial of a small encoder."""
    recordings = prepare_recordings(root, find_protocol(protocol), Cache(cache))
    spec = TrialSpec(
        kind="trial", backbone=BackboneChoice("tiny", "tiny"), m=1, k1=2, k2=2, fusion="composite",
        protocol=find_protocol(protocol), seed=0,
        recipe=FinetuneRecipe(epochs=1, batch_size=8, clip_seconds=1.0, warmup_epochs=0),
        min_confidence=0.0, below="drop", train_data=recordings.train_data, test_data=recordings.test_data,
        scorers=("knn", "level"),
    )  # fmt: skip
    return run_trial(replace(spec, **changes), recordings, Cache(cache))


def test_own_recordings_go_through_a_trial(tmp_path: Path) -> None:
    """Recordings of one's own are labeled, trained on and scored by the current year's rule."""
    result = try_out(make_own(tmp_path / "mine", anomalies=True), "own", tmp_path / "cache")
    (row,) = result.metrics["level"]
    assert (row.dataset, row.machine, row.s_auc) == ("own", "press", 1.0)
    assert result.official["level"] is not None


def test_without_anomalies_scores_exist_and_metrics_do_not(tmp_path: Path) -> None:
    """With normal test clips alone a trial trains and scores, and says why there are no metrics."""
    result = try_out(make_own(tmp_path / "mine", anomalies=False), "own", tmp_path / "cache")
    assert result.scored["score_knn"].notna().all()
    (row,) = result.metrics["knn"]
    assert (row.s_auc, row.t_auc, row.p_auc) == (None, None, None)
    assert any("anomal" in why for why in row.undefined)
    assert result.official["knn"] is None


def test_bad_recordings_are_left_out_of_a_trial(tmp_path: Path) -> None:
    """With skip_bad a truncated recording takes no part and is counted; without, it is an error."""
    root = make_own(tmp_path / "mine", anomalies=True)
    path = root / "3.wav"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"3\.wav is cut short"):
        prepare_recordings(root, find_protocol("own"), Cache(tmp_path / "cache"))
    recordings = prepare_recordings(root, find_protocol("own"), Cache(tmp_path / "cache"), skip_bad=True)
    assert (recordings.skipped, len(recordings.train), len(recordings.test)) == (1, 7, 8)


@pytest.mark.real
@pytest.mark.slow
def test_real_clips_in_one_folder_score_the_same(shared: Path, tmp_path: Path) -> None:
    """The real valve clips, flat with a csv, have the features and scores that they have in the official layout."""
    raw = tmp_path / "official" / "dcase2023t2" / "dev_data" / "raw"
    raw.mkdir(parents=True)
    (raw / "valve").symlink_to(shared / "data" / "dcase2023t2" / "dev_data" / "raw" / "valve")
    flat = tmp_path / "flat"
    flat.mkdir()
    official = prepare_recordings(tmp_path / "official", find_protocol("dcase2023"), Cache(tmp_path / "a"))
    rows = []
    for clips in (official.train, official.test):
        for clip in clips.itertuples():
            shutil.copy(str(clip.path), flat)
            rows.append((Path(str(clip.path)).name, "valve", clip.split, clip.domain, clip.condition, clip.attribute))
    with (flat / "list.csv").open("w", newline="") as lines:
        csv.writer(lines).writerows([HEADER, *rows])
    one = try_out(tmp_path / "official", "dcase2023", tmp_path / "a")
    two = try_out(flat, "own", tmp_path / "b")
    for scorer in ("knn", "level"):
        np.testing.assert_array_equal(one.scored[f"score_{scorer}"], two.scored[f"score_{scorer}"])
        values = [[(row.s_auc, row.t_auc, row.p_auc) for row in result.metrics[scorer]] for result in (one, two)]
        assert values[0] == values[1]
    assert one.labels == two.labels
    assert one.official == two.official


def test_a_first_csv_is_never_replaced_unasked(tmp_path: Path) -> None:
    """`data own` writes a csv where there is none, replaces its own where that is asked for, and no other's."""
    (tmp_path / "a b.wav").touch()
    document = verbs.data_own(tmp_path, machine="press")
    assert document["rows"] == [{"machine": "press", "split": "train", "domain": "", "condition": "", "clips": 1}]
    with pytest.raises(HarnessError, match="say --overwrite"):
        verbs.data_own(tmp_path)
    verbs.data_own(tmp_path, machine="fan", overwrite=True)
    assert "a b.wav,fan,train" in (tmp_path / "recordings.csv").read_text()
    (tmp_path / "recordings.csv").rename(tmp_path / "mine.csv")
    with pytest.raises(HarnessError, match="remove it"):
        verbs.data_own(tmp_path, overwrite=True)
