"""Pseudo-labels alone, and one trial."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import HarnessError
from harness.files import write_whole
from harness.interrupts import whole
from harness.places import Places, find_places

if TYPE_CHECKING:
    from backbones.contract import EpochReport
    from harness.stores.results import Results
    from harness.trials.contract import TrialSpec
    from labeling.contract import LabelSource
    from labeling.fusion import Fusion
from harness.told import Told, silent
from harness.verbs.stores import open_recorder


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
        labels: what labels the clips: the paper's method or a baseline; see `harness.trials.choices.labeled_by`.
        truth: folder with released attributes, by which the labels are judged; none is made from them unless `labels`
            is "truth".
        ground_truth: the user's copy of the official files about evaluation clips.
        skip_bad: go on without files that cannot be used.
        out: a parquet or csv file for the labels themselves.
        places: of the cache.
        told: progress.
    """
    from harness.trials.candidates import rank_machines
    from harness.trials.labels import fuse_labels

    spec, recordings, cache = _one_trial(
        root, protocol, backbone, weights=weights, options=options, m=m, k1=k1, k2=k2, fusion=fusion,
        min_confidence=min_confidence, below=below, seed=seed, labels=labels, truth=truth,
        ground_truth=ground_truth, skip_bad=skip_bad, places=places or find_places(), told=told,
    )  # fmt: skip
    statistics, table = fuse_labels(spec, rank_machines(spec, recordings, cache), truth=recordings.truth)[1:]
    if out is not None:
        if out.suffix not in (".parquet", ".csv"):
            raise HarnessError(f"--out must end in .parquet or .csv, but got {out.name!r}.")
        parquet = out.suffix == ".parquet"
        write_whole(out, table.to_parquet(index=False) if parquet else table.to_csv(index=False).encode())
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
        labels: what labels the clips: the paper's method or a baseline; see `harness.trials.choices.labeled_by`.
        truth: folder with released attributes, by which the labels are judged and which change no key; none is made
            from them unless `labels` is "truth". A trial that is recorded already is read back as it was judged then.
        ground_truth: the user's copy of the official files about evaluation clips.
        skip_bad: go on without files that cannot be used.
        threads: of torch; another number may change the last digits.
        places: of the stores.
        told: progress.
    """
    from harness.stores.claims import Claims
    from harness.trials.checkpoints import forget_training
    from harness.trials.contract import Failure
    from harness.trials.limits import hold_threads
    from harness.trials.trial import run_trial

    hold_threads(threads)
    places = places or find_places()
    spec, recordings, cache = _one_trial(
        root, protocol, backbone, weights=weights, options=options, m=m, k1=k1, k2=k2, fusion=fusion,
        min_confidence=min_confidence, below=below, seed=seed, labels=labels, truth=truth, scorers=scorers,
        recipe=recipe, ground_truth=ground_truth, skip_bad=skip_bad, places=places, told=told,
    )  # fmt: skip
    key = spec.key()
    # of two that want the same trial at once, one waits and reads the other's back
    with open_recorder(places) as recorder, Claims(recorder.results) as claims, claims.alone(key):
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
    from harness.studies.study_file import read_recipe
    from harness.trials.candidates import check_candidates
    from harness.trials.choices import choose_backbone, frozen_spec, labeled_by
    from harness.trials.contract import TrialSpec
    from harness.trials.recordings import prepare_recordings, with_released
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
