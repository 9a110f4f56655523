"""Where the runs of trials from another store are read."""

from __future__ import annotations

import pytest

from harness.errors import HarnessError
from harness.stores.history import place_of_runs

MASKED = "https://ada:***@mlflow.example/team"


@pytest.mark.parametrize(
    ("origin", "tracking", "found"),
    [
        ("", "sqlite:////here/mlflow.db", "sqlite:////here/mlflow.db"),
        ("sqlite:////there/mlflow.db", "sqlite:////here/mlflow.db", "sqlite:////there/mlflow.db"),
        ("http://mlflow.example", "sqlite:////here/mlflow.db", "http://mlflow.example"),
        (MASKED, "https://ada:pass@mlflow.example/team/", "https://ada:pass@mlflow.example/team/"),
        ("postgresql+psycopg://a:***@db/x", "postgresql+psycopg://a:b@db/x", "postgresql+psycopg://a:b@db/x"),
    ],
)
def test_the_password_of_the_same_place_is_taken(origin: str, tracking: str, found: str) -> None:
    """An origin that asks for none is read as recorded; the same place as this MLflow by this MLflow's address."""
    assert place_of_runs(origin, tracking) == found


def test_a_masked_password_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere the login of the environment counts, if it is that user's; else a sentence names it."""
    with pytest.raises(HarnessError, match="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"):
        place_of_runs(MASKED, "https://ada:pass@other.example/team")
    with pytest.raises(HarnessError, match="in MLFLOW_TRACKING_URI"):
        place_of_runs("postgresql+psycopg://a:***@db/x", "postgresql+psycopg://a:b@db/y")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pass")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    with pytest.raises(HarnessError, match="its password is not recorded"):
        place_of_runs(MASKED, "")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    assert place_of_runs(MASKED, "") == "https://mlflow.example/team"
