"""What is read of Optuna's tables directly is what Optuna itself says: its schema is pinned here."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.studies.journal import COMPLETE_KEYS, NUMBER, TRIALS, Journal
from harness.studies.plan import make_plan
from harness.studies.study_file import checked_study


def make_journal(folder: Path, *, sampler: str = "grid") -> Journal:
    """Open the journal of a small study."""
    table = {
        "name": "small", "protocol": "dcase2023", "seeds": [0, 1],
        "space": {"backbone": ["tiny"], "m": [1, 3], "k1": [3], "k2": [3]}, "sampler": {"name": sampler, "trials": 3},
    }  # fmt: skip
    plan = make_plan(checked_study(table, "small"))
    specs = {spec.key(): spec for spec in plan.specs(train_data="a", test_data="b")}
    return Journal(f"sqlite:///{folder / 'optuna.db'}", "small", plan=plan, specs=specs)


@pytest.mark.parametrize("sampler", ["grid", "tpe"])
def test_direct_reading_says_what_optuna_says(tmp_path: Path, sampler: str) -> None:
    """Counts, numbers and keys of finished trials are Optuna's own, for trials in every state.

    A release of Optuna that renames a table or column fails here, and not in the middle of somebody's study.
    """
    journal = make_journal(tmp_path, sampler=sampler)
    cells = [spec for spec in journal.plan.specs(train_data="a", test_data="b") if spec.kind == "trial"]
    numbers = [journal.begin(spec, owner="me") for spec in cells]
    journal.tell(numbers[0], [0.6])
    journal.tell(numbers[1], [0.7])
    journal.prune(numbers[2])
    trials = journal.study.get_trials(deepcopy=False)
    assert [journal.study.get_trials(deepcopy=False)[at].number for at in range(len(cells))] == numbers
    assert journal.complete_keys() == {
        trial.user_attrs["key"] for trial in trials if trial.state.name == "COMPLETE"
    } == {cells[0].key(), cells[1].key()}  # fmt: skip
    assert journal._count() == len(trials) == len(cells)


def test_another_study_of_the_same_database_is_not_counted(tmp_path: Path) -> None:
    """Each question names its study."""
    journal, uri = make_journal(tmp_path), f"sqlite:///{tmp_path / 'optuna.db'}"
    spec = next(spec for spec in journal.plan.specs(train_data="a", test_data="b") if spec.kind == "trial")
    journal.tell(journal.begin(spec, owner="me"), [0.5])
    other = Journal(uri, "other", plan=journal.plan, specs={spec.key(): spec})
    assert (other.complete_keys(), other._count()) == (set(), 0)
    assert all("study_id = {}" in query for query in (COMPLETE_KEYS, NUMBER, TRIALS))
