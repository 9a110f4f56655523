"""What a study will take, before anything is spent: trials, classes, hours, memory and disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from backbones.training.costs import ClipCost, measure_clip
from backbones.training.recipe import PROJECTION
from harness import plugins
from harness.cache import Cache
from harness.errors import HarnessError
from harness.keys import digest
from harness.plugins import unknown
from harness.studies.plan import Plan, planned_trials
from harness.studies.study_file import SEARCHES, SamplerTable
from harness.tables import how_many
from harness.trials.candidates import planned_ranking
from harness.trials.contract import TrialSpec
from harness.trials.labels import fuse_labels
from harness.trials.recordings import Recordings
from harness.trials.stages import clip_ids, embedded_ids, pretrained_encoder, reader

# Peak operations a second, in 1e12: bfloat16 with float32 sums (dense), and float32. From NVIDIA's data sheets.
GPUS = {
    "H200": (989.0, 67.0), "H100": (989.0, 67.0), "A100": (312.0, 19.5), "L40S": (362.0, 91.6), "L4": (121.0, 30.3),
    "A10": (125.0, 31.2), "T4": (65.0, 8.1), "V100": (125.0, 15.7), "RTX4090": (165.0, 82.6),
}  # fmt: skip
SHARE = (
    0.2  # of a GPU's peak that encoders of this size reach; transformers of 90 M parameters some 0.3, small ones 0.1
)
BACKWARD = 2.0  # a pass back takes twice one forward
SAMPLERS = {
    "grid": "every cell in order, so that every M meets every other choice",
    "random": "cells in random order, so that any number of them is a fair sample",
    "tpe": "tree-structured Parzen estimators, which learn from a few dozen trials and take numbers and words alike; "
    "Optuna's default for one goal and, from its version 5 on, for several",
    "gp": "a Gaussian process, which makes most of few and costly trials",
    "nsga2": "a genetic algorithm, for several goals and hundreds of trials",
}
TRIAL_SECONDS = 2.5  # of scoring, intervals, pictures and recording, a machine type or seven (tests/speed)
TRIAL_MB = 0.3  # of pictures, tables and rows that a trial leaves in MLflow and the database
KEPT_GB = 8.0  # of embeddings that the cache keeps
GIB = 2**30


@dataclass(frozen=True)
class _Cell:
    """Trials that share a backbone and what learns; those whose labels are the same classes share a training, too.

    Attributes:
        spec: one of them.
        trials: with labels, of one seed.
        trainings: of them, that learn other classes than those before, or by another recipe.
        first_rounds: trainings of one seed that only make latents for labels of a second round.
    """

    spec: TrialSpec
    trials: int
    trainings: int
    first_rounds: int = 0


def counted(plan: Plan, specs: Sequence[TrialSpec], recordings: Recordings) -> dict[str, Any]:
    """Count what a study plans; nothing is measured, so this is said as a study begins.

    Returns:
        `study`, `protocol`, `trials` and, of them, `level`, `frozen` and `learning`; `train_clips`, `test_clips`,
        `labeled` (training clips with an attribute), `skipped` (bad files that are left out), `sampler` (which one
        chooses the trials, and why one takes it).
    """
    planned = planned_trials(plan, {spec.key(): spec for spec in specs})
    kinds = {kind: sum(spec.kind == kind for spec in specs) for kind in ("level", "frozen")}
    return {
        "study": plan.file.name,
        "protocol": plan.protocol.name,
        "trials": planned,
        **kinds,
        "learning": planned - sum(kinds.values()),
        "train_clips": len(recordings.train),
        "test_clips": len(recordings.test),
        "labeled": int(recordings.train["attribute"].notna().sum()),
        "skipped": recordings.skipped,
        "sampler": said_sampler(plan.file.sampler),
    }


def plan_costs(
    plan: Plan,
    specs: Sequence[TrialSpec],
    recordings: Recordings,
    cache: Cache,
    *,
    workers: int | None = None,
    gpu: str = "",
    share: float = SHARE,
) -> dict[str, Any]:
    """Count what a study plans and estimate what it takes.

    Args:
        plan: of the study.
        specs: its trials.
        recordings: prepared for it.
        cache: rankings and MFCC are taken from it and kept in it.
        workers: trials at once; None is the study's, else one a core.
        gpu: for which the hours are stated, from the operations that are counted; empty measures on this machine.
        share: of the GPU's peak that is reached.

    Returns:
        What `counted` says, and `workers`, `basis` (what the hours are from), `hours`, `memory_gb` (of all workers),
        `disk_gb`; `classes`, a row a choice of labels, M, K1 and K2 (`classes`, `singletons`, `left_out`, and `exact`:
        whether clips were clustered by the encoder's own latents); `backbones`, a row each of what learns with it
        (`trials`, `trainings`, `first_rounds`, `embed_seconds` and `train_seconds` a clip, `hours`).

    Raises:
        HarnessError: there is no such GPU in the table.
    """
    if gpu and gpu not in GPUS:
        raise HarnessError(unknown("--gpu", gpu, GPUS))
    chosen = plan.file.resources
    at_once = workers or chosen.workers or max(1, int((os.cpu_count() or 1) // max(chosen.cpus, 1)))
    classes, cells = _classes(specs, recordings, cache)
    learn, embedded = len(recordings.train), len(embedded_ids(recordings))
    seeds = len(plan.file.seeds)
    said = counted(plan, specs, recordings)
    grid = sum(spec.kind == "trial" for spec in specs)
    part = said["learning"] / grid if grid else 0.0  # a search takes only so many of the cells
    rows, disk, memory = [], 0.0, 0.0
    made: dict[tuple[str, str], ClipCost] = {}
    for (name, train), cell in cells.items():
        backbone = cell.spec.backbone
        assert backbone is not None
        own_seeds = 1 if backbone.weights else seeds
        cost = made[name, train] = _measured(cell, recordings, learns=bool(cell.trials))
        embed_one, train_one = cost.embed_seconds, cost.train_seconds
        if gpu:
            fast, exact = (1e12 * share * peak for peak in GPUS[gpu])
            embed_one = cost.flops / exact
            train_one = train_one if train == PROJECTION else cost.flops * (1 + BACKWARD) / fast
        trainings = cell.trainings * seeds * part
        first_rounds = cell.first_rounds * seeds * part
        latents = learn + (embedded if train == PROJECTION else 0)
        seconds = own_seeds * latents * embed_one if cell.trials else own_seeds * embedded * embed_one
        seconds += (trainings + first_rounds) * cell.spec.recipe.epochs * learn * train_one
        seconds += 0 if train == PROJECTION else (trainings * embedded + first_rounds * learn) * embed_one
        seconds += (cell.trials * seeds * part or seeds) * TRIAL_SECONDS
        disk += 4 * cost.dim * (trainings or own_seeds) * embedded / GIB
        features = learn * cost.feature_bytes if cell.trials and train != PROJECTION else 0
        memory = max(memory, (psutil.Process().memory_info().rss + min(features, 4 * GIB)) / GIB)
        rows.append(
            {
                "backbone": name, "train": train, "trials": round(cell.trials * seeds * part) or seeds,
                "trainings": round(trainings), "first_rounds": round(first_rounds), "embed_seconds": embed_one,
                "train_seconds": train_one,
                "hours": seconds / 3600 / at_once,
            }
        )  # fmt: skip
    sound = int(recordings.packed.lengths.sum()) * 2 / GIB if recordings.packed.heard else 0.0
    basis = f"{gpu} at {share:.0%} of its peak" if gpu else "measured on a few clips on this machine"
    return {
        **said,
        "workers": at_once,
        "basis": basis,
        "hours": sum(row["hours"] for row in rows),
        "memory_gb": memory * at_once,
        "disk_gb": sound + min(disk, KEPT_GB) + said["trials"] * TRIAL_MB / 1024,
        "classes": classes,
        "backbones": rows,
    }


def said_count(count: Mapping[str, Any]) -> str:
    """Say in a sentence what a study plans."""
    skipped = f", {how_many(count['skipped'], 'bad file')} left out" if count["skipped"] else ""
    learn = "that learns" if count["learning"] == 1 else "that learn"
    train, test = how_many(count["train_clips"], "training clip"), how_many(count["test_clips"], "test clip")
    return (
        f"{count['study']}: {how_many(count['trials'], 'trial')} ({count['learning']} {learn}, {count['frozen']} "
        f"frozen, {count['level']} of the level) on {train}, {count['labeled']:,} with an attribute, and "
        f"{test}{skipped}. {count['sampler']}"
    )


def said_sampler(sampler: SamplerTable) -> str:
    """Say which sampler chooses a study's trials, and why one takes it."""
    goals = f" for {' and '.join(sampler.goals)}" if sampler.name in SEARCHES else ""
    return f"Sampler {sampler.name}{goals}: {SAMPLERS[sampler.name]}."


def _classes(
    specs: Sequence[TrialSpec], recordings: Recordings, cache: Cache
) -> tuple[list[dict[str, Any]], dict[tuple[str, str], _Cell]]:
    """Label as the first seed's trials will, and count classes, and how many different ones each backbone learns."""
    learning = [spec for spec in specs if spec.kind == "trial"]
    first = min((spec.seed for spec in learning), default=0)
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    trials: dict[tuple[str, str], int] = {}
    learned: dict[tuple[str, str], set[str]] = {}
    rounds: dict[tuple[str, str], set[str]] = {}
    some: dict[tuple[str, str], TrialSpec] = {}
    for spec in (spec for spec in learning if spec.seed == first and spec.backbone):
        assert spec.backbone is not None
        name = (spec.backbone.name, spec.recipe.train)
        ranked, exact = planned_ranking(spec, recordings, cache)
        labels, statistics, _ = fuse_labels(spec, ranked)
        targets = hashlib.blake2b(labels.targets.tobytes() + repr(labels.ids.tolist()).encode()).hexdigest()
        trials[name] = trials.get(name, 0) + 1
        learned.setdefault(name, set()).add(digest({"targets": targets, "recipe": spec.recipe.content()}))
        if spec.rounds > 1:
            rounds.setdefault(name, set()).add(spec.ranking_key())
        some.setdefault(name, spec)
        cell = (spec.labels, spec.m, spec.k1, spec.k2, spec.fusion)
        if cell not in rows or exact:
            rows[cell] = {
                "labels": spec.labels, "m": spec.m, "k1": spec.k1, "k2": spec.k2, "fusion": spec.fusion,
                **{what: sum(row[what] for row in statistics) for what in ("classes", "singletons", "left_out")},
                "exact": exact,
            }  # fmt: skip
    cells = {name: _Cell(some[name], trials[name], len(learned[name]), len(rounds.get(name, ()))) for name in some}
    for spec in specs:
        if spec.kind == "frozen" and spec.backbone is not None:
            cells.setdefault((spec.backbone.name, "frozen"), _Cell(spec, 0, 0))
    return list(rows.values()), cells


def _measured(cell: _Cell, recordings: Recordings, *, learns: bool) -> ClipCost:
    """Measure a backbone's first clips."""
    spec, ids = cell.spec, clip_ids(recordings.train)
    assert spec.backbone is not None
    encoder = pretrained_encoder(spec.backbone, seed=spec.seed)
    read = reader(spec, encoder, recordings, ids)
    can = spec.recipe.train == PROJECTION or bool(plugins.load("backbone", spec.backbone.encoder).learns)
    return measure_clip(encoder, read, len(ids), recipe=spec.recipe, learns=learns and can)
