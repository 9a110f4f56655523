"""Leaderboards: every recorded trial ranked, seeds averaged, references beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.contract import HarnessError
from harness.plugins import unknown
from harness.results import Results

# rows of one board compare like with like: the same protocol on the same recordings
BOARD = ["protocol", "train_data", "test_data"]
ROW = [*BOARD, "kind", "backbone", "m", "k1", "k2", "fusion", "labels", "scorer", "recipe"]
METRICS = ("auc", "s_auc", "t_auc", "p_auc")
EPS = float(np.finfo(float).eps)  # the official harmonic mean is over max(x, eps)


def leaderboard(
    results: Results,
    *,
    study: str | None = None,
    protocol: str | None = None,
    backbone: str | None = None,
    machine: str | None = None,
    scorer: str | None = None,
) -> list[dict[str, Any]]:
    """Rank what is recorded, best first; each protocol and each set of recordings has a ranking of its own.

    Args:
        results: the results tables.
        study: only this study's trials, by name or key; the newest of that name.
        protocol: only this protocol's.
        backbone: only this backbone's, and the level row.
        machine: rank by this machine type's harmonic mean instead of the official score.
        scorer: only this scorer's, and the level row.

    Returns:
        One row a (kind, backbone, M, K1, K2, fusion, scorer, recipe), fractions throughout.

    Raises:
        HarnessError: nothing is recorded, or nothing of that name.
    """
    keys = study_trial_keys(results, study) if study else None
    trials = results.trial_scores(keys)
    if trials.empty:
        raise HarnessError(
            "A leaderboard needs recorded trials, but there is none yet; run `asdbench demo` or a study."
        )
    trials = _chosen(trials, "protocol", protocol)
    level = trials["kind"] == "level"
    trials = pd.concat([_chosen(trials[~level], "backbone", backbone), trials[level]])
    trials = pd.concat(
        [_chosen(trials[trials["kind"] != "level"], "scorer", scorer), trials[trials["kind"] == "level"]]
    )
    metrics = results.metrics(set(trials["key"]))
    names = _machine_names(metrics, trials)
    if machine is not None and machine not in set(names):
        raise HarnessError(unknown("machine", machine, set(names)))
    metrics = metrics.assign(name=names)
    rows = [
        _row(cells, trials, metrics, machine) for cells in trials.groupby(ROW, dropna=False, sort=False).groups.values()
    ]
    return _ranked(rows)


def study_trial_keys(results: Results, study: str) -> list[str]:
    """Return the keys of a recorded study's trials, by its name (the newest one) or key.

    Raises:
        HarnessError: no study of that name is recorded.
    """
    return results.study_keys(find_study(results, study)["key"])


def find_study(results: Results, study: str) -> dict[str, Any]:
    """Return a recorded study by its name (the newest one) or key."""
    recorded = results.studies()
    found = recorded[(recorded["name"] == study) | (recorded["key"] == study)]
    if found.empty:
        raise HarnessError(unknown("recorded study", study, set(recorded["name"])))
    return {str(name): value for name, value in found.iloc[-1].to_dict().items()}


def chance_note(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say what a row that knows nothing would score."""
    return "Chance is 50.00. " + (
        "Level is the clip's loudness alone, frozen the encoder without fine-tuning: a learned row must beat both."
        if any(row["kind"] in ("level", "frozen") for row in rows)
        else "No level-only or frozen row is recorded here: run a study with them before believing a learned one."
    )


def _row(index: Any, trials: pd.DataFrame, metrics: pd.DataFrame, machine: str | None) -> dict[str, Any]:
    cells = trials.loc[index]
    first = cells.iloc[0]
    own = metrics[metrics["key"].isin(set(cells["key"])) & (metrics["scorer"] == first["scorer"])]
    machines = own.dropna(subset=["h_mean"]).groupby("name", sort=True)["h_mean"].mean()
    if machine is None:
        values = cells["official_score"].to_numpy(dtype=float)
    else:
        per_trial = own[own["name"] == machine].groupby("key")["h_mean"].first()
        values = per_trial.to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    return {
        "kind": first["kind"],
        "backbone": _text(first["backbone"]),
        **{name: _number(first[name]) for name in ("m", "k1", "k2")},
        "fusion": first["fusion"] if first["kind"] == "trial" else None,
        "labels": first["labels"] if first["kind"] == "trial" else None,
        "scorer": first["scorer"],
        "trials": len(cells),
        "official_score": float(values.mean()) if len(values) else None,
        "official_score_std": float(values.std(ddof=1)) if len(values) > 1 else None,
        **{metric: _harmonic(own[metric]) for metric in METRICS},
        "machines": {str(name): float(value) for name, value in machines.items()},
        "classes": _mean(cells["classes"]),
        "singletons": _mean(cells["singletons"]),
        "left_out": _mean(cells["left_out"]),
        "seconds": _mean(cells["seconds"]),
        "peak_mb": _mean(cells["peak_mb"]),
        "recipe": first["recipe"],
        "protocol": first["protocol"],
        "data": f"{first['train_data']}-{first['test_data']}",
    }


def _ranked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    boards: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        boards.setdefault((row["protocol"], row["data"]), []).append(row)
    ranked = []
    for board in boards.values():
        board.sort(
            key=lambda row: (row["official_score"] is None, -(row["official_score"] or 0.0), str(row["backbone"]))
        )
        ranked += [{"rank": place, **row} for place, row in enumerate(board, start=1)]
    return ranked


def _machine_names(metrics: pd.DataFrame, trials: pd.DataFrame) -> pd.Series[str]:
    test_data = trials.drop_duplicates("key").set_index("key")["test_data"]
    years = metrics.groupby(metrics["key"].map(test_data))["dataset"].transform("nunique")
    return metrics["machine"].where(years == 1, metrics["dataset"] + "/" + metrics["machine"])


def _chosen(trials: pd.DataFrame, column: str, name: str | None) -> pd.DataFrame:
    if name is None:
        return trials
    found = trials[trials[column] == name]
    if found.empty:
        raise HarnessError(unknown(f"recorded {column}", name, set(trials[column].dropna())))
    return found


def _harmonic(values: pd.Series[Any]) -> float | None:
    known = values.dropna().to_numpy(dtype=float)
    return float(len(known) / np.sum(1 / np.maximum(known, EPS))) if len(known) else None


def _mean(values: pd.Series[Any]) -> float | None:
    known = values.dropna()
    return float(known.mean()) if len(known) else None


def _number(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def _text(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)
