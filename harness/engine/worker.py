"""Runs one trial in a worker process and answers the driver with its result, or with the reason of its failure."""

from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backbones.contract import EpochReport
from backbones.memory import ran_out_of_memory
from harness.cache import Cache
from harness.detection.bundle import keep_detector, kept_folder
from harness.engine.messages import ANSWER, LEAVING, Report, epoch_result
from harness.engine.share import fetch
from harness.errors import HarnessError
from harness.trials.checkpoints import forget_training
from harness.trials.contract import Failure, TrialResult, TrialSpec
from harness.trials.limits import hold_threads, limited
from harness.trials.recordings import open_recordings
from harness.trials.trial import Learned, run_trial

if TYPE_CHECKING:
    from harness.studies.study_file import PruningTable

MEMORY_REMEDY = (
    "set a smaller recipe.micro_batch, take fewer workers, or give a trial a larger share of a GPU (resources.gpus)"
)


@dataclass(frozen=True)
class Desk:
    """What a worker needs to run any trial of a study.

    Attributes:
        specs: every trial of the study by key.
        place: folder of the prepared recordings.
        cache: folder of the cache.
        signs: folder in which the driver creates the files that stop trials early
            (`harness.engine.messages.stop_sign`).
        threads: number of torch's threads.
        pruning: the study's `[pruning]` table.
        minutes: limit of a trial's time.
        memory_gb: limit of its worker's resident memory, GiB.
        keep: whether trials with pseudo-labels leave their encoder for the driver (`harness.stores.kept.keeper`).
        gpus: of a trial; with 0 it sees none.
        share: address from which a machine without the prepared recordings fetches them; "" is none.
    """

    specs: Mapping[str, TrialSpec]
    place: Path
    cache: Path
    signs: Path
    threads: int
    pruning: PruningTable | None = None
    minutes: float | None = None
    memory_gb: float | None = None
    keep: bool = False
    gpus: float = 1.0
    share: str = ""


def work(key: str, desk: Desk, report: Report) -> None:
    """Run one trial, and report its epochs and its answer. A worker writes to no database; only the driver does."""
    hold_threads(desk.threads)
    logging.disable(logging.INFO)

    def tell(reason: str) -> None:
        report({ANSWER: Failure(reason), LEAVING: True})

    answer: TrialResult | Failure | None = fetch_recordings(desk)  # before the trial's time begins to run
    if answer is None:
        with limited(tell, minutes=desk.minutes, memory_gb=desk.memory_gb):
            answer = answer_trial(desk.specs[key], desk, report)
    if isinstance(answer, TrialResult) or not answer.again:  # otherwise another try continues from the checkpoint
        forget_training(desk.cache, key)
    report({ANSWER: answer})


def fetch_recordings(desk: Desk) -> Failure | None:
    """Fetch the prepared recordings if this machine lacks them and a share has them; return why that failed."""
    try:
        if desk.share:
            fetch(desk.place, desk.share)
    except Exception as error:  # noqa: BLE001 - as below
        return Failure(reason=reason_of(error), trace=traceback.format_exc(), again=may_go_away(error))
    return None


def answer_trial(spec: TrialSpec, desk: Desk, report: Report) -> TrialResult | Failure:
    """Run one trial and return its result, or the reason of its failure; it raises no `Exception`."""

    def on_epoch(epoch: EpochReport) -> None:
        report(epoch_result(epoch, pruning=desk.pruning, last=spec.recipe.epochs))

    def keep(learned: Learned) -> None:
        keep_detector(learned, kept_folder(desk.cache, spec.key()))

    try:
        check_place(desk.place)
        return run_trial(
            spec, open_recordings(desk.place), Cache(desk.cache), on_epoch=on_epoch,
            keep=keep if desk.keep and spec.kind == "trial" else None,
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - one trial's failure is recorded and never ends the study
        return Failure(reason=reason_of(error), trace=traceback.format_exc(), again=may_go_away(error))


def may_go_away(error: Exception) -> bool:
    """Tell whether another try may help: not after one of asdbench's own errors, nor if memory ran out."""
    return not isinstance(error, ValueError) and not _of_memory(error)


def check_place(place: Path) -> None:
    """Check that this machine has the prepared recordings.

    Raises:
        HarnessError: it has not.
    """
    if not place.is_dir():
        raise HarnessError(
            f"The prepared recordings must be in {place}, but {socket.gethostname()} has no such folder; "
            "let ASDBENCH_CACHE name a folder that all nodes share, or name a share with --share, from which each "
            "fetches it."
        )


def reason_of(error: Exception) -> str:
    """Say in one line why a trial failed, and what helps where memory did not suffice."""
    said = str(error).strip().splitlines()
    reason = said[0] if said else type(error).__name__
    if _of_memory(error):
        return f"Memory did not suffice ({type(error).__name__}: {reason.rstrip('.')}); {MEMORY_REMEDY}."
    return reason if isinstance(error, ValueError) else f"{type(error).__name__}: {reason}"


def _of_memory(error: Exception) -> bool:
    return isinstance(error, (RuntimeError, MemoryError)) and ran_out_of_memory(error)
