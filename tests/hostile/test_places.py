"""Databases and artifacts land in the folder that was named and nowhere else; one that is taken away is told."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness import verbs
from harness.errors import HarnessError
from harness.places import find_places, sqlite_path, sqlite_uri
from harness.stores.claims import Claims
from harness.stores.database import creation_lock
from harness.stores.recorder import Recorder
from harness.stores.results import Results
from harness.stores.tracker import Tracker
from tests.harness.made_up import make_result, make_spec

NAMES = (
    "run%41", "%", "100%", "a%2Fb", "%00", "what?v=2", "?", "x?mode=memory", "a#b", "q'uote\"d", "with space", " ",
    "m\u00fcll", "\u540d\u524d", "e\u0301", "\U0001f600", "a+b", "a&b=c", "a;b", "a:b", "a@b", "~", "back\\slash",
    "line\nbreak", "tab\tbed", "\x1b[31m", "$HOME", "{x}", "[1]", "-v", ":memory:", "x" * 200,
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_address_means_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whatever a folder is called, its files' addresses mean them: typed, by default, and given again."""
    folder = tmp_path / name
    folder.mkdir()
    wanted = {folder / "mlflow.db", folder / "optuna.db"}
    assert sqlite_path(sqlite_uri(folder / "mlflow.db")) == folder / "mlflow.db"
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = find_places()
    for places in (
        found,
        find_places(tracking=f"sqlite:///{folder / 'mlflow.db'}"),
        find_places(tracking=found.tracking),
    ):
        assert {sqlite_path(places.tracking), sqlite_path(places.optuna)} == wanted
        assert places.results == places.tracking == found.tracking
    with creation_lock(found.tracking):
        pass
    results = Results(found.results)
    results.close()
    assert {each.name for each in tmp_path.iterdir()} == {name}
    assert (folder / "mlflow.db").stat().st_size > 0


@pytest.mark.parametrize("name", ["run%41", "what?v=2", "q'uote\"d", "a#b", "m\u00fcll und \u540d"])
def test_recording_lands_where_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_mlflow: Path, name: str
) -> None:
    """A trial that is recorded in a folder of any name is there, with its artifacts, and can be rebuilt from them."""
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(empty_mlflow, folder / "mlflow.db")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    places, spec = find_places(), make_spec()
    results = Results(places.results)
    recorder = Recorder(Tracker(places.tracking, code="test"), results)
    recorder.finish(recorder.begin(spec), make_result(spec))
    assert results.finished([spec.key()])
    results.close()
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert len(list((folder / "mlartifacts").rglob("trial.json"))) == 1
    assert verbs.sync(places=places, rewrite=True)["taken"] == 1


def test_encoded_address_of_a_folder_that_is_there(tmp_path: Path) -> None:
    """An address with %20 means the folder with a space, unless one of that very name is there."""
    (tmp_path / "a b").mkdir()
    typed = f"sqlite:///{tmp_path}/a%20b/mlflow.db"
    assert sqlite_path(typed) == tmp_path / "a b" / "mlflow.db"
    (tmp_path / "a%20b").mkdir()
    assert sqlite_path(typed) == tmp_path / "a%20b" / "mlflow.db"


def test_name_that_no_address_holds_is_refused(tmp_path: Path) -> None:
    """A folder whose name is no text is refused in one sentence, before anything is made there."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    folder.mkdir()
    uri = find_places(tracking=f"sqlite:///{folder / 'mlflow.db'}").tracking
    with pytest.raises(HarnessError, match="whose name SQLAlchemy can read"), creation_lock(uri):
        pass
    assert not list(folder.iterdir())


@pytest.fixture
def recorder(tmp_path: Path, empty_mlflow: Path) -> Iterator[Recorder]:
    """Stores in a folder of their own, open."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(empty_mlflow, folder / "mlflow.db")
    places = find_places(tracking=f"sqlite:///{folder / 'mlflow.db'}")
    results = Results(places.results)
    yield Recorder(Tracker(places.tracking, code="test"), results)
    results.close()


def delete(path: Path) -> None:
    """What `rm mlflow.db` does."""
    path.unlink()


def move(path: Path) -> None:
    """What `mv mlflow.db old.db` does."""
    path.rename(path.with_name("old.db"))


def replace_it(path: Path) -> None:
    """What `cp backup.db x; mv x mlflow.db` does."""
    shutil.copy(path, path.with_name("other.db"))
    path.with_name("other.db").replace(path)


def remove_all(path: Path) -> None:
    """What `rm -r` of the folder does."""
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("how", [delete, move, replace_it, remove_all])
@pytest.mark.parametrize("write", ["begin", "finish", "fail", "claim", "tables", "read"])
def test_database_that_is_taken_away_is_told(recorder: Recorder, how: Any, write: str) -> None:
    """Whatever is asked next of a database that was deleted, moved or replaced: one sentence, and no quiet success."""
    spec = make_spec()
    run_id = recorder.begin(spec)
    path = sqlite_path(recorder.results.uri)
    assert path is not None
    with Claims(recorder.results) as claims:
        how(path)
        asked: dict[str, Any] = {
            "begin": lambda: recorder.begin(make_spec(seed=1)),
            "finish": lambda: recorder.finish(run_id, make_result(spec)),
            "fail": lambda: recorder.tracker.finish(run_id, "FAILED"),
            "claim": lambda: claims.take("key"),
            "tables": lambda: recorder.results.put_result(make_result(spec), run_id=run_id, code="c"),
            "read": lambda: recorder.results.finished([spec.key()]),
        }
        with pytest.raises(HarnessError, match=r"mlflow\.db was (deleted or moved|replaced by another file)"):
            asked[write]()


@pytest.mark.slow
@pytest.mark.parametrize("umask", [0o000, *(pytest.param(each, marks=pytest.mark.long) for each in (0o022, 0o077))])
def test_stores_are_private(tmp_path: Path, umask: int) -> None:
    """Databases, what SQLite writes beside them, and artifacts are their owner's alone, whatever the umask."""
    program = (
        "from harness.places import find_places\n"
        "from harness.stores.recorder import Recorder\n"
        "from harness.stores.results import Results\n"
        "from harness.stores.tracker import Tracker\n"
        "from tests.harness.made_up import make_result, make_spec\n"
        "import os, stat\n"
        "from pathlib import Path\n"
        "places, spec = find_places(tracking='sqlite:///new/folder/mlflow.db'), make_spec()\n"
        "results = Results(places.results)\n"
        "recorder = Recorder(Tracker(places.tracking, code='test'), results)\n"
        "recorder.finish(recorder.begin(spec), make_result(spec))\n"
        "print(*sorted({(each.is_dir(), oct(stat.S_IMODE(each.stat().st_mode))) for each in Path().rglob('*')}))\n"
        "print(len(list(Path().rglob('*-wal'))), oct(os.umask(0)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=tmp_path, umask=umask, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["(False, '0o600') (True, '0o700')", f"1 {oct(umask)}"], done.stderr
    assert stat.S_IMODE((tmp_path / "new" / "folder" / "mlartifacts").stat().st_mode) == 0o700


@pytest.mark.parametrize("what", ["result", "failure", "study", "links"])
def test_two_that_record_the_same_at_once(tmp_path: Path, what: str) -> None:
    """Eight that record the same trial or study at the same moment in a fresh folder leave one row and no error."""
    places, spec = find_places(tracking=f"sqlite:///{tmp_path / 'mlflow.db'}"), make_spec()
    made = make_result(spec)

    def record(number: int) -> None:
        results = Results(places.results)
        about: dict[str, Any] = {"run_id": f"run {number}", "code": "c"}
        if what == "result":
            results.put_result(made, **about)
        elif what == "failure":
            results.put_failure(spec, verbs_failure(), **about)
        else:
            results.put_study("k", name="toy", protocol="toy", run_id="r", planned=1, content="{}")
            results.link("k", [spec.key()] if what == "links" else [])
        results.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(record, range(8)))
    results = Results(places.results)
    counts = (len(results.ends([spec.key()])), len(results.studies()), len(results.study_keys("k")))
    results.close()
    assert counts == {"result": (1, 0, 0), "failure": (1, 0, 0), "study": (0, 1, 0), "links": (0, 1, 1)}[what]


def verbs_failure() -> Any:
    """Why a made-up trial failed."""
    from harness.trials.contract import Failure

    return Failure("loss became nan.")


@pytest.mark.slow
def test_the_same_trial_twice_at_once(tmp_path: Path) -> None:
    """Two processes that are asked for the same trial in a fresh folder both print it, and it is recorded once."""
    from benchmarks.datasets.dcase2023 import DATASET
    from benchmarks.synthetic.generator import generate

    generate(tmp_path / "d", DATASET, machines=("fan",), train_source=6, train_target=2, test_per_cell=3, seconds=1.0)
    line = "trial d --protocol dcase2023 --backbone tiny --k1 3 --k2 3 --epochs 1 --clip-seconds 1 --json"
    command = [sys.executable, "-W", "ignore", "-m", "harness.cli", *line.split()]
    (tmp_path / ".asdbench").mkdir(mode=0o755)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, cwd=tmp_path, umask=0, **pipes) for _ in range(2)]
    said = [each.communicate(timeout=300) for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert not [err for _, err in said if "Traceback" in err or "UNIQUE" in err]
    places = find_places(tracking=f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert len(Tracker(places.tracking, code="test").client.search_runs(["1"])) == 1
    made = [each for top in (".asdbench", "mlartifacts") for each in (tmp_path / top).rglob("*")]
    made += [each for each in tmp_path.iterdir() if "mlflow.db" in each.name]
    assert len(made) > 20
    assert not [each for each in made if each.stat().st_mode & 0o077]
