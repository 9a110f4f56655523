"""A choice is frozen before other recordings are scored, and held to its promise there."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.contract import DatasetPart, Protocol
from harness import verbs
from harness.errors import HarnessError
from harness.gate import frozen_choice
from harness.gate.baseline_file import checksum
from harness.gate.frozen_choice import FrozenChoice, read_frozen
from harness.places import Places, find_places
from harness.stores.recorder import Recorder
from harness.stores.results import Results
from harness.stores.tracker import Tracker
from harness.trials.contract import TrialSpec
from tests.harness.made_up import STUDY_MACHINES, clips_of, record_study, result_of, scored


def recorder_of(places: Places) -> Recorder:
    """The writer of a folder's stores."""
    return Recorder(Tracker(places.tracking, code="test"), Results(places.results))


def put(recorder: Recorder, spec: TrialSpec, *, apart: float, year: str = "dcase2023", name: str = "later") -> None:
    """Record a trial whose anomalies lie this far above normal clips, on clips that the choice has not seen."""
    clips = clips_of(STUDY_MACHINES, year=year)
    clips["clip_id"] = name + "/" + clips["clip_id"]
    run_id = recorder.begin(spec)
    recorder.finish(run_id, result_of(spec, scored(clips, apart=apart, seed=spec.seed)))


@pytest.fixture(scope="module")
def frozen_at(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Path:
    """A folder whose mlflow.db has a study of M = 1 and 3, of which M = 3 is far better, and the choice, frozen."""
    folder = tmp_path_factory.mktemp("frozen")
    shutil.copy(empty_mlflow, folder / "mlflow.db")
    places = find_places(tracking=f"sqlite:///{folder / 'mlflow.db'}")
    recorder = recorder_of(places)
    record_study(recorder, backbones=("beats-small",), m=(1, 3))
    recorder.results.close()
    verbs.select_freeze(folder / "choice.json", resamples=100, places=places)
    with sqlite3.connect(folder / "mlflow.db") as database:  # so that the file alone can be copied
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


@pytest.fixture
def stores(frozen_at: Path, tmp_path: Path) -> Places:
    """A copy of these stores and of the file."""
    for name in ("mlflow.db", "choice.json"):
        shutil.copy(frozen_at / name, tmp_path / name)
    return find_places(tracking=f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def choice(stores: Places, tmp_path: Path) -> FrozenChoice:
    """The frozen choice."""
    return read_frozen(tmp_path / "choice.json")


def record_check(places: Places, choice: FrozenChoice, *, apart: float, **changes: Any) -> None:
    """Record the frozen trials on other test recordings, or trials that differ from them."""
    recorder = recorder_of(places)
    protocol = changes.pop("protocol", choice.spec.protocol)
    test_data, seeds = changes.pop("test_data", "cccc"), changes.pop("seeds", choice.content.seeds)
    for seed, spec in choice.specs(protocol, test_data).items():
        if seed in seeds:
            put(recorder, replace(spec, **changes), apart=apart, name=test_data)
    recorder.results.close()


def test_the_file_says_all_that_a_reader_needs(frozen_at: Path, choice: FrozenChoice) -> None:
    """Choice, seeds, keys, recordings, rule, promise, what holds, method, versions and date stand in readable JSON."""
    document = json.loads((frozen_at / "choice.json").read_text())
    content = document["content"]
    assert document["sha256"] == checksum(content)
    assert (content["chosen"]["m"], content["chosen"]["backbone"], content["chosen"]["scorer"]) == (
        3,
        "beats-small",
        "knn",
    )
    assert (content["seeds"], content["cells"], content["families"]) == ([0, 1], 2, 1)
    assert sorted(content["machines"]) == sorted(STUDY_MACHINES)
    assert (content["train_data"], content["test_data"], content["seen"]) == ("aaaa", "bbbb", ["bbbb"])
    promise = content["promise"]
    assert 0 < promise["ci_low"] < promise["official_score"] < promise["ci_high"] < 1
    assert f"at least {100 * promise['ci_low']:.2f} %" in promise["holds"]
    assert content["libraries"]["numpy"]
    assert content["date"].startswith("20")
    assert content["question"]["resamples"] == 100
    keys = {str(seed): spec.key() for seed, spec in choice.specs(choice.spec.protocol, "bbbb").items()}
    assert content["trials"] == keys
    assert len((frozen_at / "choice.json").read_text().splitlines()) > 50


def test_a_choice_that_keeps_its_promise_held(
    stores: Places, choice: FrozenChoice, tmp_path: Path, asdbench: Any
) -> None:
    """As good on other recordings: exit status 0, the estimate with its interval beside the promise."""
    record_check(stores, choice, apart=2.5)
    status, out, err = asdbench("select --check choice.json --db {db}", db=stores.results)
    assert (status, err) == (0, "")
    assert "Held." in out
    assert "it held, being at least" in " ".join(out.split())
    (row,) = verbs.select_check(tmp_path / "choice.json", places=stores)["rows"]
    assert row["verdict"] == "held"
    assert row["ci_low"] < row["official_score"] < row["ci_high"]
    assert row["promised_low"] == choice.content.promise.ci_low <= row["official_score"]
    assert (row["clips_seen"], row["seeds"]) == (0, [0, 1])
    assert set(row["machines"]) == set(STUDY_MACHINES)


def test_a_choice_that_falls_to_chance_did_not_hold(stores: Places, choice: FrozenChoice, asdbench: Any) -> None:
    """At chance on other recordings: exit status 1, and the sentence says so."""
    record_check(stores, choice, apart=-0.5)
    status, out, _ = asdbench("select --check choice.json --db {db} --json", db=stores.results)
    document = json.loads(out)
    assert (status, document["held"], document["verdict"]) == (1, False, "failed")
    assert "did not hold, as its whole interval lies below" in document["rows"][0]["sentence"]


@pytest.mark.parametrize(("low", "high", "verdict"), [(0.5, 0.7, "held"), (0.2, 0.6, "unclear"), (0.1, 0.39, "failed")])
def test_the_rule_is_the_one_in_the_file(low: float, high: float, verdict: str) -> None:
    """The estimate against the promise's lower end; below it, the interval's upper end decides."""
    from harness.gate.checks import _verdict
    from harness.statistics.estimate import Estimate

    score = 0.5 if verdict == "held" else 0.35
    assert _verdict(Estimate(score, low, high, {}), 0.4) == verdict


def test_two_sets_of_recordings_must_both_hold(stores: Places, choice: FrozenChoice, tmp_path: Path) -> None:
    """One set on which it holds and one on which it fails are two rows, and the choice did not hold."""
    record_check(stores, choice, apart=2.5)
    record_check(stores, choice, apart=-0.5, test_data="dddd")
    checked = verbs.select_check(tmp_path / "choice.json", places=stores)
    assert {row["test_data"]: row["verdict"] for row in checked["rows"]} == {"cccc": "held", "dddd": "failed"}
    assert (checked["held"], checked["verdict"]) == (False, "failed")


def test_other_parts_may_be_scored_under_the_same_rules(stores: Places, choice: FrozenChoice, tmp_path: Path) -> None:
    """A protocol of another name that scores another part, and is else the same, checks the choice."""
    protocol = Protocol("eval", choice.spec.protocol.train, (DatasetPart("dcase2023", "eval"),))
    record_check(stores, choice, apart=2.5, protocol=protocol)
    (row,) = verbs.select_check(tmp_path / "choice.json", places=stores)["rows"]
    assert (row["protocol"], row["verdict"]) == ("eval", "held")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (None, "none is recorded yet; run them with `asdbench select --check .*choice.json --data ROOT`"),
        ({"seeds": [0]}, "is not recorded with 1; run it with `asdbench select --check .* --data ROOT`"),
        ({"k1": 3}, "is not recorded with 0, 1"),
        ({"train_data": "other"}, "none is recorded yet"),
        ({"min_confidence": 0.5}, "none is recorded yet"),
        (
            {"protocol": Protocol("cased", (DatasetPart("dcase2023", "dev"),), (DatasetPart("dcase2023", "dev"),),
                                  cases={"fan": "direct"})},
            "only what is scored may differ, but protocol cased has another cases",
        ),
    ],
)  # fmt: skip
def test_what_is_not_the_frozen_trial_does_not_count(
    stores: Places, choice: FrozenChoice, tmp_path: Path, changes: dict[str, Any] | None, said: str
) -> None:
    """No trial, a missing seed, another K1, recipe, protocol or training set: refused with the way out."""
    if changes is not None:
        record_check(stores, choice, apart=2.5, **changes)
    with pytest.raises(HarnessError, match=said):
        verbs.select_check(tmp_path / "choice.json", places=stores)


def test_recordings_that_were_scored_before_do_not_count(stores: Places, choice: FrozenChoice, tmp_path: Path) -> None:
    """Test recordings on which anything was scored when the choice was frozen are no check of it."""
    record_check(stores, choice, apart=2.5, test_data="early")
    verbs.select_freeze(tmp_path / "late.json", protocol="toy", study="made-up", resamples=100, places=stores)
    assert read_frozen(tmp_path / "late.json").content.seen == ["bbbb", "early"]
    with pytest.raises(HarnessError, match=r"nobody had scored before, but protocol toy \(early\) had been when"):
        verbs.select_check(tmp_path / "late.json", places=stores)


def test_names_of_clips_that_it_was_chosen_on_are_said(stores: Places, choice: FrozenChoice, tmp_path: Path) -> None:
    """Clips that have the names of those it was chosen on may be the same ones, so the sentence counts them."""
    recorder = recorder_of(stores)
    for seed, spec in choice.specs(choice.spec.protocol, "again").items():
        key = choice.content.trials[str(seed)]
        table = recorder.results.clip_scores([key], "knn")[key].rename(columns={"score": "score_knn"})
        recorder.finish(recorder.begin(spec), result_of(spec, table))
    recorder.results.close()
    (row,) = verbs.select_check(tmp_path / "choice.json", places=stores)["rows"]
    assert row["clips_seen"] == row["clips"] == 5 * 60
    assert "300 of 300 clips have names of clips that it was chosen on" in row["sentence"]


class TestFiles:
    def edited(
        self, frozen_at: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], object], *, signed: bool
    ) -> Path:
        """The file with its content edited, with a right checksum or the old one."""
        document = json.loads((frozen_at / "choice.json").read_text())
        edit(document["content"])
        if signed:
            document["sha256"] = checksum(document["content"])
        (tmp_path / "edited.json").write_text(json.dumps(document))
        return tmp_path / "edited.json"

    @pytest.mark.parametrize(
        "edit",
        [
            lambda c: c["promise"].update(ci_low=0.1),
            lambda c: c["chosen"].update(m=1),
            lambda c: c["seen"].clear(),
            lambda c: c["seeds"].pop(),
            lambda c: c.update(date="2020-01-01T00:00:00+00:00"),
        ],
    )
    def test_a_change_by_hand_is_noticed(self, frozen_at: Path, tmp_path: Path, edit: Any) -> None:
        """Whatever is changed, the checksum no longer fits, and the sentence says what to do."""
        with pytest.raises(HarnessError, match="it was changed by hand; take the original file, or freeze anew"):
            read_frozen(self.edited(frozen_at, tmp_path, edit, signed=False))

    @pytest.mark.parametrize(
        ("edit", "said"),
        [
            (lambda c: c["chosen"].update(m=1), "must name the trials that its spec gives, but names others"),
            (lambda c: c["spec"].update(k1=3), "must name the trials that its spec gives"),
            (lambda c: c.update(method=99), "was frozen under method 99, but this version computes method"),
            (lambda c: c["promise"].update(ci_low=-1.06), "promise.ci_low: Input should be greater than or equal to 0"),
            (lambda c: c.pop("seeds"), "seeds: Field required"),
            (lambda c: c["spec"].pop("protocol"), "A trial's spec must be whole"),
        ],
    )
    def test_a_file_that_somebody_signed_is_checked(
        self, frozen_at: Path, tmp_path: Path, edit: Any, said: str
    ) -> None:
        """A right checksum over a content that no freezing gives is refused with what is wrong."""
        with pytest.raises(HarnessError, match=said):
            read_frozen(self.edited(frozen_at, tmp_path, edit, signed=True))

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "it is no JSON"), (b"\xff\xfe", "it is no JSON"), (b"[" * 100_000, "it is no JSON"),
            (b"[]", "but it is something else"), (b'{"format": "asdbench-baseline"}', "but it is something else"),
            (b'{"format": "asdbench-frozen-choice", "version": 2}', "format version 1, but has version 2"),
            (b'{"format": "asdbench-frozen-choice", "version": 1}', "does not match its checksum"),
        ],
    )  # fmt: skip
    def test_another_file_is_one_sentence(self, tmp_path: Path, content: bytes, said: str) -> None:
        """Empty, binary, nested without end, of another kind or version."""
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(HarnessError, match=said):
            read_frozen(tmp_path / "x.json")
        with pytest.raises(HarnessError, match="but there is no"):
            read_frozen(tmp_path / "none.json")

    def test_a_method_that_rose_is_said(self, frozen_at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file of an earlier method is refused by name, not as if somebody had changed it."""
        monkeypatch.setattr(frozen_choice, "METHOD", 99)
        with pytest.raises(HarnessError, match="but this version computes method 99, whose numbers differ"):
            read_frozen(frozen_at / "choice.json")

    def test_a_choice_is_frozen_once(self, stores: Places, tmp_path: Path) -> None:
        """A file that is there is never replaced; another name or place is one sentence."""
        for name, said in (("choice.json", "exists already"), ("a.txt", "must end in .json"), ("no/a.json", "a place")):
            with pytest.raises(HarnessError, match=said):
                verbs.select_freeze(tmp_path / name, resamples=100, places=stores)


class TestWinner:
    def row(self, **changes: Any) -> dict[str, Any]:
        """A selection's row."""
        known = {"chosen_on": "other machines", "labels": "paper", "protocol": "p", "dataset": "d", "train_data": "a",
                 "test_data": "b", "official_score": 0.6}  # fmt: skip
        return {**known, **changes}

    def test_the_best_family_is_frozen(self) -> None:
        """Of several backbones or scorers the best on machines left out, and how many there were; never the truth."""
        rows = [self.row(), self.row(official_score=0.7), self.row(official_score=0.9, labels="truth"),
                self.row(official_score=0.8, chosen_on="other years")]  # fmt: skip
        assert frozen_choice.winner(rows) == (rows[1], 2)
        with pytest.raises(HarnessError, match="by labels that others could make"):
            frozen_choice.winner(rows[2:])

    def test_several_recordings_are_refused(self) -> None:
        """Two sets of recordings are two questions."""
        with pytest.raises(HarnessError, match=r"have 2: p on d \(a-b\); p on d \(a-c\); choose one with --study"):
            frozen_choice.winner([self.row(), self.row(test_data="c")])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("select --check choice.json --study made-up", "--study does not go with --check"),
        ("select --check choice.json --freeze b.json", "--freeze does not go with --check"),
        ("select --check choice.json --protocol toy", "--protocol does not go with --check"),
        ("select --check choice.json --seed 3", "--resamples and --seed do not go with --check"),
        ("select --data .", "--data goes with --check FILE"),
        ("select --skip-bad", "--skip-bad goes with --check FILE"),
        ("select --threads 2", "--threads goes with --check FILE"),
    ],
)
def test_options_that_contradict_one_another_are_usage_errors(asdbench: Any, line: str, said: str) -> None:
    """Filters beside --check would ask for something else than what was frozen."""
    status, _, err = asdbench(line)
    assert status == 2
    assert said in " ".join(err.replace("│", " ").split())


def test_freezing_prints_the_sum_to_publish(stores: Places, tmp_path: Path, asdbench: Any) -> None:
    """`asdbench select --freeze` says what it promises, what holds, the checksum and the later command."""
    status, out, err = asdbench("select --freeze new.json --resamples 100 --db {db}", db=stores.results)
    said = " ".join(out.split())
    assert (status, err) == (0, "")
    assert "It promises" in said and "It holds on other test recordings if" in said
    assert read_frozen(tmp_path / "new.json").sha256 in said.replace(" ", "")
    assert "asdbench select --check new.json --data ROOT" in said


@pytest.mark.slow
def test_a_choice_is_run_on_other_recordings_as_it_was_frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asdbench: Any
) -> None:
    """The frozen trials run on new test clips beside the same training clips, and on nothing else."""
    monkeypatch.setenv("ASDBENCH_CACHE", str(tmp_path / "cache"))
    old, new = tmp_path / "old", tmp_path / "new"
    chosen = {"machines": ["fan", "valve"], "train_source": 8, "train_target": 2, "test_per_cell": 4, "seconds": 1.0}
    verbs.data_generate(old, "dcase2023", **chosen)
    shutil.copytree(old, new)
    verbs.data_generate(tmp_path / "other", "dcase2023", **chosen, seed=5)
    for folder in new.rglob("test"):
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "other" / folder.relative_to(new), folder)
    places = find_places(tracking=f"sqlite:///{tmp_path / 'mlflow.db'}")
    for m in (1, 2):
        verbs.trial(
            old, protocol="dcase2023", backbone="tiny", m=m, k1=3, k2=3, places=places,
            recipe={"epochs": 1, "batch_size": 8, "clip_seconds": 1.0}, options={"dim": 8, "width": 2},
        )  # fmt: skip
    file = tmp_path / "choice.json"
    verbs.select_freeze(file, resamples=100, places=places)
    with pytest.raises(HarnessError, match=r"but .*old has the very same \(.*\); name the folder of the new ones"):
        verbs.select_check(file, data=old, places=places)
    status, out, err = asdbench(
        "select --check {file} --data {new} --db {db} --json", file=file, new=new, db=places.results
    )
    document = json.loads(out)
    assert status == (0 if document["held"] else 1), err
    (row,) = document["rows"]
    assert row["clips_seen"] == row["clips"] == 32  # generated names are the same, the sounds are not
    again = verbs.select_check(file, places=places)
    assert again["rows"] == document["rows"]
    there = next((tmp_path / "other").rglob("train"))
    shutil.copytree(there, new / there.relative_to(tmp_path / "other"), dirs_exist_ok=True)
    with pytest.raises(HarnessError, match="checked with the same training recordings"):
        verbs.select_check(file, data=new, places=places)
