"""The state of a recorded study, read from the results tables while it runs or afterwards."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from harness.stores.claims import Claims
from harness.stores.readings import find_study
from harness.stores.results import Results
from harness.trials.axes import AXES

CHOICES = ("kind", *(axis.name for axis in AXES), "seed")


def study_status(results: Results, study: str, *, trials: bool = False) -> dict[str, Any]:
    """Say how far a study is.

    Args:
        results: the tables.
        study: name or key.
        trials: also list each recorded trial with its cost.

    Returns:
        `study`, `key`, `protocol`; `planned`, `finished`, `failed`, `pruned`, `running` as numbers; `reasons` of those
        that failed, by key; `cells`, what runs where since when; with `trials` one row a recorded trial: `key`,
        its choices, `status`, `seconds` by stage and `peak_mb`.
    """
    recorded = find_study(results, study)
    keys = results.study_keys(recorded["key"])
    ends = results.ends(keys)
    living = Claims(results).living(keys)
    document = {
        "study": recorded["name"],
        "key": recorded["key"],
        "protocol": recorded["protocol"],
        "planned": int(recorded["planned"]),
        **{status: sum(end.status == status for end in ends.values()) for status in ("finished", "failed", "pruned")},
        "running": len(living),
        "reasons": {key: end.reason for key, end in ends.items() if end.status == "failed"},
        "pruned_reasons": {key: end.reason for key, end in ends.items() if end.status == "pruned"},
        "cells": [
            {
                "key": key,
                "label": claim.label,
                "driver": claim.shown,
                "since": datetime.fromtimestamp(claim.since, UTC).isoformat(timespec="seconds"),
                "seconds": max(0.0, datetime.now(UTC).timestamp() - claim.since),
            }
            for key, claim in sorted(living.items(), key=lambda item: item[1].since)
        ],
    }
    return {**document, "trials": _costs(results, keys)} if trials else document


def _costs(results: Results, keys: list[str]) -> list[dict[str, Any]]:
    rows = results.costs(keys)
    return [
        {
            "key": row["key"],
            **{name: row[name] for name in CHOICES},
            "status": row["status"],
            "seconds": json.loads(row["detail"]).get("seconds", {}),
            "peak_mb": row["peak_mb"],
        }
        for row in rows
    ]
