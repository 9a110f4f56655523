"""A projection: the encoder is run once for all trials, and a small network on its embeddings is what learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backbones.contract import EpochReport
from backbones.training.recipe import FinetuneRecipe
from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.protocols import parse_protocol
from benchmarks.synthetic.generator import generate
from harness.cache import Cache
from harness.errors import HarnessError
from harness.studies.plan import make_plan
from harness.studies.study_file import checked_study
from harness.trials import candidates
from harness.trials.axes import axis_values, shown_cell
from harness.trials.choices import frozen_spec
from harness.trials.contract import BackboneChoice, TrialSpec
from harness.trials.recordings import Recordings, prepare_recordings
from harness.trials.trial import run_trial

PARTS = ["dcase2023/dev"]
TABLE: dict[str, Any] = {"name": "toy", "train": PARTS, "score": PARTS, "cases": {"fan": "fragmented"}}
PROTOCOL = parse_protocol(TABLE)
STUDY_KEY = "e966ddc4a2d080c4"
TRIAL_KEYS = ["b0eb954c17a61cfe", "2d2bb7cb908817e6", "69b688e4f7dcacf5", "2aa71b387d0924ee"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialSpec, Recordings, Path]:
    """A quick trial with a projection, its recordings, and a folder for caches."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("projection")
    generate(folder / "root", DATASET, machines=("fan",), train_source=6, train_target=2, test_per_cell=3, seconds=1.0)
    recordings = prepare_recordings(folder / "root", PROTOCOL, Cache(folder / "audio"))
    spec = TrialSpec(
        kind="trial",
        backbone=BackboneChoice("tiny", "tiny"),
        m=1,
        k1=3,
        k2=3,
        fusion="composite",
        protocol=PROTOCOL,
        seed=0,
        recipe=FinetuneRecipe(
            epochs=3, batch_size=8, clip_seconds=1.0, learning_rate=1e-2, train="projection", projection_dim=16
        ),
        min_confidence=0.5,
        below="drop",
        train_data=recordings.train_data,
        test_data=recordings.test_data,
    )
    return spec, recordings, folder


def test_the_encoder_runs_once_for_a_study(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of other M, losses and sizes hear no recording: the embeddings are there."""
    spec, recordings, folder = made
    cache, told = Cache(folder / "once"), list[EpochReport]()
    first = run_trial(spec, recordings, cache, on_epoch=told.append)
    assert [report.epoch for report in told] == [1, 2, 3]
    assert set(first.seconds) >= {"latents", "finetune", "embed"}

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the encoder was run again")

    monkeypatch.setattr(candidates, "pretrained_encoder", refuse)
    other = replace(spec.recipe, loss="arcface", projection_dim=4)
    for change in ({"m": 2}, {"recipe": other}, {"scorers": ("knn", "mahalanobis")}):
        assert run_trial(replace(spec, **change), recordings, cache).official


def test_it_repeats_and_does_not_hang_on_the_cache(made: Any) -> None:
    """Another cache, filled in another order, brings the same scores to the last bit."""
    spec, recordings, folder = made
    one, other = Cache(folder / "one"), Cache(folder / "other")
    run_trial(replace(spec, m=2), recordings, other)
    scored = [run_trial(spec, recordings, cache).scored["score_knn"] for cache in (one, other)]
    np.testing.assert_array_equal(*scored)


def test_it_learns(made: Any) -> None:
    """Its scores are neither those of the frozen encoder nor those of the encoder whose loss alone learned."""
    spec, recordings, folder = made
    cache = Cache(folder / "learns")
    head = replace(spec, recipe=replace(spec.recipe, train="head"))
    projected, frozen, headed = (
        run_trial(each, recordings, cache).scored["score_knn"].to_numpy() for each in (spec, frozen_spec(spec), head)
    )
    assert not np.allclose(projected, frozen)
    np.testing.assert_allclose(headed, frozen)


def study(**changes: Any) -> Any:
    """A study over what learns."""
    space = {"backbone": ["tiny", "logmel"], "m": [1, 3], "k1": [3], "k2": [3], **changes.pop("space", {})}
    return checked_study({"name": "s", "protocol": TABLE, "space": space, **changes}, "s")


def test_train_is_an_axis() -> None:
    """A space may vary what learns; an encoder without weights has trials with a projection alone."""
    data = {"train_data": "a", "test_data": "b"}
    specs = make_plan(study(space={"train": ["all", "projection"]})).specs(**data)
    cells = [(s.backbone.name, s.recipe.train, s.m) for s in specs if s.kind == "trial" and s.backbone]
    assert sorted(cells) == sorted(
        [(name, train, m) for name in ("tiny", "logmel") for train in ("all", "projection") for m in (1, 3)
         if (name, train) != ("logmel", "all")]
    )  # fmt: skip
    assert len([spec for spec in specs if spec.kind == "frozen"]) == 2
    (projected,) = {s.label() for s in specs if s.recipe.train == "projection" and s.m == 3 and s.label()[0] == "t"}
    assert projected == "tiny M=3 K1=3 K2=3 train=projection seed=0"
    assert "projection" in shown_cell(axis_values(next(s for s in specs if s.recipe.train == "projection")))
    assert "all" not in shown_cell(axis_values(next(s for s in specs if s.kind == "trial")))


def test_keys_of_before_stay() -> None:
    """A study and a trial that name no projection have the keys that they had before there was one."""
    plan = make_plan(study(space={"backbone": ["tiny"]}))
    # as printed by the version before; both change with any field that is not left out at its default
    assert plan.key(train_data="a", test_data="b") == STUDY_KEY
    (level, frozen, one, three) = plan.specs(train_data="a", test_data="b")
    assert [level.key(), frozen.key(), one.key(), three.key()] == TRIAL_KEYS


def test_nothing_that_learns_is_refused_by_name() -> None:
    """A study of a backbone without weights and without frozen rows must let a projection learn."""
    with pytest.raises(HarnessError, match="let a projection learn"):
        make_plan(study(space={"backbone": ["logmel"]}, frozen=False))
    assert make_plan(study(space={"backbone": ["logmel"]}, frozen=False, recipe={"train": "projection"}))
