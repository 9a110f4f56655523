"""What `detect` prints: scores beside their thresholds, and training clips counted by themselves."""

from __future__ import annotations

from typing import Any

from harness.cli.scores import _alike, _in_thresholds, detected_sentence


def clip(score: float, threshold: float | None, *, trained: bool = False) -> dict[str, Any]:
    """Return a scored clip as `detect` has it."""
    decision = None if threshold is None else "anomalous" if score > threshold else "normal"
    return {"score": score, "threshold": threshold, "decision": decision, "in_training": trained}


def test_numbers_of_all_columns_have_one_notation() -> None:
    """If any score or threshold needs an exponent, all have one; else none has."""
    tiny = [clip(0.0004499, 1.4558e-05), clip(1.7964e-05, None)]
    printed = [[column.fill(row) for column in _alike(("score", "threshold"), tiny)] for row in tiny]
    assert printed == [["4.4990e-04", "1.4558e-05"], ["1.7964e-05", "–"]]
    plain = [clip(0.5, 0.25), clip(0.0, 0.25)]
    printed = [[column.fill(row) for column in _alike(("score", "threshold"), plain)] for row in plain]
    assert printed == [["0.5000", "0.2500"], ["0.0000", "0.2500"]]


def test_scores_count_in_thresholds() -> None:
    """What clips are sorted by is shown; without a threshold above 0 it has no meaning."""
    assert _in_thresholds(clip(0.0004499, 1.4558e-05)) == "30.90"
    assert [_in_thresholds(clip(1.0, threshold)) for threshold in (None, 0.0, -2.0)] == ["–"] * 3


def test_training_clips_are_counted_by_themselves() -> None:
    """A tenth of the training clips lies above the threshold anyway, so they are no find."""
    new = [clip(2, 1), clip(3, 1), clip(0.5, 1)]
    assert (
        detected_sentence(new, 1)
        == "3 clips scored, 2 of 3 clips with a threshold are above it; 1 clip was not scored."
    )
    both = [*new, clip(2, 1, trained=True), clip(0.1, 1, trained=True)]
    assert detected_sentence(both, 0) == (
        "5 clips scored, 2 of 3 new clips with a threshold are above it, 1 of 2 training clips with a threshold is "
        "above it, as about 10 % of all training clips are by its definition."
    )
    assert detected_sentence([clip(1, None)], 0) == "1 clip scored, none has a threshold."
    only = detected_sentence(both[3:], 0)
    assert only.startswith("2 clips scored, 1 of 2 training clips") and "new" not in only
