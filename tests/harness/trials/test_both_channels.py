"""Trials that hear both microphones of 2026: they train and score on the near and the far one, side by side in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.datasets.dcase2026 import DATASET
from benchmarks.protocols import parse_protocol
from benchmarks.synthetic.generator import generate
from harness.cache import Cache
from harness.trials.contract import TrialSpec
from harness.trials.recordings import Recordings, prepare_recordings
from harness.trials.stages import clip_ids, clip_samples, pretrained_encoder, reader
from harness.trials.trial import run_trial
from tests.harness.made_up import quick_spec


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated recordings of one machine type, two channels each."""
    folder = tmp_path_factory.mktemp("recordings")
    generate(folder, DATASET, machines=("fan",), train_source=6, train_target=2, test_per_cell=2, seconds=1.0)
    return folder


def heard(root: Path, word: str, cache: Cache) -> tuple[TrialSpec, Recordings]:
    """A quick trial, and the recordings as it hears them."""
    parts = ["dcase2026/dev"]
    table = {"name": "toy", "train": parts, "score": parts, "cases": {"fan": "direct"}, "channels": word}
    protocol = parse_protocol(table)
    recordings = prepare_recordings(root, protocol, cache)
    return quick_spec(protocol, recordings), recordings


def test_training_hears_both(root: Path, tmp_path: Path) -> None:
    """Training gets `clip_seconds` of each microphone, and the scores are neither's alone."""
    cache, scores = Cache(tmp_path), {}
    for word in ("near", "far", "both"):
        spec, recordings = heard(root, word, cache)
        encoder = pretrained_encoder(spec.backbone, seed=0)  # type: ignore[arg-type]
        clips = reader(spec, encoder, recordings, clip_ids(recordings.train))(np.arange(2))
        assert clips.shape == (2, clip_samples(spec, recordings) * (2 if word == "both" else 1))
        result = run_trial(spec, recordings, cache)
        assert result.official["knn"] is not None and len(result.epochs) == 2
        scores[word] = result.scored["score_knn"].to_numpy()
    assert not np.allclose(scores["both"], scores["near"]) and not np.allclose(scores["both"], scores["far"])
