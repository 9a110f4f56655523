"""A candidate is accepted where it is shown not to be worse than a baseline by more than the margin, else refused."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
import pytest

from backbones.training.recipe import FinetuneRecipe
from harness.errors import HarnessError
from harness.gate.baseline_file import checksum, read_baseline, write_baseline
from harness.gate.baselines import RecordedArm, find_arm
from harness.gate.junit import verdict_cases, write_junit
from harness.gate.regression import regress
from harness.statistics.comparison import compare_arms
from harness.statistics.margin import margin_low
from harness.stores.results import Results
from tests.harness.made_up import MACHINES, clips_of, open_tables, record


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables with three studies: "good", "again" with its scores, "bad" with anomalies nearly among the normals."""
    folder = tmp_path_factory.mktemp("recorded")
    tables = open_tables(folder)
    for study, apart in (("good", 1.5), ("again", 1.5), ("bad", 0.5)):
        for m in (None, 1, 3):
            record(tables, backbone=f"of-{study}", m=m, apart=apart, luck=10 * (m or 0), study=f"{study}-{m}")
        keys = [key for m in (None, 1, 3) for key in tables.study_keys(f"key-{study}-{m}")]
        tables.put_study(f"key-{study}", name=study, protocol="toy", run_id="r", planned=9, content="{}")
        tables.link(f"key-{study}", keys)
    tables.close()
    return folder / "mlflow.db"


@pytest.fixture
def results(recorded: Path, tmp_path: Path) -> Iterator[Results]:
    """A copy of these tables."""
    shutil.copy(recorded, tmp_path / "mlflow.db")
    tables = open_tables(tmp_path)
    yield tables
    tables.close()


def verdict(results: Results, baseline: str, candidate: str, **options: Any) -> dict[str, Any]:
    """Judge one reference against another."""
    return regress(find_arm(results, baseline), find_arm(results, candidate), resamples=100, **options)


def test_the_same_again_is_accepted_without_any_margin(results: Results) -> None:
    """Equal scores differ by 0 with an interval of 0 on every machine, and pass a margin of 0."""
    found = verdict(results, "good", "again", margin=0)
    assert (found["accepted"], found["verdict"]) == (True, "accepted")
    assert {(row["delta"], row["low"], row["high"]) for row in found["rows"]} == {(0.0, 0.0, 0.0)}
    assert len(found["rows"]) == 3 * (1 + len(MACHINES))  # frozen, M = 1, M = 3
    assert [row["machine"] for row in found["rows"][:2]] == [None, "ToyCar"]


def test_a_worse_one_is_refused(results: Results) -> None:
    """A backbone that tells anomalies apart less is refused as worse, and the sentence says by how much."""
    found = verdict(results, "good", "bad:of-bad:3", allow=["m", "kind"])
    assert (found["accepted"], found["verdict"]) == (False, "worse")
    (sentence,) = found["sentences"]
    assert "refused, -" in sentence
    assert sentence.endswith("worse by more than 0.5 points.")
    assert found["notes"] == [
        "Allowed to differ: M = 1, K1 = 15, K2 = 15, knn is in good alone.",
        "Allowed to differ: frozen, knn is in good alone.",
    ]
    assert found["allowed"] == ["kind", "m"]


def test_a_better_one_is_accepted(results: Results) -> None:
    """What gained is not worse."""
    assert verdict(results, "bad", "good")["accepted"]


def test_one_refused_setting_refuses_the_candidate(results: Results) -> None:
    """Good at M = 1 and bad at M = 3 is refused: every setting must be shown not to be worse."""
    record(results, backbone="half", m=1, apart=1.5, luck=10, study="half")
    keys = record(results, backbone="half", m=3, apart=0.5, luck=30)
    results.link("key-half", keys)
    found = verdict(results, "good", "half", allow=["kind"])
    official = {row["m"]: row["verdict"] for row in found["rows"] if row["machine"] is None}
    assert official == {1: "accepted", 3: "worse"}
    assert not found["accepted"]


def test_what_cannot_be_shown_is_refused_with_the_seeds_that_would_show_it(results: Results) -> None:
    """The same backbone on other noise: too few seeds to show half a point, enough for many points."""
    record(results, backbone="noisy", m=1, apart=1.5, luck=500, study="noisy")
    found = verdict(results, "good-1", "noisy", margin=0.01)
    assert (found["accepted"], found["verdict"]) == (False, "unclear")
    assert "these data cannot show that it is not worse by more than 0.01 points" in found["sentences"][0]
    assert "seeds would" in found["sentences"][0] or "the difference seen lies beyond that" in found["sentences"][0]
    assert verdict(results, "good-1", "noisy", margin=20)["accepted"]


def test_seeds_that_do_not_pair_are_compared_as_draws(results: Results) -> None:
    """Other seeds are compared unpaired and it is said; seeds that one side has besides are left out."""
    record(results, backbone="later", m=1, seeds=[7, 8, 9, 10], apart=1.5, study="later")
    found = verdict(results, "good-1", "later", margin=20)
    assert found["accepted"]
    assert not found["rows"][0]["paired"]
    assert (found["rows"][0]["seeds"], found["rows"][0]["baseline_seeds"]) == (4, 3)
    assert found["sentences"][0].endswith("seeds do not pair, so each side's are taken as draws of their own.")
    record(results, backbone="first", m=1, seeds=[1], apart=1.5, luck=10, study="first")
    one = verdict(results, "good-1", "first")
    assert (one["rows"][0]["paired"], one["rows"][0]["seeds"]) == (True, 1)


def test_one_seed_cannot_tell_unless_the_scores_are_the_very_same(results: Results) -> None:
    """One seed that gained everywhere is no proof of other seeds; the same scores clip by clip differ in no seed."""
    record(results, backbone="first", m=1, seeds=[1], apart=3.0, luck=10, study="first")
    found = verdict(results, "good-1", "first")
    assert found["rows"][0]["low"] > 0
    assert (found["accepted"], found["verdict"]) == (False, "unclear")
    assert "refused, as one seed cannot tell how seeds differ" in found["sentences"][0]
    assert found["sentences"][0].endswith("run at least three seeds of each.")
    record(results, backbone="same", m=1, seeds=[1], apart=1.5, luck=10, study="same")
    assert verdict(results, "good-1", "same", margin=0)["accepted"]
    record(results, backbone="single", m=1, seeds=[1], apart=0.5, luck=10, study="single")
    assert verdict(results, "good-1", "single")["verdict"] == "worse"


def forget(folder: Path, keys: list[str], *names: str) -> None:
    """Take parts and fields of the recipe out of recorded details, as trials of before they came have none."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as tables, tables:
        for key in keys:
            (text,) = tables.execute("select detail from asd_trials where key = ?", (key,)).fetchone()
            detail = {name: value for name, value in json.loads(text).items() if name not in names}
            detail["recipe"] = {name: value for name, value in detail["recipe"].items() if name not in names}
            tables.execute("update asd_trials set detail = ? where key = ?", (json.dumps(detail), key))


class TestWhatDiffers:
    @pytest.mark.parametrize(
        ("change", "name", "how"),
        [
            ({"recipe": FinetuneRecipe(epochs=9)}, "epochs", "epochs of .* is 2 before, 9 now"),
            ({"recipe": FinetuneRecipe(epochs=2, mixup=0.4)}, "mixup", "is 0.0 before, 0.4 now"),
            ({"min_confidence": 0.5}, "min_confidence", "is 0.9 before, 0.5 now"),
            ({"k1": 3}, "k1", "k1 .M = 1, K1 = 15, K2 = 15, knn before, M = 1, K1 = 3"),
            ({"m": None}, "kind", "frozen, knn now"),
        ],
    )
    def test_it_is_refused_by_name_and_may_be_allowed(
        self, results: Results, change: dict[str, Any], name: str, how: str
    ) -> None:
        """Recipe, rule of labeling or setting: refused with its name and both values, or allowed and said."""
        record(results, backbone="other", study="other", **{"m": 1, "apart": 1.5, "luck": 10, **change})
        with pytest.raises(HarnessError, match=f"differ in {name}: .*{how}.* let it pass with --allow {name}"):
            verdict(results, "good-1", "other")
        found = verdict(results, "good-1", "other", allow=[name, "batch_size"])
        assert found["allowed"] == [name]
        assert found["notes"][0].startswith("Allowed to differ: ")

    def test_a_setting_of_one_side_alone_is_refused(self, results: Results) -> None:
        """A candidate that lacks half of the baseline's settings does not pass by what it has, nor by more settings."""
        with pytest.raises(HarnessError, match=r"differ in kind, m: .* let it pass with --allow kind --allow m"):
            verdict(results, "good", "again:of-again:3")
        with pytest.raises(HarnessError, match="M = 1, K1 = 15, K2 = 15, knn is in again alone"):
            verdict(results, "good-3", "again", allow=["kind"])

    def test_a_recipe_that_a_file_lacks_is_refused(self, results: Results) -> None:
        """A file that was exported before recipes were written is compared where that is allowed."""
        older = replace(find_arm(results, "good"), recipes={})
        again = find_arm(results, "again")
        with pytest.raises(HarnessError, match=r"is not recorded before; .* --allow recipe"):
            regress(older, again, resamples=100)
        assert regress(older, again, resamples=100, allow=["recipe"])["accepted"]
        assert regress(older, replace(again, recipes={}), resamples=100)["accepted"]

    def test_trials_of_before_a_field_came_are_the_same_method(self, results: Results, tmp_path: Path) -> None:
        """Details without later fields and rules of labeling are one arm with newer seeds, compared with others."""
        keys = results.study_keys("key-good-1")
        forget(tmp_path, keys[:2], "scale_rate", "adam_eps", "decays", "labeling")
        mixed, again = find_arm(results, "good-1"), find_arm(results, "again-1")
        assert mixed.recipes == again.recipes
        forget(tmp_path, keys, "scale_rate", "adam_eps", "decays", "labeling")
        early = find_arm(results, "good-1")
        found = regress(early, again, margin=0, resamples=100)
        assert (found["accepted"], found["allowed"]) == (True, [])
        assert found["notes"] == ["Not recorded on one side, so taken as equal: below, min_confidence."]
        other = replace(again, recipes={setting: {**each, "decays": "all"} for setting, each in again.recipes.items()})
        with pytest.raises(HarnessError, match=r"differ in decays: .* is matrices before, all now"):
            regress(early, other, resamples=100)

    def test_a_file_of_before_a_field_came_is_read_with_its_default(self, results: Results, tmp_path: Path) -> None:
        """An exported recipe without later fields is the recipe that leaves them as they were."""
        arm = find_arm(results, "good-1")
        later = ("scale_rate", "adam_eps", "decays")
        kept = {
            setting: {name: value for name, value in recipe.items() if name not in later}
            for setting, recipe in arm.recipes.items()
        }
        write_baseline(replace(arm, recipes=kept), tmp_path / "early.json", code="test")
        assert read_baseline(tmp_path / "early.json").recipes == arm.recipes

    def test_other_rules_of_labeling_are_refused_though_one_side_did_not_record_them(
        self, results: Results, tmp_path: Path
    ) -> None:
        """Two seeds of one setting, of which the early one had another threshold: the recipe's digest tells."""
        early, later = (
            record(results, backbone="two", m=1, seeds=[seed], min_confidence=least, study="two")
            for seed, least in ((0, 0.5), (1, 0.9))
        )
        for keys in (early, later):  # neither recorded it in the end
            forget(tmp_path, keys, "labeling")
            with pytest.raises(HarnessError, match="two must hold one recipe of a setting"):
                find_arm(results, "two")

    def test_a_name_that_nothing_has_is_refused(self, results: Results) -> None:
        """A misspelt --allow is answered with the nearest name."""
        with pytest.raises(HarnessError, match="Did you mean 'epochs'"):
            verdict(results, "good", "again", allow=["epoch"])

    def test_two_recipes_of_one_setting_are_refused(self, results: Results) -> None:
        """A study that holds a setting under two recipes names no one system."""
        keys = [key for recipe in (2, 9) for key in record(
            results, backbone="two", m=1, seeds=[recipe], recipe=FinetuneRecipe(epochs=recipe), study="two"
        )]  # fmt: skip
        assert len(keys) == 2
        with pytest.raises(HarnessError, match="two must hold one recipe of a setting and one trial a seed"):
            find_arm(results, "two")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test_data": "cccc"}, "must have the same test recordings, but good-1 has bbbb and other has cccc"),
        ({"train_data": "cccc"}, "must have the same training recordings, but good-1 has aaaa and other has cccc"),
    ],
)
def test_unlike_results_are_refused(results: Results, change: dict[str, Any], said: str) -> None:
    """Other recordings are refused."""
    record(results, backbone="other", study="other", **{"m": 1, "apart": 1.5, **change})
    with pytest.raises(HarnessError, match=said):
        verdict(results, "good-1", "other")


def test_no_shared_setting_among_several_is_refused(results: Results) -> None:
    """Two settings on one side and another on the other: which belong together is not guessed, whatever is allowed."""
    for m in (7, 9):
        record(results, backbone="other", m=m, study="other", apart=1.0)
    with pytest.raises(HarnessError, match="must share a setting"):
        verdict(results, "good-3", "other", allow=["m"])


def test_a_protocol_of_another_name_is_refused(results: Results) -> None:
    """Protocols differ by name where their recordings are the same."""
    good = find_arm(results, "good")
    with pytest.raises(HarnessError, match="must have the same protocol, but good has toy and good has else"):
        regress(good, replace(good, protocol="else"))


@pytest.mark.parametrize("margin", [-0.1, float("nan"), 101.0])
def test_a_margin_is_a_number_of_points(results: Results, margin: float) -> None:
    """Below 0, above 100 or no number is refused."""
    with pytest.raises(HarnessError, match="margin must be between 0 and 100 points"):
        verdict(results, "good", "again", margin=margin)


class TestReferences:
    @pytest.mark.parametrize("reference", ["good:of-good:3", "good-3", "key-good-3", "run-good-3", "good::3"])
    def test_a_study_is_named_by_name_key_or_run(self, results: Results, reference: str) -> None:
        """A study's arm: STUDY[:BACKBONE[:M]], by name, key or MLflow run."""
        arm = find_arm(results, reference)
        assert [setting.as_json()["m"] for setting in arm.scores] == [3]
        assert arm.backbone == "of-good"

    def test_a_trial_is_named_by_key_or_run(self, results: Results) -> None:
        """One trial: its key or MLflow's run id."""
        key = results.study_keys("key-good-1")[0]
        for reference in (key, f"run-{key}"):
            (of_setting,) = find_arm(results, reference).trials.values()
            assert of_setting == {0: key}

    @pytest.mark.parametrize(
        ("reference", "said"),
        [
            ("goood", "run, trial or recorded study must be one of .* Did you mean 'good'"),
            ("good:of-goood", "Did you mean 'of-good'"),
            ("good:of-good:4", "M of good:of-good:4 must be one of 1, 3, frozen, as recorded, but got '4'"),
            ("two", "two must name one backbone, but holds of-bad, of-good; write two:of-bad"),
            ("empty", "empty must have finished trials"),
            ("bare", "is recorded without any"),
        ],
    )
    def test_what_names_nothing_is_said(self, results: Results, reference: str, said: str) -> None:
        """Unknown names are answered with the nearest, several backbones with how to name one."""
        both = [key for study in ("good-1", "bad-1") for key in results.study_keys(f"key-{study}")]
        for name, keys in (("two", both), ("empty", [])):
            results.put_study(f"key-{name}", name=name, protocol="toy", run_id="r2", planned=1, content="{}")
            results.link(f"key-{name}", keys)
        record(results, backbone="bare", study="bare", with_clip_scores=False)
        with pytest.raises(HarnessError, match=said):
            find_arm(results, reference)


class TestFiles:
    @pytest.fixture
    def good(self, results: Results) -> RecordedArm:
        """The study "good"."""
        return find_arm(results, "good")

    @pytest.mark.parametrize("name", ["good.json", "good.json.gz"])
    def test_what_is_read_is_what_was_written(self, good: RecordedArm, tmp_path: Path, name: str) -> None:
        """Scores come back bit for bit, and a file written again has the same bytes."""
        path = tmp_path / name
        write_baseline(good, path, code="abc")
        found = read_baseline(path)
        assert found.trials == good.trials
        for setting, of_setting in good.scores.items():
            for seed, values in of_setting.items():
                np.testing.assert_array_equal(found.scores[setting][seed], values)
        assert regress(found, good, margin=0, resamples=100)["accepted"]
        before = path.read_bytes()
        write_baseline(good, path, code="abc")
        assert path.read_bytes() == before
        assert sorted(each.name for each in tmp_path.glob(".good*")) == []

    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            (lambda raw: raw[: len(raw) // 2], "must be a whole baseline written by"),
            (lambda raw: b"", "must be a whole baseline written by"),
            (lambda raw: b"[1, 2]", "but it is something else"),
            (lambda raw: b'{"format": "other"}', "but it is something else"),
            (lambda raw: b"\x00\xff\xfe", "must be a whole baseline written by"),
            (lambda raw: gzip.compress(raw)[:-9], "must be a whole baseline written by"),
            (lambda raw: raw.replace(b'"seed":0', b'"seed":4', 1), "does not match its checksum"),
            (lambda raw: raw.replace(b'"version":1', b'"version":2'), "format version 1, but has version 2"),
        ],
    )
    def test_a_damaged_file_is_one_sentence(self, good: RecordedArm, tmp_path: Path, damage: Any, said: str) -> None:
        """Cut short, foreign, edited or of another version: one sentence each, never a traceback."""
        path = tmp_path / "good.json"
        write_baseline(good, path, code="abc")
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(HarnessError, match=said):
            read_baseline(path)

    @pytest.mark.parametrize(
        ("edit", "said"),
        [
            (lambda content: content.pop("cells"), "cells: Field required"),
            (lambda content: content["cells"][0]["trials"][0]["scores"].pop(), "a score a clip, but trial"),
            (lambda content: content.update(columns=["a"]), "must hold clips with clip_id"),
        ],
    )
    def test_a_file_that_somebody_made_is_checked(
        self, good: RecordedArm, tmp_path: Path, edit: Any, said: str
    ) -> None:
        """A right checksum over a wrong content is refused with what is wrong."""
        path = tmp_path / "good.json"
        write_baseline(good, path, code="abc")
        document = json.loads(path.read_bytes())
        edit(document["content"])
        document["sha256"] = checksum(document["content"])
        path.write_text(json.dumps(document))
        with pytest.raises(HarnessError, match=said):
            read_baseline(path)

    def test_a_file_needs_a_name_and_a_place(self, good: RecordedArm, tmp_path: Path) -> None:
        """A name that ends otherwise, or a folder that is not there, is one sentence."""
        with pytest.raises(HarnessError, match=r"must end in \.json or \.json\.gz, but got 'good\.pkl'"):
            write_baseline(good, tmp_path / "good.pkl", code="")
        with pytest.raises(HarnessError, match="must be written to a place that takes it"):
            write_baseline(good, tmp_path / "nowhere" / "good.json", code="")
        with pytest.raises(HarnessError, match="but there is no"):
            read_baseline(tmp_path / "nowhere.json")


class TestCommandLine:
    @pytest.fixture
    def db(self, results: Results, tmp_path: Path) -> str:
        """The tables' address."""
        return f"sqlite:///{tmp_path / 'mlflow.db'}"

    def test_exit_status_table_and_junit_agree(self, asdbench: Any, db: str, tmp_path: Path) -> None:
        """Accepted is 0 and no failure in the JUnit file, refused is 1 and one: official score and machines."""
        assert asdbench("baseline export good:of-good:1 --out good.json.gz --db {db}", db=db)[0] == 0
        status, out, err = asdbench(
            "regress --baseline good.json.gz --candidate again:of-again:1 --junit a.xml --db {db}", db=db
        )
        assert (status, "Accepted." in out) == (0, True), err
        suite = Xml.parse(tmp_path / "a.xml").getroot()[0]
        assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("6", "0", "0")
        assert suite[0].get("name") == "official score"
        status, out, err = asdbench(
            "regress --baseline good.json.gz --candidate bad:of-bad:1 --junit b.xml --db {db} --json", db=db
        )
        document = json.loads(out)
        assert (status, document["accepted"], document["verdict"]) == (1, False, "worse")
        suite = Xml.parse(tmp_path / "b.xml").getroot()[0]
        worse = [row for row in document["rows"] if row["verdict"] == "worse"]
        assert int(suite.get("failures", 0)) == len(worse) >= 1
        assert suite[0].find("failure") is not None

    def test_two_files_need_no_database(self, asdbench: Any, db: str, tmp_path: Path) -> None:
        """Exported files are compared where nothing is recorded."""
        for name in ("good", "bad"):
            assert asdbench("baseline export {name} --out {name}.json --db {db}", name=name, db=db)[0] == 0
        (tmp_path / "mlflow.db").unlink()
        assert asdbench("regress --baseline good.json --candidate good.json --margin 0")[0] == 0
        assert asdbench("regress --baseline good.json --candidate bad.json")[0] == 1
        assert not (tmp_path / "mlflow.db").exists()

    def test_a_comparison_that_cannot_be_made_is_an_error_in_the_junit_file(
        self, asdbench: Any, db: str, tmp_path: Path
    ) -> None:
        """An unknown name is one sentence, exit status 1, and an error, not a failure, for continuous integration."""
        status, out, err = asdbench("regress --baseline good --candidate gut --junit e.xml --db {db}", db=db)
        assert (status, out) == (1, "")
        assert "gut" in err
        suite = Xml.parse(tmp_path / "e.xml").getroot()[0]
        assert (suite.get("failures"), suite.get("errors")) == ("0", "1")

    def test_names_are_escaped_in_the_junit_file(self, results: Results, tmp_path: Path) -> None:
        """Names with markup and control characters give a well-formed file."""
        machine = 'fan "<&>\x01]]>'
        for study in ("x", "y"):
            record(results, backbone=f"<{study}>", clips=clips_of([machine, "valve"]), test_data="d", study=study)
        write_junit(verdict_cases(verdict(results, "x", "y")), tmp_path / "x.xml")
        names = [case.get("name") for case in Xml.parse(tmp_path / "x.xml").getroot()[0]]
        assert names == ["official score", 'fan "<&>�]]>', "valve"]


def test_the_interval_is_at_90(results: Results) -> None:
    """Its ends are two one-sided bounds of 95 %: those of a comparison at 90 %, or the calibrated lower one."""
    record(results, backbone="later", m=1, seeds=range(5), apart=1.4, luck=500, study="later")
    record(results, backbone="sooner", m=1, seeds=range(5), apart=1.5, luck=10, study="sooner")
    arms = [find_arm(results, name) for name in ("sooner", "later")]
    (row,) = (each for each in regress(*arms, resamples=100)["rows"] if each["machine"] is None)
    tables = [arm.table(next(iter(arm.scores)), "dcase2023", tuple(range(5))) for arm in arms]
    found = compare_arms(tables[1], tables[0], "dcase2022", resamples=100, level=0.90)
    assert row["high"] == found.ci_high
    calibrated = margin_low(found.tables, found.spread, delta=found.delta, margin=0.005, level=0.90, paired=True)
    assert row["low"] == min(found.ci_low, calibrated)
