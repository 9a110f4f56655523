"""A trial's test scores as the challenge takes them in: score and decision files, ready for the official evaluator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.contract import Dataset
from benchmarks.files import printable
from benchmarks.folders import folder_of, whole_file, writing
from harness import plugins
from harness.errors import HarnessError
from harness.scoring.choice import parse_scorer
from harness.scoring.thresholds import QUANTILE, Threshold, decisions, threshold_of
from harness.stores.results import Results

FRONTS = ("anomaly_score", "decision_result")


def submit(results: Results, key: str, *, out: Path, scorer: str | None = None) -> dict[str, Any]:
    """Write the official files of a recorded trial: `anomaly_score_*.csv` and `decision_result_*.csv`.

    Each row is a clip's file name and its score, or 1 where the score lies above the threshold and 0 elsewhere, sorted
    by name, without a row of headings. A trial that scores several years or parts has a folder for each. Where a
    section has no threshold, its decisions are not written, and the answer says why.

    Args:
        results: the results tables.
        key: of a finished trial, its first digits, or the id of its MLflow run.
        out: a folder; it must not hold score or decision files of anything else.
        scorer: by name, where the trial has several.

    Returns:
        `key run_id backbone scorer official_score folder`, `rows` with `file clips threshold anomalous` for each score
        file, and `notes`, what was left out and why.

    Raises:
        HarnessError: no such trial or scorer, several that begin so, or a folder that holds other files.
        BenchmarkError: a folder that cannot be written to.
    """
    trial = find_trial(results, key, scorer=scorer)
    clips = results.clip_scores([trial["key"]], trial["scorer"]).get(trial["key"])
    if clips is None:
        raise HarnessError(f"A submission needs clip scores, but trial {trial['key']} is known by its metrics alone.")
    files, rows, notes = _files(trial, clips)
    _write(folder_of(out), files)
    return {
        **{name: trial[name] for name in ("key", "run_id", "kind", "backbone", "scorer", "official_score")},
        "folder": str(out),
        "quantile": QUANTILE,
        "rows": rows,
        "notes": notes,
    }


def find_trial(results: Results, key: str, *, scorer: str | None = None) -> dict[str, Any]:
    """Return a finished trial's row by its key, the key's first digits or its MLflow run, and by its scorer.

    Raises:
        HarnessError: there is no such trial or several, or the scorer is unknown or not said where there are several.
    """
    found = results.trial_scores([find_key(results, key)])
    scorers = sorted(found["scorer"])
    if scorer is None and len(scorers) > 1:
        raise HarnessError(
            f"Trial {found['key'].iloc[0]} has the scorers {', '.join(scorers)}, but a submission is of one; choose "
            "with --scorer."
        )
    chosen = scorers[0] if scorer is None else scorer if scorer in scorers else _canonical(scorer)
    if chosen not in scorers:
        raise HarnessError(plugins.unknown(f"scorer of trial {found['key'].iloc[0]}", chosen, scorers))
    return {str(name): value for name, value in found[found["scorer"] == chosen].iloc[0].to_dict().items()}


def find_key(results: Results, key: str) -> str:
    """Return a finished trial's key by the key, its first digits or the trial's MLflow run.

    Raises:
        HarnessError: there is no such trial, or several.
    """
    trials = results.trial_scores()
    found = trials[trials["key"].str.startswith(key) | (trials["run_id"] == key)] if key else trials[:0]
    keys = sorted(set(found["key"]))
    if not keys:
        raise HarnessError(
            f"The trial must be recorded as finished, and named by its key, the key's first digits or its MLflow run, "
            f"but got {key!r}; `asdbench trial --json` prints keys, and MLflow's runs are tagged with them (asd.key)."
        )
    if len(keys) > 1:
        raise HarnessError(
            f"The key must say one trial, but {len(keys)} begin with {key}: {', '.join(keys[:5])}; give more digits."
        )
    return str(keys[0])


def _canonical(scorer: str) -> str:
    """Return a scorer's text with its options in the order that results have; as it is where it is no plugin's."""
    try:
        return str(parse_scorer(scorer))
    except HarnessError:
        return scorer


def _files(
    trial: Mapping[str, Any], clips: pd.DataFrame
) -> tuple[dict[str, list[tuple[str, str]]], list[dict[str, Any]], list[str]]:
    """Return the rows of each file by its path below the folder, a summary of each score file, and notes."""
    thresholds = threshold_of(json.loads(trial["detail"]), trial["scorer"])
    place = clips["clip_id"].str.split("/")
    clips = clips.assign(part=place.str[1], name=place.str[-1] + ".wav").sort_values("name")
    many = clips[["dataset", "part"]].drop_duplicates().shape[0] > 1
    files: dict[str, list[tuple[str, str]]] = {}
    rows, notes = [], []
    for (dataset, part, machine, section), unit in clips.groupby(["dataset", "part", "machine", "section"], sort=True):
        year: Dataset = plugins.load("dataset", str(dataset))
        found = thresholds.get((str(dataset), str(machine), str(section)))
        value = found.value if found else None
        if value is None:
            notes.append(_without_threshold(trial, f"{dataset} {machine} section {section}", found))
        for ending, own in _parts_of_unit(year, str(machine), str(section), unit):
            front = f"{dataset}/{part}/" if many else ""
            files[f"{front}anomaly_score_{ending}.csv"] = [
                (name, repr(float(score))) for name, score in zip(own["name"], own["score"], strict=True)
            ]
            decided = None if value is None else decisions(own["score"], value)
            if decided is not None:
                files[f"{front}decision_result_{ending}.csv"] = [
                    (name, str(each)) for name, each in zip(own["name"], decided.tolist(), strict=True)
                ]
            rows.append(
                {
                    "file": f"{front}anomaly_score_{ending}.csv",
                    "clips": len(own),
                    "threshold": value,
                    "anomalous": None if decided is None else int(decided.sum()),
                }
            )
    return files, rows, list(dict.fromkeys(notes))


def _parts_of_unit(year: Dataset, machine: str, section: str, unit: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the files of a section: what stands behind the front of their names, and the clips in them.

    2020 writes `<machine>_id_NN`, 2021 a file a domain, `<machine>_section_NN_<domain>_test`, the later years one of
    both, `<machine>_section_NN_test` (facts of each year's task page and evaluator).
    """
    if not year.has_domains:
        return [(f"{machine}_id_{section}", unit)]
    if len(year.test_folders) > 1:
        return [(f"{machine}_section_{section}_{domain}_test", own) for domain, own in unit.groupby("domain")]
    return [(f"{machine}_section_{section}_test", unit)]


def _without_threshold(trial: Mapping[str, Any], where: str, found: Threshold | None) -> str:
    if trial["kind"] == "external":
        return "There are no decisions: an external system has no training scores here to fit a threshold to."
    if found is None:
        return "There are no decisions: the trial was recorded without scores of its training clips."
    return f"There are no decisions of {where}: {found.why}"


def _write(out: Path, files: Mapping[str, list[tuple[str, str]]]) -> None:
    """Write the files, each whole or not at all, into a folder that holds no others of their kind."""
    if out.exists() and not out.is_dir():
        raise HarnessError(f"--out must be a folder, but {printable(out)} is a file; choose another name.")
    there = {str(path.relative_to(out)) for front in FRONTS for path in out.rglob(f"{front}_*.csv")}
    if strange := sorted(there - files.keys()):
        raise HarnessError(
            f"{out} must hold no score or decision files but this trial's, but holds {strange[0]}; choose another "
            "folder or remove them."
        )
    with writing(out):
        for name, rows in files.items():
            with whole_file(out / name) as file:
                file.write("".join(f"{clip},{value}\n" for clip, value in rows).encode())
