"""A study with most of its cells recorded: one real trial's rows in every store, copied for all the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from harness.places import Places
from harness.studies.plan import Plan, make_plan
from harness.studies.study_file import StudyFile
from tests.speed.bulk import described, insert_rows, tidy

M = (1, 2, 3, 5, 7, 10, 13, 15)
K = (15, 16, 17, 18, 19)
AT_ONCE = 5000  # trials whose rows are written together


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


def copy_trial(places: Places, *, key: str, run_id: str, number: int, keys: Iterable[str]) -> None:
    """Copy a recorded trial's rows in the stores of runs and of Optuna for other keys.

    Args:
        places: addresses of the stores.
        key: of the trial.
        run_id: MLflow's.
        number: Optuna's, from 0.
        keys: of the trials that shall stand there, too.
    """
    others = list(enumerate(keys, start=1))
    engine = sa.create_engine(places.results)
    with engine.begin() as connection:
        trial_id = connection.execute(sa.text("SELECT id FROM asd_trials WHERE key = :key"), {"key": key}).scalar()
        ours = [{"id": 1000 + n, "trial_id": 1000 + n, "key": k, "run_id": k * 2} for n, k in others]
        _copy(connection, "asd_trials", {"id": trial_id}, ours)
        for table in ("asd_scores", "asd_machine_metrics"):
            _copy(connection, table, {"trial_id": trial_id}, [{"trial_id": each["trial_id"]} for each in ours])
        runs = [{"run_uuid": k * 2} for _, k in others]
        for table in ("runs", "params", "metrics", "latest_metrics"):
            _copy(connection, table, {"run_uuid": run_id}, runs)
        _copy(connection, "tags", {"run_uuid": run_id}, runs, lambda row: _keyed(row, row["run_uuid"][:16]))
    tidy(engine)
    engine.dispose()
    engine = sa.create_engine(places.optuna)
    with engine.begin() as connection:
        found = connection.execute(sa.text("SELECT trial_id FROM trials WHERE number = :number"), {"number": number})
        first = found.scalar()
        trials = [{"trial_id": 1000 + n, "number": number + n} for n, _ in others]
        _copy(connection, "trials", {"trial_id": first}, trials)
        names = {1000 + n: k for n, k in others}
        for table, own in (
            ("trial_params", "param_id"), ("trial_values", "trial_value_id"),
            ("trial_user_attributes", "trial_user_attribute_id"),
        ):  # fmt: skip
            _copy(
                connection, table, {"trial_id": first}, trials,
                lambda row: _attributed(row, names[row["trial_id"]]), without=own,
            )  # fmt: skip
    tidy(engine)
    engine.dispose()


def _copy(
    connection: sa.Connection,
    table: str,
    where: Mapping[str, Any],
    changes: Sequence[Mapping[str, Any]],
    change: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    *,
    without: str = "",
) -> None:
    """Copy rows once for every set of changes, without the column that the database numbers itself."""
    ((name, value),) = where.items()
    made = described(connection.engine, table)
    rows = [dict(row) for row in connection.execute(made.select().where(made.c[name] == value)).mappings()]
    assert rows, table
    for row in rows:
        row.pop(without, None)
    for start in range(0, len(changes), AT_ONCE):
        some = changes[start : start + AT_ONCE]
        copies = [change({**row, **{n: v for n, v in each.items() if n in row}}) for each in some for row in rows]
        insert_rows(connection, table, copies)


def _keyed(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {**row, "value": key} if row["key"] == "asd.key" else row


def _attributed(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {**row, "value_json": f'"{key}"'} if row.get("key") == "key" else row
