"""The verbs of the command line as Python functions, so that a notebook reads like the command line."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness import plugins
from harness.interrupts import whole
from harness.places import Places, code_revision, find_places
from harness.pretraining.pretrain import pretrain as pretrain  # noqa: PLC0414 - re-exported
from harness.trials.contract import HarnessError
from harness.verbs import backbones as conformance
from harness.verbs import bench as regression_study
from harness.verbs import gate
from harness.verbs import recordings as data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backbones.contract import EpochReport
    from harness.stores.recorder import Recorder
    from harness.stores.results import Results
    from harness.studies.plan import StudyFile
    from harness.studies.progress import Event, Outcome
    from harness.trials.contract import TrialSpec
    from labeling.contract import LabelSource
    from labeling.fusion import Fusion

Told = Callable[[str, int, int], None]

data_index, data_doctor, data_download, data_generate = (
    data.data_index, data.data_doctor, data.data_download, data.data_generate,
)  # fmt: skip
check_backbone = conformance.check_backbone
select, regress, baseline_export = gate.select, gate.regress, gate.baseline_export
bench_backbone = regression_study.bench_backbone


def sync(source: str | None = None, **chosen: Any) -> dict[str, Any]:
    """Write the results tables from MLflow's runs; see `harness.stores.sync.sync`."""
    from harness.stores.sync import sync as synchronise

    return synchronise(source, **chosen)


def silent(_what: str, _done: int, _all: int) -> None:
    """Tell nobody about progress."""


def ls(kind: str | None = None) -> list[dict[str, Any]]:
    """List what can be named, without importing any of it: rows of kind, name, summary.

    Raises:
        HarnessError: there is no such kind.
    """
    if kind is not None and kind not in LISTS:
        raise HarnessError(plugins.unknown("ls", kind, LISTS))
    return [row for name, rows in LISTS.items() if kind in (None, name) for row in rows()]


def label(
    root: Path,
    *,
    protocol: str,
    m: int = 1,
    k1: int = 15,
    k2: int = 15,
    fusion: Fusion = "composite",
    backbone: str = "tiny",
    weights: str = "",
    options: Mapping[str, Any] | None = None,
    min_confidence: float = 0.9,
    below: Literal["drop", "machine"] = "drop",
    seed: int = 0,
    labels: LabelSource = "paper",
    truth: Path | None = None,
    ground_truth: Path | None = None,
    skip_bad: bool = False,
    out: Path | None = None,
    places: Places | None = None,
    told: Told = silent,
) -> dict[str, Any]:
    """Pseudo-label a protocol's training clips and say what came of it, machine type by machine type.

    Args:
        root: folder with recordings in the official layout.
        protocol: by name.
        m: attributes joined in a pseudo-label.
        k1: nearest labeled neighbours.
        k2: clusters.
        fusion: how the M attributes become a class.
        backbone: whose pre-trained latents are clustered.
        weights: of the backbone.
        options: of the backbone.
        min_confidence: under which a sample-wise pseudo-label is not retained.
        below: what becomes of a clip that is not retained.
        seed: of forests, clusterings and random weights.
        labels: what labels the clips: the paper's method or a baseline; see `harness.studies.plan.labeled_by`.
        truth: folder with released attributes, by which the labels are judged; none is made from them unless `labels`
            is "truth".
        ground_truth: the user's copy of the official files about evaluation clips.
        skip_bad: go on without files that cannot be used.
        out: a parquet or csv file for the labels themselves.
        places: of the cache.
        told: progress.
    """
    from harness.trials.candidates import rank_machines
    from harness.trials.trial import fuse_labels

    spec, recordings, cache = _one_trial(
        root, protocol, backbone, weights=weights, options=options, m=m, k1=k1, k2=k2, fusion=fusion,
        min_confidence=min_confidence, below=below, seed=seed, labels=labels, truth=truth,
        ground_truth=ground_truth, skip_bad=skip_bad, places=places or find_places(), told=told,
    )  # fmt: skip
    statistics, table = fuse_labels(spec, rank_machines(spec, recordings, cache), truth=recordings.truth)[1:]
    if out is not None:
        beside = out.with_name(f".{out.name}.part")
        if out.suffix == ".parquet":
            table.to_parquet(beside, index=False)
        elif out.suffix == ".csv":
            table.to_csv(beside, index=False)
        else:
            raise HarnessError(f"--out must end in .parquet or .csv, but got {out.name!r}.")
        beside.replace(out)
    choices = {"m": m, "k1": k1, "k2": k2, "fusion": fusion, "labels": labels}
    return {"protocol": protocol, **choices, "rows": list(statistics)}


def trial(
    root: Path,
    *,
    protocol: str,
    backbone: str,
    m: int | None = 1,
    k1: int = 15,
    k2: int = 15,
    fusion: Fusion = "composite",
    seed: int = 0,
    weights: str = "",
    options: Mapping[str, Any] | None = None,
    scorers: Sequence[str] = ("knn",),
    recipe: Mapping[str, Any] | None = None,
    min_confidence: float = 0.9,
    below: Literal["drop", "machine"] = "drop",
    labels: LabelSource = "paper",
    truth: Path | None = None,
    ground_truth: Path | None = None,
    skip_bad: bool = False,
    threads: int = 1,
    places: Places | None = None,
    told: Told = silent,
) -> dict[str, Any]:
    """Run one trial in this process and record it; one that is recorded already is read back.

    Args:
        root: folder with recordings in the official layout.
        protocol: by name.
        backbone: by name.
        m: attributes joined in a pseudo-label; None leaves the encoder frozen.
        k1: nearest labeled neighbours.
        k2: clusters.
        fusion: how the M attributes become a target.
        seed: of everything that draws.
        weights: a checkpoint; empty is random weights from the seed.
        options: of the backbone.
        scorers: by name, with options as in `knn:k=5,metric=euclidean`. One that is named for a trial that is
            recorded already scores what that trial kept, without training it again.
        recipe: what differs from the paper's recipe.
        min_confidence: under which a sample-wise pseudo-label is not retained.
        below: what becomes of a clip that is not retained.
        labels: what labels the clips: the paper's method or a baseline; see `harness.studies.plan.labeled_by`.
        truth: folder with released attributes, by which the labels are judged and which change no key; none is made
            from them unless `labels` is "truth". A trial that is recorded already is read back as it was judged then.
        ground_truth: the user's copy of the official files about evaluation clips.
        skip_bad: go on without files that cannot be used.
        threads: of torch; another number may change the last digits.
        places: of the stores.
        told: progress.
    """
    import torch

    from harness.trials.checkpoints import forget_training
    from harness.trials.contract import Failure
    from harness.trials.trial import run_trial

    torch.set_num_threads(threads)
    places = places or find_places()
    spec, recordings, cache = _one_trial(
        root, protocol, backbone, weights=weights, options=options, m=m, k1=k1, k2=k2, fusion=fusion,
        min_confidence=min_confidence, below=below, seed=seed, labels=labels, truth=truth, scorers=scorers,
        recipe=recipe, ground_truth=ground_truth, skip_bad=skip_bad, places=places, told=told,
    )  # fmt: skip
    with _recorder(places) as recorder:
        key = spec.key()
        done = recorder.results.finished([key], scorers=spec.scorers)
        if key not in done:
            spec = recorder.with_recorded_scorers([spec])[0]
            with recorder.open_trial(spec) as run_id:

                def on_epoch(report: EpochReport) -> None:
                    recorder.epochs(run_id, [report])
                    told("epochs", report.epoch, spec.recipe.epochs)

                try:
                    result = run_trial(spec, recordings, cache, on_epoch=on_epoch)
                except ValueError as error:
                    with whole():
                        recorder.fail(run_id, spec, Failure(str(error), traceback.format_exc()))
                    raise
                with whole():
                    recorder.finish(run_id, result)
            forget_training(places.cache, key)
        return recorded_trial(recorder.results, key, scorer=spec.scorers[0])


def recorded_trial(results: Results, key: str, *, scorer: str) -> dict[str, Any]:
    """Return one recorded trial as the command line prints it."""
    import json

    trials = results.trial_scores([key])
    row = trials[trials["scorer"] == scorer].iloc[0]
    metrics = results.metrics([key])
    metrics = metrics[metrics["scorer"] == scorer]
    names = ["dataset", "machine", "section", "auc", "s_auc", "t_auc", "p_auc", "h_mean"]
    detail = json.loads(row["detail"])
    return {
        "key": key,
        "run_id": row["run_id"],
        "status": row["status"],
        "scorer": scorer,
        "official_score": row["official_score"],
        "rows": metrics[names].to_dict("records"),
        "intervals": detail.get("intervals", {}).get(scorer),
        "labels": detail["labels"],
        "undefined": detail["undefined"],
        "seconds": detail["seconds"],
        "peak_mb": detail["peak_mb"],
        "reused": detail.get("reused", []),
    }


def study_run(
    study: str | StudyFile,
    *,
    data: Path,
    workers: int | None = None,
    address: str | None = None,
    retry_failed: bool = False,
    ground_truth: Path | None = None,
    skip_bad: bool = False,
    places: Places | None = None,
    told: Told = silent,
    listen: Event = lambda _progress: None,
) -> Outcome:
    """Run a study to the end, from wherever it stopped.

    Args:
        study: the name of one that ships, the path of a TOML file, or what one would hold.
        data: folder with recordings in the official layout.
        workers: trials at once; None is the study's, else what the machine has room for.
        address: of a Ray cluster to join.
        retry_failed: take up again what is recorded as failed.
        ground_truth: the user's copy of the official files about evaluation clips.
        skip_bad: go on without files that cannot be used; the study's run says how many.
        places: of the stores.
        told: progress of the preparation.
        listen: told after each trial.
    """
    import os

    from harness.engine.opening import opened
    from harness.studies.plan import make_plan, read_study
    from harness.trials.candidates import check_candidates
    from harness.trials.recordings import prepare_recordings
    from harness.trials.truth import with_released

    places = places or find_places()
    plan = make_plan(read_study(study) if isinstance(study, str) else study)
    cache = places.open_cache()
    recordings = prepare_recordings(
        data, plan.protocol, cache, workers=workers or os.cpu_count() or 1, ground_truth=ground_truth,
        skip_bad=skip_bad,
        progress=lambda done, total: told("reading recordings", done, total),
    )  # fmt: skip
    if plan.file.labeling.truth:
        recordings = with_released(recordings, Path(plan.file.labeling.truth).expanduser())
    specs = plan.specs(
        train_data=recordings.train_data, test_data=recordings.test_data, truth_data=recordings.truth_data
    )
    check_candidates(specs, recordings, cache, workers=workers or os.cpu_count() or 1)
    with opened(plan, recordings, places, code=code_revision(), address=address) as study_opened:
        recorder = study_opened.recorder
        from harness.engine.tune import run_study

        outcome = run_study(
            plan,
            recordings,
            recorder,
            places,
            workers=workers,
            address=address,
            retry_failed=retry_failed,
            listen=listen,
        )
        study_opened.leave_ray()
        log_study_pictures(recorder, outcome)
        return outcome


def log_study_pictures(recorder: Recorder, outcome: Outcome) -> None:
    """Log the M-curve, the leaderboard and the report page of a study to its run."""
    from harness.answers.leaderboard import leaderboard
    from harness.pictures.candidates import m_curve, png
    from harness.report.page import report
    from harness.tables import csv_table

    if outcome.progress.finished:
        rows = leaderboard(recorder.results, study=outcome.key)
        recorder.tracker.log_text(
            outcome.run_id, {"m_curve.png": png(m_curve(rows)), "leaderboard.csv": csv_table(rows)}
        )
        tracker = recorder.tracker
        report(recorder.results, study=outcome.key, tracking=tracker.uri, tracker=tracker)


def study_status(study: str, *, trials: bool = False, places: Places | None = None) -> dict[str, Any]:
    """Say how far a recorded study is, and what runs; see `harness.studies.status.study_status`."""
    from harness.studies.status import study_status as status

    with open_results(places or find_places()) as results:
        return status(results, study, trials=trials)


def study_ls(*, places: Places | None = None) -> list[dict[str, Any]]:
    """List the recorded studies."""
    with open_results(places or find_places()) as results:
        names = ["name", "key", "protocol", "planned", "run_id"]
        rows = results.studies()
        done = [len(results.finished(results.study_keys(key))) for key in rows["key"]]
        return [
            {**{name: row[name] for name in names}, "finished": count, "created": str(row["created"])}
            for row, count in zip(rows.to_dict("records"), done, strict=True)
        ]


def leaderboard(*, places: Places | None = None, references: bool = True, **chosen: Any) -> list[dict[str, Any]]:
    """Rank everything that is recorded; see `harness.answers.leaderboard.leaderboard`.

    Args:
        places: of the stores.
        references: add chance and published results; see `harness.answers.references.with_references`.
        chosen: study, protocol, backbone, machine, scorer, top.
    """
    from harness.answers.leaderboard import leaderboard as rank
    from harness.answers.references import with_references

    with open_results(places or find_places()) as results:
        rows = rank(results, **with_canonical_scorer(chosen))
        if not references:
            return rows
        return with_references(rows, results, backbone=chosen.get("backbone"), machine=chosen.get("machine"))


def reference(name: str | None = None, *, places: Places | None = None) -> list[dict[str, Any]]:
    """Return published numbers beside the same cells recorded here; see `harness.answers.published.reference`."""
    from harness.answers.published import reference as beside
    from harness.stores.results import sqlite_path

    places = places or find_places()
    path = sqlite_path(places.results)
    if path is not None and not path.is_file():  # the published numbers need no database
        return beside(None, name)
    with open_results(places) as results:
        return beside(results, name)


def compare(*, places: Places | None = None, **chosen: Any) -> list[dict[str, Any]]:
    """Compare Top-M with Top-1, paired; see `harness.answers.compare.compare`."""
    from harness.answers.compare import compare as paired

    with open_results(places or find_places()) as results:
        return paired(results, **with_canonical_scorer(chosen))


def with_canonical_scorer(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return a question whose scorer is written as results carry it; a bare name may be one without a plugin here."""
    from harness.scoring.choice import parse_scorer

    scorer = chosen.get("scorer")
    return {**chosen, "scorer": str(parse_scorer(scorer))} if scorer and ":" in scorer else dict(chosen)


def score(
    folder: Path | str,
    *,
    dataset: str,
    explain: bool = False,
    record: str | None = None,
    places: Places | None = None,
    **chosen: Any,
) -> dict[str, Any]:
    """Measure a folder of anybody's score files by a year's official rule.

    Args:
        folder: with `anomaly_score_*.csv`.
        dataset: the year.
        explain: name the clips that enter each number.
        record: the name under which the scores are recorded as an external system; None records nothing.
        places: of the stores.
        chosen: see `harness.scorefiles.measured.measure_folder`.

    Returns:
        See `harness.scorefiles.measured.MeasuredFolder.document`; where recorded also `key` and `run_id`.
    """
    from harness.scorefiles.measured import measure_folder

    measured = measure_folder(folder, dataset=dataset, **chosen)
    document = measured.document(explain=explain)
    if record is not None:
        from harness.scorefiles.external import record_external

        document |= record_external(record, measured, places=places or find_places())
    return document


def submit(key: str, *, out: Path, scorer: str | None = None, places: Places | None = None) -> dict[str, Any]:
    """Write a recorded trial's official score and decision files; see `harness.scorefiles.submission.submit`."""
    from harness.scorefiles.submission import submit as written

    with open_results(places or find_places()) as results:
        return written(results, key, out=out, scorer=scorer)


def report(out: Path, *, log: bool = True, places: Places | None = None, **chosen: Any) -> dict[str, Any]:
    """Write one self-contained page of what is recorded; see `harness.report.page.report`.

    Args:
        out: the page's file.
        log: add the page to the study's MLflow run, where a study is named.
        places: of the stores.
        chosen: study, protocol, backbone, scorer, comparisons, resamples, seed.
    """
    from harness.report.page import report as write

    places = places or find_places()
    with open_results(places) as results:
        tracker = None
        if log and (chosen.get("study") or places.tracking.startswith("http")):
            from harness.stores.tracker import Tracker

            tracker = Tracker(places.tracking, code=code_revision())
        return write(results, out, tracking=places.tracking, tracker=tracker, **with_canonical_scorer(chosen))


@contextmanager
def open_results(places: Places) -> Iterator[Results]:
    """Open the results tables for reading; a database that is not there is not made.

    Raises:
        HarnessError: nothing was recorded there yet.
    """
    from harness.stores.results import Results, sqlite_path

    path = sqlite_path(places.results)
    if path is not None and not path.is_file():
        raise HarnessError(
            f"Recorded trials are read from {path}, but there is no such file; run `asdbench demo` or a study first, "
            "or name the database with --db."
        )
    results = Results(places.results)
    try:
        yield results
    finally:
        results.close()


@contextmanager
def _recorder(places: Places) -> Iterator[Recorder]:
    from harness.stores.recorder import Recorder
    from harness.stores.results import Results

    results = Results(places.results)  # first: it also tells whether the database can be written
    try:
        from harness.stores.tracker import Tracker

        yield Recorder(Tracker(places.tracking, code=code_revision()), results)
    finally:
        results.close()


def _one_trial(
    root: Path,
    protocol: str,
    backbone: str,
    *,
    places: Places,
    told: Told,
    m: int | None,
    k1: int,
    k2: int,
    weights: str,
    options: Mapping[str, Any] | None,
    recipe: Mapping[str, Any] | None = None,
    scorers: Sequence[str] = ("knn",),
    labels: LabelSource = "paper",
    truth: Path | None = None,
    ground_truth: Path | None = None,
    skip_bad: bool = False,
    **rest: Any,
) -> tuple[TrialSpec, Any, Any]:
    """Resolve one trial's spec and prepare its recordings."""
    from benchmarks.protocols import find_protocol
    from harness.scoring.choice import canonical_scorers
    from harness.studies.plan import choose_backbone, frozen_spec, labeled_by, read_recipe
    from harness.trials.candidates import check_candidates
    from harness.trials.contract import TrialSpec
    from harness.trials.recordings import prepare_recordings
    from harness.trials.truth import with_released
    from labeling.fusion import check_m

    scorers = canonical_scorers(scorers)
    found = find_protocol(protocol)
    choice = choose_backbone(backbone, backbone, weights=weights, options=options)
    if m is not None:
        check_m(m, max(k1, k2))
    cache = places.open_cache()
    recordings = prepare_recordings(
        root, found, cache, ground_truth=ground_truth, skip_bad=skip_bad,
        progress=lambda done, total: told("reading recordings", done, total),
    )  # fmt: skip
    if truth is not None:
        recordings = with_released(recordings, truth)
    spec = TrialSpec(
        kind="trial", backbone=choice, m=m, k1=k1, k2=k2, protocol=found,
        recipe=read_recipe(recipe or {}), train_data=recordings.train_data,
        test_data=recordings.test_data, scorers=tuple(scorers), **rest,
    )  # fmt: skip
    if m is None:
        spec = frozen_spec(replace(spec))
    else:
        spec = labeled_by(spec, labels, truth_data=recordings.truth_data)
        check_candidates([spec], recordings, cache)
    return spec, recordings, cache


def _list_plugins(kind: plugins.PluginKind) -> Callable[[], list[dict[str, Any]]]:
    return lambda: [{"kind": kind, "name": name, "summary": said} for name, said in plugins.summaries(kind).items()]


def _list_scorers() -> list[dict[str, Any]]:
    from harness.scoring.choice import list_scorers

    return list_scorers(plugins.summaries("scorer"))


def _list_protocols() -> list[dict[str, Any]]:
    from benchmarks.protocols import PROTOCOLS

    return [{"kind": "protocol", "name": name, "summary": each.summary} for name, each in PROTOCOLS.items()]


def _list_studies() -> list[dict[str, Any]]:
    from harness.studies.plan import read_study, study_names

    return [{"kind": "study", "name": name, "summary": read_study(name).summary} for name in study_names()]


LISTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "backbones": _list_plugins("backbone"),
    "strategies": _list_plugins("strategy"),
    "datasets": _list_plugins("dataset"),
    "scorers": _list_scorers,
    "protocols": _list_protocols,
    "studies": _list_studies,
}
