"""Labels of a second round: what the first one is, that all M share it, and that no test clip is heard in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbones.training.recipe import FinetuneRecipe
from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.protocols import parse_protocol
from benchmarks.synthetic.generator import generate
from harness import verbs
from harness.cache import Cache
from harness.errors import HarnessError
from harness.studies.costs import plan_costs
from harness.studies.plan import make_plan
from harness.studies.study_file import checked_study
from harness.trials import candidates, stages
from harness.trials.candidates import finetuned_latents, pretrained_latents, rank_machines
from harness.trials.checkpoints import FOLDER
from harness.trials.choices import TrialChoices, frozen_spec, labeled_by
from harness.trials.contract import BackboneChoice, TrialSpec
from harness.trials.labels import fuse_labels
from harness.trials.recordings import Recordings, prepare_recordings
from harness.trials.stages import clip_ids, embed_ids, finetune_encoder, pretrained_encoder, rows
from harness.trials.trial import run_trial
from labeling.contract import LabelingError
from tests.harness.made_up import make_spec, quick_spec

PARTS = ["dcase2023/dev"]
TABLE: dict[str, Any] = {
    "name": "toy", "train": PARTS, "score": PARTS, "cases": {"fan": "partial"}, "withhold": [{"share": 0.7}],
}  # fmt: skip
PROTOCOL = parse_protocol(TABLE)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated recordings of one machine type."""
    folder = tmp_path_factory.mktemp("recordings")
    generate(folder, DATASET, machines=("fan",), train_source=9, train_target=3, test_per_cell=2, seconds=1.0)
    return folder


@pytest.fixture(scope="module")
def recordings(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    """The same, prepared, most attributes hidden."""
    return prepare_recordings(root, PROTOCOL, Cache(tmp_path_factory.mktemp("cache")))


def iterated(recordings: Recordings, **changes: Any) -> TrialSpec:
    """A quick trial with labels of a second round."""
    return labeled_by(quick_spec(PROTOCOL, recordings, below="machine", **changes), "iterated")


def test_the_first_round_is_the_papers_trial_with_m_1(recordings: Recordings, tmp_path: Path) -> None:
    """Its latents are those of an encoder that learns the paper's labels with M = 1 by the same recipe and seed."""
    spec = iterated(recordings, m=3)
    paper = quick_spec(PROTOCOL, recordings, below="machine", m=1)
    ids = np.sort(clip_ids(recordings.train))
    labels = fuse_labels(paper, rank_machines(paper, recordings, Cache(tmp_path / "by hand")))[0]
    encoder = pretrained_encoder(paper.backbone, seed=0)  # type: ignore[arg-type]
    tuned = finetune_encoder(paper, encoder, recordings, labels, on_epoch=None)
    cache = Cache(tmp_path / "own")
    found = finetuned_latents(spec, recordings, cache)
    np.testing.assert_array_equal(rows(found, ids), embed_ids(paper, tuned, recordings, ids))
    assert not np.allclose(rows(found, ids), rows(pretrained_latents(spec, recordings, cache), ids))


def test_all_m_share_one_first_round(recordings: Recordings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of M = 1 and 3 train once for their labels; another recipe or seed trains a first round of its own."""
    cache, rounds = Cache(tmp_path), list[TrialSpec]()
    tune = candidates.finetune_encoder

    def watched(spec: TrialSpec, *arguments: Any, **options: Any) -> Any:
        rounds.append(spec)
        return tune(spec, *arguments, **options)

    monkeypatch.setattr(candidates, "finetune_encoder", watched)
    found = run_trial(iterated(recordings, m=1), recordings, cache)
    rank_machines(iterated(recordings, m=3, fusion="set"), recordings, cache)
    assert [(spec.labels, spec.m) for spec in rounds] == [("paper", 1)]
    pseudo = found.pseudo_labels.query("not labeled")
    assert len(pseudo) and pseudo["class"].str.contains("iterated_0").all()
    assert {row["strategy"] for row in found.labels} == {"iterated"}
    recipe = replace(iterated(recordings).recipe, loss="arcface")
    for other in ({"recipe": recipe}, {"seed": 1}):
        rank_machines(iterated(recordings, **other), recordings, cache)
    assert len(rounds) == 3


def test_more_than_its_clusters_are_not_fused(recordings: Recordings, tmp_path: Path) -> None:
    """M = 4 of K2 = 3 clusters is refused, though the first round looks at K1 = 6 neighbours."""
    ranked = rank_machines(quick_spec(PROTOCOL, recordings, below="machine", k1=6), recordings, Cache(tmp_path))
    spec = make_spec(labels="iterated", rounds=2, m=4, k1=6, k2=3, below="machine")
    with pytest.raises(LabelingError, match="m must be between 1 and 3"):
        fuse_labels(spec, ranked)
    assert fuse_labels(replace(spec, labels="paper", rounds=1), ranked)


def test_no_test_clip_is_heard(recordings: Recordings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first round reads training clips alone, and ends the same where there is no test clip."""
    heard: set[str] = set()
    read = type(recordings.packed).read

    def watched(packed: Any, ids: Any, *arguments: Any, **options: Any) -> Any:
        heard.update(np.asarray(ids).tolist())
        return read(packed, ids, *arguments, **options)

    monkeypatch.setattr(type(recordings.packed), "read", watched)
    spec = iterated(recordings)
    seen = finetuned_latents(spec, recordings, Cache(tmp_path / "seen"))
    blind = replace(recordings, test=recordings.test.iloc[:0])
    unseen = finetuned_latents(spec, blind, Cache(tmp_path / "blind"))
    assert heard == set(recordings.train["clip_id"])
    assert all(np.array_equal(seen[clip_id], unseen[clip_id]) for clip_id in seen)


def test_a_first_round_that_is_cut_goes_on(
    recordings: Recordings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut after its second epoch, it computes the third alone when run again, and leaves no checkpoint behind."""
    spec = iterated(recordings, recipe=FinetuneRecipe(epochs=3, batch_size=8, clip_seconds=1.0))
    whole = finetuned_latents(spec, recordings, Cache(tmp_path / "whole"))
    computed: list[int] = []
    fine_tune = stages.finetune

    def watched(*arguments: Any, checkpoint: Any, **options: Any) -> Any:
        checkpoint.every_seconds, write = 0.0, checkpoint.write

        def note(state: Any) -> None:
            computed.append(len(state["reports"]))
            write(state)
            if computed == [1, 2]:
                raise KeyboardInterrupt

        monkeypatch.setattr(checkpoint, "write", note)
        return fine_tune(*arguments, checkpoint=checkpoint, **options)

    monkeypatch.setattr(stages, "finetune", watched)
    cache = Cache(tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        finetuned_latents(spec, recordings, cache)
    found = finetuned_latents(spec, recordings, cache)
    assert computed == [1, 2, 3]
    assert not list((cache.folder / FOLDER).iterdir())
    assert all(np.array_equal(found[clip_id], whole[clip_id]) for clip_id in whole)


def test_a_projection_has_a_second_round(
    recordings: Recordings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a projection learns, its output is what is clustered, and no encoder is fine-tuned."""
    recipe = FinetuneRecipe(epochs=2, batch_size=8, clip_seconds=1.0, train="projection", projection_dim=6)
    spec = iterated(recordings, recipe=recipe)
    monkeypatch.setattr(candidates, "finetune_encoder", None)
    found = finetuned_latents(spec, recordings, Cache(tmp_path))
    assert {len(vector) for vector in found.values()} == {6}
    assert set(found) == set(recordings.train["clip_id"])
    assert run_trial(spec, recordings, Cache(tmp_path)).official["knn"]


def test_keys() -> None:
    """Labels of a second round depend on the recipe, and so does their ranking's key; the paper's do not."""
    spec = make_spec()
    other = make_spec(recipe=replace(spec.recipe, loss="arcface"))
    assert spec.ranking_key() == other.ranking_key()
    assert labeled_by(spec, "iterated").ranking_key() != labeled_by(other, "iterated").ranking_key()
    keys = {labeled_by(make_spec(**change), "iterated").ranking_key() for change in ({}, {"m": 3}, {"fusion": "set"})}
    assert len(keys) == 1
    assert labeled_by(make_spec(k1=3), "iterated").ranking_key() not in keys  # the first round reads it
    assert frozen_spec(labeled_by(spec, "iterated")).key() == frozen_spec(spec).key()


def test_an_encoder_without_weights_needs_a_projection(recordings: Recordings, tmp_path: Path) -> None:
    """Nothing of it can be fine-tuned in a first round, which is said; a projection of it has one."""
    still = {"backbone": BackboneChoice("logmel", "logmel")}
    with pytest.raises(ValueError, match=r"has no weights to learn.*let a projection learn"):
        rank_machines(iterated(recordings, **still), recordings, Cache(tmp_path))
    recipe = FinetuneRecipe(epochs=1, batch_size=8, clip_seconds=1.0, train="projection", projection_dim=4)
    assert rank_machines(iterated(recordings, recipe=recipe, **still), recordings, Cache(tmp_path))


def test_what_cannot_be_done_is_refused(root: Path) -> None:
    """Where the first round changes nothing, or nothing may be trained, or one machine type alone has two rounds."""
    with pytest.raises(HarnessError, match="train = head leaves the encoder as it is"):
        TrialChoices("dcase2023", "tiny", labels="iterated", recipe={"train": "head"})
    space = {"backbone": ["tiny"], "m": [1], "k1": [3], "k2": [3], "labels": ["paper", "iterated"]}
    table = {"name": "s", "protocol": TABLE, "space": space}
    with pytest.raises(HarnessError, match="choose train = all or projection"):
        make_plan(checked_study({**table, "recipe": {"train": "head"}}, "s"))
    alone = {**TABLE, "strategies": {"fan": "iterated"}}
    with pytest.raises(HarnessError, match="must label in one round, but iterated"):
        make_plan(checked_study({**table, "protocol": alone}, "s"))
    with pytest.raises(HarnessError, match="label makes labels without any training, but iterated"):
        verbs.label(root, protocol="dcase2023", labels="iterated")


@pytest.mark.slow
def test_a_plan_counts_first_rounds(recordings: Recordings, tmp_path: Path) -> None:
    """Two losses have a first round each, whatever M; their time is part of the hours."""
    space = {
        "backbone": ["tiny"], "m": [1, 2], "k1": [3], "k2": [3], "labels": ["iterated"],
        "loss": ["cross_entropy", "arcface"],
    }  # fmt: skip
    recipe = {"epochs": 2, "batch_size": 8, "clip_seconds": 1.0}
    table = {"name": "s", "protocol": TABLE, "space": space, "recipe": recipe, "seeds": [0, 1], "frozen": False}
    plan = make_plan(checked_study(table, "s"))
    specs = plan.specs(train_data=recordings.train_data, test_data=recordings.test_data)
    (row,) = plan_costs(plan, specs, recordings, Cache(tmp_path), workers=1)["backbones"]
    assert (row["trials"], row["first_rounds"]) == (8, 4)
    assert row["trainings"] >= 4
    assert row["hours"] * 3600 > (row["trainings"] + 4) * 2 * 12 * row["train_seconds"]
