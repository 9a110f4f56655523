"""Pseudo-labels alone, and one trial."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import HarnessError
from harness.places import Places, find_places
from harness.told import Told, silent
from harness.trials.axes import PAPER_K
from harness.verbs.stores import open_recorder

if TYPE_CHECKING:
    from backbones.contract import EpochReport
    from harness.cache import Cache
    from harness.stores.kept.keeper import Keeper
    from harness.stores.recorder import Recorder
    from harness.stores.results import Results
    from harness.trials.choices import TrialChoices
    from harness.trials.contract import TrialSpec
    from harness.trials.recordings import Recordings
    from labeling.fusion import Fusion


def label(
    root: Path,
    *,
    protocol: str,
    m: int = 1,
    k1: int = PAPER_K,
    k2: int = PAPER_K,
    fusion: Fusion = "composite",
    backbone: str = "tiny",
    weights: str = "",
    options: Mapping[str, Any] | None = None,
    min_confidence: float = 0.9,
    below: Literal["drop", "machine"] = "drop",
    seed: int = 0,
    labels: str = "paper",
    truth: Path | None = None,
    ground_truth: Path | None = None,
    skip_bad: bool = False,
    out: Path | None = None,
    places: Places | None = None,
    told: Told = silent,
) -> dict[str, Any]:
    """Pseudo-label a protocol's training clips, and return counts and quality of the labels by machine type.

    Args:
        root: folder with recordings, in the official layout or your own with their csv.
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
        told: called with (what, done, total) as work goes on.

    Returns:
        `protocol`, `m`, `k1`, `k2`, `fusion`, `labels`, and `rows`: a machine type each with `strategy`, `why`, counts
        of clips and classes, `mean_confidence`, and where the truth is known how close the labels come to it.

    Raises:
        ValueError: a choice is wrong, the recordings cannot be used, or the clips cannot be labeled so.
    """
    from harness.trials.choices import TrialChoices

    choices = TrialChoices(
        protocol=protocol, backbone=backbone, m=m, k1=k1, k2=k2, fusion=fusion, weights=weights, options=options or {},
        min_confidence=min_confidence, below=below, seed=seed, labels=labels, truth=truth, ground_truth=ground_truth,
        skip_bad=skip_bad,
    )  # fmt: skip
    return label_chosen(root, choices, out=out, places=places, told=told)


def label_chosen(
    root: Path, choices: TrialChoices, *, out: Path | None = None, places: Places | None = None, told: Told = silent
) -> dict[str, Any]:
    """Do the work of `label`, for choices that are already collected in a `TrialChoices`."""
    from harness.files import write_whole
    from harness.trials.candidates import rank_machines
    from harness.trials.choices import two_rounds
    from harness.trials.labels import fuse_labels

    if two_rounds(choices.labels):
        raise HarnessError(
            f"label makes labels without any training, but {choices.labels} needs an encoder that a first round has "
            f"trained; run `asdbench trial ... --labels {choices.labels}`, which records its labels."
        )
    spec, recordings, cache = _prepared(root, choices, places=places or find_places(), told=told)
    statistics, table = fuse_labels(spec, rank_machines(spec, recordings, cache), truth=recordings.truth)[1:]
    if out is not None:
        if out.suffix not in (".parquet", ".csv"):
            raise HarnessError(f"--out must end in .parquet or .csv, but got {out.name!r}.")
        written = table.to_parquet(index=False) if out.suffix == ".parquet" else table.to_csv(index=False).encode()
        write_whole(out, written)
    said = {name: getattr(choices, name) for name in ("protocol", "m", "k1", "k2", "fusion", "labels")}
    return {**said, "rows": list(statistics)}


def trial(
    root: Path,
    *,
    protocol: str,
    backbone: str,
    frozen: bool = False,
    m: int | None = 1,
    k1: int = PAPER_K,
    k2: int = PAPER_K,
    fusion: Fusion = "composite",
    seed: int = 0,
    weights: str = "",
    options: Mapping[str, Any] | None = None,
    scorers: Sequence[str] = ("knn",),
    recipe: Mapping[str, Any] | None = None,
    min_confidence: float = 0.9,
    below: Literal["drop", "machine"] = "drop",
    labels: str = "paper",
    truth: Path | None = None,
    ground_truth: Path | None = None,
    skip_bad: bool = False,
    keep: bool = False,
    threads: int = 1,
    places: Places | None = None,
    told: Told = silent,
) -> dict[str, Any]:
    """Run one trial in this process and record it. If it is recorded already, its recorded result is returned.

    Args:
        root: folder with recordings, in the official layout or your own with their csv.
        protocol: by name.
        backbone: by name.
        frozen: no labels and no fine-tuning; the same as `m` None.
        m: attributes joined in a pseudo-label.
        k1: nearest labeled neighbours.
        k2: clusters.
        fusion: how the M attributes become a target.
        seed: of everything that draws.
        weights: a checkpoint; empty is random weights from the seed.
        options: of the backbone.
        scorers: by name, with options as in `knn:k=5,metric=euclidean`. If the trial is recorded already without one of
            them, the embeddings kept in the cache are scored, without training again.
        recipe: what differs from the paper's recipe.
        min_confidence: under which a sample-wise pseudo-label is not retained.
        below: what becomes of a clip that is not retained.
        labels: what labels the clips: the paper's method or a baseline; see `harness.trials.choices.labeled_by`.
        truth: folder with released attributes, by which the labels are judged and which change no key; none is made
            from them unless `labels` is "truth". A trial that is recorded already is read back as it was judged then.
        ground_truth: the user's copy of the official files about evaluation clips.
        skip_bad: go on without files that cannot be used.
        keep: keep the encoder as an MLflow model, by which `detect` and MLflow score new clips. A recorded trial that
            kept none runs again, with the same numbers.
        threads: of torch; another number may change the last digits.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.
        told: called with (what, done, total) as work goes on.

    Returns:
        See `recorded_trial`.

    Raises:
        ValueError: a choice is wrong, the recordings cannot be used, or the trial fails, which is recorded.
    """
    from harness.trials.choices import TrialChoices

    choices = TrialChoices(
        protocol=protocol, backbone=backbone, m=None if frozen else m, k1=k1, k2=k2, fusion=fusion, seed=seed,
        weights=weights, options=options or {}, scorers=scorers, recipe=recipe or {},
        min_confidence=min_confidence, below=below, labels=labels, truth=truth, ground_truth=ground_truth,
        skip_bad=skip_bad,
    )  # fmt: skip
    return run_chosen(root, choices, keep=keep, threads=threads, places=places, told=told)


def run_chosen(
    root: Path,
    choices: TrialChoices,
    *,
    keep: bool = False,
    threads: int = 1,
    places: Places | None = None,
    told: Told = silent,
) -> dict[str, Any]:
    """Do the work of `trial`, for choices that are already collected in a `TrialChoices`."""
    places = places or find_places()
    spec, recordings, cache = _prepared(root, choices, places=places, told=told)
    return run_spec(spec, recordings, cache, keep=keep, threads=threads, places=places, told=told)


def run_spec(
    spec: TrialSpec,
    recordings: Recordings,
    cache: Cache,
    *,
    keep: bool = False,
    threads: int,
    places: Places,
    told: Told,
) -> dict[str, Any]:
    """Run one trial in this process and record it, or return what is recorded of it; see `trial`."""
    from harness.detection.bundle import keep_detector, kept_folder
    from harness.stores.claims import Claims
    from harness.trials.checkpoints import forget_training
    from harness.trials.contract import Failure
    from harness.trials.limits import hold_threads
    from harness.trials.trial import run_trial

    hold_threads(threads)
    key = spec.key()
    told("opening the databases", 0, 0)
    # if another process runs the same trial, wait for its result
    with open_recorder(places) as recorder, Claims(recorder.results) as claims, claims.alone(key):
        done = recorder.results.finished([key], scorers=spec.scorers)
        keeper = keeper_of(recorder, spec, places) if keep else None
        if key not in done or (keeper is not None and keeper.lacking([key])):
            spec = recorder.with_recorded_scorers([spec])[0]
            with recorder.open_trial(spec) as run_id:

                def on_epoch(report: EpochReport) -> None:
                    recorder.epochs(run_id, [report])
                    told("epochs", report.epoch, spec.recipe.epochs)

                try:
                    result = run_trial(
                        spec, recordings, cache, on_epoch=on_epoch,
                        keep=(lambda learned: keep_detector(learned, kept_folder(places.cache, key))) if keep else None,
                    )  # fmt: skip
                except ValueError as error:
                    recorder.fail(run_id, spec, Failure(str(error), traceback.format_exc()))
                    raise
                recorder.finish(run_id, result, keeper=keeper)
            forget_training(places.cache, key)
        return recorded_trial(recorder.results, key, scorer=spec.scorers[0])


def keeper_of(recorder: Recorder, spec: TrialSpec, places: Places) -> Keeper:
    """Return what keeps the encoder of one trial; nobody removes it.

    Raises:
        HarnessError: the trial's backbone hears no new clips.
    """
    from backbones import EMBEDDINGS
    from harness.stores.kept.keeper import TRIAL, Keeper

    if spec.backbone is not None and spec.backbone.encoder == EMBEDDINGS:
        raise HarnessError(
            "An encoder is kept to hear new clips, but a file of embeddings hears none; leave --keep out."
        )
    return Keeper(recorder.tracker.kept_models, recorder.results, places.cache, owner=TRIAL, keys=lambda: [spec.key()])


def recorded_trial(results: Results, key: str, *, scorer: str) -> dict[str, Any]:
    """Return one recorded trial as the command line prints it.

    Args:
        results: the tables.
        key: of the trial.
        scorer: whose numbers.

    Returns:
        `key`, `run_id`, `status`, `scorer`, `official_score`, `rows` (a section each), `intervals`, `labels` (a machine
        type each), `undefined`, and what it cost by stage: `seconds`, `peak_mb`, `reused`.
    """
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


def _prepared(root: Path, choices: TrialChoices, *, places: Places, told: Told) -> tuple[TrialSpec, Recordings, Cache]:
    """Resolve what was chosen to a trial's spec, and prepare its recordings."""
    from benchmarks.protocols import find_protocol
    from harness.scoring.choice import canonical_scorers
    from harness.studies.study_file import read_recipe
    from harness.trials.candidates import check_candidates
    from harness.trials.choices import choose_backbone, frozen_spec, labeled_by, largest_m
    from harness.trials.contract import TrialSpec
    from harness.trials.recordings import prepare_recordings, with_released
    from harness.trials.stages import check_layers
    from labeling.fusion import check_m

    protocol, recipe, m = find_protocol(choices.protocol), read_recipe(choices.recipe), choices.m
    scorers = tuple(canonical_scorers(choices.scorers))
    backbone = choose_backbone(
        choices.backbone, choices.backbone, weights=choices.weights, options=choices.options, root=root
    )  # fmt: skip
    if m is not None:
        check_m(m, largest_m(choices.labels, k1=choices.k1, k2=choices.k2) or m)
    cache = places.open_cache()
    recordings = prepare_recordings(
        root, protocol, cache, ground_truth=choices.ground_truth, skip_bad=choices.skip_bad,
        progress=lambda done, total: told("reading recordings", done, total),
    )  # fmt: skip
    told("checking what was chosen", 0, 0)
    if choices.truth is not None:
        recordings = with_released(recordings, choices.truth)
    spec = TrialSpec(
        kind="trial", backbone=backbone, m=m, k1=choices.k1, k2=choices.k2, fusion=choices.fusion, protocol=protocol,
        seed=choices.seed, recipe=recipe, min_confidence=choices.min_confidence, below=choices.below,
        train_data=recordings.train_data, test_data=recordings.test_data, scorers=scorers,
    )  # fmt: skip
    check_layers([spec], recordings)
    if m is None:
        return frozen_spec(spec), recordings, cache
    spec = labeled_by(spec, choices.labels, truth_data=recordings.truth_data)
    check_candidates([spec], recordings, cache)
    return spec, recordings, cache
