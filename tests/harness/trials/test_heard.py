"""What a trial's scorers hear: layers from one pass that are kept, and clips to their end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backbones.layers import Heard
from backbones.training.recipe import FinetuneRecipe
from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.protocols import parse_protocol
from benchmarks.synthetic.generator import generate
from harness.cache import Cache
from harness.scoring.contract import ScoreRequest
from harness.trials import trial
from harness.trials.choices import frozen_spec
from harness.trials.contract import BackboneChoice, TrialSpec
from harness.trials.embedded import embedded_key, find_embedded
from harness.trials.recordings import Recordings, objects, prepare_recordings
from harness.trials.stages import cut_windows, embed_clips, embedded_ids, pretrained_encoder, score_machines
from harness.trials.trial import run_trial

PROTOCOL = parse_protocol(
    {"name": "toy", "train": ["dcase2023/dev"], "score": ["dcase2023/dev"], "cases": {"fan": "fragmented"}}
)
SECONDS = 1.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialSpec, Recordings, Path]:
    """A quick trial, its recordings, and a folder for caches."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("heard")
    generate(
        folder / "root", DATASET, machines=("fan",), train_source=6, train_target=2, test_per_cell=3, seconds=SECONDS
    )
    recordings = prepare_recordings(folder / "root", PROTOCOL, Cache(folder / "audio"))
    spec = TrialSpec(
        kind="trial", backbone=BackboneChoice("tiny", "tiny"), m=2, k1=3, k2=3, fusion="composite", protocol=PROTOCOL,
        seed=0, recipe=FinetuneRecipe(epochs=1, batch_size=8, clip_seconds=SECONDS, learning_rate=1e-3),
        min_confidence=0.5, below="drop", train_data=recordings.train_data, test_data=recordings.test_data,
    )  # fmt: skip
    return spec, recordings, folder


def refuse(*_: object, **__: object) -> None:
    """Stand in for a stage that must not run."""
    raise AssertionError("it was made again")


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """Count how often a trial calls a stage."""
    calls: list[str] = []
    stage: Callable[..., Any] = getattr(trial, name)

    def count(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        return stage(*arguments, **options)

    monkeypatch.setattr(trial, name, count)
    return calls


@pytest.mark.parametrize("kind", [pytest.param("trial", marks=pytest.mark.slow), "frozen"])
def test_layers_are_made_once_and_kept(made: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scorers of three layers share one pass; one more scorer of these layers makes none; a new layer makes one."""
    spec, recordings, folder = made
    spec = spec if kind == "trial" else frozen_spec(spec)
    cache, passes = Cache(folder / f"{kind}-layers"), counted(monkeypatch, "embed_clips")
    named = ("knn", "knn:layer=2", "knn_bands:layer=3,bands=4", "mahalanobis:layer=-1")
    first = run_trial(replace(spec, scorers=named), recordings, cache)
    assert len(passes) == 1
    again = run_trial(replace(spec, scorers=(*named, "gmm@2:layer=2")), recordings, cache)
    assert (len(passes), again.reused) == (1, ("embed",) if kind == "frozen" else ("finetune", "embed"))
    more = run_trial(replace(spec, scorers=(*named, "knn:layer=1")), recordings, cache)
    assert (len(passes), more.reused) == (2, ())
    for scorer in named:
        np.testing.assert_array_equal(first.scored[f"score_{scorer}"], again.scored[f"score_{scorer}"])
        np.testing.assert_array_equal(first.scored[f"score_{scorer}"], more.scored[f"score_{scorer}"])
    assert len({first.spec.key(), again.spec.key(), more.spec.key()}) == 1


def test_a_scorer_gets_the_layer_that_it_names(made: Any) -> None:
    """knn:layer=2 is the nearest neighbour among what the second convolution gives; with frequency, band by band."""
    spec, recordings, _ = made
    spec = replace(frozen_spec(spec), scorers=("knn:layer=2", "knn:frequency=keep,layer=2", "knn:layer=2+last"))
    encoder = pretrained_encoder(spec.backbone, seed=0)
    vectors, layers = embed_clips(spec, encoder, recordings)
    scored = score_machines(spec, vectors, recordings, layers=layers)
    given: list[torch.Tensor] = []
    hook = encoder.convolutions[1].register_forward_hook(lambda _module, _inputs, output: given.append(output))
    with torch.no_grad():
        for clips in (recordings.train, recordings.test):
            encoder(torch.from_numpy(recordings.packed.read(clips["clip_id"].tolist(), 16_000)))
    hook.remove()
    train, test = (torch.nn.functional.gelu(each).mean(dim=2) for each in given)  # (n, width, bands)
    domains = objects(recordings.train["domain"])
    for name, left, right in (
        ("knn:layer=2", train.mean(dim=2), test.mean(dim=2)),
        ("knn:frequency=keep,layer=2", train.flatten(1), test.flatten(1)),
    ):
        asked = ScoreRequest(left.numpy(), domains, right.numpy())
        expected = trial_knn(asked)
        np.testing.assert_allclose(scored[f"score_{name}"], expected, rtol=1e-3, atol=1e-6)
    assert scored["score_knn:layer=2+last"].notna().all()


def trial_knn(asked: ScoreRequest) -> np.ndarray:
    """Return cosine distances to the nearest reference, by hand."""
    left, right = (
        each / np.linalg.norm(each, axis=1, keepdims=True)
        for each in (asked.references.astype(float), asked.queries.astype(float))
    )
    return np.asarray((1 - right @ left.T).min(axis=1))


def test_what_is_kept_of_a_layer_must_fit(made: Any) -> None:
    """A layer whose entry was cut, or is of other clips, is missing; so the trial makes it anew."""
    spec, recordings, folder = made
    spec = replace(frozen_spec(spec), scorers=("knn:layer=2",))
    cache = Cache(folder / "harm")
    run_trial(spec, recordings, cache)
    key, ids, heard = embedded_key(spec, recordings, None), embedded_ids(recordings), [Heard(2)]
    assert find_embedded(key, cache, ids, heard) is not None
    assert find_embedded(key, cache, ids[1:], heard) is None
    assert find_embedded(key, cache, ids, [Heard(2, frequency=True)]) is None
    (path,) = (cache.folder / "layer").rglob("*.npz")
    path.write_bytes(path.read_bytes()[:-9])
    assert find_embedded(key, cache, ids, heard) is None
    assert find_embedded(key, cache, ids) is not None
    assert run_trial(spec, recordings, cache).reused == ()


def test_a_layer_that_is_not_there_is_refused_before_training(
    made: Any, asdbench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line says the range in one sentence, and nothing was trained; a backbone without layers says so."""
    monkeypatch.setattr(trial, "finetune_encoder", refuse)
    line = f"trial {made[2] / 'root'} --protocol dcase2023 --k1 3 --k2 3 --epochs 1 --clip-seconds 1 --backbone "
    status, _, err = asdbench(line + "tiny --scorer knn:layer=5")
    assert status == 1
    assert "layer must be between 1 and 4, the layers of Tiny, or from -4 to -1" in " ".join(err.split())
    status, _, err = asdbench(line + "logmel --frozen --scorer knn:layer=1")
    assert status == 1
    assert "LogMelStatistics has no layers that can be named, but got layer=1" in " ".join(err.split())


@pytest.mark.slow
def test_the_board_and_results_name_the_layer(made: Any, asdbench: Any) -> None:
    """A recorded trial stands on the leaderboard once for each layer, under the scorer's text."""
    line = f"trial {made[2] / 'root'} --protocol dcase2023 --backbone tiny --frozen --clip-seconds 1 --json"
    status, _, err = asdbench(line + " --scorer knn --scorer knn:layer=2 --scorer knn:layer=2+3,merge=zmin")
    assert status == 0, err
    board = json.loads(asdbench("leaderboard --json --no-references")[1])["rows"]
    assert {row["scorer"] for row in board} == {"knn", "knn:layer=2", "knn:layer=2+3,merge=zmin"}
    (row,) = json.loads(asdbench("leaderboard --json --no-references --scorer knn:layer=02")[1])["rows"]
    assert row["scorer"] == "knn:layer=2"


def test_windows_hear_a_clip_to_its_end() -> None:
    """Windows begin with the clip, end with it, share at least half with the next, and are no more than that takes."""
    windows = cut_windows(np.array([120, 60, 100, 180, 101]), 100)
    assert [windows.starts[windows.clips == clip].tolist() for clip in range(5)] == [
        [0, 20], [0], [0], [0, 40, 80], [0, 1],
    ]  # fmt: skip
    for length in range(101, 1000, 7):
        starts = cut_windows(np.array([length]), 100).starts
        assert (starts[0], starts[-1]) == (0, length - 100)
        assert 0 < np.diff(starts).max() <= 50
        assert len(starts) == 1 + -(-(length - 100) // 50)
    values = np.arange(18, dtype=np.float32).reshape(9, 2)
    means = windows.mean(values)
    np.testing.assert_allclose(means[[0, 3]], [[1, 2], [10, 11]])
    np.testing.assert_array_equal(means[[1, 2]], values[[2, 3]])


def test_a_clip_no_longer_than_a_window_is_embedded_as_before(made: Any) -> None:
    """With windows as long as the clips, or longer ("repeat"), whole and crop agree to the last bit."""
    spec, recordings, _ = made
    for seconds in (SECONDS, 1.5):
        recipe = FinetuneRecipe(epochs=0, clip_seconds=seconds)
        crop = replace(frozen_spec(spec), recipe=recipe, scorers=("knn:layer=2",))
        whole = replace(crop, recipe=replace(recipe, embed="whole"))
        encoder = pretrained_encoder(crop.backbone, seed=0)
        found = [embed_clips(each, encoder, recordings) for each in (crop, whole)]
        for clip, vector in found[0][0].items():
            np.testing.assert_array_equal(found[1][0][clip], vector)
            np.testing.assert_array_equal(found[1][1][Heard(2)][clip], found[0][1][Heard(2)][clip])


def test_whole_is_the_mean_over_windows_and_another_trial(made: Any) -> None:
    """A clip of 1 s in windows of 0.75 s is the mean of two; crop keeps the key that trials have always had."""
    spec, recordings, _ = made
    recipe = FinetuneRecipe(epochs=0, clip_seconds=0.75)
    crop = replace(frozen_spec(spec), recipe=recipe)
    whole = replace(crop, recipe=replace(recipe, embed="whole"))
    assert "embed" not in crop.recipe.content()
    assert crop.key() != whole.key()
    encoder = pretrained_encoder(crop.backbone, seed=0)
    found, _ = embed_clips(whole, encoder, recordings)
    clip = str(recordings.test["clip_id"].iloc[0])
    sound = torch.from_numpy(recordings.packed.waveform(clip))
    with torch.no_grad():
        expected = (encoder(sound[None, :12_000]) + encoder(sound[None, 4_000:])) / 2
    np.testing.assert_allclose(found[clip], expected[0].numpy(), rtol=1e-4, atol=1e-5)
    assert frozen_spec(replace(spec, recipe=replace(spec.recipe, embed="whole"))).recipe.embed == "whole"
