"""Ranking, marks and reference rows, on results that are put in by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from backbones.training.recipe import FinetuneRecipe
from benchmarks.contract import DatasetPart, MachineMetrics
from benchmarks.metrics.measures import machine_h_means, official_score
from benchmarks.protocols import find_protocol
from benchmarks.reference.published import OVERALL, load_reference
from harness.answers.board import leaderboard_columns
from harness.answers.columns import reference_lines
from harness.answers.frames import leaderboard_frame
from harness.answers.leaderboard import board_notes, leaderboard
from harness.answers.published import reference
from harness.answers.question import Question
from harness.answers.references import with_references
from harness.errors import HarnessError
from harness.stores.results import Results
from harness.tables import csv_table, written
from harness.trials.contract import BackboneChoice, TrialResult, TrialSpec
from tests.harness.made_up import make_result, make_scored, make_spec

RULE = "dcase2022"
PRINTED = 0.0001 + 1e-9  # a printed percent is off by up to 0.005; what is computed from it by up to twice that


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Results]:
    """Empty results tables."""
    opened = Results(f"sqlite:///{tmp_path / 'results.db'}")
    yield opened
    opened.close()


def put(results: Results, spec: TrialSpec, numbers: Mapping[str, tuple[float, float, float]]) -> None:
    """Record a trial of which the metrics alone are known: s_auc, t_auc and p_auc of each machine type."""
    dataset = spec.protocol.score[0].dataset
    metrics = tuple(MachineMetrics(dataset, name, "00", None, *values) for name, values in numbers.items())
    result = TrialResult(
        spec=spec,
        metrics={"knn": metrics},
        official={"knn": official_score(metrics, RULE)},
        machines={"knn": {name: value for (_, name), value in machine_h_means(metrics, RULE).items()}},
        labels=(),
        epochs=(),
        seconds={},
        peak_mb={},
        scored=pd.DataFrame(),
        pseudo_labels=pd.DataFrame(),
    )
    results.put_result(result, run_id=spec.key(), code="test")


def flat(value: float) -> dict[str, tuple[float, float, float]]:
    """The same number everywhere."""
    return {"fan": (value, value, value), "ToyCar": (value, value, value)}


def paper_specs() -> Iterator[tuple[TrialSpec, dict[str, tuple[float, float, float]]]]:
    """The paper's cells with the numbers of its Tables 2 and 3."""
    table = load_reference("paper")
    for (backbone, m), cells in table[table["machine"] != OVERALL].groupby(["backbone", "m"]):
        wide = cells.pivot(index="machine", columns="metric", values="value")
        spec = make_spec(
            backbone=BackboneChoice({"beats": "BEATs", "audiomae": "AudioMAE"}[backbone], backbone),
            m=int(m),
            protocol=find_protocol("paper"),
            recipe=FinetuneRecipe(),
        )
        yield spec, {str(name): (row.s_auc, row.t_auc, row.p_auc) for name, row in wide.iterrows()}


class TestThePaper:
    """The paper's own numbers, put in as recorded results."""

    @pytest.fixture
    def rows(self, results: Results) -> list[dict[str, Any]]:
        for spec, numbers in paper_specs():
            put(results, spec, numbers)
        return leaderboard(results)

    def test_its_ranking_and_optima_come_back(self, rows: list[dict[str, Any]]) -> None:
        """Rows rank as the paper's H. Mean does: AudioMAE is best with M = 3, BEATs with M = 7."""
        assert [(row["rank"], row["backbone"], row["m"]) for row in rows] == [
            (1, "AudioMAE", 3), (2, "AudioMAE", 15), (3, "AudioMAE", 1),
            (4, "BEATs", 7), (5, "BEATs", 15), (6, "BEATs", 1),
        ]  # fmt: skip
        best = {row["backbone"]: (row["m"], row["cells"]) for row in rows if row["chosen_on_test"]}
        assert best == {"AudioMAE": (3, 3), "BEATs": (7, 3)}

    def test_its_tables_come_back(self, results: Results, rows: list[dict[str, Any]]) -> None:
        """`reference paper` finds a recorded number for each of the 240 cells, within what printing rounds away."""
        frame = pd.DataFrame(reference(results, "paper"))
        assert len(frame) == 240
        assert frame["recorded"].notna().all()
        assert frame["difference"].abs().max() <= PRINTED
        note = frame[frame["note"] != ""].iloc[0]
        assert (note["machine"], note["m"], round(note["recorded"], 4)) == ("slider", 15, 0.6136)

    def test_the_leaderboards_means_are_the_tables(self, rows: list[dict[str, Any]]) -> None:
        """Official score, sAUC, tAUC, pAUC and machine types of each row are the tables' means, in fractions."""
        table = load_reference("paper").set_index(["backbone", "m", "machine", "metric"])["value"]
        for row in rows:
            cell = table.loc[row["backbone"].lower(), row["m"]]
            assert row["official_score"] == pytest.approx(cell["all", "official_score"], abs=PRINTED)
            for metric in ("s_auc", "t_auc", "p_auc"):
                assert row[metric] == pytest.approx(cell["all", metric], abs=PRINTED)
            for machine, h_mean in row["machines"].items():
                assert h_mean == pytest.approx(cell[machine, "h_mean"], abs=PRINTED)

    def test_published_rows_stand_beside_it_without_a_rank(self, results: Results, rows: list[dict[str, Any]]) -> None:
        """The paper's six rows and chance are sorted in, marked and never ranked; what was run keeps its rank."""
        shown = with_references(rows, results)
        added = [row for row in shown if row["kind"] in ("published", "chance")]
        assert [row["source"] for row in added].count("paper") == 6
        assert all(row["rank"] is None and row["tier"] is None for row in added)
        assert [row["rank"] for row in shown if row["kind"] == "trial"] == [1, 2, 3, 4, 5, 6]
        assert shown[-1]["kind"] == "chance"
        assert set(shown[-1]["machines"].values()) == {0.5}
        beats = with_references(leaderboard(results, Question(backbone="BEATs")), results, backbone="BEATs")
        assert {row["backbone"] for row in beats} == {"BEATs", "beats", None}


def test_published_rows_stay_off_boards_of_other_recordings(results: Results) -> None:
    """A subset of clips, or of machine types, is not what was published: no published row, but chance."""
    spec, numbers = next(paper_specs())
    put(results, replace(spec, test_data="fewer"), {"fan": numbers["fan"]})
    few = make_result(make_spec())
    results.put_result(few, run_id="b", code="test")
    rows = with_references(leaderboard(results), results)
    assert sorted(row["kind"] for row in rows) == ["chance", "chance", "trial", "trial"]


def test_a_full_test_set_under_another_protocols_name_has_published_rows(results: Results) -> None:
    """What was scored is read off the clips: 2023's evaluation set in full is where its official baselines stand."""
    machines = ("bandsaw", "grinder", "shaker", "ToyDrone", "ToyNscale", "ToyTank", "Vacuum")
    scored = make_scored(per_cell=50)
    clips = pd.concat(
        scored[scored["machine"] == "fan"].assign(
            machine=name, clip_id=lambda each, name=name: each["clip_id"].str.replace("dev/fan", f"eval/{name}")
        )
        for name in machines
    )
    spec = make_spec(protocol=replace(make_spec().protocol, score=(DatasetPart("dcase2023", "eval"),)))
    metrics = tuple(MachineMetrics("dcase2023", name, "00", None, 0.6, 0.6, 0.6) for name in machines)
    result = replace(
        make_result(spec), scored=clips, metrics={"knn": metrics}, machines={"knn": dict.fromkeys(machines, 0.6)}
    )
    results.put_result(result, run_id="a", code="test")
    rows = with_references(leaderboard(results), results)
    published = {row["source"] for row in rows if row["kind"] == "published"}
    assert {"baseline-mse", "baseline-mahala"} <= published
    baseline = next(row for row in rows if row["source"] == "baseline-mse")
    assert baseline["backbone"] == "baseline-mse"
    assert set(baseline["machines"]) == set(machines)


def test_seeds_are_averaged_with_their_spread(results: Results) -> None:
    """A row is the mean of its seeds with deviation, t-interval, seeds and keys; one seed has no interval."""
    for seed, value in enumerate((0.5, 0.6, 0.7)):
        put(results, make_spec(seed=seed), flat(value))
    put(results, make_spec(m=3), flat(0.55))
    several, one = leaderboard(results)
    assert several["official_score"] == pytest.approx(0.6)
    assert several["official_score_std"] == pytest.approx(0.1)
    reach = 0.24841 / (0.6 * 0.4)  # Student's 4.3027 of two degrees of freedom, times 0.1 / sqrt(3), on the logit
    odds = [1.5 * math.exp(-reach), 1.5 * math.exp(reach)]
    assert [several["ci_low"], several["ci_high"]] == pytest.approx([each / (1 + each) for each in odds], abs=1e-5)
    assert several["seeds"] == [0, 1, 2]
    assert several["keys"] == [make_spec(seed=seed).key() for seed in range(3)]
    assert several["machines"] == pytest.approx({"ToyCar": 0.6, "fan": 0.6})
    assert (one["official_score_std"], one["ci_low"], one["ci_high"]) == (None, None, None)
    assert several["chosen_on_test"]
    assert not one["chosen_on_test"]


def test_an_interval_stays_where_a_score_can_be(results: Results) -> None:
    """Two seeds far apart leave nearly everything open, and no more than that: between 0 and 1."""
    for seed, value in enumerate((0.3, 0.9)):
        put(results, make_spec(seed=seed), flat(value))
    (row,) = leaderboard(results)
    assert row["ci_low"] is not None and row["ci_high"] is not None
    assert 0 < row["ci_low"] < 0.001
    assert 0.999 < row["ci_high"] < 1


def test_ranking_by_one_machine(results: Results) -> None:
    """`machine` ranks by that machine type, and the official score stays what it is; a wrong name gets the nearest."""
    put(results, make_spec(m=1), {"fan": (0.9,) * 3, "ToyCar": (0.5,) * 3})
    put(results, make_spec(m=3), {"fan": (0.6,) * 3, "ToyCar": (0.8,) * 3})
    assert [row["m"] for row in leaderboard(results)] == [3, 1]
    official = {row["m"]: row["official_score"] for row in leaderboard(results)}
    rows = leaderboard(results, machine="fan")
    assert [(row["m"], row["machine_score"]) for row in rows] == [(1, pytest.approx(0.9)), (3, pytest.approx(0.6))]
    assert {row["m"]: row["official_score"] for row in rows} == official
    shown = with_references(rows, results, machine="fan")
    assert [(row["kind"], row["machine_score"]) for row in shown][-1] == ("chance", 0.5)
    assert "fan %" in written("markdown", leaderboard_columns(shown), shown, {}).splitlines()[0]
    with pytest.raises(HarnessError, match="Did you mean 'fan'"):
        leaderboard(results, machine="fam")


def test_top_keeps_the_boards_ranks_and_marks(results: Results) -> None:
    """The best rows alone are the first rows of the whole board, in every field."""
    for m in (1, 3, 5):
        put(results, make_spec(m=m), flat(0.5 + 0.01 * m))
    assert leaderboard(results, top=2) == leaderboard(results)[:2]


def test_top_keeps_what_a_learned_row_must_beat(results: Results) -> None:
    """However low they rank, the best frozen and the level row are shown, and the note does not deny them."""
    for m in (1, 3, 5):
        put(results, make_spec(m=m), flat(0.5 + 0.01 * m))
    put(results, make_spec(kind="frozen", m=None, k1=None, k2=None), flat(0.49))
    rows = leaderboard(results, top=1)
    assert [(row["kind"], row["rank"]) for row in rows] == [("trial", 1), ("frozen", 4)]
    assert "a learned row must beat it. No level row" in board_notes(rows)[0]
    put(results, make_spec(kind="level", backbone=None, m=None, k1=None, k2=None), flat(0.48))
    rows = leaderboard(results, top=1)
    assert [row["rank"] for row in rows] == [1, 4, 5]
    assert "must beat both" in board_notes(rows)[0]


def test_a_lone_official_score_is_not_called_a_harmonic_mean() -> None:
    """A system without numbers of each machine type has its official score under that name; the paper's is a mean."""
    lone = {line["metric"] for line in reference_lines(reference(None, "asdkit")) if line["dataset"] == "dcase2020"}
    assert lone == {"official_score"}
    paper = {line["metric"] for line in reference_lines(reference(None, "paper"))}
    assert paper == {"s_auc", "t_auc", "mean_auc", "p_auc", "h_mean"}


def test_a_protocols_other_name_filters_too(results: Results) -> None:
    """What was run with --protocol paper is asked for by that name, though it is recorded as dcase2025-paper."""
    put(results, make_spec(protocol=find_protocol("paper")), flat(0.6))
    assert len(leaderboard(results, Question(protocol="paper"))) == 1
    put(results, make_spec(protocol=replace(find_protocol("paper"), name="paper")), flat(0.7))
    (own,) = leaderboard(results, Question(protocol="paper"))
    assert own["protocol"] == "paper"  # a study file's own protocol of that name comes first


def test_the_level_row_passes_filters(results: Results) -> None:
    """Level, which has no backbone and a scorer of its own, stands on a board of one backbone or scorer."""
    put(results, make_spec(), flat(0.6))
    put(results, make_spec(backbone=BackboneChoice("other", "tiny", options=(("depth", 2),))), flat(0.7))
    put(results, make_spec(kind="level", backbone=None, m=None, k1=None, k2=None), flat(0.52))
    rows = leaderboard(results, Question(backbone="small"))
    assert [(row["kind"], row["backbone"]) for row in rows] == [("trial", "small"), ("level", None)]
    assert "Level is the clip's loudness alone: a learned row must beat it" in board_notes(rows)[0]
    with pytest.raises(HarnessError, match="Did you mean 'small'"):
        leaderboard(results, Question(backbone="smal"))


def test_nothing_to_rank_is_said(results: Results) -> None:
    """No trial, and a study none of whose trials has finished, are one sentence each."""
    with pytest.raises(HarnessError, match="asdbench demo"):
        leaderboard(results)
    put(results, make_spec(), flat(0.6))
    results.put_study("k", name="young", protocol="toy", run_id="r", planned=3, content="")
    with pytest.raises(HarnessError, match="study young has none yet"):
        leaderboard(results, Question(study="young"))
    with pytest.raises(HarnessError, match="Did you mean 'young'"):
        leaderboard(results, Question(study="yuong"))


def test_a_study_has_its_own_trials_alone(results: Results) -> None:
    """Trials that a study did not ask for stay off its board, and its cells are counted without them."""
    for m in (1, 3):
        put(results, make_spec(m=m), flat(0.5 + 0.01 * m))
    results.put_study("k", name="one", protocol="toy", run_id="r", planned=1, content="")
    results.link("k", [make_spec(m=1).key()])
    (row,) = leaderboard(results, Question(study="one"))
    assert (row["m"], row["cells"], row["chosen_on_test"]) == (1, 1, False)


def test_numbers_without_clips_are_told_from_clip_scores(results: Results) -> None:
    """A trial put in by its metrics alone is ranked, and has no clip scores to compare."""
    put(results, make_spec(seed=1), flat(0.6))
    results.put_result(make_result(make_spec(seed=2)), run_id="b", code="test")
    keys = [make_spec(seed=seed).key() for seed in (1, 2)]
    assert list(results.clip_scores(keys, "knn")) == [keys[1]]
    assert leaderboard(results)[0]["seeds"] == [1, 2]


def test_frames_and_csv_hold_every_field(results: Results) -> None:
    """A notebook's frame and the CSV have a column a machine type, whole numbers stay whole, references have NA."""
    put(results, make_spec(), flat(0.6))
    rows = with_references(leaderboard(results), results)
    frame = leaderboard_frame(rows)
    assert frame.loc[0, "machines.fan"] == pytest.approx(0.6)
    assert (frame["rank"].dtype, frame["rank"].isna().tolist()) == (pd.Int64Dtype(), [False, True])
    assert "machines.fan" in csv_table(rows).splitlines()[0]


def test_reference_lists_every_table_without_a_database() -> None:
    """Published numbers alone, all four tables; an unknown name is answered with the nearest."""
    rows = reference(None)
    assert {row["table"] for row in rows} == {"paper", "official_baseline", "asdkit", "rmis", "dcase2026"}
    assert all(row["recorded"] is None for row in rows)
    with pytest.raises(HarnessError, match="Did you mean 'asdkit'"):
        reference(None, "asdkitt")


def test_commands(asdbench: Any, tmp_path: Path) -> None:
    """Both commands speak text, JSON, CSV and markdown; text marks what was chosen on its test set."""
    results = Results(f"sqlite:///{tmp_path / 'mlflow.db'}")
    for spec, numbers in paper_specs():
        put(results, spec, numbers)
    results.close()
    found = json.loads(asdbench("leaderboard --json")[1])
    assert (len(found["rows"]), found["chance"]) == (13, 0.5)
    assert len(json.loads(asdbench("leaderboard --json --top 2 --no-references")[1])["rows"]) == 2
    text = asdbench("leaderboard")[1]
    assert "AudioMAE*" in text
    assert "best of 3 cells on its own test set" in text
    assert "rmis" not in text  # frozen backbones of the combined development and evaluation sets: another test set
    assert asdbench("leaderboard --markdown")[1].startswith("| # | tier | kind |")
    assert asdbench("reference paper --csv")[1].startswith("table,system,backbone,m,")
    assert "59.29 (+0.00)" in asdbench("reference paper --markdown")[1]
    status, _, err = asdbench("reference papre")
    assert (status, "Did you mean 'paper'?" in err) == (1, True)


def test_rows_of_other_libraries_are_said(results: Results) -> None:
    """A board whose rows ran with other versions says which; a board of one version, or of none known, says nothing."""
    results.put_result(replace(make_result(make_spec()), libraries="numpy 2.1"), run_id="a", code="test")
    assert not any("libraries" in note for note in board_notes(leaderboard(results)))
    results.put_result(replace(make_result(make_spec(m=2)), libraries="numpy 2.3"), run_id="b", code="test")
    rows = leaderboard(results)
    assert sorted(row["libraries"][0] for row in rows) == ["numpy 2.1", "numpy 2.3"]
    assert "Rows ran with different libraries, which may change digits: numpy 2.1 and 2.3." in board_notes(rows)


@pytest.mark.parametrize(
    ("sampler", "said"),
    [
        ({"name": "tpe"}, "by the goal score of"),  # of which the content leaves the default goal out
        ({"name": "nsga2", "goals": ["target", "seconds"]}, "by the goal target of"),
        ({"name": "nsga2", "goals": ["seconds", "memory"]}, ""),
        ({"name": "random"}, ""),
        ({}, ""),
    ],
)
def test_a_search_by_the_test_score_says_so(results: Results, sampler: dict[str, Any], said: str) -> None:
    """A board with cells that a search chose by its test set says that the winner was picked by it; others do not."""
    spec = make_spec()
    results.put_result(make_result(spec), run_id="a", code="test")
    content = json.dumps({"sampler": sampler} if sampler else {})
    results.put_study("k", name="s", protocol="toy", run_id="r", planned=1, content=content)
    results.link("k", [spec.key()])
    for question in (Question(), Question(study="s")):
        rows = leaderboard(results, question)
        notes = [note for note in board_notes(rows) if "picked by the test set" in note]
        assert [said in note for note in notes] == ([True] if said else [])
        assert bool(rows[0]["searched"]) is bool(said)
