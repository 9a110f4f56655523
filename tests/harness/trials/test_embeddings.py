"""Embeddings as files: a backbone beside recordings, and a root of their own, with the encoder's very numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backbones.contract import BackboneError
from backbones.training.recipe import FinetuneRecipe
from benchmarks.contract import BenchmarkError
from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.protocols import parse_protocol
from benchmarks.synthetic.generator import generate
from harness import verbs
from harness.cache import Cache
from harness.errors import HarnessError
from harness.places import Places
from harness.studies.plan import make_plan
from harness.studies.study_file import checked_study
from harness.trials.candidates import check_candidates
from harness.trials.choices import choose_backbone, frozen_spec, level_spec
from harness.trials.contract import TrialSpec
from harness.trials.recordings import Recordings, open_recordings, prepare_recordings
from harness.trials.trial import run_trial

PARTS = ["dcase2023/dev"]
CASES = {"fan": "fragmented", "ToyCar": "partial", "bearing": "sample-wise"}
TABLE: dict[str, Any] = {
    "name": "toy", "train": PARTS, "score": PARTS, "cases": CASES,
    "withhold": [{"machine": "ToyCar", "share": 0.5}, {"machine": "bearing", "share": 0.5}],
}  # fmt: skip
PROTOCOL = parse_protocol(TABLE)
RECIPE = FinetuneRecipe(
    epochs=3, batch_size=8, clip_seconds=1.0, learning_rate=1e-2, train="projection", projection_dim=16
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of three machine types in `root`, and their embeddings by `tiny` in `tiny.npz`."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("embeddings")
    generate(
        folder / "root", DATASET, machines=("fan", "ToyCar", "bearing"), train_source=8, train_target=3,
        test_per_cell=3, seconds=1.0,
    )  # fmt: skip
    row = verbs.embed(
        folder / "root", backbone="tiny", out=folder / "tiny.npz", clip_seconds=1.0, workers=1, places=places(folder)
    )
    assert (row["clips"], row["dim"]) == (3 * (8 + 3 + 12), 64)
    return folder


def places(folder: Path) -> Places:
    """Return stores in a folder."""
    mlflow, optuna = (f"sqlite:///{folder / name}.db" for name in ("mlflow", "optuna"))
    return Places(mlflow, mlflow, optuna, folder / "cache")


def prepared(folder: Path, root: str) -> Recordings:
    """Prepare a root in a cache of its own."""
    return prepare_recordings(folder / root, PROTOCOL, Cache(folder / f"cache-{root}"))


def make_spec(recordings: Recordings, backbone: str, folder: Path) -> TrialSpec:
    """Return a trial with a projection."""
    name = backbone.replace("emb:", f"emb:{folder}/")
    return TrialSpec(
        kind="trial", backbone=choose_backbone(name, name), m=2, k1=3, k2=3, fusion="composite", protocol=PROTOCOL,
        seed=0, recipe=RECIPE, min_confidence=0.3, below="machine", train_data=recordings.train_data,
        test_data=recordings.test_data,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["frozen", pytest.param("projection", marks=pytest.mark.slow)])
def test_the_very_scores_of_the_encoder(folder: Path, kind: str) -> None:
    """Exported embeddings beside the recordings give the encoder's own scores to the last bit, and another key."""
    recordings = prepared(folder, "root")
    own, named = (make_spec(recordings, name, folder) for name in ("tiny", "emb:tiny.npz"))
    if kind == "frozen":
        own, named = frozen_spec(own), frozen_spec(named)
    scored = [
        run_trial(spec, recordings, Cache(folder / f"{kind}-{number}")) for number, spec in enumerate((own, named))
    ]
    np.testing.assert_array_equal(*(each.scored["score_knn"] for each in scored))
    assert scored[0].official == scored[1].official
    assert own.key() != named.key()
    assert named.backbone is not None and named.backbone.name == "emb:tiny.npz"


def test_a_file_alone_is_a_root(folder: Path) -> None:
    """Clips, labels and attributes come from the names: the same table, and the same scores of the frozen encoder."""
    heard, silent = prepared(folder, "root"), prepared(folder, "tiny.npz")
    for part in ("train", "test"):
        own, named = (getattr(each, part).drop(columns="path") for each in (heard, silent))
        assert own.equals(named)
    assert heard.truth == silent.truth != {}
    own = run_trial(frozen_spec(make_spec(heard, "tiny", folder)), heard, Cache(folder / "heard"))
    named = run_trial(frozen_spec(make_spec(silent, "emb:tiny.npz", folder)), silent, Cache(folder / "silent"))
    np.testing.assert_array_equal(own.scored["score_knn"], named.scored["score_knn"])


def test_every_case_is_labeled_without_sound(folder: Path) -> None:
    """Where MFCC would be read, the embeddings are: sample-wise labeling and the check before a study work."""
    silent = prepared(folder, "tiny.npz")
    spec, cache = make_spec(silent, "emb:tiny.npz", folder), Cache(folder / "labels")
    check_candidates([spec], silent, cache)
    result = run_trial(spec, silent, cache)
    assert {row["machine"]: row["case"] for row in result.labels} == CASES
    assert all(np.isfinite(result.scored["score_knn"]))


def test_another_process_opens_the_same(folder: Path) -> None:
    """A worker finds clips and embeddings in the cache, under the same fingerprints."""
    silent = prepared(folder, "tiny.npz")
    found = open_recordings(silent.place)
    assert (found.train_data, found.test_data, found.truth) == (silent.train_data, silent.test_data, silent.truth)
    assert not found.packed.heard


def test_other_embeddings_are_other_recordings(folder: Path) -> None:
    """A number that differs makes other fingerprints, so that no recorded trial is taken for another's."""
    with np.load(folder / "tiny.npz") as found:
        files, vectors = found["files"], found["vectors"].copy()
    vectors[files.tolist().index(next(name for name in files if "/train/" in name))] *= 1.001
    np.savez(folder / "other.npz", files=files, vectors=vectors)
    own, other = prepared(folder, "tiny.npz"), prepared(folder, "other.npz")
    assert own.train_data != other.train_data
    assert own.test_data == other.test_data


def test_what_is_heard_is_left_out_or_refused(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line says what is done without sound; a study has no row of the level, and other backbones say why not."""
    silent = prepared(folder, "tiny.npz")
    assert [record.message for record in caplog.records if "no sound" in record.message]
    cache = Cache(folder / "refused")
    with pytest.raises(BenchmarkError, match="holds embeddings alone"):
        run_trial(level_spec(make_spec(silent, "emb:tiny.npz", folder)), silent, cache)
    with pytest.raises(BenchmarkError, match="take the backbone emb"):
        run_trial(frozen_spec(make_spec(silent, "tiny", folder)), silent, cache)
    table = {
        "name": "s",
        "protocol": TABLE,
        "space": {"backbone": ["emb"], "m": [1]},
        "recipe": {"train": "projection"},
    }
    plan = make_plan(checked_study(table, "s"), root=folder / "tiny.npz")
    data = {"train_data": silent.train_data, "test_data": silent.test_data}
    assert [spec.kind for spec in plan.specs(**data, heard=silent.packed.heard)] == ["frozen", "trial"]
    assert [spec.kind for spec in plan.specs(**data)] == ["level", "frozen", "trial"]


def changed(folder: Path, name: str, **changes: Any) -> Path:
    """Write the file again with some names or vectors changed."""
    with np.load(folder / "tiny.npz") as found:
        arrays = {"files": found["files"].astype("U200"), "vectors": found["vectors"].copy()}
    for what, change in changes.items():
        arrays[what] = change(arrays[what])
    np.savez(folder / name, **arrays)
    return folder / name


def test_clips_that_are_wrong_are_named(folder: Path) -> None:
    """A clip that is missing beside recordings, or whose name is none of the year's, is named."""
    lacking = changed(folder, "lacking.npz", files=lambda names: names[1:], vectors=lambda vectors: vectors[1:])
    recordings = prepared(folder, "root")
    with np.load(folder / "tiny.npz") as found:
        first = found["files"][0].split("/")[-1].removesuffix(".wav")
    with pytest.raises(BackboneError, match=f"lacks dcase2023/dev/.*{first}"):
        run_trial(make_spec(recordings, f"emb:{lacking.name}", folder), recordings, Cache(folder / "lacking"))
    misnamed = changed(
        folder, "misnamed.npz", files=lambda names: [str(n).replace("_normal_", "_broken_") for n in names]
    )
    with pytest.raises(BenchmarkError, match=r"section_00_source_test_broken_.* is not a test clip"):
        prepare_recordings(misnamed, PROTOCOL, Cache(folder / "misnamed"))
    with pytest.raises(BenchmarkError, match="must say their year"):
        both = parse_protocol({**TABLE, "train": [*PARTS, "dcase2024/dev"]})
        prepare_recordings(folder / "tiny.npz", both, Cache(folder / "years"))


def test_nothing_learns_but_a_projection(folder: Path) -> None:
    """Embeddings cannot be fine-tuned, and the sentence says what can."""
    silent = prepared(folder, "tiny.npz")
    spec = make_spec(silent, "emb:tiny.npz", folder)
    with pytest.raises(BackboneError, match='train = "projection"'):
        run_trial(replace(spec, recipe=replace(RECIPE, train="all")), silent, Cache(folder / "all"))


def test_the_verb_takes_the_root_as_backbone(folder: Path) -> None:
    """`trial FILE.npz --backbone emb` needs no other name of the file, and is recorded as that file's."""
    row = verbs.trial(folder / "tiny.npz", protocol="dcase2023", backbone="emb", m=None, places=places(folder))
    assert row["status"] == "finished"
    assert {each["machine"] for each in row["rows"]} == set(CASES)
    assert verbs.leaderboard(places=places(folder))[0]["backbone"] == "emb:tiny.npz"
    counts = verbs.data_index(folder / "tiny.npz", dataset="dcase2023")
    assert counts["clips"] == 69
    with pytest.raises(HarnessError, match="is a file"):
        verbs.embed(folder / "tiny.npz", backbone="tiny", out=folder / "x.npz", places=places(folder))
