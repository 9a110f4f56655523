"""A process keeps log-mel features between its trials, and no number hangs on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones.contract import Encoder, FinetuneRecipe
from backbones.encoders.tiny import Tiny
from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.protocols import parse_protocol
from benchmarks.synthetic.generator import generate
from harness.cache import Cache
from harness.trials import kept
from harness.trials.contract import BackboneChoice, TrialSpec
from harness.trials.recordings import Recordings, prepare_recordings
from harness.trials.trial import run_trial

PROTOCOL = parse_protocol(
    {"name": "toy", "train": ["dcase2023/dev"], "score": ["dcase2023/dev"], "cases": {"fan": "fragmented"}}
)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    """Eight training and twelve test clips."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("kept")
    generate(folder / "root", DATASET, machines=("fan",), train_source=6, train_target=2, test_per_cell=3, seconds=1.0)
    return prepare_recordings(folder / "root", PROTOCOL, Cache(folder / "audio"))


@pytest.fixture
def spec(recordings: Recordings) -> TrialSpec:
    """A quick trial."""
    return TrialSpec(
        kind="trial", backbone=BackboneChoice("tiny", "tiny"), m=2, k1=3, k2=3, fusion="composite", protocol=PROTOCOL,
        seed=0, recipe=FinetuneRecipe(epochs=2, batch_size=8, clip_seconds=1.0, learning_rate=1e-3),
        min_confidence=0.5, below="drop", train_data=recordings.train_data, test_data=recordings.test_data,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Start with nothing kept; how many clips features were made of, call by call."""
    calls: list[int] = []
    fbank = Tiny.fbank

    def counted(self: Tiny, waveforms: torch.Tensor) -> torch.Tensor:
        calls.append(len(waveforms))
        return fbank(self, waveforms)

    monkeypatch.setattr(Tiny, "fbank", counted)
    kept._stores.clear()
    yield calls
    kept._stores.clear()


def test_the_next_trial_makes_no_features(
    spec: TrialSpec, recordings: Recordings, made: list[int], tmp_path: Path
) -> None:
    """Another M in the same process reads the features of the first, and has the numbers of a process of its own."""
    other = replace(spec, m=1)
    alone = run_trial(other, recordings, Cache(tmp_path / "alone"))
    kept._stores.clear()
    made.clear()
    run_trial(spec, recordings, Cache(tmp_path / "first"))
    first = len(made)
    made.clear()
    second = run_trial(other, recordings, Cache(tmp_path / "second"))
    assert first >= 20  # every clip, one by one
    assert set(made) == {1} and len(made) <= 9  # the first clip and noise are compared before each of three uses
    np.testing.assert_array_equal(second.scored["score_knn"], alone.scored["score_knn"])
    assert [each.loss for each in second.epochs] == [each.loss for each in alone.epochs]


def test_other_inputs_and_weights_have_features_of_their_own(
    spec: TrialSpec, recordings: Recordings, tmp_path: Path
) -> None:
    """Another length, seed or backbone shares nothing."""
    for place, change in enumerate(
        (
            {},
            {"recipe": replace(spec.recipe, clip_seconds=0.5)},
            {"seed": 1},
            {"backbone": BackboneChoice("wide", "tiny", options=(("width", 8),))},
        )
    ):
        run_trial(replace(spec, **change), recordings, Cache(tmp_path / str(place)))  # type: ignore[arg-type]
    assert len(kept._stores) == 4


def test_old_features_make_room(
    spec: TrialSpec, recordings: Recordings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept stays within its limit: the longest unused goes, and what does not fit at all is never kept."""
    one = 20 * 98 * 128 * 4  # bytes: clips, frames of a second, mel bins
    monkeypatch.setattr(kept, "MOST_BYTES", 2 * one)
    for seed in (0, 1, 0, 2):
        run_trial(replace(spec, seed=seed), recordings, Cache(tmp_path / str(seed)))
    assert [store.size for store in kept._stores.values()] == [one, one]
    fits = run_trial(spec, recordings, Cache(tmp_path / "fits"))
    kept._stores.clear()
    monkeypatch.setattr(kept, "MOST_BYTES", one - 1)
    large = run_trial(spec, recordings, Cache(tmp_path / "large"))
    assert all(store.size == 0 for store in kept._stores.values())
    np.testing.assert_array_equal(large.scored["score_knn"], fits.scored["score_knn"])


def test_an_encoder_that_embeds_in_its_own_way_reads_waveforms(
    spec: TrialSpec, recordings: Recordings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `forward` is the encoder's own, embeddings come from it and not from kept features."""
    usual = run_trial(spec, recordings, Cache(tmp_path / "usual"))
    kept._stores.clear()
    monkeypatch.setattr(Tiny, "forward", lambda self, waveforms: 1 + Encoder.forward(self, waveforms) ** 2)
    own = run_trial(spec, recordings, Cache(tmp_path / "own"))
    assert not kept._stores
    assert not np.array_equal(own.scored["score_knn"], usual.scored["score_knn"])
