"""Trials whose test clips do not say whether they are normal: recorded, and survived by everything that reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import verbs
from harness.errors import HarnessError
from harness.places import find_places
from tests.harness.made_up import clips_of, open_tables, record


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Stores with a study of two M and a frozen row, none of whose test clips has a condition."""
    folder = tmp_path_factory.mktemp("unlabelled")
    unknown = clips_of(per_cell=3).assign(condition=None)
    results = open_tables(folder)
    for m in (None, 1, 3):
        record(results, m=m, clips=unknown, study="plain")
    results.close()
    return find_places(tracking=f"sqlite:///{folder / 'mlflow.db'}")


def test_the_leaderboard_shows_no_score(stores: Any) -> None:
    """Every row is there, without an official score."""
    rows = verbs.leaderboard(places=stores)
    learned = [row for row in rows if row["kind"] in ("trial", "frozen")]
    assert len(learned) == 3
    assert {row["official_score"] for row in learned} == {None}


def test_a_comparison_says_what_is_missing(stores: Any) -> None:
    """Comparing M needs labels, and says so in a sentence instead of making numbers up."""
    try:
        answer: Any = verbs.compare(places=stores, study="plain")
    except HarnessError as error:
        assert "normal" in str(error)
    else:
        assert json.dumps(answer, default=str)


@pytest.mark.parametrize("verb", ["importance", "select"])
def test_other_answers_are_sentences(stores: Any, verb: str) -> None:
    """What is made of official scores alone is refused in one sentence."""
    with pytest.raises(HarnessError):
        getattr(verbs, verb)(places=stores, study="plain")


def test_the_report_is_written(stores: Any, tmp_path: Path) -> None:
    """The page has the rows, without numbers."""
    verbs.report(places=stores, study="plain", out=tmp_path / "report.html", log=False)
    assert "small" in (tmp_path / "report.html").read_text()
