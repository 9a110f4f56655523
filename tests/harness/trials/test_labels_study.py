"""Label sources as an axis of a study, on leaderboards, in comparisons and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.datasets.dcase2024 import DATASET as DCASE2024
from benchmarks.datasets.dcase2025 import DATASET as DCASE2025
from benchmarks.synthetic.generator import generate
from harness import verbs
from harness.answers.board import leaderboard_columns
from harness.answers.compare import compare
from harness.answers.leaderboard import leaderboard
from harness.answers.question import Question
from harness.errors import HarnessError
from harness.places import find_places
from harness.stores.recorder import Recorder
from harness.studies.plan import make_plan
from harness.studies.study_file import StudyFile
from harness.tables import written
from harness.trials.choices import labeled_by
from harness.verbs.stores import open_results
from tests.harness.made_up import make_result, make_spec

DATA = {"train_data": "aaaa", "test_data": "bbbb", "truth_data": "cccc"}
STUDY = """
name = "toy"
seeds = [0]
frozen = false
level = false
protocol = { name = "toy", train = ["dcase2024/dev", "dcase2025/dev"], score = ["dcase2025/dev"] %s }
[space]
backbone = ["tiny"]
m = [1, 2]
k1 = [3]
k2 = [3]
labels = ["paper", "machine", "gmm", "truth"]
[recipe]
epochs = 1
batch_size = 32
clip_seconds = 0.5
[labeling]
min_confidence = 0.1
truth = "%s"
[sampler]
name = "%s"
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated recordings of two years, with the truth of what 2025 withholds."""
    folder = tmp_path_factory.mktemp("recordings")
    for dataset in (DCASE2024, DCASE2025):
        generate(folder, dataset, machines=("bearing",), train_source=10, train_target=3, test_per_cell=2, seconds=0.5)
    return folder


def study(**changes: object) -> StudyFile:
    """A small study over all label sources."""
    table: dict[str, object] = {
        "name": "toy",
        "protocol": "dcase2025",
        "space": {"backbone": ["tiny"], "m": [1, 3], "k1": [5, 15], "labels": ["paper", "machine", "gmm", "truth"]},
        "labeling": {"truth": "released"},
    }
    return StudyFile.model_validate({**table, **changes})


def test_baselines_stand_once_in_the_grid() -> None:
    """Of every backbone and seed there is one trial of machine and truth; the mixture has one a (M, K2)."""
    specs = [spec for spec in make_plan(study()).specs(**DATA) if spec.kind == "trial"]
    counts = {labels: sum(spec.labels == labels for spec in specs) for labels in ("paper", "machine", "gmm", "truth")}
    assert counts == {"paper": 4, "machine": 1, "gmm": 2, "truth": 1}
    assert {spec.truth_data for spec in specs if spec.labels == "truth"} == {"cccc"}
    assert {spec.truth_data for spec in specs if spec.labels != "truth"} == {""}


def test_truth_to_judge_by_is_no_part_of_a_study() -> None:
    """Where only the method labels, naming a truth changes neither the study's key nor any trial's."""
    space = {"backbone": ["tiny"], "m": [1]}
    plain, judged = (make_plan(study(space=space, labeling={"truth": truth})) for truth in ("", "released"))
    assert judged.key(**DATA) == plain.key(train_data="aaaa", test_data="bbbb")
    assert [spec.key() for spec in judged.specs(**DATA)] == [
        spec.key() for spec in plain.specs(train_data="aaaa", test_data="bbbb")
    ]
    moved = make_plan(study(labeling={"truth": "elsewhere"}))
    assert moved.key(**DATA) == make_plan(study()).key(**DATA)
    assert moved.key(**{**DATA, "truth_data": "dddd"}) != moved.key(**DATA)


def test_labels_from_the_truth_must_say_which() -> None:
    """A study that labels by the truth names where it is, or its protocol withholds some."""
    with pytest.raises(HarnessError, match=r"space\.labels can hold truth only where the truth is known; name"):
        make_plan(study(labeling={}))
    parts = ["dcase2025/dev"]
    protocol = {"name": "toy", "train": parts, "score": parts, "withhold": [{"share": 0.5}]}
    assert make_plan(study(labeling={}, protocol=protocol)).protocol.withhold[0].share == 0.5


def test_an_unknown_label_source_is_refused() -> None:
    """`space.labels` takes the four label sources alone."""
    with pytest.raises(ValueError, match="labels"):
        study(space={"backbone": ["tiny"], "m": [1], "labels": ["papper"]})


def test_leaderboard_marks_and_compare_keeps_apart(recorder: Recorder) -> None:
    """Each label source has rows of its own, marked and printed; Top-M is compared within one source alone."""
    for labels in ("paper", "machine", "gmm", "truth"):
        for m in (1, 3):
            spec = labeled_by(make_spec(m=m), labels, truth_data="t")  # type: ignore[arg-type]
            recorder.finish(recorder.begin(spec), make_result(spec, shift=0.5 + m))
    rows = leaderboard(recorder.results)
    assert sorted((row["labels"], row["m"] or 0) for row in rows) == [
        ("gmm", 1), ("gmm", 3), ("machine", 0), ("paper", 1), ("paper", 3), ("truth", 0),
    ]  # fmt: skip
    assert {row["kind"] for row in rows} == {"trial"}
    printed = written("markdown", leaderboard_columns(rows), rows, {})
    assert sum("truth (upper bound)" in line for line in printed.splitlines()) == 1
    compared = compare(recorder.results, Question(resamples=100))
    assert sorted((row["labels"], row["m"], row["pairs"]) for row in compared) == [
        ("gmm", 3, compared[0]["pairs"]), ("paper", 3, compared[0]["pairs"]),
    ]  # fmt: skip
    assert [row["k1"] for row in compared if row["labels"] == "gmm"] == [None]
    assert any("(gmm labels)" in row["sentence"] for row in compared), [row["sentence"] for row in compared]


def test_paper_rows_alone_need_no_column(recorder: Recorder) -> None:
    """A leaderboard on which only the method stands has no column about label sources."""
    recorder.finish(recorder.begin(make_spec()), make_result(make_spec()))
    rows = leaderboard(recorder.results)
    assert [row["labels"] for row in rows] == ["paper"]
    assert "labels" not in written("markdown", leaderboard_columns(rows), rows, {}).splitlines()[0]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["grid", pytest.param("tpe", marks=pytest.mark.long)])
def test_a_study_over_all_label_sources(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    """Every cell runs once whoever samples, in workers that open the truth; quality stands in each trial's record."""
    monkeypatch.setenv("ASDBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "toy.toml").write_text(STUDY % ("", root / "ground_truth_attributes", sampler))
    places = find_places(tracking=f"sqlite:///{tmp_path / 'mlflow.db'}")
    outcome = verbs.study_run(str(tmp_path / "toy.toml"), data=root, workers=2, places=places)
    assert (outcome.progress.finished, outcome.progress.failed, outcome.failures) == (6, 0, {})
    with open_results(places) as results:
        trials = results.trial_scores()
        assert sorted(trials["labels"]) == ["gmm", "gmm", "machine", "paper", "paper", "truth"]
        for detail in results.recorded(trials["key"])["detail"]:
            assert all(row["purity"] is not None for row in json.loads(detail)["labels"])


LABEL = "label {root} --protocol demo --m 2 --k1 3 --k2 3 --min-confidence 0.1"


def test_label_truth_json(asdbench: Any, root: Path) -> None:
    """`label --truth --json` adds the quality to every row; without it the fields are not there."""
    status, out, err = asdbench(LABEL + " --truth {root}/ground_truth_attributes --json", root=root)
    assert status == 0, err
    (row,) = json.loads(out)["rows"]
    quality = {"purity", "nmi", "ari", "recall_at_m", "recall_at_m_retained", "entropy", "judged", "judged_left_out"}
    assert quality <= set(row)
    assert all(0 <= row[name] <= 1 for name in ("purity", "nmi", "recall_at_m", "judged_left_out"))
    assert not quality & set(json.loads(asdbench(LABEL + " --json", root=root)[1])["rows"][0])


def test_label_truth_is_printed(asdbench: Any, root: Path) -> None:
    """The table has columns of quality where a truth was named."""
    out = asdbench(LABEL + " --truth {root} --markdown", root=root)[1]
    assert "| judged | of them left out % | purity % | NMI | ARI | recall at M % | entropy, bits |" in out
    assert "purity" not in asdbench(LABEL + " --markdown", root=root)[1]


def test_label_by_a_baseline(asdbench: Any, root: Path) -> None:
    """`label --labels truth` finds every attribute, `--labels machine` none."""
    recall = {}
    for labels in ("truth", "machine"):
        line = f"{LABEL} --truth {{root}} --labels {labels} --json"
        document = json.loads(asdbench(line, root=root)[1])
        assert document["labels"] == labels
        recall[labels] = document["rows"][0]["recall_at_m"]
    assert recall == {"truth": 1.0, "machine": 0.0}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--truth {root}/dcase2025t2", "must hold the official *_correspondence.csv files, but holds none"),
        ("--labels truth", "labels can be truth only where the truth is known"),
    ],
)
def test_a_truth_that_is_not_there(asdbench: Any, root: Path, options: str, said: str) -> None:
    """A folder without truth, or none where it is trained on, is one sentence and exit status 1."""
    status, out, err = asdbench(f"{LABEL} {options}", root=root)
    assert (status, out) == (1, "")
    assert said in err.splitlines()[-1]


@pytest.mark.slow
def test_one_trial_of_a_baseline(asdbench: Any, root: Path) -> None:
    """`trial --labels truth` is recorded with its quality and marked on the leaderboard."""
    line = "trial {root} --protocol demo --backbone tiny --epochs 1 --clip-seconds 0.5 --batch-size 32 --k1 3 --k2 3"
    status, out, err = asdbench(f"{line} --labels truth --truth {{root}} --json", root=root)
    assert status == 0, err
    assert json.loads(out)["labels"][0]["purity"] == 1.0
    (row,) = json.loads(asdbench("leaderboard --json --no-references")[1])["rows"]
    assert (row["kind"], row["labels"], row["m"]) == ("trial", "truth", None)
