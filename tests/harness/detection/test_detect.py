"""New clips scored by a finished trial: the scores of its own clips again, and every clip that cannot be heard told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from harness import verbs
from harness.detection.bundle import WEIGHTS, WORDS, read_detector
from harness.errors import HarnessError
from harness.places import Places, find_places
from harness.stores.history import History
from harness.stores.kept.models import KeptModels, save_model
from harness.stores.results import Results
from harness.studies.study_file import StudyFile
from tests.harness.made_up import record

RATE = 16_000


def write_tone(path: Path, *, hz: float = 200.0, seconds: float = 1.0, rate: int = RATE, channels: int = 1) -> None:
    """Write a hum with noise, the same for the same name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng([ord(letter) for letter in path.stem])
    time = np.arange(round(rate * seconds)) / rate
    sound = 0.1 * np.sin(2 * np.pi * hz * time) + 0.01 * chance.normal(size=time.size)
    soundfile.write(path, np.stack([sound] * channels, axis=1), rate, subtype="PCM_16")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unlabelled recordings of two machines, and the csv that `data own` guesses."""
    folder = tmp_path_factory.mktemp("own")
    for machine, hz in (("pump", 200.0), ("press", 700.0)):
        for number in range(6):
            odd = number == 3  # the fourth, which becomes a test clip
            write_tone(folder / machine / f"clip {number}.wav", hz=3000.0 if odd else hz)
    verbs.data_own(folder)
    return folder


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Places:
    """Stores of this file."""
    folder = tmp_path_factory.mktemp("stores")
    shutil.copy(empty_mlflow, folder / "mlflow.db")
    found = find_places(tracking=f"sqlite:///{folder / 'mlflow.db'}")
    return Places(found.tracking, found.results, found.optuna, folder / "cache")


@pytest.fixture(scope="module")
def frozen(own: Path, stores: Places) -> str:
    """A frozen trial that kept nothing, with two scorers."""
    done = verbs.trial(
        own, protocol="own", backbone="logmel", m=None, scorers=["knn", "level"], recipe={"clip_seconds": 1.0},
        places=stores,
    )  # fmt: skip
    assert done["official_score"] is None
    return str(done["key"])


@pytest.fixture(scope="module")
def kept(own: Path, stores: Places) -> str:
    """A frozen trial of random weights that kept its encoder, whose windows overlap and whose layers are scored."""
    done = verbs.trial(
        own, protocol="own", backbone="tiny", m=None, seed=3, scorers=["knn", "knn:layer=2"],
        recipe={"clip_seconds": 0.5, "embed": "whole"}, keep=True, places=stores,
    )  # fmt: skip
    return str(done["key"])


@pytest.mark.parametrize(("which", "scorer"), [("frozen", None), ("frozen", "level"), ("kept", "knn:layer=2")])
def test_a_trials_own_clips_get_the_recorded_scores(
    which: str, scorer: str | None, own: Path, stores: Places, request: pytest.FixtureRequest
) -> None:
    """A trial's test clips are scored as recorded, with the recorded thresholds; training clips as if they were new."""
    key = request.getfixturevalue(which)
    document = verbs.detect(key, own, scorer=scorer, places=stores)
    found = {row["file"]: row for row in document["rows"]}
    assert len(found) == 12
    results = Results(stores.results)
    clips = results.clip_scores([key], document["scorer"])[key]
    detail = json.loads(results.trial_scores([key])["detail"].iloc[0])
    results.close()
    for clip_id, score in zip(clips["clip_id"], clips["score"], strict=True):
        name = f"{clip_id.split('/', 4)[4]}.wav"
        assert found[name]["score"] == pytest.approx(score, rel=1e-5)
        assert not found[name]["in_training"]
    values = {row["machine"]: row["value"] for row in detail["thresholds"][document["scorer"]]}
    assert {row["machine"]: row["threshold"] for row in found.values()} == values
    trained = [row for row in found.values() if row["in_training"]]
    assert len(trained) == 10
    assert all(row["score"] > 0 and row["nearest"] != row["file"] for row in trained if scorer != "level")


def test_what_sounds_unlike_training_comes_first(frozen: str, own: Path, stores: Places) -> None:
    """The two odd clips lead the list, above their thresholds, and name the nearest clip of their own machine."""
    first = verbs.detect(frozen, own, places=stores)["rows"][:2]
    assert {row["file"] for row in first} == {"pump/clip 3.wav", "press/clip 3.wav"}
    assert {row["decision"] for row in first} == {"anomalous"}
    assert all(row["nearest"].startswith(row["machine"]) for row in first)


def test_clips_that_cannot_be_heard_are_told_and_the_others_scored(frozen: str, stores: Places, tmp_path: Path) -> None:
    """Each hostile clip is one sentence; clips of other rates and channels are scored with a note."""
    write_tone(tmp_path / "pump" / "fine.wav")
    write_tone(tmp_path / "pump" / "slow.wav", rate=8000)
    write_tone(tmp_path / "pump" / "stereo.flac", rate=44_100, channels=2)
    write_tone(tmp_path / "pump" / "short.wav", seconds=0.05)
    write_tone(tmp_path / "fridge" / "lost.wav")
    soundfile.write(tmp_path / "pump" / "silent.wav", np.zeros(RATE), RATE)
    (tmp_path / "pump" / "empty.wav").touch()
    (tmp_path / "pump" / "noise.wav").write_bytes(b"no sound at all")
    (tmp_path / "pump" / "folder.wav").mkdir()
    document = verbs.detect(frozen, tmp_path, places=stores)
    assert {row["file"] for row in document["rows"]} == {"pump/fine.wav", "pump/slow.wav", "pump/stereo.flac"}
    why = {each["file"]: each["why"] for each in document["unheard"]}
    words = {
        "pump/short.wav": "at least 0.10 s", "fridge/lost.wav": "nothing says which of", "pump/silent.wav": "silent",
        "pump/empty.wav": "is empty", "pump/noise.wav": "cannot be read", "pump/folder.wav": "is a folder",
    }  # fmt: skip
    assert why.keys() == words.keys()
    assert all(said in why[name] and "\n" not in why[name] for name, said in words.items())
    assert any("8000 Hz" in note and "slow.wav" in note for note in document["notes"])
    assert any(
        "2 channels the first one is used, as in training" in note and "stereo.flac" in note
        for note in document["notes"]
    )


@pytest.mark.parametrize(
    ("files", "csv", "options", "machine"),
    [
        (["a.wav"], "", {"machine": "Press"}, "press"),
        (["a.wav"], "file,machine\na.wav,press\n", {}, "press"),
        (["pump/x/a.wav"], "", {}, "pump"),
        (["pump_7.wav"], "", {}, "pump"),
        (["pump/a.wav"], "file;machine\npump/a.wav;press\n", {}, "press"),
    ],
)
def test_which_machine_a_clip_is_of(
    files: list[str], csv: str, options: dict[str, Any], machine: str, *, frozen: str, stores: Places, tmp_path: Path
) -> None:
    """The option counts before the csv, that before a folder's name, that before a file's."""
    for name in files:
        write_tone(tmp_path / name)
    if csv:
        (tmp_path / "list.csv").write_text(csv)
    rows = verbs.detect(frozen, tmp_path, places=stores, **options)["rows"]
    assert [row["machine"] for row in rows] == [machine]


@pytest.mark.parametrize(
    ("prepare", "options", "words"),
    [
        (lambda root: root.mkdir(), {}, "holds none"),
        (lambda root: None, {}, "there is no"),
        (lambda root: write_tone(root / "a.wav"), {"machine": "pomp"}, "Did you mean 'pump'"),
        (lambda root: write_tone(root / "a.wav"), {"section": "07"}, "--section must be one of 00"),
        (lambda root: write_tone(root / "a.wav"), {"scorer": "zmin"}, "scorer of trial"),
        (lambda root: write_tone(root / "a.wav"), {}, "nothing says which of them a.wav is"),
    ],
)
def test_what_cannot_be_detected_is_a_sentence(
    prepare: Any, options: dict[str, Any], words: str, *, frozen: str, stores: Places, tmp_path: Path
) -> None:
    """No clips, no folder, a machine, section or scorer that the trial has not: one sentence each."""
    prepare(tmp_path / "new")
    with pytest.raises(HarnessError, match=words):
        verbs.detect(frozen, tmp_path / "new", places=stores, **options)


def test_a_trial_that_learned_and_kept_nothing_says_how_to_get_an_encoder(stores: Places, frozen: str) -> None:
    """Without its encoder a learned trial hears nothing new; the sentence names --keep and keep."""
    results = Results(stores.results)
    (key,) = record(results, seeds=[0], study="learned")
    results.close()
    with pytest.raises(HarnessError, match=r'--keep .*keep = "best"'):
        verbs.detect(key, Path(), places=stores)
    with pytest.raises(HarnessError, match=r'--keep .*keep = "best"'):
        verbs.detect("learned", Path(), best=True, places=stores)


def test_the_best_of_unlabelled_recordings_is_refused_before_a_trial_begins(own: Path, stores: Places) -> None:
    """Which is best is told by a score that needs labels; the sentence says what works."""
    space = {"backbone": ["tiny"], "m": [1], "k1": [2], "k2": [2]}
    file = StudyFile.model_validate({"name": "x", "protocol": "own", "keep": "best", "space": space})
    with pytest.raises(HarnessError, match='keep = "all"'):
        verbs.study_run(file, data=own, places=stores)


def test_a_frozen_trial_finds_its_recordings_again(frozen: str, own: Path, stores: Places, tmp_path: Path) -> None:
    """Where the cache is gone a sentence asks for --data, and other recordings than the trial's are refused."""
    elsewhere = Places(stores.tracking, stores.results, stores.optuna, tmp_path / "cache")
    with pytest.raises(HarnessError, match="name their folder with --data"):
        verbs.detect(frozen, own, places=elsewhere)
    assert len(verbs.detect(frozen, own, data=own, places=elsewhere)["rows"]) == 12
    for name in ("press/1.wav", "press/2.wav", "press/3.wav", "press/4.wav"):
        write_tone(tmp_path / "others" / name)
    verbs.data_own(tmp_path / "others")
    with pytest.raises(HarnessError, match="holds others"):
        verbs.detect(frozen, own, data=tmp_path / "others", places=elsewhere)


def models_of(stores: Places) -> KeptModels:
    """The kept models of the stores."""
    history = History(stores.tracking)
    return KeptModels(history.client, history.experiment, history.uri)


def test_a_kept_model_is_linked_to_run_metrics_and_recordings(kept: str, own: Path, stores: Places) -> None:
    """The model is ready, of the trial's run, an output of it, and has its metrics on the test recordings."""
    models = models_of(stores)
    (model,) = models.of([kept])
    assert model.whole
    assert model.owner == "trial"
    logged = models.client.get_logged_model(model.model_id)
    run = models.client.get_run(model.run_id)
    assert [each.model_id for each in run.outputs.model_outputs] == [model.model_id]
    assert {metric.dataset_name for metric in logged.metrics} == {"own/dev"}
    assert {"threshold/own.pump.00"} <= {metric.key for metric in logged.metrics}
    again = verbs.trial(
        own, protocol="own", backbone="tiny", m=None, seed=3, scorers=["knn", "knn:layer=2"],
        recipe={"clip_seconds": 0.5, "embed": "whole"}, keep=True, places=stores,
    )  # fmt: skip
    assert (again["key"], [each.model_id for each in models.of([kept])]) == (kept, [model.model_id])


def test_mlflow_scores_waveforms_by_a_kept_model(
    kept: str, own: Path, stores: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mlflow.pyfunc.load_model` gives the scores of `detect`, and a sentence for a waveform that has none."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", stores.tracking)
    (model,) = models_of(stores).of([kept])
    with models_of(stores).fetched(model) as folder:
        loaded = mlflow.pyfunc.load_model(str(folder.parents[1]))
    clip, rate = soundfile.read(own / "pump" / "clip 3.wav", dtype="int16")
    wave = (clip / 32768).tolist()
    table = [{"waveform": wave, "sampling_rate": rate, "machine": name} for name in ("pump", "press", "fridge")]
    rows = loaded.predict(table).to_dict("records")
    wanted = {row["machine"]: row for row in verbs.detect(kept, own, places=stores)["rows"] if "clip 3" in row["file"]}
    assert rows[0]["score"] == pytest.approx(wanted["pump"]["score"], rel=1e-5)
    assert (rows[0]["threshold"], rows[0]["decision"]) == (wanted["pump"]["threshold"], wanted["pump"]["decision"])
    assert rows[1]["score"] > 0
    assert "must be of one section" in rows[2]["error"]


def change_arrays(folder: Path, name: str, value: Any) -> None:
    """Replace an array of the references, or leave it out."""
    with np.load(folder / "references.npz") as file:
        arrays = {each: file[each] for each in file.files} | {name: value}
    np.savez(folder / "references.npz", **{each: array for each, array in arrays.items() if array is not None})


def test_a_trial_of_two_microphones_is_served_with_both(kept: str, stores: Places, tmp_path: Path) -> None:
    """MLflow lets a list of channels through where the trial hears other channels than the first."""
    import mlflow

    models = models_of(stores)
    with models.fetched(models.of([kept])[0]) as folder:
        shutil.copytree(folder, tmp_path / "kept")
    words = (tmp_path / "kept" / WORDS).read_text()
    (tmp_path / "kept" / WORDS).write_text(words.replace('"own": "first"', '"own": "difference"'))
    save_model(tmp_path / "kept", tmp_path / "model")
    tone = (0.1 * np.sin(np.arange(RATE))).tolist()
    table = [{"waveform": [tone, [0.0] * RATE], "sampling_rate": RATE, "machine": "pump"}]
    (row,) = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(table).to_dict("records")
    assert row["score"] > 0


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: (folder / WORDS).write_text("[]"), "must be a kept trial of format"),
        (lambda folder: (folder / WORDS).unlink(), "there is no"),
        (lambda folder: (folder / "references.npz").write_bytes(b"x"), "cannot be read"),
        (lambda folder: change_arrays(folder, "layer 2", None), "must hold layer 2"),
        (lambda folder: change_arrays(folder, "levels", np.zeros(1)), "a row a clip in each"),
        (lambda folder: (folder / WORDS).write_text((folder / WORDS).read_text().replace("alone", "along")), "format"),
        (lambda folder: (folder / WEIGHTS).unlink(), "must embed as the one that was kept"),
        (lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-8]), "cut short"),
    ],
)
def test_a_damaged_model_is_refused(harm: Any, words: str, kept: str, stores: Places, tmp_path: Path) -> None:
    """What is not whole, or not what was kept, is one sentence and never a score."""
    models = models_of(stores)
    with models.fetched(models.of([kept])[0]) as folder:
        shutil.copytree(folder, tmp_path / "kept")
    text = (tmp_path / "kept" / WORDS).read_text().replace('"seed": 3', '"seed": 4')  # other random weights
    (tmp_path / "kept" / WORDS).write_text(text)
    assert read_detector(tmp_path / "kept").encoder is not None  # the weights are those of the file
    harm(tmp_path / "kept")
    with pytest.raises(ValueError, match=words):
        read_detector(tmp_path / "kept")


@pytest.mark.parametrize(("options", "said"), [("--frozen", "detect k '{root}/a&b'"), ("", "with --keep.")])
def test_an_unlabelled_trial_says_what_works_next(
    options: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asdbench: Any
) -> None:
    """After a frozen trial the command that detects, quoted; after one that kept nothing how to keep its encoder."""
    done = {"key": "k", "rows": [], "official_score": None, "intervals": None, "run_id": "r",
            "undefined": ["auc: 0 of 2 clips have no known condition."]}  # fmt: skip
    monkeypatch.setattr("harness.verbs.trials.run_chosen", lambda *_each, **_more: done)
    (tmp_path / "a&b").mkdir()
    status, out, _ = asdbench("trial {root} --protocol own --backbone tiny " + options, root=tmp_path / "a&b")
    assert status == 0
    assert said.format(root=tmp_path) in out.replace("\n", "")


def test_the_command_line_prints_every_form(frozen: str, own: Path, stores: Places, asdbench: Any) -> None:
    """`detect` prints a table, csv, json and markdown."""
    line = f"detect {frozen[:6]} {{root}} --db {stores.tracking} --data {{root}}"
    asked = {form: asdbench(f"{line} {form}", root=own) for form in ("--csv", "--json", "--markdown")}
    assert all(status == 0 for status, _, _ in asked.values())
    assert asked["--csv"][1].startswith("rank,file,machine,section,score,threshold,decision")
    assert len(json.loads(asked["--json"][1])["rows"]) == 12
    assert asked["--markdown"][1].startswith("| #")
