"""What is read of many recorded trials, and what is left in the database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from harness.gate.baselines import find_arm
from harness.stores import claims, readings
from harness.stores.claims import Claims
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


def read_of(results: Results, keys: list[str]) -> dict[str, Any]:
    """Return all that is read of some trials by their keys."""
    claimed = Claims(results)
    with claimed:
        claimed.take(keys[1], "a trial")
        claimed.take("of another study")
        living = {key: claim.label for key, claim in claimed.living(keys).items()}
    return {
        "ends": {key: astuple(end) for key, end in results.ends(keys).items()},
        "rows": results.rows_of(keys),
        "scorers": results.scorers_of(keys),
        "best": results.best_of(keys, "knn"),
        "costs": results.costs(keys),
        "measured": {key: astuple(numbers) for key, numbers in results.measured(keys, "knn").items()},
        "recorded": results.recorded(keys).to_dict("records"),
        "clips": {key: clips.to_dict("records") for key, clips in results.clip_scores(keys, "knn").items()},
        "living": living,
    }


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_trials_are_found_however_many_are_asked_for(
    store: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More keys than a query may name give what one query gives, of the trials that were asked for alone."""
    tables = Results(request.getfixturevalue("postgres").create()) if store == "postgres" else open_tables(tmp_path)
    keys = record(tables, study="toy")
    keys += record(tables, m=3, study="toy")
    record(tables, m=5, study="toy")
    at_once = read_of(tables, [*keys, "never recorded"])
    assert set(at_once["ends"]) == set(at_once["clips"]) == set(at_once["measured"]) == set(keys)
    assert at_once["living"] == {keys[1]: "a trial"}
    monkeypatch.setattr(readings, "KEYS_A_QUERY", 4)
    monkeypatch.setattr(readings, "KEYS_A_QUERY_OF_A_SERVER", 4)
    monkeypatch.setattr(claims, "FEW", 4)
    assert read_of(tables, [*keys, "never recorded"]) == at_once
    tables.close()
