"""The results tables come back from MLflow's runs as they were, and another's runs are taken in with care."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from backbones.contract import EpochReport
from benchmarks.metrics.measures import machine_h_means, measure, official_score
from harness import verbs
from harness.errors import HarnessError
from harness.places import Places, find_places
from harness.scoring.thresholds import Threshold
from harness.statistics.intervals import ClipDraws, score_intervals
from harness.stores import results as tables
from harness.stores.recorder import Recorder
from harness.stores.records import read_record, write_result
from harness.stores.results import Results
from harness.stores.run_names import joined_name, result_metrics
from harness.stores.tracker import Tracker
from harness.trials.contract import Failure
from harness.verbs.stores import open_results
from tests.harness.made_up import RULE, make_result, make_scored, make_spec
from tests.harness.scorefiles.test_measured import ALL, write_cells
from tests.harness.studies.test_cells import drive, driver, study

OURS = ("asd_machine_metrics", "asd_scores", "asd_study_trials", "asd_trials", "asd_studies", "asd_test_clips")


def record_study(recorder: Recorder) -> list[str]:
    """Record a study of four trials and one that failed; return its trials' keys."""
    specs = [make_spec(m=m, seed=seed) for m in (1, 3) for seed in (0, 1)]
    bad = make_spec(m=5)
    keys = [spec.key() for spec in (*specs, bad)]
    parent = recorder.tracker.start_study("k", "toy", tags={}, params={})
    recorder.put_study("k", name="toy", protocol="toy", run_id=parent, planned=5, content="{}", trials=keys)
    for spec in specs:
        recorder.finish(recorder.begin(spec, parent=parent), make_result(spec, shift=float(spec.m or 1)))
    recorder.fail(recorder.begin(bad, parent=parent), bad, Failure("loss became nan."))
    recorder.drop(recorder.begin(bad, parent=parent), "it was interrupted")
    recorder.tracker.finish(parent)
    return keys


def forget(places: Places) -> None:
    """Delete every row of ours."""
    engine = sa.create_engine(places.results)
    with engine.begin() as connection:
        for table in OURS:
            connection.execute(sa.text(f"DELETE FROM {table}"))
    engine.dispose()


def everything(places: Places) -> dict[str, Any]:
    """Every row of ours, and what the study's leaderboard and comparison make of them."""
    return {
        **all_rows(places),
        "leaderboard": verbs.leaderboard(places=places, study="toy"),
        "compare": verbs.compare(places=places, study="toy", resamples=100),
    }


def all_rows(places: Places) -> dict[str, Any]:
    """Every row of ours, without what a database numbers by itself or stamps with the time."""
    with open_results(places) as results:
        keys = results.trial_scores()["key"].tolist()
        trials = results._frame(sa.select(tables.trials).order_by(tables.trials.c.key))
        return {
            "trials": trials.drop(columns=["id", "recorded"]).to_dict("records"),
            "metrics": results.metrics().drop(columns=["trial_id"]).to_dict("records"),
            "clips": {key: frame.to_dict("list") for key, frame in results.clip_scores(keys, "knn").items()},
            "studies": results.studies().drop(columns=["id", "created"]).to_dict("records"),
            "links": sorted(results.study_keys("k")),
        }


def detail_of(places: Places, key: str) -> dict[str, Any]:
    """What the tables keep of one trial as JSON."""
    with open_results(places) as results:
        found: dict[str, Any] = json.loads(results.recorded([key])["detail"].iloc[0])
    return found


def same(left: Any, right: Any) -> bool:
    """Whether two answers are the same to the last bit; a number that is none equals itself."""
    return repr(left) == repr(right)


def test_deleted_rows_come_back(recorder: Recorder, places: Places) -> None:
    """Rows deleted and rebuilt are the same bit for bit; rebuilding once more changes nothing."""
    record_study(recorder)
    before = everything(places)
    forget(places)
    found = verbs.sync(places=places)
    assert (found["taken"], found["unfinished"], found["studies"], found["rows"]) == (5, 1, 1, [])
    assert same(everything(places), before)
    again = verbs.sync(places=places)
    assert (again["taken"], again["there"]) == (0, 5)
    assert verbs.sync(places=places, rewrite=True)["taken"] == 5
    assert same(everything(places), before)


def test_interrupted_rebuilding_goes_on(recorder: Recorder, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle, sync started again ends with every row once."""
    record_study(recorder)
    before = everything(places)
    forget(places)
    put, written = Results.put_result, []

    def two_then_killed(self: Results, *arguments: Any, **options: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        put(self, *arguments, **options)
        written.append(1)

    with monkeypatch.context() as patch:
        patch.setattr(Results, "put_result", two_then_killed)
        with pytest.raises(KeyboardInterrupt):
            verbs.sync(places=places)
    found = verbs.sync(places=places)
    assert (found["taken"], found["there"]) == (3, 2)
    assert same(everything(places), before)


def test_run_in_the_bin_gives_way(recorder: Recorder, places: Places) -> None:
    """Of a trial recorded twice the later run's numbers come back, even when only the earlier was taken before."""
    spec = make_spec()
    for shift in (1.0, 2.0):
        recorder.finish(recorder.begin(spec), make_result(spec, shift=shift))
    wanted = recorder.results.ends([spec.key()])[spec.key()].official["knn"]
    forget(places)
    found = verbs.sync(places=places)
    assert (found["taken"], recorder.results.ends([spec.key()])[spec.key()].official["knn"]) == (1, wanted)
    assert wanted == make_result(spec, shift=2.0).official["knn"]


def test_everything_of_a_result_comes_back(recorder: Recorder, places: Places) -> None:
    """Precision, classes, intervals, thresholds and what was reused come back to the letter."""
    spec = make_spec()
    made = make_result(spec)
    scored = made.scored.assign(score=made.scored["score_knn"])
    result = replace(
        made,
        epochs=(EpochReport(1, 2.0, 0.1, 1e-3, 0.1, classes=3, precision="bfloat16"),),
        intervals={"knn": score_intervals(scored, {"dcase2023": RULE}, draws=ClipDraws(resamples=100))},
        thresholds={
            "knn": (
                Threshold("dcase2023", "fan", "00", 0.1 + 0.2),
                Threshold("dcase2023", "ToyCar", "00", None, "A threshold needs two training clips."),
            )
        },
        reused=("embed",),
    )
    recorder.finish(recorder.begin(spec), result)
    before, rows = detail_of(places, spec.key()), all_rows(places)
    forget(places)
    assert verbs.sync(places=places)["rows"] == []
    assert same(detail_of(places, spec.key()), before)
    assert same(all_rows(places), rows)
    assert before["epochs"][0]["precision"] == "bfloat16"
    assert before["intervals"]["knn"]["rows"] and before["thresholds"]["knn"][1]["value"] is None


def test_pruned_trials_come_back(recorder: Recorder, places: Places) -> None:
    """A trial that its study stopped early is pruned again, with its reason; failed before, it stays pruned."""
    spec = make_spec()
    recorder.fail(recorder.begin(spec), spec, Failure("loss became nan."))
    recorder.prune(recorder.begin(spec), spec, "after epoch 1 at 0.990 of guessing's loss")
    before = all_rows(places)
    forget(places)
    found = verbs.sync(places=places)
    assert (found["taken"], found["unfinished"], found["rows"]) == (2, 0, [])
    assert same(all_rows(places), before)
    assert [row["status"] for row in before["trials"]] == ["pruned"]
    again = verbs.sync(places=places)
    assert (again["taken"], again["there"]) == (0, 2)
    assert same(all_rows(places), before)


def test_cells_of_a_search_stay_with_their_study(places: Places) -> None:
    """A search's trials, which nobody had planned, belong to their study again: its own and those it took over."""
    specs = [make_spec(seed=seed) for seed in (0, 1)]
    with open_results(places) as results:
        recorder = Recorder(Tracker(places.tracking, code="test"), results)
        parent = recorder.tracker.start_study("k", "toy", tags={}, params={})
        recorder.put_study("k", name="toy", protocol="toy", run_id=parent, planned=2, content="{}", trials=[])
        for spec in specs:
            results.link("k", [spec.key()])
            recorder.finish(recorder.begin(spec, parent=parent), make_result(spec))
    before = all_rows(places)
    assert before["links"] == sorted(spec.key() for spec in specs)
    forget(places)
    verbs.sync(places=places)
    assert same(all_rows(places), before)


@pytest.mark.slow
def test_search_says_at_its_end_what_it_took_over(places: Places) -> None:
    """A search that found its cells recorded by another study has them again after rebuilding."""
    tracker = Tracker(places.tracking, code="test")
    for name in ("first", "second"):
        with driver(places, study(name=name, sampler={"name": "tpe"}), tracker=tracker) as cells:
            drive(cells)
    with open_results(places) as results:
        before = {key: sorted(results.study_keys(key)) for key in results.studies()["key"]}
    forget(places)
    verbs.sync(places=places)
    with open_results(places) as results:
        assert {key: sorted(results.study_keys(key)) for key in results.studies()["key"]} == before
    assert [len(keys) for keys in before.values()] == [7, 7]


def test_scorers_of_several_runs_come_back(recorder: Recorder, places: Places) -> None:
    """A trial scored again by another scorer keeps the rows of both; the later run is the one that stands."""
    spec = make_spec()
    first = make_result(spec)
    recorder.finish(recorder.begin(spec), first)
    later = replace(
        first,
        metrics={"lof": first.metrics["knn"]},
        official={"lof": first.official["knn"]},
        machines={"lof": first.machines["knn"]},
        scored=first.scored.rename(columns={"score_knn": "score_lof"}),
    )
    run_id = recorder.begin(spec)
    recorder.finish(run_id, later)
    before = all_rows(places)
    forget(places)
    assert verbs.sync(places=places)["taken"] == 1
    assert same(all_rows(places), before)
    assert recorder.results.scorers_of([spec.key()]) == {spec.key(): ["knn", "lof"]}
    assert recorder.results.run_of(spec.key()) == run_id


def test_runs_of_pretraining_are_no_trials(recorder: Recorder, places: Places) -> None:
    """A run that made weights is passed over without a word."""
    recorder.tracker.finish(recorder.tracker.start_run("pretrain", "p", "pretrain tiny", tags={}, params={}))
    found = verbs.sync(places=places)
    assert (found["taken"], found["unfinished"], found["refused"]) == (0, 0, 0)


def test_odd_names_of_machines(recorder: Recorder, places: Places) -> None:
    """Own recordings' machine types may be called anything: each has its own metrics, and comes back as it is."""
    odd = {"fan": "A&B <x>", "ToyCar": "A+B <x>"}
    scored = make_scored()
    scored["machine"] = scored["machine"].map(odd)
    spec = make_spec()
    metrics = tuple(measure(scored.assign(score=scored["score_knn"]), RULE))
    h_means = {machine: value for (_, machine), value in machine_h_means(metrics, RULE).items()}
    result = replace(
        make_result(spec),
        metrics={"knn": metrics},
        official={"knn": official_score(metrics, RULE)},
        machines={"knn": h_means},
        labels=({"machine": "A&B <x>", "clips": 1, "classes": 3, "singletons": 1, "left_out": 0, "pseudo_labeled": 0,
                 "purity": 0.5},),
        thresholds={"knn": (Threshold("dcase2023", "A&B <x>", "0/0", 1.0),)},
        scored=scored,
    )  # fmt: skip
    run_id = recorder.begin(spec)
    recorder.finish(run_id, result)
    logged = recorder.tracker.client.get_run(run_id).data.metrics
    assert logged == pytest.approx(result_metrics(result))
    assert sorted(value for name, value in logged.items() if name.startswith("h_mean/")) == sorted(h_means.values())
    before = all_rows(places)
    forget(places)
    assert verbs.sync(places=places)["rows"] == []
    assert same(all_rows(places), before)
    assert {row["machine"] for row in before["metrics"]} == set(odd.values())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.text(max_size=70), min_size=1, max_size=3).map(tuple), max_size=4, unique=True))
def test_different_names_stay_apart(names: list[tuple[str, ...]]) -> None:
    """MLflow takes any machine type's name in the form that it is given, and no two become one."""
    given_names = [joined_name(*parts) for parts in names]
    assert len(set(given_names)) == len(names)
    for name in given_names:
        _validate_metric_name(f"auc/{name}")
    assert joined_name("dcase2023", "ToyCar", "00") == "dcase2023.ToyCar.00"


def test_external_system_comes_back(places: Places, tmp_path: Path) -> None:
    """Somebody else's scores stand on the leaderboard and in the report, and again after rebuilding."""
    folder = write_cells(tmp_path / "scores", ALL)
    verbs.score(folder, dataset="dcase2023", resamples=100, record="theirs", places=places)
    rows = verbs.leaderboard(places=places)
    assert [(row["kind"], row["backbone"]) for row in rows] == [("external", "theirs"), ("chance", None)]
    pages = [tmp_path / "before.html", tmp_path / "after.html"]
    verbs.report(pages[0], places=places)
    assert "theirs" in pages[0].read_text() and "external" in pages[0].read_text()
    forget(places)
    assert verbs.sync(places=places)["rows"] == []
    assert same(verbs.leaderboard(places=places), rows)
    verbs.report(pages[1], places=places)
    assert "theirs" in pages[1].read_text()


@pytest.fixture
def elsewhere(tmp_path: Path, empty_mlflow: Path) -> Recorder:
    """Another team's stores."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shutil.copy(empty_mlflow, folder / "mlflow.db")
    found = find_places(tracking=f"sqlite:///{folder / 'mlflow.db'}")
    return Recorder(Tracker(found.tracking, code="theirs"), Results(found.results))


def test_runs_of_another_are_taken_once(recorder: Recorder, elsewhere: Recorder, places: Places) -> None:
    """Another's trials come in with where they are kept; one that was run here too stays ours; again takes nothing."""
    spec = make_spec(m=1)
    run_id = recorder.begin(spec)
    recorder.finish(run_id, make_result(spec))
    record_study(elsewhere)
    found = verbs.sync(elsewhere.tracker.uri, places=places)
    assert (found["taken"], found["there"], found["studies"]) == (4, 1, 1)
    rows = recorder.results.trial_scores().set_index("m")
    assert set(rows.loc[3, "origin"]) == {elsewhere.tracker.uri}
    assert rows[rows["run_id"] == run_id]["origin"].tolist() == [""]
    assert [row["kind"] for row in verbs.leaderboard(places=places, study="toy")] == ["trial", "trial", "chance"]
    assert verbs.sync(elsewhere.tracker.uri, places=places)["taken"] == 0
    assert verbs.sync(places=places, rewrite=True)["taken"] == 1


def test_a_trial_of_another_may_run_again_here(recorder: Recorder, elsewhere: Recorder, places: Places) -> None:
    """Its new run stands here, and the other's store keeps its own."""
    spec = make_spec(m=1)
    elsewhere.finish(elsewhere.begin(spec), make_result(spec))
    assert verbs.sync(elsewhere.tracker.uri, places=places)["taken"] == 1
    run_id = recorder.begin(spec)
    recorder.finish(run_id, make_result(spec))
    assert recorder.results.rows_of([spec.key()]) == {spec.key(): ("finished", run_id, "")}
    assert elsewhere.tracker.finished_run("trial", spec.key()) is not None


def spoil_json(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Return what changes a record."""

    def spoil(folder: Path) -> None:
        path = folder / "trial.json"
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))

    return spoil


def spoil_clips(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    """Return what changes the scored clips."""

    def spoil(folder: Path) -> None:
        path = folder / "clip_scores.parquet"
        change(pd.read_parquet(path)).to_parquet(path)

    return spoil


SPOILT = {
    "no record": lambda folder: (folder / "trial.json").unlink(),
    "no json": lambda folder: (folder / "trial.json").write_text("\x80{"),
    "a list": lambda folder: (folder / "trial.json").write_text("[]"),
    "no scores": lambda folder: (folder / "clip_scores.parquet").unlink(),
    "a pickle": lambda folder: (folder / "clip_scores.parquet").write_bytes(b"cos\nsystem\n(S'touch hit'\ntR."),
    "another seed": spoil_json(lambda record: record["spec"].update(seed=7)),
    "m in words": spoil_json(lambda record: record["spec"].update(m="three")),
    "unknown field": spoil_json(lambda record: record["spec"].update(surprise=1)),
    "unknown machine": spoil_json(lambda record: record["spec"]["protocol"].update(train=["dcase2099/dev"])),
    "score above 1": spoil_json(lambda record: record["official"].update(knn=1.5)),
    "control signs": spoil_json(lambda record: record["spec"]["backbone"].update(name="\x1b[2J")),
    "no metrics": spoil_json(lambda record: record["metrics"].clear()),
    "result without metrics": spoil_json(lambda record: record.pop("metrics")),
    "infinite score": spoil_clips(lambda clips: clips.assign(score_knn=float("inf"))),
    "text as score": spoil_clips(lambda clips: clips.assign(score_knn="high")),
    "clip twice": spoil_clips(lambda clips: pd.concat([clips, clips])),
    "no condition": spoil_clips(lambda clips: clips.drop(columns=["condition"])),
    "number as clip": spoil_clips(lambda clips: clips.assign(clip_id=range(len(clips)))),
}


@pytest.mark.parametrize("how", SPOILT)
def test_malformed_record_is_refused(tmp_path: Path, how: str) -> None:
    """Artifacts that are not what a trial writes are refused with the rule that they break; sound ones are read."""
    spec = make_spec()
    write_result(tmp_path, make_result(spec))
    read = read_record(tmp_path, key=spec.key())
    assert (read.spec, read.result is not None) == (spec, True)
    SPOILT[how](tmp_path)
    with pytest.raises(HarnessError, match="must"):
        read_record(tmp_path, key=spec.key())


@pytest.mark.parametrize("name", ["trial.json", "clip_scores.parquet", "other clips"])
def test_malformed_run_is_refused_alone(recorder: Recorder, elsewhere: Recorder, places: Places, name: str) -> None:
    """A run with a broken artifact, or with other clips under a known fingerprint, is refused; the others are taken."""
    ours = make_spec(seed=9)  # the clips of this test set are known here
    recorder.finish(recorder.begin(ours), make_result(ours))
    bad, good = make_spec(seed=0), make_spec(seed=1)
    run_id = elsewhere.begin(bad)
    elsewhere.finish(run_id, make_result(bad))
    elsewhere.finish(elsewhere.begin(good), make_result(good))
    folder = Path(elsewhere.tracker.client.get_run(run_id).info.artifact_uri.removeprefix("file://"))
    if name == "other clips":
        spoil_clips(lambda clips: clips.assign(clip_id="x/" + clips["clip_id"]))(folder)
    else:
        (folder / name).write_bytes(b"cos\nsystem\n(S'touch hit'\ntR.")
    found = verbs.sync(elsewhere.tracker.uri, places=places)
    assert (found["taken"], [row["run_id"] for row in found["rows"]]) == (1, [run_id])
    assert " must " in found["rows"][0]["reason"]
    assert recorder.results.finished([bad.key(), good.key()]).keys() == {good.key()}


def test_nothing_to_read_is_said(asdbench: Any, tmp_path: Path) -> None:
    """A database that is not there, and one without our runs, are named in a sentence; nothing is made there."""
    status, _, err = asdbench("sync --from sqlite:///nowhere.db")
    assert (status, "there is no such file" in err) == (1, True)
    assert not (tmp_path / "nowhere.db").exists()


def test_command_line_says_what_it_did(recorder: Recorder, asdbench: Any, places: Places) -> None:
    """The verb prints one sentence, and with --json the counts."""
    record_study(recorder)
    forget(places)
    status, out, _ = asdbench(f"sync --db {places.tracking}")
    assert (status, "5 trials taken in, 0 there already, 1 unfinished, 0 refused" in " ".join(out.split())) == (0, True)
    status, out, _ = asdbench(f"sync --db {places.tracking} --json")
    assert (status, json.loads(out)["there"]) == (0, 5)


def test_earlier_tables_are_brought_up_to_date(places: Places) -> None:
    """A database whose tables lack a newer column gets it when it is opened, and keeps its rows."""
    spec = make_spec()
    first = Results(places.results)
    first.put_result(make_result(spec), run_id="r", code="c")
    with first.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE asd_trials DROP COLUMN origin"))
    first.close()
    second = Results(places.results)
    assert second.trial_scores()["origin"].tolist() == [""]
    second.close()
