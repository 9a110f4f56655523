"""Rows written in bulk to databases of any kind: SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa


def insert_rows(connection: sa.Connection, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of one table; columns that they do not name get their defaults."""
    if rows:
        connection.execute(described(connection.engine, table).insert(), list(rows))


@cache
def described(engine: sa.Engine, table: str) -> sa.Table:
    """Return a table as it stands in a database."""
    return sa.Table(table, sa.MetaData(), autoload_with=engine)


def tidy(engine: sa.Engine) -> None:
    """Let a database learn how many rows there are, and number new rows after those whose numbers were given."""
    with engine.begin() as connection:
        connection.execute(sa.text("ANALYZE"))
        if engine.dialect.name != "postgresql":
            return
        # the schema that the address names; its sequences do not follow rows that came with their numbers
        owned = connection.execute(
            sa.text(
                "SELECT table_name, column_name FROM information_schema.columns "
                "WHERE table_schema = current_schema() AND column_default LIKE 'nextval(%'"
            )
        ).all()
        for table, column in owned:
            most = connection.scalar(sa.select(sa.func.max(sa.column(column))).select_from(sa.table(table)))
            if most is not None:
                named = {"table": table, "column": column, "most": most}
                connection.execute(sa.text("SELECT setval(pg_get_serial_sequence(:table, :column), :most)"), named)
