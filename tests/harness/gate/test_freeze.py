"""A choice is frozen before other recordings are scored, and held to its promise there."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from backbones.contract import BackboneError
from benchmarks.contract import DatasetPart, Protocol
from benchmarks.protocols import find_protocol
from harness import verbs
from harness.errors import HarnessError
from harness.gate import checks, fresh, frozen_choice
from harness.gate.baseline_file import checksum
from harness.gate.frozen_choice import FrozenChoice, read_frozen
from harness.gate.weights import weights_here
from harness.places import Places, find_places
from harness.stores.readings import TEST_COLUMNS
from harness.stores.recorder import Recorder
from harness.stores.results import Results
from harness.stores.tracker import Tracker
from harness.trials.choices import choose_backbone
from harness.trials.contract import TrialSpec
from harness.trials.recordings import prepare_recordings
from tests.harness.made_up import STUDY_MACHINES, clips_of, make_spec, quick_spec, record_study, result_of, scored


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
    assert promise["level"] == 0.95 and "whole 95 % interval" in promise["holds"]
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


def test_whatever_was_scored_when_it_was_frozen_was_seen(stores: Places, choice: FrozenChoice, tmp_path: Path) -> None:
    """Trials of other training recordings have scored their test recordings, too."""
    record_check(stores, choice, apart=2.5, test_data="elsewhere", train_data="other")
    verbs.select_freeze(tmp_path / "late.json", study="made-up", resamples=100, places=stores)
    assert read_frozen(tmp_path / "late.json").content.seen == ["bbbb", "elsewhere"]


@pytest.mark.parametrize("seconds", [-1, 1])
def test_a_trial_that_had_ended_before_the_freeze_does_not_count(
    stores: Places, choice: FrozenChoice, tmp_path: Path, seconds: int
) -> None:
    """What another database had recorded before, and brought here later, is known by when its run ended."""
    with contextlib.closing(Results(stores.results)) as results:
        for seed, spec in choice.specs(choice.spec.protocol, "cccc").items():
            clips = clips_of(STUDY_MACHINES).assign(clip_id=lambda table: "new/" + table["clip_id"])
            results.put_result(
                result_of(spec, scored(clips, apart=2.5, seed=seed)), run_id=f"run-{seed}", code="test",
                recorded=choice.moment + timedelta(seconds=seconds),
            )  # fmt: skip
        specs = choice.specs(choice.spec.protocol, "cccc")

        def checked() -> checks.Checked:
            return checks.check(choice, results, file="choice.json", spec_of=lambda _: specs[0], resamples=100)

        if seconds > 0:
            assert checked()["verdict"] == "held"
        else:
            with pytest.raises(
                HarnessError, match=r"after the choice was frozen on .* that of seed 0 had ended before"
            ):
                checked()


def test_names_of_clips_that_it_was_chosen_on_are_said(stores: Places, choice: FrozenChoice, tmp_path: Path) -> None:
    """Clips that have the names of those it was chosen on may be the same ones, so they cannot tell."""
    recorder = recorder_of(stores)
    for seed, spec in choice.specs(choice.spec.protocol, "again").items():
        key = choice.content.trials[str(seed)]
        table = recorder.results.clip_scores([key], "knn")[key].rename(columns={"score": "score_knn"})
        recorder.finish(recorder.begin(spec), result_of(spec, table))
    recorder.results.close()
    (row,) = verbs.select_check(tmp_path / "choice.json", places=stores)["rows"]
    assert row["clips_seen"] == row["clips"] == 5 * 60
    assert row["verdict"] == "unclear"
    assert "cannot tell, as 300 of 300 clips have names of clips that it was chosen on" in row["sentence"]


def test_trials_of_several_years_are_frozen_for_one(stores: Places, choice: FrozenChoice, tmp_path: Path) -> None:
    """A protocol that scores two years at once: without a year the error says how, with one its promise is frozen."""
    recorder = recorder_of(stores)
    years = pd.concat([clips_of(STUDY_MACHINES, year=year) for year in ("dcase2023", "dcase2024")], ignore_index=True)
    for m, apart in ((1, 1.0), (3, 2.0)):
        spec = replace(choice.spec, m=m, test_data="both", protocol=replace(choice.spec.protocol, name="two-years"))
        recorder.finish(recorder.begin(spec), result_of(spec, scored(years, apart=apart, seed=0)))
    recorder.results.close()
    with pytest.raises(HarnessError, match="choose one with --study, --protocol or --year"):
        verbs.select_freeze(tmp_path / "two.json", protocol="two-years", resamples=100, places=stores)
    verbs.select_freeze(tmp_path / "two.json", protocol="two-years", year="dcase2024", resamples=100, places=stores)
    content = read_frozen(tmp_path / "two.json").content
    assert (content.years, content.chosen["m"], content.question["year"]) == (["dcase2024"], 3, "dcase2024")


def test_a_part_of_the_recordings_it_was_chosen_on_cannot_tell(
    stores: Places, choice: FrozenChoice, tmp_path: Path
) -> None:
    """A subset has another fingerprint and the same clips; the file knows them, also beside an empty database."""
    shutil.copy(tmp_path / "choice.json", tmp_path / "elsewhere.json")
    with contextlib.closing(Results(stores.results)) as results:
        chosen = results.test_set("bbbb")
    assert chosen is not None
    assert set(choice.content.clips.items()) == {(clip, "") for clip in chosen["clip_id"]}
    with contextlib.closing(Results(f"sqlite:///{tmp_path / 'empty.db'}")) as empty:
        specs = choice.specs(choice.spec.protocol, "subset")
        table = pd.concat([chosen[1:], clips_of(STUDY_MACHINES)[:7].assign(clip_id=[f"new{i}" for i in range(7)])])
        for seed, spec in specs.items():
            empty.put_result(result_of(spec, scored(table, apart=2.5, seed=seed)), run_id=f"r{seed}", code="test")
        checked = checks.check(choice, empty, file="choice.json", spec_of=lambda _: specs[0], resamples=100)
    (row,) = checked["rows"]
    assert (checked["held"], row["verdict"], row["clips_seen"], row["clips"]) == (False, "unclear", 299, 306)
    assert row["official_score"] > row["promised_low"]


def test_clips_are_known_by_sound_where_both_sides_have_it(choice: FrozenChoice) -> None:
    """A copy of another name was seen; another sound of the same name was not; without sounds names are compared."""
    (first, second, *_), whole = choice.content.clips, choice.content
    clips = {first: "sound a", "renamed": "sound b", "new": "sound c"}
    heard = replace(choice, content=whole.model_copy(update={"clips": {first: "sound x", second: "sound b"}}))
    assert fresh.seen_clips(heard, clips) == ["renamed"]
    assert fresh.seen_clips(heard, dict.fromkeys(clips, "")) == fresh.seen_clips(choice, clips) == [first]
    with pytest.raises(
        HarnessError, match=r"1 of 3 test clips of here sound as clips that .* [(]first renamed[)]; name"
    ):
        fresh.demand_other_clips(heard, clips, named="here")
    with pytest.raises(HarnessError, match=r"1 of 3 test clips of here have the names .* samples cannot be compared"):
        fresh.demand_other_clips(choice, clips, named="here")
    fresh.demand_other_clips(heard, {first: "sound a"}, named="here")


def test_copies_of_what_it_was_chosen_on_are_refused_before_anything_runs(
    stores: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen with its recordings, the file has their sounds: a subset under other names is refused, and counted."""
    monkeypatch.setenv("ASDBENCH_CACHE", str(tmp_path / "cache"))
    places, root = find_places(tracking=stores.tracking), tmp_path / "root"
    verbs.data_generate(
        root, "dcase2023", machines=["fan", "valve"], train_source=3, train_target=1, test_per_cell=2, seconds=0.5
    )
    protocol = find_protocol("dcase2023")
    recordings = prepare_recordings(root, protocol, places.open_cache())
    recorder = recorder_of(places)
    for m in (1, 2):
        spec = quick_spec(protocol, recordings, m=m)
        table = scored(recordings.test[TEST_COLUMNS].astype(object), apart=float(m), seed=0)
        recorder.finish(recorder.begin(spec), result_of(spec, table))
    recorder.results.close()
    asked: dict[str, Any] = {"protocol": "dcase2023", "resamples": 100, "places": places}
    verbs.select_freeze(tmp_path / "heard.json", data=root, **asked)
    assert len(read_frozen(tmp_path / "heard.json").sounds()) == len(recordings.test)
    gone, renamed = sorted(root.rglob("test/*.wav"))[:2]
    gone.unlink()
    renamed.rename(renamed.with_name(renamed.name.replace("_0000", "_0099").replace("_0001", "_0099")))
    assert not renamed.exists()
    left = len(recordings.test) - 1
    with pytest.raises(HarnessError, match=f"{left} of {left} test clips of .*root sound as clips that it was chosen"):
        verbs.select_check(tmp_path / "heard.json", data=root, places=places)
    with pytest.raises(HarnessError, match=r"frozen with the test recordings that it is chosen on, but .*root has"):
        verbs.select_freeze(tmp_path / "again.json", data=root, **asked)


def test_weights_are_found_by_name_where_they_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of another machine is not asked for: a file of that name and sum is taken, and keys stay."""
    monkeypatch.setenv("ASDBENCH_WEIGHTS", str(tmp_path / "here"))
    monkeypatch.chdir(tmp_path)
    for folder in ("there", "here"):
        (tmp_path / folder).mkdir()
    (tmp_path / "there" / "own.pt").write_bytes(b"numbers")
    chosen = choose_backbone("mine", "beats", weights=str(tmp_path / "there" / "own.pt"))
    assert weights_here(chosen) == chosen
    (tmp_path / "there" / "own.pt").rename(tmp_path / "here" / "own.pt")
    found = weights_here(chosen)
    assert found == replace(chosen, weights=str(tmp_path / "here" / "own.pt"))
    assert make_spec(backbone=found).key() == make_spec(backbone=chosen).key()
    (tmp_path / "there" / "own.pt").write_bytes(b"others")  # under the old path, but not the chosen ones
    assert weights_here(chosen) == found
    (tmp_path / "here" / "own.pt").unlink()
    with pytest.raises(HarnessError, match=r"checked with the same weights, but .*there/own.pt has the sum"):
        weights_here(chosen)
    (tmp_path / "there" / "own.pt").unlink()
    with pytest.raises(BackboneError, match=r"there/own.pt"):
        weights_here(chosen)
    assert weights_here(make_spec().backbone) == make_spec().backbone


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
            (lambda c: c.update(date="yesterday"), "date: Value error, Invalid isoformat string"),
            (lambda c: c.update(date="2026-01-01"), "date: Value error, must say its time zone"),
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
            (b'{"format": "asdbench-frozen-choice", "version": 1}', "format version 2, but has version 1"),
            (b'{"format": "asdbench-frozen-choice", "version": 2}', "does not match its checksum"),
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

    def test_of_two_that_freeze_at_once_one_does(
        self, choice: FrozenChoice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that another process made after this one had looked is left as it is, and nothing lies beside it."""
        (tmp_path / "both").mkdir()
        frozen_choice.write_frozen(choice, tmp_path / "both" / "x.json")
        first = (tmp_path / "both" / "x.json").read_bytes()
        monkeypatch.setattr(Path, "exists", lambda path: False)
        with pytest.raises(HarnessError, match=r"but .*x.json exists already; name another file"):
            frozen_choice.write_frozen(replace(choice, sha256="0" * 64), tmp_path / "both" / "x.json")
        assert [(each.name, each.read_bytes()) for each in (tmp_path / "both").iterdir()] == [("x.json", first)]


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
        with pytest.raises(
            HarnessError, match=r"have 2: p on d \(a-b\); p on d \(a-c\); choose one with --study or --p"
        ):
            frozen_choice.winner([self.row(), self.row(test_data="c")])

    def test_of_several_years_one_is_named(self) -> None:
        """Trials that score several years at once are frozen for one of them, and the error says how."""
        rows = [self.row(), self.row(official_score=0.7), self.row(dataset="e", official_score=0.9)]
        with pytest.raises(HarnessError, match=r"choose one with --study, --protocol or --year\."):
            frozen_choice.winner(rows)
        assert frozen_choice.winner(rows, year="d") == (rows[1], 2)
        with pytest.raises(HarnessError, match="year to choose on"):
            frozen_choice.winner(rows, year="f")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("select --check choice.json --study made-up", "--study does not go with --check"),
        ("select --check choice.json --freeze b.json", "--freeze does not go with --check"),
        ("select --check choice.json --protocol toy", "--protocol does not go with --check"),
        ("select --check choice.json --seed 3", "--resamples and --seed do not go with --check"),
        ("select --data .", "--data goes with --check FILE"),
        ("select --skip-bad", "--skip-bad goes with --data"),
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
    verbs.select_freeze(file, resamples=100, data=old, places=places)
    with pytest.raises(HarnessError, match=r"but .*old has the very same \(.*\); name the folder of the new ones"):
        verbs.select_check(file, data=old, places=places)
    status, out, err = asdbench(
        "select --check {file} --data {new} --db {db} --json", file=file, new=new, db=places.results
    )
    document = json.loads(out)
    assert status == (0 if document["held"] else 1), err
    (row,) = document["rows"]
    assert (row["clips_seen"], row["clips"]) == (0, 32)  # generated names are the same, the sounds are not
    (again,) = verbs.select_check(file, places=places)["rows"]
    assert (again["clips_seen"], again["verdict"]) == (32, "unclear")
    assert "--data ROOT compares their samples" in again["sentence"]
    there = next((tmp_path / "other").rglob("train"))
    shutil.copytree(there, new / there.relative_to(tmp_path / "other"), dirs_exist_ok=True)
    with pytest.raises(HarnessError, match="checked with the same training recordings"):
        verbs.select_check(file, data=new, places=places)
