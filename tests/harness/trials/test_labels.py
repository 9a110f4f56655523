"""Baselines beside the method, labels judged by the truth, attributes withheld on purpose."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbones.training.recipe import FinetuneRecipe
from benchmarks.datasets.dcase2024 import DATASET as DCASE2024
from benchmarks.datasets.dcase2025 import DATASET as DCASE2025
from benchmarks.protocols import parse_protocol
from benchmarks.synthetic.generator import generate
from harness.cache import Cache
from harness.errors import HarnessError
from harness.pictures.candidates import candidate_planes, confidence_by_rank, png
from harness.stores.run_names import result_metrics
from harness.trials.candidates import check_candidates, rank_machines, route_machine
from harness.trials.choices import labeled_by
from harness.trials.contract import TrialSpec
from harness.trials.labels import fuse_labels
from harness.trials.recordings import Recordings, open_recordings, prepare_recordings, with_released
from harness.trials.trial import run_trial
from labeling.contract import RankedCandidates
from tests.harness.made_up import quick_spec

MACHINES = ("bearing", "ToyCar")  # 2025 withholds the attributes of the first alone
TABLE: dict[str, Any] = {
    "name": "toy",
    "train": ["dcase2024/dev", "dcase2025/dev"],
    "score": ["dcase2025/dev"],
    "cases": {"bearing": "sample-wise", "ToyCar": "partial"},
}
HIDDEN = {**TABLE, "withhold": [{"machine": "ToyCar", "share": 0.5}]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated recordings of two years, with the truth of what 2025 withholds."""
    folder = tmp_path_factory.mktemp("recordings")
    for dataset in (DCASE2024, DCASE2025):
        generate(folder, dataset, machines=MACHINES, train_source=10, train_target=3, test_per_cell=2, seconds=1.0)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A cache of its own."""
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def bare(root: Path, cache: Cache) -> Recordings:
    """Recordings without any truth."""
    return prepare_recordings(root, parse_protocol(TABLE), cache)


@pytest.fixture(scope="module")
def judged(root: Path, bare: Recordings) -> Recordings:
    """The same recordings with the released attributes to judge by."""
    return with_released(bare, root / "ground_truth_attributes")


def spec_of(recordings: Recordings, table: dict[str, Any] = TABLE, **changes: Any) -> TrialSpec:
    """A quick trial of a small backbone."""
    recipe = FinetuneRecipe(epochs=1, batch_size=16, clip_seconds=1.0)
    return quick_spec(parse_protocol(table), recordings, **{"recipe": recipe, "min_confidence": 0.1, **changes})


def rows_of(spec: TrialSpec, recordings: Recordings, cache: Cache) -> dict[str, dict[str, Any]]:
    """Label and judge: machine type -> its row."""
    rows = fuse_labels(spec, rank_machines(spec, recordings, cache), truth=recordings.truth)[1]
    return {row["machine"]: row for row in rows}


def test_released_attributes_stand_beside_the_recordings(bare: Recordings, judged: Recordings) -> None:
    """The truth names every unlabeled clip of 2025's bearing and no other; clips and fingerprints stay as they were."""
    unlabeled = bare.train[bare.train["attribute"].isna()]
    assert set(judged.truth) == set(unlabeled["clip_id"])
    assert set(unlabeled["machine"]) == {"bearing"}
    assert judged.train.equals(bare.train)
    assert (judged.train_data, judged.test_data) == (bare.train_data, bare.test_data)
    assert judged.place != bare.place


def test_a_worker_opens_the_truth_too(bare: Recordings, judged: Recordings) -> None:
    """The place of recordings with truth opens with it, the other one without."""
    assert dict(open_recordings(judged.place).truth) == dict(judged.truth)
    assert open_recordings(judged.place).train_data == judged.train_data
    assert dict(open_recordings(bare.place).truth) == {}


def test_truth_of_other_clips_is_refused(bare: Recordings, tmp_path: Path) -> None:
    """Tables that name none of the unlabeled training clips are a mistake, not an empty truth."""
    generate(tmp_path, DCASE2025, machines=("slider",), train_source=2, train_target=1, test_per_cell=1, seconds=0.5)
    with pytest.raises(HarnessError, match=r"none of the \d+ that .* tells is of the 13 unlabeled training clips"):
        with_released(bare, tmp_path / "ground_truth_attributes")


def test_judging_changes_no_key_and_no_label(bare: Recordings, judged: Recordings, cache: Cache) -> None:
    """With and without truth to judge by, keys and labels are equal; only the rows' quality is new."""
    spec = spec_of(bare)
    assert spec_of(judged).key() == spec.key()
    blind, seen = rows_of(spec, bare, cache), rows_of(spec, judged, cache)
    assert {name: seen["bearing"][name] for name in blind["bearing"]} == blind["bearing"]
    assert {"purity", "nmi", "ari", "recall_at_m", "entropy", "judged_left_out"} <= set(seen["bearing"])
    assert "purity" not in blind["bearing"]
    assert (seen["bearing"]["judged"], seen["ToyCar"]["judged"], seen["ToyCar"]["purity"]) == (13, 0, None)


def test_baselines_label_every_machine_type(judged: Recordings, cache: Cache) -> None:
    """Machine alone is one class each, the truth is found for certain, the mixture names components; the cases hold."""
    found = {}
    for labels in ("paper", "machine", "gmm", "truth"):
        spec = labeled_by(spec_of(judged), labels, truth_data=judged.truth_data)
        found[labels] = rows_of(spec, judged, cache)
    assert {row["labels"] for rows in found.values() for row in rows.values()} == set(found)
    assert [row["classes"] for row in found["machine"].values()] == [1, 1]
    assert (found["machine"]["bearing"]["strategy"], found["machine"]["bearing"]["recall_at_m"]) == ("machine", 0.0)
    assert {row["strategy"] for row in found["gmm"].values()} == {"gmm"}
    truth = found["truth"]["bearing"]
    assert (truth["purity"], truth["recall_at_m"], truth["labeled"], truth["pseudo_labeled"]) == (1.0, 1.0, 13, 13)
    assert {machine: row["strategy"] for machine, row in found["paper"].items()} == {
        "bearing": "sample_wise",
        "ToyCar": "cluster_wise",
    }


def test_truth_labels_are_the_released_attributes(judged: Recordings, cache: Cache) -> None:
    """With labels "truth" every clip's one candidate is its own attribute, shown or released."""
    spec = labeled_by(spec_of(judged), "truth", truth_data=judged.truth_data)
    shown = dict(judged.train[["clip_id", "attribute"]].dropna().itertuples(index=False))
    for ranked in rank_machines(spec, judged, cache).values():
        names = dict(zip(ranked.candidates.ids.tolist(), ranked.candidates.names[:, 0].tolist(), strict=True))
        assert names == {clip_id: shown.get(clip_id) or judged.truth[clip_id] for clip_id in names}


def test_labels_that_contradict_the_sound_are_fragmented(bare: Recordings, cache: Cache) -> None:
    """A machine type whose labels have nothing to do with clusters of its sound is fragmented, else direct."""
    apart = bare.train["machine"].tolist()  # two machine types sound different
    evenly = [f"A{place % 2}" for place in range(len(apart))]  # spread alike over both
    cases = []
    for attributes in (apart, evenly):
        train = bare.train.assign(machine="ToyCar", attribute=[f"car_{name}" for name in attributes])
        seen = replace(bare, train=train.astype({"machine": "string", "attribute": "string"}))
        spec = spec_of(bare, {**TABLE, "cases": {}})
        cases.append(route_machine(spec, "ToyCar", seen, cache).case)
    assert cases == ["direct", "fragmented"]


def test_features_are_made_before_trials_need_them(root: Path, bare: Recordings, tmp_path: Path) -> None:
    """Checking the cells leaves the MFCC of sample-wise machine types in the cache, the same for any workers."""
    kept = []
    for workers in (1, 3):
        cache = Cache(tmp_path / str(workers))
        check_candidates([spec_of(bare)], bare, cache, workers=workers)
        kept.append([path.read_bytes() for path in (cache.folder / "mfcc").rglob("*.npz")])
    assert len(kept[0]) == 1
    assert kept[0] == kept[1]


def test_truth_labels_need_the_truth(bare: Recordings) -> None:
    """A trial that is to train on a truth that nobody named is refused."""
    with pytest.raises(HarnessError, match="truth only where the truth is known, but it is not; name the folder"):
        labeled_by(spec_of(bare), "truth", truth_data=bare.truth_data)


@pytest.mark.parametrize("labels", ["machine", "truth"])
def test_what_a_baseline_does_not_read_is_not_in_its_key(judged: Recordings, labels: Any) -> None:
    """Machine type and truth stand once, whatever M, K1, K2, fusion and threshold a study varies."""
    one = labeled_by(spec_of(judged), labels, truth_data="t")
    other = spec_of(judged, m=5, k1=9, k2=8, fusion="soft", min_confidence=0.9, below="machine")
    assert labeled_by(other, labels, truth_data="t").key() == one.key()
    assert one.key() != spec_of(judged).key()
    assert (one.kind, one.m, f"labels={labels}" in one.label()) == ("trial", None, True)


def test_other_truth_other_key(judged: Recordings) -> None:
    """A trial that trains on released attributes has their fingerprint in its key; the mixture's has M, not K1."""
    keys = {labeled_by(spec_of(judged), "truth", truth_data=data).key() for data in ("t", "u")}
    assert len(keys) == 2
    mixture = labeled_by(spec_of(judged), "gmm").key()
    assert labeled_by(spec_of(judged, k1=9), "gmm").key() == mixture
    assert labeled_by(spec_of(judged, m=3), "gmm").key() != mixture


def test_mixtures_need_k2_clips(judged: Recordings, cache: Cache) -> None:
    """K2 above a machine type's clips is refused for the mixture baseline before any trial starts."""
    fixed = {**TABLE, "strategies": {"bearing": "machine"}}  # a machine type that trains under its name alone stays so
    spec = labeled_by(spec_of(judged, fixed, k2=27), "gmm")
    with pytest.raises(HarnessError, match=r"k2 must be between 1 and 26, the training clips of ToyCar .* but got 27"):
        check_candidates([spec], judged, cache)


def test_a_protocol_withholds_and_judges(root: Path, bare: Recordings, cache: Cache) -> None:
    """What a protocol hides is NA in training, truth for judging, part of the fingerprint and of the trial's key."""
    hidden = prepare_recordings(root, parse_protocol(HIDDEN), cache)
    before = dict(bare.train[["clip_id", "attribute"]].dropna().itertuples(index=False))
    after = dict(hidden.train[["clip_id", "attribute"]].dropna().itertuples(index=False))
    assert {**after, **hidden.truth} == before
    assert not set(after) & set(hidden.truth)
    assert {clip_id.split("/")[2] for clip_id in hidden.truth} == {"ToyCar"}
    assert 0 < len(hidden.truth) < 26
    assert hidden.train_data != bare.train_data
    assert spec_of(bare, HIDDEN).key() != spec_of(bare).key()
    row = rows_of(spec_of(hidden, HIDDEN), hidden, cache)["ToyCar"]
    assert row["judged"] == len(hidden.truth)
    assert 0 <= row["recall_at_m"] <= 1


def test_what_is_withheld_joins_what_was_released(root: Path, cache: Cache, judged: Recordings) -> None:
    """Truth from the protocol and from the released tables is one truth."""
    hidden = prepare_recordings(root, parse_protocol(HIDDEN), cache)
    both = with_released(hidden, root / "ground_truth_attributes")
    assert dict(both.truth) == {**judged.truth, **hidden.truth}


@pytest.mark.parametrize(
    ("withhold", "said"),
    [
        ([{"machine": "ToyTrain"}], "machine of withhold"),
        ([{"machine": "toycar"}], "Did you mean 'ToyCar'"),
    ],
)
def test_withholding_from_nothing_is_refused(root: Path, cache: Cache, withhold: Any, said: str) -> None:
    """A machine type without training clips is a mistake in the protocol."""
    with pytest.raises(HarnessError, match=said):
        prepare_recordings(root, parse_protocol({**TABLE, "withhold": withhold}), cache)


def test_a_domain_or_everything_may_be_withheld(root: Path, cache: Cache) -> None:
    """A domain's attributes can be hidden, and a share of all machine types'."""
    target = prepare_recordings(root, parse_protocol({**TABLE, "withhold": [{"domain": "target"}]}), cache)
    rows = target.train[target.train["domain"] == "target"]
    assert rows["attribute"].isna().all()
    assert not target.train.loc[target.train["domain"] == "source", "attribute"].isna().all()
    every = prepare_recordings(root, parse_protocol({**TABLE, "withhold": [{"share": 1.0}]}), cache)
    assert every.train["attribute"].isna().all()


def test_quality_is_recorded_with_the_trial(judged: Recordings, cache: Cache) -> None:
    """A trial with truth to judge by has a metric a machine type and measure, and two pictures of its candidates."""
    result = run_trial(spec_of(judged), judged, cache)
    metrics = result_metrics(result)
    row = next(row for row in result.labels if row["machine"] == "bearing")
    assert metrics["labels/purity/bearing"] == row["purity"]
    assert metrics["labels/recall_at_m/bearing"] == row["recall_at_m"]
    assert "labels/purity/ToyCar" not in metrics  # nothing of it is withheld
    json.dumps(result.labels)
    assert {"candidates.png", "confidence.png", "scores_knn.png", "roc_knn.png", "domains_knn.png"} == set(
        result.pictures
    )


@pytest.mark.parametrize("labels", ["machine", "truth"])
def test_a_baseline_trial_runs(judged: Recordings, cache: Cache, labels: Any) -> None:
    """Baselines fine-tune and score like any trial, with pictures even where no features were read."""
    result = run_trial(labeled_by(spec_of(judged), labels, truth_data=judged.truth_data), judged, cache)
    assert result.official["knn"] is not None
    assert len(result.epochs) == 1
    assert {"candidates.png", "confidence.png"} <= set(result.pictures)


def test_pictures_of_many_clips() -> None:
    """Both pictures are drawn for sixteen machine types with a thousand clips each."""
    rng = np.random.default_rng(0)
    n, k = 1000, 15
    candidates = RankedCandidates(
        ids=np.arange(n).astype(str),
        names=np.array([f"attribute_{number}" for number in range(40)])[rng.integers(0, 40, (n, k))],
        confidence=-np.sort(-rng.random((n, k)), axis=1),
        retained=np.ones(n, dtype=bool),
        labeled=np.arange(n) < 500,
        case="partial",
        strategy="cluster_wise",
    )
    plane = rng.normal(size=(n, 2)).astype(np.float32)
    ranked = {f"machine{number:02d}": candidates for number in range(16)}
    drawn = png(candidate_planes(ranked, dict.fromkeys(ranked, plane))), png(confidence_by_rank(ranked))
    assert all(picture.startswith(b"\x89PNG") for picture in drawn)
