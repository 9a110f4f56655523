"""Every loss on generated recordings: it learns its classes, and scores better than an encoder that learned nothing."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backbones.training.recipe import FinetuneRecipe
from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.protocols import parse_protocol
from benchmarks.synthetic.generator import generate
from harness import plugins
from harness.cache import Cache
from harness.trials.choices import frozen_spec
from harness.trials.contract import TrialSpec
from harness.trials.recordings import Recordings, prepare_recordings
from harness.trials.trial import run_trial
from tests.harness.made_up import quick_spec

SEEDS = (0, 1, 2)
IN_CI = ("cross_entropy", "subcluster_adacos")  # one of logits and one of angles
PARTS = ["dcase2023/dev"]
PROTOCOL = parse_protocol({"name": "toy", "train": PARTS, "score": PARTS})
RECIPE = FinetuneRecipe(
    epochs=12, batch_size=16, clip_seconds=1.0, learning_rate=3e-3, warmup_epochs=2, time_mask=10, mel_mask=4
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialSpec, Recordings, Cache]:
    """Generated recordings of the seven machine types, all with their attributes, and a trial on them."""
    folder = tmp_path_factory.mktemp("losses")
    generate(
        folder / "rec", DATASET, train_source=20, train_target=4, test_per_cell=8, seconds=1.0,
    )  # fmt: skip
    cache = Cache(folder / "cache")
    recordings = prepare_recordings(folder / "rec", PROTOCOL, cache)
    return quick_spec(PROTOCOL, recordings, m=1, recipe=RECIPE), recordings, cache


@pytest.fixture(scope="module")
def frozen(made: Any) -> list[float]:
    """The official score of the encoder as it is, by seed."""
    spec, recordings, cache = made
    found = [run_trial(replace(frozen_spec(spec), seed=seed), recordings, cache).official["knn"] for seed in SEEDS]
    _write("frozen", 0, [0.0], found)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss",
    [each if each in IN_CI else pytest.param(each, marks=pytest.mark.long) for each in plugins.names("loss")],
)
def test_a_loss_learns(loss: str, made: Any, frozen: list[float]) -> None:
    """Over three seeds, training clips are told apart far better than by guessing, and anomalies better than before."""
    spec, recordings, cache = made
    accuracy, official = [], []
    for seed in SEEDS:
        result = run_trial(replace(spec, seed=seed, recipe=replace(RECIPE, loss=loss)), recordings, cache)
        accuracy.append(result.epochs[-1].accuracy)
        official.append(result.official["knn"])
    classes = result.epochs[-1].classes
    _write(loss, classes, accuracy, official)
    assert min(accuracy) > 0.5 > 10 / classes  # guessing: one in 54
    assert np.mean(official) > np.mean(frozen)


def _write(name: str, classes: int, accuracy: list[float], official: list[float]) -> None:
    """Write a row of the table in docs/what_matters.md; `-s` shows it."""
    scores = ", ".join(f"{100 * value:.2f}" for value in official)
    means = f"{100 * np.mean(accuracy):.1f} | {scores} | {100 * np.mean(official):.2f}"
    sys.stdout.write(f"| `{name}` | {classes} | {means} |\n")
    sys.stdout.flush()
