"""The numbers of a tiny study, written down: whoever changes the method's code so that they move must raise METHOD.

`METHOD` is part of every trial's key. If code changes numbers and METHOD stays, new trials stand beside old ones as if
they were the same. To update tests/data/golden.json after METHOD rose:

    ASDBENCH_GOLDEN=write .venv/bin/python -m pytest tests/harness/trials/test_golden.py

Processors add in different orders, so numbers are compared with a tolerance: levels to 0.001 dB, MFCC to 0.01, scores
and losses of trained networks to 2 %; counts of classes and clips exactly. A change that stays below is no change of
method. Other versions of libraries may move numbers beyond that (K-means, forests): a failure says which were used.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backbones.training.pretrain import PretrainRecipe, load_masked_encoder, pretrain
from backbones.training.recipe import FinetuneRecipe
from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.protocols import parse_protocol
from benchmarks.synthetic.generator import generate
from harness.cache import Cache
from harness.places import installed_libraries
from harness.pretraining import plan as pretraining
from harness.trials.contract import METHOD
from harness.trials.recordings import prepare_recordings
from harness.trials.trial import run_trial
from labeling.mfcc import mfcc_statistics
from tests.backbones.conftest import SMALL, reader, tones
from tests.harness.made_up import quick_spec

GOLDEN = Path(__file__).parents[2] / "data" / "golden.json"
PARTS = ["dcase2023/dev"]
PROTOCOL = parse_protocol(
    {
        "name": "golden", "train": PARTS, "score": PARTS,
        "cases": {"fan": "fragmented", "ToyCar": "partial", "bearing": "sample-wise", "valve": "unlabeled"},
        "withhold": [{"machine": "ToyCar", "share": 0.5}, {"machine": "bearing", "share": 0.5}],
    }
)  # fmt: skip
RECIPE = FinetuneRecipe(
    epochs=2, batch_size=16, clip_seconds=0.5, learning_rate=1e-3, warmup_epochs=0.5, precision="float32"
)
SCORERS = ("gmm@2", "knn", "knn_rescaled", "level", "mahalanobis")
TOLERANCE = {"level": {"abs": 1e-3}, "mfcc": {"abs": 1e-2}, "scores": {"rel": 0.02}, "losses": {"rel": 0.02}}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The numbers as the code makes them now."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("golden")
    generate(
        folder / "d", DATASET, machines=("fan", "ToyCar", "bearing", "valve"), train_source=12, train_target=4,
        test_per_cell=3, seconds=0.5,
    )  # fmt: skip
    cache = Cache(folder / "cache")
    recordings = prepare_recordings(folder / "d", PROTOCOL, cache)
    spec = quick_spec(PROTOCOL, recordings, k1=4, k2=4, recipe=RECIPE, scorers=SCORERS)
    trials = {}
    for name, one in {"M=2": spec, "M=1 soft": replace(spec, m=1, fusion="soft", below="machine", seed=1)}.items():
        result = run_trial(one, recordings, cache)
        trials[name] = {
            "classes": [row["classes"] for row in result.labels],
            "left_out": [row["left_out"] for row in result.labels],
            "losses": [report.loss for report in result.epochs],
            "level": summary(result.scored["score_level"]),
            **{f"scores {each}": summary(result.scored[f"score_{each}"]) for each in SCORERS if each != "level"},
        }
    ids = recordings.train["clip_id"].tolist()[:6]
    mfcc = mfcc_statistics(lambda place: recordings.packed.waveform(ids[place]), 6)
    model = load_masked_encoder("audiomae", **SMALL["audiomae"], decoder_dim=16, decoder_layers=1, decoder_heads=2)
    quick = PretrainRecipe(epochs=3, batch_size=4, base_learning_rate=0.1, warmup_epochs=0.5, precision="float32")
    _, reports = pretrain(model, reader(tones(8)), 8, recipe=quick, device=torch.device("cpu"))
    return {
        "method": METHOD, "pretraining_method": pretraining.METHOD, "libraries": installed_libraries(),
        "trials": trials, "mfcc": [round(float(value), 3) for value in mfcc.mean(axis=0)],
        "pretraining": {"losses": [report.loss for report in reports]},
    }  # fmt: skip


def summary(scores: Any) -> list[float]:
    """Mean and quartiles of scores, which say more than one number and less than every digit."""
    return [float(np.mean(scores)), *(float(each) for each in np.quantile(scores, [0.25, 0.5, 0.75]))]


def test_numbers_move_only_with_the_method(found: dict[str, Any]) -> None:
    """Labels, losses, scores and MFCC of a tiny study are those that were written down under this METHOD."""
    if os.environ.get("ASDBENCH_GOLDEN") == "write":
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert (found["method"], found["pretraining_method"]) == (golden["method"], golden["pretraining_method"]), (
        "METHOD has changed: write the numbers anew, as this file's first lines say"
    )
    moved = [
        f"{where}: {want} became {have}"
        for where, want, have in pairs(golden, found)
        if not agree(where.split("/")[-1].split(" ")[0], want, have)
    ]
    assert not moved, (
        f"numbers changed and METHOD did not rise (written with {golden['libraries']}, now {found['libraries']}):\n"
        + "\n".join(moved)
    )


def pairs(golden: dict[str, Any], found: dict[str, Any]) -> list[tuple[str, list[float], list[float]]]:
    """Name each list of numbers, with both values."""
    said = [("mfcc", golden["mfcc"], found["mfcc"])]
    said += [("pretraining/losses", golden["pretraining"]["losses"], found["pretraining"]["losses"])]
    for name, numbers in golden["trials"].items():
        said += [(f"{name}/{what}", values, found["trials"][name].get(what)) for what, values in numbers.items()]
    return said


def agree(kind: str, want: list[float], have: list[float]) -> bool:
    """Whether numbers of a kind are the same: counts exactly, others within their tolerance."""
    return have == (pytest.approx(want, **TOLERANCE[kind]) if kind in TOLERANCE else want)
