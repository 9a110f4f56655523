"""More layers and scorers of the same training: what they add to a study."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.synthetic.generator import generate
from harness import verbs
from harness.places import Places
from harness.scoring.choice import with_layers

SCORERS, LAYERS = ["knn", "knn_median", "mahalanobis", "gwrp"], [2, 4, 6]
OPTIONS = {
    "embed_dim": 64, "encoder_embed_dim": 96, "encoder_ffn_embed_dim": 384, "encoder_layers": 6,
    "encoder_attention_heads": 4, "conv_pos": 32,
}  # fmt: skip
RECIPE = {
    "epochs": 5, "batch_size": 16, "learning_rate": 1e-3, "warmup_epochs": 1, "clip_seconds": 4.0,
    "precision": "float32",
}  # fmt: skip
TRIALS: dict[str, dict[str, Any]] = {
    "warm": {"backbone": "tiny", "m": None},
    "one": {"backbone": "beats", "options": OPTIONS, "m": 1},
    "many": {"backbone": "beats", "options": OPTIONS, "m": 1},
}
REQUIRED = 1 / 1.25  # of the time of one layer and one scorer; 1.08 and 1.16 were measured on one machine


@pytest.mark.speed
def test_three_layers_and_four_scorers_cost_as_much_as_one_of_each(tmp_path: Path, bench: Any) -> None:
    """A trial that is trained, scored twelve times and recorded takes at most 1.25 of one that is scored once.

    The processor's seconds of this process count: what Ray adds to a study is the same for both, and what else the
    machine does counts for neither. The fine-tuning takes some 20 seconds; longer ones hide the scorers better.
    """
    torch.set_num_threads(1)
    generate(
        tmp_path / "recordings", DATASET, machines=("fan",), train_source=120, train_target=8, test_per_cell=12,
        seconds=4.0,
    )  # fmt: skip
    seconds = {}
    # the first trial, a frozen one, is not counted: it imports what the scorers need
    for name, scorers, layers in (("warm", SCORERS, []), ("one", SCORERS[:1], LAYERS[1:2]), ("many", SCORERS, LAYERS)):
        (folder := tmp_path / name).mkdir()
        database = f"sqlite:///{folder}/mlflow.db"
        places = Places(database, database, f"sqlite:///{folder}/optuna.db", folder / "cache")
        named = with_layers(scorers, layers)
        began = time.process_time()
        verbs.trial(
            tmp_path / "recordings", protocol="dcase2023", recipe=RECIPE, **TRIALS[name], k1=5, k2=5, scorers=named,
            min_confidence=0.5, below="machine", places=places,
        )  # fmt: skip
        seconds[name] = time.process_time() - began
        assert len(named) == len(scorers) * max(1, len(layers))
    bench.row("trial, 3 layers x 4 scorers", seconds["many"], "1 layer, 1 scorer", seconds["one"], REQUIRED)
