"""The results tables: what they hold, and how an older database is brought up to date."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from harness.trials.axes import AXES, Axis

FIRST_AXES = ("backbone", "m", "k1", "k2", "fusion", "labels")  # columns of the tables since the first release


def axis_column(axis: Axis) -> sa.Column[Any]:
    """Return an axis's column. One that is added to an older table is filled with the axis's default."""
    kinds: dict[str, sa.types.TypeEngine[Any]] = {"backbone": sa.String(200), "fusion": sa.String(32)}
    kind = sa.Integer() if axis.number else kinds.get(axis.name, sa.String(64))
    if axis.name in FIRST_AXES:
        return sa.Column(axis.name, kind, nullable=axis.name not in ("fusion", "labels"))
    return sa.Column(axis.name, kind, server_default=None if axis.default is None else str(axis.default))


metadata = sa.MetaData()
studies = sa.Table(
    "asd_studies",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", sa.String(32), unique=True, nullable=False),
    sa.Column("name", sa.String(200), nullable=False, index=True),
    sa.Column("protocol", sa.String(200), nullable=False),
    sa.Column("run_id", sa.String(64), index=True),
    sa.Column("planned", sa.Integer, nullable=False, default=0),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("created", sa.DateTime(timezone=True), nullable=False),
)
trials = sa.Table(
    "asd_trials",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", sa.String(32), unique=True, nullable=False),
    sa.Column("status", sa.String(16), nullable=False, index=True),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("kind", sa.String(16), nullable=False),
    *(axis_column(axis) for axis in AXES),
    sa.Column("seed", sa.Integer, nullable=False),
    sa.Column("protocol", sa.String(200), nullable=False),
    sa.Column("train_data", sa.String(64), nullable=False),
    sa.Column("test_data", sa.String(64), nullable=False, index=True),
    sa.Column("recipe", sa.String(32), nullable=False),
    sa.Column("run_id", sa.String(64), index=True),
    sa.Column("code", sa.String(64), nullable=False, default=""),
    # address of the store that the run came from by `asdbench sync`; empty for runs of this database's own MLflow
    sa.Column("origin", sa.String(500), nullable=False, default="", server_default=""),
    # versions of the libraries that it ran with; empty for trials that were recorded before these were
    sa.Column("libraries", sa.String(200), nullable=False, default="", server_default=""),
    sa.Column("classes", sa.Integer),
    sa.Column("singletons", sa.Integer),
    sa.Column("left_out", sa.Integer),
    sa.Column("seconds", sa.Float),
    sa.Column("peak_mb", sa.Float),
    sa.Column("detail", sa.Text, nullable=False, default="{}"),
    sa.Column("recorded", sa.DateTime(timezone=True), nullable=False),
)
study_trials = sa.Table(
    "asd_study_trials",
    metadata,
    sa.Column("study_id", sa.ForeignKey(studies.c.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("trial_key", sa.String(32), primary_key=True, index=True),
)
scores = sa.Table(
    "asd_scores",
    metadata,
    sa.Column("trial_id", sa.ForeignKey(trials.c.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("scorer", sa.String(64), primary_key=True),
    sa.Column("official_score", sa.Float),
    sa.Column("clip_scores", sa.LargeBinary, nullable=False),
)
machine_metrics = sa.Table(
    "asd_machine_metrics",
    metadata,
    sa.Column("trial_id", sa.ForeignKey(trials.c.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("scorer", sa.String(64), primary_key=True),
    sa.Column("dataset", sa.String(64), primary_key=True),
    sa.Column("machine", sa.String(64), primary_key=True),
    sa.Column("section", sa.String(16), primary_key=True),
    sa.Column("auc", sa.Float),
    sa.Column("s_auc", sa.Float),
    sa.Column("t_auc", sa.Float),
    sa.Column("p_auc", sa.Float),
    sa.Column("h_mean", sa.Float),
)
test_clips = sa.Table(
    "asd_test_clips",
    metadata,
    sa.Column("test_data", sa.String(64), primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
)


def add_new_columns(engine: sa.Engine) -> None:
    """Add columns that the tables of an earlier version lack; each of them has a default or may be NULL."""
    inspector = sa.inspect(engine)
    for table in metadata.sorted_tables:
        there = {column["name"]: column["type"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                definition = sa.schema.CreateColumn(column).compile(engine)
                _alter(engine, f"ALTER TABLE {table.name} ADD COLUMN {definition}")
                if table is trials:
                    _fill_from_recipes(engine, column.name)
            elif (
                _is_longer(column.type, there[column.name]) and engine.dialect.name != "sqlite"
            ):  # SQLite ignores lengths
                kind = column.type.compile(engine.dialect)
                _alter(engine, f"ALTER TABLE {table.name} ALTER COLUMN {column.name} TYPE {kind}")


def _alter(engine: sa.Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(statement))


def _is_longer(new: sa.types.TypeEngine[Any], old: sa.types.TypeEngine[Any]) -> bool:
    lengths = [getattr(kind, "length", None) for kind in (new, old)]
    return None not in lengths and lengths[0] > lengths[1]  # type: ignore[operator]


def _fill_from_recipes(engine: sa.Engine, name: str) -> None:
    """Fill the new column of an axis that used to be a mere field of the recipe, from the recorded recipes."""
    if name not in {axis.name for axis in AXES if axis.of == "recipe"}:
        return
    with engine.begin() as connection:
        for number, detail in connection.execute(sa.select(trials.c.id, trials.c.detail)).all():
            recipe = json.loads(detail).get("recipe") or {}
            if name in recipe:
                row = trials.update().where(trials.c.id == number)
                connection.execute(row.values({name: recipe[name]}))
