"""What is read of many recorded trials, and what is left in the database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.gate.baselines import find_arm
from harness.stores import readings
from harness.stores.results import Results
from tests.harness.made_up import open_tables, record


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Results]:
    """Results tables with six trials of a study."""
    tables = open_tables(tmp_path)
    record(tables, study="toy")
    record(tables, m=3, study="toy")
    yield tables
    tables.close()


def test_details_are_read_of_few_trials_alone(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    """The JSON of a trial, nearly all of its row, comes with a few that are named, and not with all or with many."""
    keys = results.study_keys("key-toy")
    assert "detail" not in results.trial_scores()
    assert results.trial_scores(keys)["detail"].str.startswith("{").all()
    monkeypatch.setattr(readings, "FEW", 2)
    many = results.trial_scores(keys)
    assert "detail" not in many and sorted(many["key"]) == sorted(keys)
    assert find_arm(results, "toy:small:3").recipes  # what an arm needs of it is read for its own trials


def test_linking_a_trial_again_links_it_once(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials that a study has are not linked twice, in however many parts they are asked for, and others still are."""
    keys = results.study_keys("key-toy")
    monkeypatch.setattr(readings, "KEYS_A_QUERY", 2)
    results.link("key-toy", [*keys, "another", keys[0], "another"])
    results.link("key-toy", ["another"])
    assert sorted(results.study_keys("key-toy")) == sorted([*keys, "another"])
