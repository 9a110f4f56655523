"""More layers and scorers of the same trainings: what they add to a study."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.synthetic.generator import generate
from tests.speed.test_grid_speed import run

STUDY = """
name = "%(name)s"
protocol = { name = "layers", train = ["dcase2023/dev"], score = ["dcase2023/dev"] }
scorers = %(scorers)s
layers = %(layers)s
frozen = false
level = false
[space]
backbone = ["small"]
m = [1, 3]
k1 = [5]
k2 = [5]
[backbones.small]
encoder = "beats"
options = { %(options)s }
[recipe]
epochs = 12
batch_size = 16
learning_rate = 1e-3
clip_seconds = 4.0
precision = "float32"
[labeling]
min_confidence = 0.5
below = "machine"
"""
OPTIONS = {
    "embed_dim": 64, "encoder_embed_dim": 96, "encoder_ffn_embed_dim": 384, "encoder_layers": 6,
    "encoder_attention_heads": 4, "conv_pos": 32,
}  # fmt: skip
SCORERS, LAYERS = ["knn", "knn_median", "mahalanobis", "gwrp"], [2, 4, 6]
REQUIRED = 1 / 1.15  # of the time of one layer and one scorer


@pytest.mark.speed
def test_three_layers_and_four_scorers_cost_as_much_as_one_of_each(tmp_path: Path, bench: Any) -> None:
    """Two fine-tunings scored twelve times take at most 1.15 of the time of scoring them once."""
    generate(
        tmp_path / "recordings", DATASET, machines=("fan", "valve"), train_source=60, train_target=6, test_per_cell=12,
        seconds=4.0,
    )  # fmt: skip
    seconds = {}
    for name, scorers, layers in (("one", SCORERS[:1], LAYERS[1:2]), ("many", SCORERS, LAYERS)):
        (folder := tmp_path / name).mkdir()
        text = STUDY % {
            "name": name,
            "scorers": scorers,
            "layers": layers,
            "options": ", ".join(f"{option} = {value}" for option, value in OPTIONS.items()),
        }
        (folder / "study.toml").write_text(text)
        study = [sys.executable, "-m", "harness.cli", "study", "run", "study.toml", "--data", "../recordings"]
        began = time.perf_counter()
        run(study, folder)
        seconds[name] = time.perf_counter() - began
        board = json.loads(run([sys.executable, "-m", "harness.cli", "leaderboard", "--json"], folder)[1])["rows"]
        assert len({row["scorer"] for row in board if row["kind"] == "trial"}) == len(scorers) * len(layers)
    bench.row("study, 3 layers x 4 scorers", seconds["many"], "1 layer, 1 scorer", seconds["one"], REQUIRED)
