"""Runs of others are taken in with care: what is not MLflow's is not opened, what does not add up is refused."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness import verbs
from harness.errors import HarnessError
from harness.places import find_places
from harness.stores.recorder import Recorder
from harness.stores.records import read_record, write_result
from harness.stores.results import Results
from harness.stores.tracker import Tracker
from harness.trials.measures import scorer_intervals
from tests.harness.made_up import make_result, make_spec
from tests.hostile.sockets import listening

GOOD, BAD = make_spec(seed=1), make_spec(seed=0)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another team's folder with two recorded trials."""
    folder = tmp_path_factory.mktemp("theirs")
    places = find_places(tracking=f"sqlite:///{folder / 'mlflow.db'}")
    results = Results(places.results)
    recorder = Recorder(Tracker(places.tracking, code="theirs"), results)
    for spec in (BAD, GOOD):
        recorder.finish(recorder.begin(spec), make_result(spec))
    results.close()
    with closing(sqlite3.connect(folder / "mlflow.db")) as own, closing(sqlite3.connect(folder / "copy.db")) as copy:
        own.backup(copy)  # whole, and nobody is at it
        copy.execute("pragma journal_mode=delete")
    return folder


def change(path: Path, *statements: str) -> None:
    """Change a database."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def take(path: Path, tmp_path: Path) -> dict[str, Any]:
    """Take a database's trials into a new one."""
    return verbs.sync(f"sqlite:///{path}", places=find_places(tracking=f"sqlite:///{tmp_path / 'ours.db'}"))


def empty(path: Path) -> None:
    """A file without a byte, which SQLite would open."""
    path.touch()


def foreign(path: Path) -> None:
    """Another program's database."""
    change(path, "create table x (a)", "insert into x values (1)")


def half_foreign(path: Path) -> None:
    """A database of ours alone, without MLflow's tables."""
    change(path, "create table asd_trials (a)", "create table alembic_version (version_num)")


THINGS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda path: None, "no such file"),
    "empty": (empty, "has no table"),
    "text": (lambda path: path.write_text("hello" * 1000), "must be a file of SQLite"),
    "one byte": (lambda path: path.write_bytes(b"S"), "must be a file of SQLite"),
    "a database's first line alone": (lambda path: path.write_bytes(b"SQLite format 3\x00"), "has no table|whole file"),
    "half a header": (lambda path: path.write_bytes(b"SQLite format 3\x00" + bytes(5000)), "has no table|whole file"),
    "foreign": (foreign, "has no table"),
    "ours alone": (half_foreign, "has no table"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "named pipe": (os.mkfifo, "is a named pipe"),
    "socket": (listening, "is a socket"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
}


@pytest.mark.parametrize("thing", THINGS)
def test_what_is_not_mlflows_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thing: str) -> None:
    """A file that is not MLflow's database is refused in one sentence, and not a byte of it changes."""
    monkeypatch.chdir(tmp_path)
    make, answer = THINGS[thing]
    path = tmp_path / "theirs.db"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(HarnessError, match=answer):
        take(path, tmp_path)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert not [each for each in tmp_path.iterdir() if each.name.startswith("theirs.db-")]


SCHEMAS: dict[str, tuple[str, str]] = {
    "without runs": ("drop table runs", "no table runs"),
    "without tags": ("drop table tags", "no table tags"),
    "without a version": ("drop table alembic_version", "no table alembic_version"),
    "of no version": ("delete from alembic_version", "another one|earlier one"),
    "of an earlier version": ("update alembic_version set version_num = '451aebb31d03'", "mlflow db upgrade"),
    "of a later version": ("update alembic_version set version_num = 'ffffffffffff'", "another one"),
    "of a strange version": ("update alembic_version set version_num = 'v3.2.0.a'", "another one"),
}


@pytest.mark.parametrize("which", SCHEMAS)
def test_other_schema_is_not_brought_up_to_date(source: Path, tmp_path: Path, which: str) -> None:
    """MLflow's database of another version is refused with what to do, and is as it was."""
    statement, answer = SCHEMAS[which]
    path = tmp_path / "theirs.db"
    shutil.copy(source / "copy.db", path)
    change(path, statement)
    before = path.read_bytes()
    with pytest.raises(HarnessError, match=answer):
        take(path, tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "address", ["mysql://u:secretpw@h/d", "mssql://x", "sqlite+aiosqlite:///x", "oracle://x", "x://y"]
)
def test_a_driver_that_is_missing_is_one_sentence(tmp_path: Path, address: str) -> None:
    """A source whose package is not installed is refused, without the password in its address."""
    with pytest.raises(HarnessError, match=" must ") as error:
        verbs.sync(address, places=find_places(tracking=f"sqlite:///{tmp_path / 'ours.db'}"))
    assert "secretpw" not in str(error.value)
    assert "\n" not in str(error.value)


def run_of(path: Path) -> str:
    """The run that is made bad."""
    with closing(sqlite3.connect(path)) as connection:
        ((run_id,),) = connection.execute(
            f"select run_uuid from tags where key = 'asd.key' and value = '{BAD.key()}'"
        ).fetchall()
    return str(run_id)


RUNS: dict[str, tuple[str, str]] = {
    "on S3": ("artifact_uri = 's3://bucket/x'", "Artifacts must"),
    "on SFTP": ("artifact_uri = 'sftp://127.0.0.1:9/x'", "Artifacts must"),
    "on FTP": ("artifact_uri = 'ftp://127.0.0.1:9/x'", "Artifacts must"),
    "on HDFS": ("artifact_uri = 'hdfs://127.0.0.1:9/x'", "Artifacts must"),
    "on Azure": ("artifact_uri = 'wasbs://a@b.blob.core.windows.net/x'", "Artifacts must"),
    "on a server without one": ("artifact_uri = 'mlflow-artifacts:/x'", "Artifacts must"),
    "of another run": ("artifact_uri = 'runs:/x/y'", "Artifacts must"),
    "of no scheme": ("artifact_uri = 'nonsense://x'", "Artifacts must"),
    "in /etc": ("artifact_uri = '/etc'", "trial.json must be there"),
    "in file:///etc": ("artifact_uri = 'file:///etc'", "trial.json must be there"),
    "of another host": ("artifact_uri = 'file://elsewhere/etc'", "must"),
    "above its folder": ("artifact_uri = artifact_uri || '/../../../..'", "trial.json must be there"),
    "that ended in year 1": ("end_time = -62135596800000", "between the year 2000 and now"),
    "that ended in year 30000": ("end_time = 884541351600000", "between the year 2000 and now"),
    "that ended at 2^63 - 1": ("end_time = 9223372036854775807", "between the year 2000 and now"),
    "that ended tomorrow year": ("end_time = end_time + 31536000000", "between the year 2000 and now"),
    "that began in 1970": ("start_time = 1", "between the year 2000 and now"),
    "that ended before it began": ("start_time = end_time + 3600000", "must end after it began|year 2000 and now"),
    "that ended in words": ("end_time = 'abc'", "between the year 2000 and now"),
    "that ended at infinity": ("end_time = 9e999", "between the year 2000 and now"),
}


@pytest.mark.parametrize("which", RUNS)
def test_impossible_run_is_refused_alone(source: Path, tmp_path: Path, which: str) -> None:
    """A run that cannot be read, or cannot be, is refused by name; the other one is taken."""
    what, answer = RUNS[which]
    path = tmp_path / "theirs.db"
    shutil.copy(source / "copy.db", path)
    run_id = run_of(path)
    change(path, f"update runs set {what} where run_uuid = '{run_id}'")
    found = take(path, tmp_path)
    assert (found["taken"], [row["run_id"] for row in found["rows"]]) == (1, [run_id])
    assert any(each in found["rows"][0]["reason"] for each in answer.split("|"))


def told(change_it: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """A change of what trial.json says."""

    def forge(folder: Path) -> None:
        record = json.loads((folder / "trial.json").read_text())
        change_it(record)
        (folder / "trial.json").write_text(json.dumps(record))

    return forge


def scored(change_it: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    """A change of the clips' scores."""

    def forge(folder: Path) -> None:
        path = folder / "clip_scores.parquet"
        change_it(pd.read_parquet(path)).to_parquet(path, index=False)

    return forge


def all_ones(record: dict[str, Any]) -> None:
    """Numbers that agree with each other, and with no clip."""
    record["official"]["knn"] = 1.0
    record["machines"]["knn"] = dict.fromkeys(record["machines"]["knn"], 1.0)
    for each in record["metrics"]["knn"]:
        each.update(dict.fromkeys(("auc", "s_auc", "t_auc", "p_auc"), 1.0))


LIES: dict[str, Callable[[Path], None]] = {
    "a better official score": told(lambda record: record["official"].update(knn=1.0)),
    "no official score": told(lambda record: record["official"].update(knn=None)),
    "a little better": told(lambda record: record["official"].update(knn=record["official"]["knn"] + 1e-6)),
    "a better machine type": told(lambda record: record["machines"]["knn"].update(fan=0.999)),
    "a machine type too many": told(lambda record: record["machines"]["knn"].update(valve=0.5)),
    "a machine type too few": told(lambda record: record["machines"]["knn"].pop("fan")),
    "a better AUC": told(lambda record: record["metrics"]["knn"][0].update(auc=1.0)),
    "a better source AUC": told(lambda record: record["metrics"]["knn"][0].update(s_auc=1.0)),
    "a worse target AUC": told(lambda record: record["metrics"]["knn"][1].update(t_auc=0.0)),
    "no partial AUC": told(lambda record: record["metrics"]["knn"][1].update(p_auc=None)),
    "a section twice": told(lambda record: record["metrics"]["knn"].append(record["metrics"]["knn"][0])),
    "a section too few": told(lambda record: record["metrics"]["knn"].pop()),
    "another section": told(lambda record: record["metrics"]["knn"][0].update(section="01")),
    "another year": told(lambda record: record["metrics"]["knn"][0].update(dataset="dcase2024")),
    "nothing but ones": told(all_ones),
    "other scores": scored(lambda clips: clips.assign(score_knn=-clips["score_knn"])),
    "other truth": scored(
        lambda clips: clips.assign(condition=clips["condition"].map({"normal": "anomaly", "anomaly": "normal"}))
    ),
    "other domains": scored(
        lambda clips: clips.assign(domain=clips["domain"].map({"source": "target", "target": "source"}))
    ),
    "fewer clips": scored(lambda clips: clips.iloc[1:]),
    "no clips": scored(lambda clips: clips.iloc[:0]),
    "an unknown year": scored(lambda clips: clips.assign(dataset="dcase1999")),
}


@pytest.mark.parametrize("lie", LIES)
def test_numbers_are_measured_again(tmp_path: Path, lie: str) -> None:
    """A trial whose numbers are not those of its clips' scores is refused, with the number where there is one."""
    write_result(tmp_path, make_result(BAD))
    read_record(tmp_path, key=BAD.key())
    LIES[lie](tmp_path)
    with pytest.raises(HarnessError, match=" must "):
        read_record(tmp_path, key=BAD.key())


def test_forged_trial_is_not_ranked(source: Path, tmp_path: Path) -> None:
    """A trial that calls itself perfect is refused by name, with what its clips give, and stands on no leaderboard."""
    theirs = tmp_path / "theirs"
    shutil.copytree(source, theirs)
    path = theirs / "copy.db"
    run_id = run_of(path)
    change(path, f"update runs set artifact_uri = replace(artifact_uri, '{source}', '{theirs}')")
    (folder,) = (each for each in theirs.rglob("artifacts") if each.parent.name == run_id)
    told(lambda record: record["official"].update(knn=1.0))(folder)
    found = take(path, tmp_path)
    assert (found["taken"], [row["run_id"] for row in found["rows"]]) == (1, [run_id])
    assert "the official score by knn reads 1.0 where they give 0." in found["rows"][0]["reason"]
    rows = verbs.leaderboard(places=find_places(tracking=f"sqlite:///{tmp_path / 'ours.db'}"))
    assert [row["official_score"] for row in rows if row["kind"] == "trial"] == [make_result(GOOD).official["knn"]]


def test_intervals_of_others_are_drawn_here(source: Path, tmp_path: Path) -> None:
    """A trial of another team keeps no interval that its clips' scores do not give."""
    theirs = tmp_path / "theirs"
    shutil.copytree(source, theirs)
    path = theirs / "copy.db"
    run_id = run_of(path)
    change(path, f"update runs set artifact_uri = replace(artifact_uri, '{source}', '{theirs}')")
    (folder,) = (each for each in theirs.rglob("artifacts") if each.parent.name == run_id)
    ends = {"official": [0.99, 1.0], "official_machines": [0.99, 1.0], "rows": []}
    told(lambda record: record.update(intervals={"knn": ends}))(folder)
    assert take(path, tmp_path)["taken"] == 2
    wanted = {scorer: each.content() for scorer, each in scorer_intervals(make_result(BAD).scored, ["knn"]).items()}
    with closing(sqlite3.connect(tmp_path / "ours.db")) as connection:
        details = [json.loads(text) for (text,) in connection.execute("select detail from asd_trials")]
    assert any(each["intervals"] == json.loads(json.dumps(wanted)) for each in details)
    assert not any(each["intervals"]["knn"]["official"][0] == 0.99 for each in details)


def test_other_clips_under_a_known_fingerprint_are_refused_alone(tmp_path: Path, empty_mlflow: Path) -> None:
    """Of two trials of another team the one that scores other clips under a known fingerprint is refused by name."""
    shutil.copy(empty_mlflow, tmp_path / "theirs.db")
    places = find_places(tracking=f"sqlite:///{tmp_path / 'theirs.db'}", results=f"sqlite:///{tmp_path / 'unused.db'}")
    tracker = Tracker(places.tracking, code="theirs")
    other = make_result(GOOD)
    other = replace(other, scored=other.scored.assign(clip_id=[f"other {name}" for name in other.scored["clip_id"]]))
    for result in (make_result(BAD), other):
        run_id = tracker.start_trial(result.spec, parent=None, study="")
        tracker.log_result(run_id, result)
        tracker.finish(run_id)
    found = take(tmp_path / "theirs.db", tmp_path)
    assert (found["taken"], found["refused"]) == (1, 1)
    assert "must score the clips that are known under its fingerprint" in found["rows"][0]["reason"]


def test_other_truth_under_a_known_fingerprint_is_refused(source: Path, tmp_path: Path) -> None:
    """Clips that are known here keep what is normal of them, though another's numbers agree with another truth."""
    flipped = make_result(BAD)
    turned = flipped.scored.assign(
        condition=flipped.scored["condition"].map({"normal": "anomaly", "anomaly": "normal"})
    )
    results = Results(f"sqlite:///{tmp_path / 'ours.db'}")
    results.put_result(make_result(GOOD), run_id="r", code="c")
    assert results.holds_clips(BAD.test_data, flipped.scored)
    assert not results.holds_clips(BAD.test_data, turned)
    assert results.holds_clips(BAD.test_data, replace(flipped, scored=flipped.scored.iloc[::-1]).scored)
    results.close()
