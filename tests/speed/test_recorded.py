"""What the speed tests record is what the harness records: else their figures would be of something else."""

from __future__ import annotations

from pathlib import Path

from harness import verbs
from harness.places import find_places
from tests.speed.recorded import record_trials


def test_recorded_trials_can_be_ranked(tmp_path: Path) -> None:
    """Ten trials written for the speed tests are two cells of five seeds on the leaderboard, with their intervals."""
    made = record_trials(tmp_path / "mlflow.db", trials=10)
    rows = verbs.leaderboard(places=find_places(tracking=made.uri), references=False)
    assert [row["trials"] for row in rows] == [5, 5]
    assert all(row["official_score"] and row["ci_low"] < row["official_score"] < row["ci_high"] for row in rows)
