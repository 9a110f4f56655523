"""Keys of studies and trials are those under which earlier versions recorded them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.keys import digest
from harness.studies.plan import make_plan
from harness.studies.study_file import StudyFile, checked_study, read_study

DATA = {"train_data": "aaaa", "test_data": "bbbb"}
CHECKPOINTS = ("BEATs_iter3_plus_AS2M.pt", "audiomae_machine_sounds.pth")
# every axis, every kind of labels, and a recipe whose later fields are said
WIDE: dict[str, Any] = {
    "name": "wide",
    "protocol": "demo",
    "seeds": [0, 3],
    "scorers": ["knn", "level"],
    "space": {
        "backbone": ["tiny", "logmel"],
        "m": [1, 3, 7],
        "k1": [3, 15],
        "k2": [2, 15],
        "fusion": ["composite", "set", "soft"],
        "labels": ["paper", "machine", "gmm", "truth"],
    },
    "recipe": {"epochs": 3, "lora_rank": 4, "gradient_decay": 0.6, "clip_seconds": "longest"},
    "labeling": {"truth": "somewhere", "min_confidence": 0.5, "below": "machine"},
    "sampler": {"name": "random", "seed": 7, "trials": 12},
}
FROZEN_LAYERS: dict[str, Any] = {**WIDE, "name": "layers", "recipe": {"freeze_layers": 2, "clip_seconds": 2}}
FIRST_DEMO = "demo of 16 epochs"  # as it was shipped first
# study -> (its key, a digest of its trials' keys in order, how many there are), as first recorded
GOLDEN = {
    "demo": ("beeaaea6eb62cdbd", "abeaee16baa2c9c9", "4e1d54d12c4b283f", 17),
    FIRST_DEMO: ("adc83bd8f3ac1ba5", "de4ab172eb9b9462", "50e01a2bb65065ff", 17),
    "real-mini": ("d5bc64d79f4e0e86", "082cef89e3332f06", "f658af433837f694", 17),
    "paper": ("b370c562dcc3f67d", "40fa5082c4ab3231", "4e68c86dd8b0dce1", 49),
    "regression": ("e769fe4c532fefff", "c40b959903f4ea1f", "59774503608594a5", 10),
    "wide": ("0c5763eb15804db8", "11d6f5bfab72ae41", "c801a5617c499c69", 99),
    "layers": ("d47de076c654cbf4", "cc5bc00a5ff45abe", "e08216e9dddcbf38", 99),
}


@pytest.fixture(autouse=True)
def _checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints by the names that the paper's study has; their sums, not their content, are part of keys."""
    monkeypatch.setenv("ASDBENCH_WEIGHTS", str(tmp_path))
    for name in CHECKPOINTS:
        (tmp_path / name).write_bytes(name.encode())


def study(name: str) -> StudyFile:
    """One of the studies whose keys are known."""
    own = {"wide": WIDE, "layers": FROZEN_LAYERS}
    if name == FIRST_DEMO:
        shipped = read_study("demo")
        return shipped.model_copy(update={"recipe": shipped.recipe.model_copy(update={"epochs": 16})})
    return checked_study(own[name], name) if name in own else read_study(name)


@pytest.mark.parametrize("name", GOLDEN)
def test_keys_stay(name: str) -> None:
    """A study has the key, and its trials have the keys and the order, that it was first recorded under."""
    plan = make_plan(study(name))
    specs = plan.specs(**DATA, truth_data="cccc")
    keys = digest({"keys": [spec.key() for spec in specs], "rankings": [spec.ranking_key() for spec in specs]})
    recipes = digest({"recipes": [spec.recipe_key() for spec in specs]})
    assert (plan.key(**DATA, truth_data="cccc"), keys, recipes, len(specs)) == GOLDEN[name]
