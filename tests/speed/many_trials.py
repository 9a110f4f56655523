"""A study with most of its cells recorded: one real trial's rows in every store, copied for all the others."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.studies.plan import Plan, make_plan
from harness.studies.study_file import StudyFile

M = (1, 2, 3, 5, 7, 10, 13, 15)
K = (15, 16, 17, 18, 19)


def plan_of_many(backbones: int) -> Plan:
    """A grid of a thousand cells a backbone: eight M, five K1, five K2, five seeds."""
    names = {f"b{i}": {"encoder": "tiny", "options": {"depth": i + 1}} for i in range(backbones)}
    space = {"backbone": list(names), "m": M, "k1": K, "k2": K}
    return make_plan(
        StudyFile.model_validate(
            {
                "name": "many", "protocol": "dcase2023", "seeds": list(range(5)), "frozen": False, "level": False,
                "backbones": names, "space": {name: list(values) for name, values in space.items()},
            }
        )
    )  # fmt: skip


def copy_trial(folder: Path, *, key: str, run_id: str, number: int, keys: Iterable[str]) -> None:
    """Copy a recorded trial's rows in mlflow.db and optuna.db for other keys.

    Args:
        folder: of the databases.
        key: of the trial.
        run_id: MLflow's.
        number: Optuna's, from 0.
        keys: of the trials that shall stand there, too.
    """
    others = list(enumerate(keys, start=1))
    with sqlite3.connect(folder / "mlflow.db") as database:
        (trial_id,) = database.execute("SELECT id FROM asd_trials WHERE key = ?", (key,)).fetchone()
        ours = [{"id": 1000 + n, "trial_id": 1000 + n, "key": k, "run_id": k * 2} for n, k in others]
        _copy(database, "asd_trials", {"id": trial_id}, ours)
        for table in ("asd_scores", "asd_machine_metrics"):
            _copy(database, table, {"trial_id": trial_id}, [{"trial_id": each["trial_id"]} for each in ours])
        runs = [{"run_uuid": k * 2} for _, k in others]
        for table in ("runs", "params", "metrics", "latest_metrics"):
            _copy(database, table, {"run_uuid": run_id}, runs)
        _copy(database, "tags", {"run_uuid": run_id}, runs, lambda row: _keyed(row, row["run_uuid"][:16]))
        database.execute("ANALYZE")
    with sqlite3.connect(folder / "optuna.db") as database:
        (first,) = database.execute("SELECT trial_id FROM trials WHERE number = ?", (number,)).fetchone()
        trials = [{"trial_id": 1000 + n, "number": number + n} for n, _ in others]
        _copy(database, "trials", {"trial_id": first}, trials)
        names = {1000 + n: k for n, k in others}
        for table, own in (
            ("trial_params", "param_id"), ("trial_values", "trial_value_id"),
            ("trial_user_attributes", "trial_user_attribute_id"),
        ):  # fmt: skip
            copies = [{"trial_id": each["trial_id"], own: None} for each in trials]
            _copy(database, table, {"trial_id": first}, copies, lambda row: _attributed(row, names[row["trial_id"]]))


def _copy(
    database: sqlite3.Connection,
    table: str,
    where: Mapping[str, Any],
    changes: Iterable[Mapping[str, Any]],
    change: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> None:
    """Copy rows once for every set of changes."""
    columns = [each[1] for each in database.execute(f"PRAGMA table_info({table})")]
    ((name, value),) = where.items()
    rows = database.execute(f"SELECT * FROM {table} WHERE {name} = ?", (value,)).fetchall()
    assert rows, table
    made = [
        tuple(
            change({**dict(zip(columns, row, strict=True)), **{n: v for n, v in each.items() if n in columns}}).values()
        )
        for each in changes
        for row in rows
    ]
    database.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(columns))})", made)


def _keyed(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {**row, "value": key} if row["key"] == "asd.key" else row


def _attributed(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {**row, "value_json": f'"{key}"'} if row.get("key") == "key" else row
