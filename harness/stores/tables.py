"""The results tables: what they hold, and how an older database is brought up to date."""

from __future__ import annotations

import sqlalchemy as sa

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
    sa.Column("backbone", sa.String(200)),
    sa.Column("m", sa.Integer),
    sa.Column("k1", sa.Integer),
    sa.Column("k2", sa.Integer),
    sa.Column("fusion", sa.String(32), nullable=False),
    sa.Column("labels", sa.String(16), nullable=False),
    sa.Column("seed", sa.Integer, nullable=False),
    sa.Column("protocol", sa.String(200), nullable=False),
    sa.Column("train_data", sa.String(64), nullable=False),
    sa.Column("test_data", sa.String(64), nullable=False, index=True),
    sa.Column("recipe", sa.String(32), nullable=False),
    sa.Column("run_id", sa.String(64), index=True),
    sa.Column("code", sa.String(64), nullable=False, default=""),
    # where a run taken in from elsewhere is kept; empty for those of this database's own MLflow
    sa.Column("origin", sa.String(500), nullable=False, default="", server_default=""),
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
    """Add what tables of an earlier version have not; every such column has a default."""
    inspector = sa.inspect(engine)
    for table in metadata.sorted_tables:
        there = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                definition = sa.schema.CreateColumn(column).compile(engine)
                with engine.begin() as connection:
                    connection.execute(sa.text(f"ALTER TABLE {table.name} ADD COLUMN {definition}"))
