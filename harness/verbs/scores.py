"""The verbs `detect`, `score` and `submit` as Python functions: new clips scored, score files read and written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.places import Places, find_places
from harness.told import Told, silent
from harness.verbs.stores import open_results

if TYPE_CHECKING:
    from benchmarks.contract import Part
    from harness.detection.detector import Detector
    from harness.stores.results import Results
    from harness.trials.contract import TrialSpec
    from harness.trials.recordings import Recordings


def detect(
    trial: str,
    root: Path,
    *,
    best: bool = False,
    machine: str = "",
    section: str = "",
    scorer: str | None = None,
    data: Path | None = None,
    threads: int = 1,
    places: Places | None = None,
    told: Told = silent,
) -> dict[str, Any]:
    """Score new clips as a finished trial scored its own, and say which sound anomalous; none needs a label.

    Args:
        trial: key of a finished trial, its first digits or its MLflow run; with `best`, a study by name or key.
        root: folder with new clips, or one clip.
        best: take the study's trial with the best official score; references that hear no sound are left out.
        machine: machine type of all clips; "" tells it by csv, folders and names.
        section: of all clips; "" tells it by names.
        scorer: by which; None is the trial's first.
        data: the recordings that a frozen trial was recorded with; None takes them from the cache.
        threads: of torch.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.
        told: called with (what, done, total) as work goes on.

    Returns:
        `trial`, `label`, `scorer`, `machines`, `rows` (a clip each, the most anomalous first, with `score`,
        `threshold`, `decision`, `nearest`, ...), `unheard` (`file` and `why` of clips that were not scored), `notes`.

    Raises:
        ValueError: there is no such trial, it kept no encoder, or no clip can be scored.
    """
    from harness.detection.new_clips import detect_in
    from harness.scorefiles.submission import find_key
    from harness.trials.limits import hold_threads

    hold_threads(threads)
    places = places or find_places()
    with open_results(places) as results:
        key = best_trial(results, trial) if best else find_key(results, trial)
        detector = find_detector(results, key, places=places, data=data, told=told)
    found = detect_in(
        detector, root, machine=machine, section=section, scorer=scorer,
        progress=lambda done, total: told("listening", done, total),
    )  # fmt: skip
    return {
        "trial": key,
        "label": detector.hearing.label,
        "scorer": detector.scorer(scorer),
        "machines": sorted({unit[1] for unit in detector.units}),
        "rows": found.document(),
        "unheard": [{"file": each.file, "why": each.why} for each in found.unheard],
        "notes": found.notes,
    }


def best_trial(results: Results, study: str) -> str:
    """Return the key of a study's trial, learned or frozen, with the highest official score by its first scorer.

    Raises:
        HarnessError: there is no such study, or none of its trials has a score.
    """
    import json

    from harness.stores.readings import find_study

    row = find_study(results, study)
    scorers = json.loads(row["content"]).get("scorers") or ["knn"]
    trials = results.trial_scores(results.study_keys(row["key"]))
    trials = trials[trials["kind"].isin(["trial", "frozen"]) & (trials["scorer"] == scorers[0])]
    scored = trials[trials["official_score"].notna()].sort_values(["official_score", "key"], ascending=[False, True])
    if scored.empty:
        keys = ", ".join(trials["key"]) or "none"
        raise HarnessError(
            f"The best trial is told by its official score, but no trial of {study} has one; name one of them: {keys}."
        )
    return str(scored["key"].iloc[0])


def find_detector(
    results: Results, key: str, *, places: Places, data: Path | None = None, told: Told = silent
) -> Detector:
    """Return what scores new clips as a trial did: from its kept model, or built again for a frozen trial.

    Raises:
        HarnessError: the trial kept no encoder and cannot do without, or the recordings of a frozen one are not there.
    """
    import json

    from harness.detection.bundle import detector_of, read_detector
    from harness.scoring.thresholds import threshold_of
    from harness.stores.history import History, fetch_spec, place_of_runs
    from harness.stores.kept.models import KeptModels
    from harness.trials.trial import frozen_again

    row = results.trial_scores([key]).iloc[0]
    history = History(place_of_runs(str(row["origin"]), places.tracking))
    models = KeptModels(history.client, history.experiment, history.uri)
    for model in reversed([each for each in models.of([key]) if each.whole]):
        with models.fetched(model) as folder:
            return read_detector(folder)
    if row["kind"] == "external":
        raise HarnessError(
            f"{key} is an external system, whose scores alone are recorded, so it cannot hear new clips; take a trial."
        )
    if row["kind"] not in ("frozen", "level"):
        which = '"all"' if row["official_score"] != row["official_score"] else '"best" or "all"'  # NaN: no labels
        raise HarnessError(
            f"Trial {key} kept no encoder, so it cannot hear new clips; run it again with --keep (a study: keep = "
            f"{which} in its file), or take a frozen trial, which needs none."
        )
    spec = fetch_spec(history.uri, str(row["run_id"]), key=key)
    detail = json.loads(row["detail"])
    thresholds = {name: tuple(threshold_of(detail, name).values()) for name in spec.scorers}
    recordings = _recordings_of(spec, places, data=data, told=told)
    return detector_of(frozen_again(spec, recordings, places.open_cache(), thresholds))


def _recordings_of(spec: TrialSpec, places: Places, *, data: Path | None, told: Told) -> Recordings:
    """Return the recordings of a trial, from the cache or prepared again."""
    from harness.trials.recordings import open_recordings, prepare_recordings

    prepared, name = places.cache / "recordings", f"{spec.train_data}-{spec.test_data}"
    if data is None:
        for place in sorted(prepared.glob(f"{name}*")):  # with a truth or without: the clips are the same
            return open_recordings(place)
        raise HarnessError(
            "A frozen trial compares new clips with the recordings that it was recorded with, but they are not in the "
            f"cache any more ({prepared / name}); name their folder with --data."
        )
    found = prepare_recordings(
        data, spec.protocol, places.open_cache(),
        progress=lambda done, total: told("reading recordings", done, total),
    )  # fmt: skip
    if found.train_data != spec.train_data:
        raise HarnessError(
            f"--data must hold the recordings that trial {spec.key()} was recorded with, but {data} holds others; run "
            "a trial on these."
        )
    return found


def score(
    folder: Path | str,
    *,
    dataset: str,
    ground_truth: Path | None = None,
    part: Part | None = None,
    resamples: int = 1000,
    seed: int = 0,
    explain: bool = False,
    record: str | None = None,
    places: Places | None = None,
) -> dict[str, Any]:
    """Measure a folder of anybody's score files by a year's official rule.

    Args:
        folder: with `anomaly_score_*.csv`.
        dataset: the year.
        ground_truth: the user's copy of the official files about evaluation clips.
        part: only this part, where the folder holds both.
        resamples: bootstrap resamples for the intervals.
        seed: of the bootstrap's draws.
        explain: also return which clips enter each number.
        record: name under which the scores are recorded as those of an external system; None records nothing.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.

    Returns:
        See `harness.scorefiles.measured.MeasuredFolder.document`; where recorded also `key` and `run_id`.

    Raises:
        ValueError: the files are not those of the year, or cannot be used; or the name cannot be recorded.
    """
    from harness.scorefiles.measured import measure_folder

    measured = measure_folder(
        folder, dataset=dataset, ground_truth=ground_truth, part=part, resamples=resamples, seed=seed
    )
    document = measured.document(explain=explain)
    if record is not None:
        from harness.scorefiles.external import record_external

        document |= record_external(record, measured, places=places or find_places())
    return document


def submit(key: str, *, out: Path, scorer: str | None = None, places: Places | None = None) -> dict[str, Any]:
    """Write a recorded trial's official score and decision files; see `harness.scorefiles.submission.submit`.

    Args:
        key: of the trial.
        out: folder for the files.
        scorer: whose scores; None is the trial's first.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.

    Returns:
        What was written, as `harness.scorefiles.submission.submit` says.

    Raises:
        HarnessError: there is no such trial, or the folder cannot be written.
    """
    from harness.scorefiles.submission import submit as written

    with open_results(places or find_places()) as results:
        return written(results, key, out=out, scorer=scorer)
