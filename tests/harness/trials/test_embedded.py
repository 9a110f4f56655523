"""One more scorer costs no training: what a trial's scoring needs is kept."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbones.contract import EpochReport
from backbones.training.recipe import FinetuneRecipe
from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.protocols import parse_protocol
from benchmarks.synthetic.generator import generate
from harness.cache import Cache
from harness.stores.recorder import Recorder
from harness.trials import embedded, trial
from harness.trials.choices import frozen_spec
from harness.trials.contract import BackboneChoice, TrialSpec
from harness.trials.recordings import Recordings, prepare_recordings
from harness.trials.trial import run_trial
from tests.harness.made_up import make_result, make_spec, quick_spec

PROTOCOL = parse_protocol(
    {"name": "toy", "train": ["dcase2023/dev"], "score": ["dcase2023/dev"], "cases": {"fan": "fragmented"}}
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialSpec, Recordings, Path]:
    """A quick trial, its recordings, and a folder for caches."""
    folder = tmp_path_factory.mktemp("embedded")
    generate(folder / "root", DATASET, machines=("fan",), train_source=6, train_target=2, test_per_cell=3, seconds=1.0)
    recordings = prepare_recordings(folder / "root", PROTOCOL, Cache(folder / "audio"))
    return quick_spec(PROTOCOL, recordings), recordings, folder


def refuse(*_: object, **__: object) -> None:
    """Stand in for a stage that must not run."""
    raise AssertionError("it was trained again")


@pytest.mark.parametrize("kind", [pytest.param("trial", marks=pytest.mark.slow), "frozen"])
def test_a_new_scorer_trains_nothing(made: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scored by another scorer, a trial is as if both had been named at once, to the last bit, without training."""
    spec, recordings, folder = made
    spec = spec if kind == "trial" else frozen_spec(spec)
    both = replace(spec, scorers=("knn", "mahalanobis"))
    fresh = run_trial(both, recordings, Cache(folder / f"{kind}-fresh"))
    cache, told = Cache(folder / f"{kind}-kept"), list[EpochReport]()
    first = run_trial(spec, recordings, cache)
    for stage in ("finetune_encoder", "embed_clips", "pretrained_encoder"):
        monkeypatch.setattr(trial, stage, refuse)
    again = run_trial(both, recordings, cache, on_epoch=told.append)
    for scorer in both.scorers:
        np.testing.assert_array_equal(again.scored[f"score_{scorer}"], fresh.scored[f"score_{scorer}"])
        assert again.official[scorer] == fresh.official[scorer]
    assert again.epochs == first.epochs == tuple(told)
    assert again.labels == fresh.labels
    assert again.pseudo_labels.equals(fresh.pseudo_labels)


def test_seconds_are_those_of_the_training(made: Any) -> None:
    """What came from the cache is reported with what it cost when it ran, and is named."""
    spec, recordings, folder = made
    cache = Cache(folder / "seconds")
    first = run_trial(spec, recordings, cache)
    again = run_trial(replace(spec, scorers=("gmm",)), recordings, cache)
    assert first.reused == ()
    assert set(again.reused) == {"finetune", "embed"}
    assert all(again.seconds[stage] == first.seconds[stage] for stage in again.reused)
    assert {"score", "measure", "draw"} <= set(again.seconds)


@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_what_is_not_whole_is_made_again(made: Any, harm: str) -> None:
    """Half an entry, or one whose costs are missing, is no entry: the trial is trained again, with equal scores."""
    spec, recordings, folder = made
    cache = Cache(folder / f"harm-{harm}")
    first = run_trial(spec, recordings, cache)
    kind = embedded.VECTORS if harm == "cut" else embedded.TRAINING
    (path,) = (cache.folder / kind).rglob("*.npz")
    path.write_bytes(path.read_bytes()[:-9]) if harm == "cut" else path.unlink()
    again = run_trial(spec, recordings, cache)
    assert again.reused == ()
    np.testing.assert_array_equal(again.scored["score_knn"], first.scored["score_knn"])


def test_another_trial_takes_nothing(made: Any) -> None:
    """Another M that makes other classes is trained."""
    spec, recordings, folder = made
    cache = Cache(folder / "other")
    run_trial(spec, recordings, cache)
    assert run_trial(replace(spec, m=1), recordings, cache).reused == ()


def test_the_same_classes_train_once(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of K2 clusters tells no clips apart: M = K2 takes the training of M = K2 - 1, with its own numbers."""
    spec, recordings, folder = made
    most = replace(spec, m=3)
    alone = run_trial(most, recordings, Cache(folder / "alone"))
    cache = Cache(folder / "shared")
    run_trial(spec, recordings, cache)
    monkeypatch.setattr(trial, "finetune_encoder", refuse)
    told = list[EpochReport]()
    shared = run_trial(most, recordings, cache, on_epoch=told.append)
    assert (alone.reused, shared.reused) == ((), ("finetune", "embed"))
    np.testing.assert_array_equal(shared.scored["score_knn"], alone.scored["score_knn"])
    assert shared.pseudo_labels.equals(alone.pseudo_labels)
    assert [report.loss for report in told] == [report.loss for report in alone.epochs]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"recipe": FinetuneRecipe(epochs=3, batch_size=8, clip_seconds=1.0, learning_rate=1e-3)},
        {"backbone": BackboneChoice("tiny", "tiny", options=(("depth", 1),))},
    ],
)
def test_what_else_changes_the_weights_trains_again(made: Any, change: dict[str, Any]) -> None:
    """Another seed, recipe or backbone takes nothing from a training with the same labels."""
    spec, recordings, _ = made
    labels = trial.fuse_labels(spec, trial.rank_machines(spec, recordings, Cache(made[2] / "keys")))[0]
    key = embedded.embedded_key(spec, recordings, labels)
    assert embedded.embedded_key(replace(spec, **change), recordings, labels) != key
    assert embedded.embedded_key(replace(spec, m=1), recordings, labels) == key
    moved = replace(labels, targets=np.roll(labels.targets, 1))
    assert embedded.embedded_key(spec, recordings, moved) != key


def test_what_is_too_large_is_not_kept(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit nothing is written, and the trial itself is as ever."""
    spec, recordings, folder = made
    cache = Cache(folder / "large")
    monkeypatch.setattr(embedded, "MOST_BYTES", 100)
    run_trial(spec, recordings, cache)
    assert not list((cache.folder / embedded.VECTORS).rglob("*.npz"))


def test_the_oldest_make_room(tmp_path: Path) -> None:
    """A folder that would grow above its limit loses its oldest values, and no other."""
    cache = Cache(tmp_path)
    for place, key in enumerate(("aa1", "bb2", "cc3")):
        cache.put("embedding", key, np.zeros(1000, dtype=np.uint8), most_bytes=3500)
        if (path := tmp_path / "embedding" / key[:2] / f"{key}.npz").exists():
            os.utime(path, (place, place))
    assert cache.find("embedding", "aa1") is None
    assert all(cache.find("embedding", key) is not None for key in ("bb2", "cc3"))


def test_results_keep_every_scorers_rows(recorder: Recorder) -> None:
    """Recording a trial by one more scorer leaves the rows of those before, and its next run is to have them all."""
    spec = make_spec()
    recorder.finish(recorder.begin(spec), make_result(spec))
    made = make_result(spec)
    for more in ("kmeans", "gmm"):  # the second as a first version of gmm, which computed other scores, recorded it
        other = {name: {more: getattr(made, name)["knn"]} for name in ("metrics", "official", "machines")}
        scored = made.scored.rename(columns={"score_knn": f"score_{more}"})
        recorder.finish(recorder.begin(spec), replace(made, scored=scored, **other))
    assert recorder.results.scorers_of([spec.key()]) == {spec.key(): ["gmm", "kmeans", "knn"]}
    assert recorder.results.finished([spec.key()], scorers=["knn", "gmm", "kmeans"])
    assert len(recorder.results.metrics()) == 6
    (again,) = recorder.with_recorded_scorers([replace(spec, scorers=("mahalanobis",))])
    assert again.scorers == ("mahalanobis", "kmeans", "knn")


@pytest.mark.slow
def test_a_trial_verb_adds_a_scorer(asdbench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`trial` with another --scorer records both without training again, in one run that stands for the trial."""
    generate(tmp_path / "d", DATASET, machines=("fan",), train_source=6, train_target=2, test_per_cell=3, seconds=1.0)
    line = "trial d --protocol dcase2023 --backbone tiny --k1 3 --k2 3 --epochs 1 --clip-seconds 1 --json --scorer "
    status, out, err = asdbench(line + "knn")
    assert status == 0, err
    monkeypatch.setattr(trial, "finetune_encoder", refuse)
    status, out, err = asdbench(line + "knn:metric=euclidean,k=2")
    assert status == 0, err
    found = json.loads(out)
    assert found["scorer"] == "knn:k=2,metric=euclidean"
    assert "finetune" in found["reused"]
    board = json.loads(asdbench("leaderboard --json --no-references")[1])["rows"]
    assert {row["scorer"] for row in board} == {"knn", "knn:k=2,metric=euclidean"}
    chosen = json.loads(asdbench("leaderboard --json --no-references --scorer knn:metric=euclidean,k=2")[1])["rows"]
    assert [row["scorer"] for row in chosen] == ["knn:k=2,metric=euclidean"]


def test_fusions_of_one_candidate_share_a_training(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With M = 1 soft and set fusion are composite: one training, equal scores to the last bit, keys of their own."""
    spec, recordings, folder = made
    one = replace(spec, m=1)
    cache = Cache(folder / "fusions")
    composite = run_trial(one, recordings, cache)
    monkeypatch.setattr(trial, "finetune_encoder", refuse)
    others = [replace(one, fusion="soft"), replace(one, fusion="set")]
    for other in others:
        found = run_trial(other, recordings, cache)
        assert set(found.reused) == {"finetune", "embed"}
        np.testing.assert_array_equal(found.scored["score_knn"], composite.scored["score_knn"])
        assert found.labels == composite.labels
    assert len({each.key() for each in (one, *others)}) == 3
    with pytest.raises(AssertionError, match="trained again"):
        run_trial(replace(spec, fusion="soft"), recordings, cache)  # M = 2 has weights on two classes
