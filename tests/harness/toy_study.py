"""A study of seven small trials on generated recordings: how it is run, and what its stores hold."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest

from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.synthetic.generator import generate
from harness import verbs
from harness.places import Places, find_places
from harness.verbs.stores import open_results

STUDY = """
name = "toy"
protocol = { name = "toy", train = ["dcase2023/dev"], score = ["dcase2023/dev"], cases = { fan = "fragmented" } }
seeds = [0, 1]
scorers = ["knn", "mahalanobis"]
[space]
backbone = ["tiny"]
m = [1, 3]
k1 = [3]
k2 = [3]
[recipe]
epochs = 2
batch_size = 8
clip_seconds = 1.0
warmup_epochs = 0
learning_rate = %s
"""


def make_recordings(folder: Path) -> Path:
    """Generate recordings of two machine types."""
    generate(folder, DATASET, machines=("fan", "ToyCar"), train_source=8, train_target=3, test_per_cell=3, seconds=1.0)
    return folder


def run(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *, rate: str = "1e-3", workers: int = 2) -> Any:
    """Run the toy study in a folder of its own."""
    monkeypatch.setenv("ASDBENCH_CACHE", str(folder / "cache"))
    (folder / "toy.toml").write_text(STUDY % rate)
    return verbs.study_run(str(folder / "toy.toml"), data=root, workers=workers, places=places_in(folder))


def places_in(folder: Path) -> Places:
    """Stores in a folder."""
    return find_places(tracking=f"sqlite:///{folder / 'mlflow.db'}")


def counts(folder: Path) -> dict[str, Any]:
    """What each store holds."""
    with sqlite3.connect(folder / "mlflow.db") as database:
        runs = dict(
            database.execute(
                "select r.status, count(*) from runs r join tags t on t.run_uuid = r.run_uuid and t.key = 'asd.kind' "
                "where t.value != 'study' group by r.status"
            ).fetchall()
        )
        rows = dict(database.execute("select status, count(*) from asd_trials group by status").fetchall())
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'optuna.db'}")
    (summary,) = optuna.get_all_study_summaries(storage)
    trials = optuna.load_study(storage=storage, study_name=summary.study_name).get_trials(deepcopy=False)
    states = pd.Series([trial.state.name for trial in trials]).value_counts().to_dict()
    return {"mlflow": runs, "tables": rows, "optuna": states}


def official(folder: Path) -> dict[str, float]:
    """Every trial's official scores by key and scorer."""
    with open_results(places_in(folder)) as results:
        rows = results.trial_scores()
    return {f"{row.key} {row.scorer}": row.official_score for row in rows.itertuples()}
