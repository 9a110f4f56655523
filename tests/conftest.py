"""Servers that several folders of tests use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.servers import Postgres  # which needs SQLAlchemy; a machine that only runs the GPU's tests may have none


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server: the one that ASD_TEST_PG_URL names, else one of our own from installed programs."""
    pytest.importorskip("psycopg", reason="PostgreSQL needs the extra asdbench[postgres]")
    from tests.servers import Postgres, postgres_programs, postgres_server

    if named := os.environ.get("ASD_TEST_PG_URL"):
        yield Postgres(named.replace("postgresql://", "postgresql+psycopg://", 1), guarded=False)
        return
    programs = postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL here: set ASD_TEST_PG_URL, or install it")
    with postgres_server(programs) as server:
        yield server


@pytest.fixture(scope="session")
def tracking_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A live MLflow tracking server; its address."""
    from tests.servers import mlflow_server

    with mlflow_server(tmp_path_factory.mktemp("server")) as uri:
        yield uri
