"""What a study will take is said before anything is spent, and what is counted is what is then run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.synthetic.generator import generate
from harness import verbs
from harness.errors import HarnessError
from harness.places import Places
from harness.studies.costs import counted, said_count, said_sampler
from harness.studies.plan import make_plan
from harness.studies.study_file import SamplerTable, StudyFile, checked_study
from harness.trials import candidates
from harness.trials.candidates import planned_ranking, rank_machines
from harness.trials.labels import fuse_labels
from harness.trials.recordings import prepare_recordings

PARTS = ["dcase2023/dev"]
PROTOCOL = {
    "name": "toy", "train": PARTS, "score": PARTS, "machines": ["fan", "bearing"],
    "cases": {"fan": "fragmented", "bearing": "partial"}, "withhold": [{"machine": "bearing", "share": 0.5}],
}  # fmt: skip
TABLE: dict[str, Any] = {
    "name": "small", "protocol": PROTOCOL, "seeds": [0, 1],
    "space": {"backbone": ["tiny", "logmel"], "m": [1, 2, 4], "k1": [4], "k2": [4], "train": ["all", "projection"]},
    "recipe": {"epochs": 2, "batch_size": 8, "clip_seconds": 1.0},
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated recordings of two machine types."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("costs")
    generate(root, DATASET, machines=("fan", "bearing"), train_source=9, train_target=3, test_per_cell=2, seconds=1.0)
    return root


def study(**changes: Any) -> StudyFile:
    """Return a small study over what learns."""
    return checked_study({**TABLE, **changes}, "small")


def places(folder: Path) -> Places:
    """Return stores in a folder."""
    return Places(f"sqlite:///{folder}/m.db", f"sqlite:///{folder}/m.db", f"sqlite:///{folder}/o.db", folder / "cache")


def test_a_plan_counts_what_is_run(root: Path, tmp_path: Path) -> None:
    """Trials by kind, clips, a row a choice of labels, and a row a backbone with what learns; no trial is begun."""
    costs = verbs.study_plan(study(), data=root, workers=2, places=places(tmp_path))
    plan = make_plan(study())
    specs = plan.specs(train_data="a", test_data="b")
    assert costs["trials"] == len(specs) == costs["level"] + costs["frozen"] + costs["learning"]
    assert (costs["train_clips"], costs["test_clips"], costs["skipped"]) == (24, 16, 0)
    assert costs["labeled"] == 12 + 9  # of bearing, half of each attribute are hidden, rounded down
    assert [row["m"] for row in costs["classes"]] == [1, 2, 4]
    rows = {(row["backbone"], row["train"]): row for row in costs["backbones"]}
    learning = [spec for spec in specs if spec.kind == "trial"]
    assert set(rows) == {
        ("tiny", "all"), ("tiny", "projection"), ("logmel", "projection"), ("tiny", "frozen"), ("logmel", "frozen"),
    }  # fmt: skip
    assert sum(row["trials"] for row in rows.values()) == len(learning) + costs["frozen"]
    assert all(row["trainings"] <= row["trials"] and row["hours"] > 0 for row in rows.values())
    assert costs["hours"] == pytest.approx(sum(row["hours"] for row in rows.values()))
    assert costs["memory_gb"] > 0 and costs["disk_gb"] > 0 and costs["workers"] == 2
    assert not (tmp_path / "m.db").exists()


def test_labels_that_the_cache_has_are_the_trials_own(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without latents clips are clustered by MFCC, and that is said; a ranking that is kept is taken as it is."""
    file, cache = study(), places(tmp_path).open_cache()
    recordings = prepare_recordings(root, make_plan(file).protocol, cache)
    data = {"train_data": recordings.train_data, "test_data": recordings.test_data}
    spec = next(spec for spec in make_plan(file).specs(**data) if spec.kind == "trial")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("every clip was embedded for a plan")

    with monkeypatch.context() as patched:
        patched.setattr(candidates, "pretrained_encoder", refuse)
        assert planned_ranking(spec, recordings, cache)[1] is False
    own = rank_machines(spec, recordings, cache)
    found, exact = planned_ranking(spec, recordings, cache)
    assert exact
    assert fuse_labels(spec, found)[1] == fuse_labels(spec, own)[1]


def test_hours_of_a_gpu_are_stated(root: Path, tmp_path: Path) -> None:
    """For a named GPU the hours come from counted operations: half the share, twice the learning's time."""
    file = study(space={**TABLE["space"], "backbone": ["tiny"], "train": ["all"]}, frozen=False, level=False)
    full, half = (
        verbs.study_plan(file, data=root, gpu="H100", share=share, places=places(tmp_path))["backbones"][0]
        for share in (0.2, 0.1)
    )
    assert half["train_seconds"] == pytest.approx(2 * full["train_seconds"])
    assert half["embed_seconds"] == pytest.approx(2 * full["embed_seconds"])
    with pytest.raises(HarnessError, match="Did you mean 'H100'"):
        verbs.study_plan(file, data=root, gpu="H10", places=places(tmp_path))


def test_a_search_plans_as_many_as_it_takes(root: Path, tmp_path: Path) -> None:
    """Of a search, only the trials that it may take are counted, and the hours are theirs."""
    space = {**TABLE["space"], "backbone": ["tiny"], "train": ["projection"]}
    grid = verbs.study_plan(study(space=space), data=root, workers=1, places=places(tmp_path))
    searched = study(space=space, sampler={"name": "tpe", "trials": 2})
    found = verbs.study_plan(searched, data=root, workers=1, places=places(tmp_path))
    assert (grid["learning"], found["learning"]) == (6, 2)
    assert found["backbones"][0]["trainings"] < grid["backbones"][0]["trainings"]


def test_the_first_line_of_a_run_says_the_same(root: Path, tmp_path: Path) -> None:
    """What `study run` says before its first trial is the count of the plan, in a sentence."""
    recordings = prepare_recordings(root, make_plan(study()).protocol, places(tmp_path).open_cache())
    plan = make_plan(study())
    specs = plan.specs(train_data=recordings.train_data, test_data=recordings.test_data)
    assert said_count(counted(plan, specs, recordings)) == (
        "small: 23 trials (18 that learn, 4 frozen, 1 of the level) on 24 training clips, 21 with an attribute, and "
        "16 test clips. Sampler grid: every cell in order, so that every M meets every other choice."
    )
    searched = study(sampler={"name": "tpe", "trials": 2, "goals": ["score", "seconds"]}).sampler
    assert said_sampler(searched).startswith("Sampler tpe for score and seconds: tree-structured Parzen")
    assert {said_sampler(SamplerTable(name=name)) for name in get_args(SamplerTable.model_fields["name"].annotation)}
