"""A password in an address opens a store, and no sentence, table or run of ours shows it afterwards."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from harness import credentials, verbs
from harness.credentials import scrubbed, shown
from harness.engine.messages import ANSWER, Report
from harness.engine.worker import Desk
from harness.errors import HarnessError
from harness.places import Places, find_places
from harness.stores.recorder import Recorder
from harness.stores.results import Results
from harness.stores.tracker import Tracker
from harness.studies.plan import make_plan
from harness.studies.study_file import StudyFile
from harness.trials.contract import Failure
from tests.harness.made_up import make_result, make_spec
from tests.servers import SECRET, Postgres, free_port

PASSWORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/@:'\"?#"), min_size=5)


@pytest.fixture(autouse=True)
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has met no password yet."""
    monkeypatch.setattr(credentials, "_met", set())


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("postgresql://ann:s3cret@db/asd", "postgresql://ann:***@db/asd"),
        ("postgresql+psycopg://ann:p%40ss@db:5432/asd", "postgresql+psycopg://ann:***@db:5432/asd"),
        ("http://ann:a@b@host:5000/path", "http://ann:***@host:5000/path"),
        ("https://:token@host", "https://:***@host"),
        ("postgresql://db/asd?user=ann&password=s3cret&x=1", "postgresql://db/asd?user=ann&password=***&x=1"),
        ("postgresql://db/asd?options=-c%20my.password%3Dabc", "postgresql://db/asd?options=-c%20my.password%3D***"),
        ("postgresql://db/asd?sslpassword=s3cret", "postgresql://db/asd?sslpassword=***"),
        ("sqlite:////home/ann/mlflow.db", "sqlite:////home/ann/mlflow.db"),
        ("http://host:5000", "http://host:5000"),
    ],
)
def test_address_is_shown_without_its_password(uri: str, wanted: str) -> None:
    """Passwords are masked wherever an address may hold one; the rest stays readable."""
    assert shown(uri) == wanted


@given(password=PASSWORDS)
def test_password_met_once_is_hidden_everywhere(password: str) -> None:
    """Whatever the password, no text keeps it once its address was met, in the address or alone."""
    credentials.remember(f"postgresql://ann:{password}@db/asd")
    said = scrubbed(f"connecting to postgresql://ann:{password}@db/asd with {{'password': '{password}'}} failed")
    assert password not in said.replace(credentials.HIDDEN, "")
    assert password not in str(HarnessError(f"It answered {password!s}.")).replace(credentials.HIDDEN, "")


def test_a_process_is_left_as_it_was() -> None:
    """Meeting a password changes neither how a notebook logs nor how it shows an error."""
    hook, factory = sys.excepthook, logging.getLogRecordFactory()
    find_places(tracking=f"postgresql://ann:{SECRET}@db/asd")
    assert (sys.excepthook, logging.getLogRecordFactory()) == (hook, factory)
    assert SECRET not in str(HarnessError(f"no {SECRET}"))


def contents(uri: str) -> str:
    """Every row of every table of a database, as text."""
    engine = sa.create_engine(uri)
    found = []
    for schema in sa.inspect(engine).get_schema_names():
        if schema != "information_schema":
            known = sa.MetaData()
            known.reflect(engine, schema=schema)
            with engine.connect() as connection:
                found += [str(connection.execute(sa.select(table)).fetchall()) for table in known.tables.values()]
    engine.dispose()
    assert found
    return "\n".join(found)


def files_with(folder: Path, text: str) -> list[Path]:
    """Files of a folder that contain a text."""
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.fixture
def guarded(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """Stores in a PostgreSQL database that asks for a password."""
    if not postgres.guarded:
        pytest.skip("the server of ASD_TEST_PG_URL has no role of ours")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASDBENCH_CACHE", str(tmp_path / "cache"))
    return find_places(tracking=postgres.guest(postgres.ready()))


@pytest.mark.slow
def test_recording_keeps_the_password_to_itself(guarded: Places, tmp_path: Path, asdbench: Any) -> None:
    """A study with a failure that quotes the address leaves no password in tables, artifacts or output."""
    results = Results(guarded.results)
    recorder = Recorder(Tracker(guarded.tracking, code="test"), results)
    parent = recorder.tracker.start_study("k", "toy", tags={}, params={})
    good, bad = make_spec(m=1), make_spec(m=3)
    recorder.put_study("k", name="toy", protocol="toy", run_id=parent, planned=2, content="{}", trials=[good.key()])
    recorder.finish(recorder.begin(good, parent=parent), make_result(good))
    try:
        raise OSError(f"no answer from {guarded.tracking}")
    except OSError as error:
        failure = Failure(f"{error}", traceback.format_exc())
    recorder.fail(recorder.begin(bad, parent=parent), bad, failure)
    recorder.drop(recorder.begin(bad, parent=parent), f"lost {guarded.tracking}")
    results.close()
    said = ""
    for line in ("study ls", "leaderboard", "sync --rewrite", "study status toy", f"sync --from {guarded.tracking}"):
        status, out, err = asdbench(f"{line} --db {guarded.tracking}")
        assert status == 0, err
        said += out + err
    assert "***" in said
    assert SECRET not in said
    assert "asd_guest:***@" in contents(guarded.tracking)
    assert SECRET not in contents(guarded.tracking)
    assert files_with(tmp_path, SECRET) == []


def test_refused_password_is_not_quoted(guarded: Places, postgres: Postgres, tmp_path: Path, asdbench: Any) -> None:
    """A wrong password, a host that is dead and a server that is none end in a sentence without the password."""
    wrong = postgres.guest(guarded.tracking, password="wr0ng-" + SECRET)
    dead = f"postgresql://ann:{SECRET}@127.0.0.1:{free_port()}/asd"
    query = f"postgresql://127.0.0.1:{free_port()}/asd?user=ann&password={SECRET}"
    server = f"http://ann:{SECRET}@127.0.0.1:{free_port()}"
    for uri in (wrong, dead, query, server):
        for verb in ("leaderboard", "sync", "study status toy", "sync --from"):
            where = f"{uri} --db sqlite:///mine.db" if verb.endswith("--from") else f"--db {uri}"
            if uri == server and "sync" not in verb:
                continue  # the tables are beside a server, and there
            status, out, err = asdbench(f"{verb} {where}")
            said = out + err
            assert (status, "must" in said) == (1, True), said
            assert SECRET not in said
    assert files_with(tmp_path, SECRET) == []


def fail_or_answer(key: str, desk: Desk, report: Report) -> None:
    """A trial whose numbers are made up, or which fails."""
    spec = desk.specs[key]
    report({ANSWER: make_result(spec) if spec.m == 1 else Failure("it broke.", "Traceback ...")})


@pytest.mark.slow
def test_study_keeps_the_password_to_itself(guarded: Places, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A whole study leaves no password in MLflow's, Optuna's or our tables, nor in Ray's files."""
    import ray

    from harness.engine.tune import run_study

    table = {"name": "toy", "protocol": "dcase2023", "space": {"backbone": ["tiny"], "m": [1, 3]}, "frozen": False}
    plan = make_plan(StudyFile.model_validate({**table, "level": False}))
    recordings: Any = SimpleNamespace(
        train_data="a", test_data="b", truth_data="", place=guarded.cache, skipped=0, packed=SimpleNamespace(heard=True)
    )
    results = Results(guarded.results)
    session = Path(ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False).address_info["session_dir"])
    try:
        outcome = run_study(
            plan, recordings, Recorder(Tracker(guarded.tracking, code="test"), results), guarded, workers=1,
            trial=fail_or_answer,
        )  # fmt: skip
        verbs.study_status("toy", places=guarded)
        written = [path for path in files_with(session, SECRET) if not path.is_socket()]
    finally:
        ray.shutdown()
        results.close()
    assert (outcome.progress.finished, outcome.progress.failed) == (1, 1)
    assert SECRET not in contents(guarded.tracking)
    assert "toy" in contents(guarded.tracking)
    assert (files_with(tmp_path, SECRET), written) == ([], [])
    assert SECRET not in "".join(capfd.readouterr())
    assert SECRET not in str(dict(os.environ))


@pytest.mark.slow
def test_tracking_server_gets_its_password_and_keeps_it_out(
    tracking_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A password for a server goes with the request alone: no run, artifact or output has it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASDBENCH_CACHE", str(tmp_path / "cache"))
    places = find_places(tracking=tracking_server.replace("://", f"://ann:{SECRET}@"))
    results = Results(places.results)
    recorder = Recorder(Tracker(places.tracking, code="test"), results)
    spec = make_spec(train_data="served")
    run_id = recorder.begin(spec)
    recorder.fail(run_id, spec, Failure(f"lost {places.tracking}", f"Traceback {places.tracking}"))
    results.close()
    run = recorder.tracker.client.get_run(run_id)
    assert SECRET not in str(run.to_dictionary())
    for name in ("trial.json", "traceback.txt"):
        path = recorder.tracker.client.download_artifacts(run_id, name, str(tmp_path))
        assert SECRET not in Path(path).read_text()
    assert files_with(tmp_path, SECRET) == []
    assert SECRET not in "".join(capfd.readouterr())
