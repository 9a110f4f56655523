"""Nothing that is known of test clips reaches labels, training, thresholds or scores."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.protocols import parse_protocol
from benchmarks.synthetic.generator import generate
from harness.cache import Cache
from harness.scorers import knn
from harness.scoring.contract import ScoreRequest
from harness.scoring.folds import FOLDS
from harness.trials.candidates import rank_machines
from harness.trials.contract import BackboneChoice, TrialSpec
from harness.trials.labels import fuse_labels
from harness.trials.recordings import Recordings, prepare_recordings
from harness.trials.stages import finetune_encoder, pretrained_encoder
from harness.trials.trial import run_trial
from labeling.fusion import BELOWS, FUSIONS
from tests.harness.made_up import quick_spec

PROTOCOL = parse_protocol(
    {
        "name": "toy",
        "train": ["dcase2023/dev"],
        "score": ["dcase2023/dev"],
        "cases": {"fan": "fragmented", "ToyCar": "direct"},
    }
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A cache of its own."""
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory, cache: Cache) -> Recordings:
    """Generated recordings of two machine types."""
    root = tmp_path_factory.mktemp("recordings")
    generate(root, DATASET, machines=("fan", "ToyCar"), train_source=6, train_target=2, test_per_cell=3, seconds=1.0)
    return prepare_recordings(root, PROTOCOL, cache)


@pytest.fixture(scope="module")
def spec(recordings: Recordings) -> TrialSpec:
    """A quick trial of a small backbone."""
    scorers = ("knn", "mahalanobis", "level", "ensemble", "smote_knn", "kmeans:clusters=4")
    return quick_spec(PROTOCOL, recordings, scorers=scorers)


def with_lies(recordings: Recordings) -> Recordings:
    """The same recordings, with every condition, domain and attribute of the test clips turned around."""
    lies = recordings.test.copy()
    lies["condition"] = np.where(lies["condition"] == "normal", "anomaly", "normal")
    lies["domain"] = np.where(lies["domain"] == "source", "target", "source")
    lies["attribute"] = "nonsense"
    return replace(recordings, test=lies)


def test_truth_of_test_clips_changes_no_score(recordings: Recordings, spec: TrialSpec, cache: Cache) -> None:
    """Lying about every test clip's condition, domain and attribute leaves every score, and moves the metrics."""
    told, lied = run_trial(spec, recordings, cache), run_trial(spec, with_lies(recordings), cache)
    for scorer in spec.scorers:
        assert (told.scored[f"score_{scorer}"] == lied.scored[f"score_{scorer}"]).all()
        assert told.official[scorer] != lied.official[scorer]
    pd.testing.assert_frame_equal(told.pseudo_labels, lied.pseudo_labels)


def test_a_scorer_is_asked_with_arrays_alone(recordings: Recordings, spec: TrialSpec, cache: Cache) -> None:
    """What scorers are asked holds vectors, the references' domains and a seed: nothing about a query."""
    seen: list[ScoreRequest] = []

    def score(request: ScoreRequest) -> np.ndarray:
        seen.append(request)
        return np.zeros(len(request.queries))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knn, "SCORER", replace(knn.SCORER, score=score))
        run_trial(replace(spec, scorers=("knn",)), with_lies(recordings), cache)
    assert {field.name for field in fields(ScoreRequest)} == {
        "references", "reference_domains", "queries", "seed", "parts",  # parts: of which layers a row is made
    }  # fmt: skip
    asked = [request for request in seen if len(request.references) == 8]
    assert len(asked) == 2
    assert len(seen) == 2 + 2 * FOLDS  # the rest sets the thresholds: training clips against one another
    for request in seen:
        assert len(request.reference_domains) == len(request.references) <= 8
        assert request.queries.dtype == np.float32


def test_labels_and_weights_need_no_test_clip(
    recordings: Recordings, spec: TrialSpec, cache: Cache, tmp_path: Path
) -> None:
    """Without a single test clip, from an empty cache, labels and fine-tuned weights are the same to the last bit."""
    blind = replace(recordings, test=recordings.test.iloc[:0])
    found = []
    for seen, kept in ((recordings, cache), (blind, Cache(tmp_path))):
        labels = fuse_labels(spec, rank_machines(spec, seen, kept))[0]
        encoder = pretrained_encoder(BackboneChoice("tiny", "tiny"), seed=0)
        tuned = finetune_encoder(spec, encoder, seen, labels, on_epoch=None)
        found.append((labels, tuned.state_dict()))
    (labels, weights), (blind_labels, blind_weights) = found
    assert (labels.ids == blind_labels.ids).all()
    assert (labels.classes[labels.targets] == blind_labels.classes[blind_labels.targets]).all()
    assert all(torch.equal(weights[name], blind_weights[name]) for name in weights)


def test_no_test_clip_among_the_labels(recordings: Recordings, spec: TrialSpec, cache: Cache) -> None:
    """Candidates, features and references are of training clips alone, and all of these are normal."""
    test = set(recordings.test["clip_id"])
    for ranked in rank_machines(spec, recordings, cache).values():
        assert not test & set(ranked.candidates.ids.tolist())
    assert set(recordings.train["split"]) == {"train"}
    assert set(recordings.train["condition"]) == {"normal"}


def with_truth(spec: TrialSpec, recordings: Recordings, *, lie: bool) -> tuple[TrialSpec, Recordings]:
    """A trial whose ToyCar has half of its attributes withheld, with their truth to judge by, or with lies."""
    protocol = replace(PROTOCOL, cases={"fan": "fragmented", "ToyCar": "sample-wise"})
    hidden = (recordings.train["machine"] == "ToyCar") & (np.arange(len(recordings.train)) % 2 == 0)
    truth = recordings.train.loc[hidden].set_index("clip_id")["attribute"].to_dict()
    train = recordings.train.assign(attribute=recordings.train["attribute"].mask(hidden))
    told = dict.fromkeys(truth, "nonsense") if lie else truth
    return replace(spec, protocol=protocol, train_data="half"), replace(recordings, train=train, truth=told)


@pytest.mark.slow
def test_truth_to_judge_by_reaches_nothing_but_the_judgement(
    recordings: Recordings, spec: TrialSpec, tmp_path: Path
) -> None:
    """With true, lying or absent truth, from empty caches, all that is kept, labels and scores are the same bits."""
    found, kept = [], []
    for name, lie, blind in (("true", False, False), ("lies", True, False), ("none", False, True)):
        chosen, seen = with_truth(spec, recordings, lie=lie)
        seen = replace(seen, truth={}) if blind else seen
        found.append(run_trial(chosen, seen, Cache(tmp_path / name)))
        kept.append(
            {
                str(path.relative_to(tmp_path / name)): path.read_bytes()
                for path in sorted((tmp_path / name).rglob("*.npz"))
                if "training" not in path.parts  # how long each epoch took differs from run to run
            }
        )
    told, lied, blinded = found
    assert {path.split("/")[0] for path in kept[0]} == {
        "embedding",
        "labeling",
        "latent",
        "mfcc",
        "ranking",
        "ranking-picture",
    }
    assert kept[0] == kept[1] == kept[2]
    for other in (lied, blinded):
        pd.testing.assert_frame_equal(told.pseudo_labels, other.pseudo_labels)
        assert all((told.scored[f"score_{name}"] == other.scored[f"score_{name}"]).all() for name in spec.scorers)
        assert [report.loss for report in told.epochs] == [report.loss for report in other.epochs]
    judged = [{row["machine"]: row.get("true_classes") for row in result.labels}["ToyCar"] for result in found]
    assert (judged[0] > 1, judged[1], judged[2]) == (True, 1, None)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("below", BELOWS)
def test_no_fusion_reads_the_truth(
    recordings: Recordings, spec: TrialSpec, cache: Cache, fusion: str, below: str
) -> None:
    """Whatever the fusion and whatever becomes of unsure clips, classes and targets are the same with lies."""
    labels = []
    for lie in (False, True):
        chosen, seen = with_truth(replace(spec, fusion=fusion, below=below), recordings, lie=lie)  # type: ignore[arg-type]
        labels.append(fuse_labels(chosen, rank_machines(chosen, seen, cache), truth=seen.truth)[0])
    assert (labels[0].ids == labels[1].ids).all()
    assert (labels[0].classes == labels[1].classes).all()
    assert (labels[0].targets == labels[1].targets).all()


def test_the_truth_enters_where_it_is_asked_for_alone(recordings: Recordings, spec: TrialSpec, cache: Cache) -> None:
    """Of the four label sources only "truth" follows what the truth says."""
    for labels in ("paper", "machine", "gmm", "truth"):
        names = []
        for lie in (False, True):
            chosen, seen = with_truth(spec, recordings, lie=lie)
            chosen = replace(chosen, labels=labels, truth_data=str(lie) if labels == "truth" else "")  # type: ignore[arg-type]
            ranked = rank_machines(chosen, seen, Cache(cache.folder / f"{labels}{lie}"))
            names.append(ranked["ToyCar"].candidates.names.tolist())
        assert (names[0] == names[1]) == (labels != "truth")


def test_one_file_reads_what_was_released_and_verbs_ask_it() -> None:
    """Of the harness one file reads released attributes, and only the verbs, before any trial, ask it to."""
    harness = Path(__file__).parents[3] / "harness"
    texts = {path.relative_to(harness).as_posix(): path.read_text(encoding="utf-8") for path in harness.rglob("*.py")}
    assert {name for name, text in texts.items() if "read_truth" in text} == {"trials/recordings.py"}
    asking = {name for name, text in texts.items() if "with_released" in text}
    assert asking == {"trials/recordings.py", "verbs/trials.py", "verbs/studies.py"}
