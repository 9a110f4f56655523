"""What mattered: known gains of a made-up study, several scorers, and studies in which nothing differs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from harness import verbs
from harness.answers.importance import _scorers_and_layers, importance
from harness.answers.question import Question
from harness.answers.standings import read_standings
from harness.errors import HarnessError
from harness.places import Places
from harness.stores.recorder import Recorder
from harness.studies.importance import ped_anova
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
        assert row["ci_low"] is None  # too few trainings
        assert row["trials"] == 18 and row["importance"] is None
    assert next(iter(rows)) == max(rows, key=lambda name: rows[name]["share"])
    assert rows["backbone"]["p_value"] < 0.05 < rows["seed"]["p_value"]
    assert "shuffled scores do too" in rows["seed"]["sentence"]


def test_intervals_are_over_trainings(recorder: Recorder) -> None:
    """Twenty trainings have intervals, of the share beyond what chance gives; what makes no difference reaches 0."""
    record_study(recorder, machines=("fan", "valve"), m=(1, 3, 5, 7), seeds=(0, 1, 2))
    rows = {row["choice"]: row for row in importance(recorder.results)}
    assert {(row["trainings"], row["trials"]) for row in rows.values()} == {(24, 24)}
    assert all(0 <= row["ci_low"] <= row["ci_high"] <= 1 for row in rows.values())
    assert rows["seed"]["ci_low"] == 0 < rows["backbone"]["ci_low"]


def test_scorers_and_layers_are_choices_of_their_own() -> None:
    """`knn:layer=6` is the scorer knn and the layer 6; what is not installed here keeps its name."""
    found = _scorers_and_layers(["knn", "knn:k=5,layer=6", "mahalanobis:layer=4+6,merge=zmin", "gone:layer=2"])
    assert found == {
        "scorer": ["knn", "knn:k=5", "mahalanobis", "gone:layer=2"],
        "layer": ["last", "6", "4+6,merge=zmin", "last"],
    }


def by_definition(values: list[str], scores: list[float]) -> float:
    """PED-ANOVA of one choice: the Pearson divergence of the best tenth's smoothed histogram from that of all."""

    def smoothed(chosen: list[str]) -> np.ndarray:
        names = sorted(set(values))
        counts = np.array([chosen.count(name) for name in names], dtype=float)
        seen = (counts > 0).sum() + 1.0  # kernels: one for each value that occurs, and a flat one
        kernel = np.eye(len(names)) + 1.0 / seen
        kernel /= kernel.sum(axis=1, keepdims=True)
        return (counts @ kernel + 1.0 / len(names)) / (counts.sum() + 1.0)

    best = np.sort(scores)[::-1][int(np.ceil(0.1 * len(scores))) - 1]
    top, everywhere = smoothed([v for v, s in zip(values, scores, strict=True) if s >= best]), smoothed(values)
    return float(everywhere @ (top / everywhere - 1) ** 2)


def test_ped_anova_is_its_definition() -> None:
    """Importances are the divergences worked out by hand, as shares; what alone decides has almost all."""
    rng = np.random.default_rng(0)
    settings = [
        {"m": int(rng.integers(1, 4)), "labels": str(rng.choice(["paper", "gmm"])), "seed": int(rng.integers(5))}
        for _ in range(120)
    ]
    scores = [0.5 + 0.2 * (row["m"] == 3) + 0.02 * (row["labels"] == "gmm") + 0.001 * rng.normal() for row in settings]
    found = ped_anova(settings, scores)
    by_hand = {name: by_definition([str(row[name]) for row in settings], scores) for name in settings[0]}
    assert found == pytest.approx({name: value / sum(by_hand.values()) for name, value in by_hand.items()}, rel=1e-6)
    assert ped_anova(settings, scores, most=len(scores)) == found
    assert ped_anova(settings, scores, most=len(scores) - 1) == {}
    alone = ped_anova([{"m": at % 2, "seed": at // 2 % 10} for at in range(200)], [float(at % 2) for at in range(200)])
    assert alone["m"] > 0.95


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
