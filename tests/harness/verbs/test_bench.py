"""The fixed regression study on a backbone, and the gate that refuses a worse one."""

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
from harness.gate.baselines import RecordedArm, find_arm
from harness.gate.regression import regress
from harness.places import find_places
from harness.studies.plan import make_plan
from harness.trials import trial
from harness.trials.choices import frozen_spec
from harness.trials.contract import BackboneChoice, TrialSpec
from harness.trials.recordings import Recordings, prepare_recordings
from harness.trials.trial import run_trial
from harness.verbs.bench import name_of, study_of
from tests.harness.made_up import open_tables, record

MACHINES = ("fan", "ToyCar", "valve")
PROTOCOL = parse_protocol({"name": "toy", "train": ["dcase2023/dev"], "score": ["dcase2023/dev"]})


def test_the_study_takes_the_backbone() -> None:
    """The regression study stands with the named backbone in place of its own, under a name of its own."""
    file = study_of("beats", called="mine", options={"encoder_layers": 2}, seeds=2, protocol="dcase2025")
    assert (file.name, file.space.backbone, file.seeds, file.protocol) == (
        "regression-mine",
        ["mine"],
        [0, 1],
        "dcase2025",
    )
    assert make_plan(file).backbones["mine"].options == (("encoder_layers", 2),)
    assert file.recipe == study_of("tiny", called="tiny").recipe


@pytest.mark.parametrize(
    ("backbone", "called", "said"),
    [
        ("tyni", "tyni", "Did you mean 'tiny'"),
        ("tiny", "my backbone", "The study regression-my backbone has a mistake"),
    ],
)
def test_what_cannot_be_benched_is_said(backbone: str, called: str, said: str) -> None:
    """An unknown encoder, or a name that is none for a study, is one sentence."""
    with pytest.raises(HarnessError, match=said):
        study_of(backbone, called=called)


def test_a_baseline_that_cannot_be_read_is_refused_before_anything_runs(tmp_path: Path, asdbench: Any) -> None:
    """A wrong baseline costs no study: nothing is generated and nothing recorded."""
    status, _, err = asdbench("bench-backbone tiny --baseline nowhere.json")
    assert (status, "there is no nowhere.json" in err) == (1, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_bench_backbone_from_recordings_to_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One command runs the study and shows its rows; again it starts nothing, and the same is accepted as baseline."""
    monkeypatch.setenv("ASDBENCH_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "recordings"
    generate(root, DATASET, machines=MACHINES[:2], train_source=16, train_target=2, test_per_cell=3, seconds=1.0)
    places = find_places(tracking=f"sqlite:///{tmp_path / 'mlflow.db'}")
    chosen = {"data": root, "protocol": "dcase2023", "seeds": 1, "places": places}
    first = verbs.bench_backbone("tiny", options={"dim": 8, "width": 2}, **chosen)
    assert (first.outcome.progress.finished, first.outcome.progress.failed, first.verdict) == (4, 0, None)
    assert {(row["kind"], row["m"]) for row in first.rows} >= {
        ("level", None),
        ("frozen", None),
        ("trial", 1),
        ("trial", 3),
    }
    verbs.baseline_export(first.study, out=tmp_path / "tiny.json.gz", places=places)
    again = verbs.bench_backbone(
        "tiny", options={"dim": 8, "width": 2}, baseline=str(tmp_path / "tiny.json.gz"), margin=0.0,
        junit=tmp_path / "junit.xml", **chosen,
    )  # fmt: skip
    assert again.outcome.progress.started == 0
    assert again.verdict is not None
    assert again.verdict["accepted"]
    assert (tmp_path / "junit.xml").is_file()


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    """Generated recordings of three machine types."""
    root = tmp_path_factory.mktemp("recordings")
    generate(root, DATASET, machines=MACHINES, train_source=10, train_target=2, test_per_cell=8, seconds=1.0)
    return prepare_recordings(root, PROTOCOL, Cache(tmp_path_factory.mktemp("cache")))


def arm(recordings: Recordings, folder: Path, seeds: range, *, backbone: str = "tiny") -> RecordedArm:
    """Run a frozen trial a seed, record each in tables of their own, and read the arm back."""
    folder.mkdir()
    results, cache = open_tables(folder), Cache(folder)
    spec = TrialSpec(
        kind="trial", backbone=BackboneChoice(backbone, "tiny"), m=1, k1=3, k2=3, fusion="composite",
        protocol=PROTOCOL, seed=0, recipe=FinetuneRecipe(clip_seconds=1.0), min_confidence=0.5, below="drop",
        train_data=recordings.train_data, test_data=recordings.test_data, scorers=("mahalanobis",),
    )  # fmt: skip
    specs = [replace(frozen_spec(spec), seed=seed) for seed in seeds]
    for one in specs:
        results.put_result(run_trial(one, recordings, cache), run_id=f"run-{one.key()}", code="test")
    results.put_study("key", name=backbone, protocol="toy", run_id="r", planned=len(specs), content="{}")
    results.link("key", [one.key() for one in specs])
    found = find_arm(results, backbone)
    results.close()
    return found


@pytest.mark.slow
def test_a_worse_backbone_is_refused_and_the_same_again_accepted(
    recordings: Recordings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten real trials each: the same backbone run again passes any margin, one that hears nothing is refused."""
    monkeypatch.setattr(trial, "png", lambda _figure: b"")  # pictures are not what is tested
    monkeypatch.setattr(trial, "score_pictures", lambda *_: {})
    baseline = arm(recordings, tmp_path / "baseline", range(10))
    again = arm(recordings, tmp_path / "again", range(10))
    assert regress(baseline, again, margin=0.0)["accepted"]
    whole = trial.embed_clips

    def deaf(spec: TrialSpec, encoder: Any, read: Recordings) -> Any:
        """Give embeddings that know nothing of the clip."""
        random = np.random.default_rng(spec.seed)
        heard, layers = whole(spec, encoder, read)
        return {clip: random.normal(size=vector.shape).astype(np.float32) for clip, vector in heard.items()}, layers

    monkeypatch.setattr(trial, "embed_clips", deaf)
    worse = arm(recordings, tmp_path / "worse", range(10), backbone="deaf")
    found = regress(baseline, worse)
    assert not found["accepted"]
    assert found["rows"][0]["delta"] < -0.02
    assert len(baseline.trials) == len(worse.trials) == 1
    assert {len(of_setting) for of_setting in (*baseline.trials.values(), *worse.trials.values())} == {10}


def test_a_folder_of_transformers_is_benched_under_its_own_name() -> None:
    """`hf:FOLDER` is a backbone here as everywhere; its study is called after the folder."""
    assert name_of("hf:models/My wavlm") == "hf-My-wavlm"
    assert name_of("hf:facebook/wav2vec2-base@abc") == "hf-wav2vec2-base"
    assert name_of("tiny") == "tiny"
    file = study_of("hf:models/my-wavlm", called=name_of("hf:models/my-wavlm"))
    assert (file.name, file.backbones["hf-my-wavlm"].encoder) == ("regression-hf-my-wavlm", "hf:models/my-wavlm")


@pytest.mark.parametrize(
    ("backbone", "weights", "said"),
    [
        ("hf:nowhere", "", "nowhere is no folder"),
        ("tiny", "nowhere.pt", "nowhere.pt does not exist"),
        ("emb:nowhere.npz", "", "nowhere.npz"),
    ],
)
def test_weights_that_are_not_there_are_said_at_once(
    backbone: str, weights: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No recording is generated for an encoder that cannot be built."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.verbs.demonstration.generate_recordings", lambda *_, **__: pytest.fail("generated"))
    with pytest.raises(ValueError, match=said):
        verbs.bench_backbone(backbone, weights=weights)


def test_a_reference_names_a_backbone_with_a_colon(tmp_path: Path) -> None:
    """STUDY:hf:NAME and STUDY:hf:NAME:M name the backbone hf:NAME."""
    results = open_tables(tmp_path)
    for name in ("hf:wavlm", "tiny"):
        for m in (1, 3):
            record(results, backbone=name, m=m, seeds=[0], study="both")
    assert len(find_arm(results, "both:hf:wavlm").trials) == 2
    assert find_arm(results, "both:hf:wavlm:3").backbone == "hf:wavlm"
    assert len(find_arm(results, "both:tiny:3").trials) == 1
    with pytest.raises(HarnessError, match="Did you mean 'hf:wavlm'"):
        find_arm(results, "both:hf:wavl:3")
    results.close()
