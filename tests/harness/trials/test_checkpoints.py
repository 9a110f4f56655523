"""Checkpoints of trials: taken up by a second try, gone once the trial is recorded."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from backbones.training.recipe import FinetuneRecipe
from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.synthetic.generator import generate
from harness import verbs
from harness.places import Places
from harness.trials import stages
from harness.trials.checkpoints import FOLDER, training_checkpoint
from tests.harness.made_up import make_spec


def test_keys_of_recorded_trials_stay() -> None:
    """A trial that neither freezes nor adapts keeps the key that it was recorded under before that could be chosen."""
    assert make_spec().key() == KEY
    assert make_spec(recipe=FinetuneRecipe(epochs=2, lora_rank=4)).key() != KEY


KEY = "8b54850c4ccf7523"


def test_old_checkpoints_go(tmp_path: Path) -> None:
    """What nobody took up for a week goes; the trial's own and younger ones stay."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    for name, days in (("own.pt", 30), ("old.pt", 8), ("young.pt", 6), (".half.pt.1.part", 8)):
        (folder / name).touch()
        then = time.time() - days * 86_400
        os.utime(folder / name, (then, then))
    training_checkpoint(tmp_path, "own")
    assert {path.name for path in folder.iterdir()} == {"own.pt", "young.pt"}


def test_trial_goes_on(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that is stopped in its third epoch goes on there, has all its epochs, and leaves no checkpoint."""
    generate(tmp_path / "rec", DATASET, machines=("fan",), train_source=6, train_target=2, test_per_cell=2, seconds=1.0)
    computed: list[int] = []
    told: list[int] = []
    fine_tune = stages.finetune

    def watched(*arguments: Any, checkpoint: Any, **options: Any) -> Any:
        checkpoint.every_seconds = 0.0
        before = checkpoint.write
        monkeypatch.setattr(checkpoint, "write", lambda state: (computed.append(len(state["reports"])), before(state)))
        return fine_tune(*arguments, checkpoint=checkpoint, **options)

    monkeypatch.setattr(stages, "finetune", watched)

    def stop(what: str, done: int, _all: int) -> None:
        if what == "epochs" and done == 3:
            raise KeyboardInterrupt

    def run(tell: Any) -> dict[str, Any]:
        recipe = {"epochs": 5, "batch_size": 8, "clip_seconds": 1.0}
        return verbs.trial(
            tmp_path / "rec", protocol="dcase2023", backbone="tiny", recipe=recipe, places=places, told=tell
        )

    with pytest.raises(KeyboardInterrupt):
        run(stop)
    assert list((places.cache / FOLDER).iterdir())
    run(lambda what, done, _all: told.append(done) if what == "epochs" else None)
    assert computed == [1, 2, 3, 4, 5]
    assert told == [1, 2, 3, 4, 5]
    assert not list((places.cache / FOLDER).iterdir())
