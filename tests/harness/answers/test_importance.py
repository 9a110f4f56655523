"""What mattered: known gains of a made-up study, several scorers, and studies in which nothing differs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from harness import verbs
from harness.answers.importance import importance
from harness.answers.question import Question
from harness.answers.standings import read_standings
from harness.errors import HarnessError
from harness.places import Places
from harness.stores.recorder import Recorder
from tests.harness.made_up import record_study


def test_shares_of_a_made_up_study(recorder: Recorder) -> None:
    """Shares are those of the leaderboard's scores, worked out anew; choices that do not differ have no row."""
    record_study(recorder, m=(1, 3, 7), seeds=(0, 1, 2))
    rows = {row["choice"]: row for row in importance(recorder.results)}
    assert set(rows) == {"m", "backbone", "seed"}
    standings = read_standings(recorder.results)
    own = [at for at in range(len(standings)) if standings["kind"][at] == "trial"]
    scores = standings.official[own]
    for name, row in rows.items():
        groups = [standings[name][at] for at in own]
        between = sum(
            groups.count(value)
            * (np.mean([s for s, g in zip(scores, groups, strict=True) if g == value]) - scores.mean()) ** 2
            for value in set(groups)
        )
        assert row["share"] == pytest.approx(between / ((scores - scores.mean()) ** 2).sum(), rel=1e-9)
        assert 0 <= row["ci_low"] <= row["ci_high"] <= 1
        assert row["trials"] == 18 and row["importance"] is None
    assert next(iter(rows)) == max(rows, key=lambda name: rows[name]["share"])
    assert rows["backbone"]["p_value"] < 0.05 < rows["seed"]["p_value"]
    assert "shuffled scores do too" in rows["seed"]["sentence"]


def test_too_few_machines_have_no_interval(recorder: Recorder) -> None:
    """Of two machine types no interval can be drawn; the share is told without one."""
    record_study(recorder, machines=("fan", "valve"))
    assert {row["ci_low"] for row in importance(recorder.results)} == {None}


def test_nothing_recorded_and_nothing_of_that_name(recorder: Recorder) -> None:
    """Each is one sentence."""
    with pytest.raises(HarnessError, match="What mattered needs finished trials with a score"):
        importance(recorder.results)
    record_study(recorder, machines=("fan", "valve"), m=(1,), seeds=(0,))
    with pytest.raises(HarnessError, match="there is none"):
        importance(recorder.results, Question(backbone="other"))
    with pytest.raises(HarnessError):
        importance(recorder.results, Question(study="other"))
    assert importance(recorder.results) == []  # two trials, one a backbone: nothing to tell apart


def test_the_verb_has_ped_anova(recorder: Recorder, places: Places, asdbench: Any) -> None:
    """PED-ANOVA's importances sum to 1 beside the shares; `compare` and its JSON have the same rows."""
    record_study(recorder, m=(1, 3))
    status, out, said = asdbench("importance --json --db {db}", db=places.tracking)
    assert (status, said) == (0, "")  # Optuna's own words stay out
    rows = verbs.importance(places=places)
    assert [row["share"] for row in json.loads(out)["rows"]] == [row["share"] for row in rows]
    assert sum(row["importance"] or 0 for row in rows) == pytest.approx(1.0)
    assert verbs.importance(places=places, resamples=100, seed=1)[0]["share"] == rows[0]["share"]
