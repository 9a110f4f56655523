"""The demonstration: generated recordings of two years and the study that ships with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.told import Told, silent
from harness.verbs.recordings import data_generate
from harness.verbs.studies import study_run

if TYPE_CHECKING:
    from harness.places import Places
    from harness.studies.progress import Event, Outcome

STUDY = "demo"
RECORDINGS = Path(".asdbench/demo")  # where they go unless another folder is named
# these machine types cover all of the paper's cases: attributes are known only in 2024 (bearing), only in 2025
# (gearbox), in neither year (slider), in both with conflicting names (fan), or in both with the same names (ToyCar,
# valve)
MACHINES = ("bearing", "fan", "gearbox", "slider", "ToyCar", "valve")
YEARS = ("dcase2024", "dcase2025")
SECONDS = 3.0  # instead of 10, so that the study takes minutes
TRAIN_SOURCE, TRAIN_TARGET = 32, 8
TEST_PER_CELL = 20


def generate_recordings(root: Path, *, told: Told = silent) -> None:
    """Generate the demonstration's recordings, unless they exist already."""
    for year in YEARS:
        data_generate(
            root, year, machines=MACHINES, told=told, train_source=TRAIN_SOURCE, train_target=TRAIN_TARGET,
            test_per_cell=TEST_PER_CELL, seconds=SECONDS,
        )  # fmt: skip


def run(
    root: Path,
    *,
    workers: int | None = None,
    places: Places | None = None,
    told: Told = silent,
    listen: Event = lambda _progress: None,
) -> Outcome:
    """Run the demonstration's study on its recordings."""
    return study_run(STUDY, data=root, workers=workers, places=places, told=told, listen=listen)


def demo(
    data: Path = RECORDINGS,
    *,
    workers: int | None = None,
    places: Places | None = None,
    told: Told = silent,
    listen: Event = lambda _progress: None,
) -> Outcome:
    """Generate the demonstration's recordings and run its study: Top-M against Top-1 on two small backbones.

    Args:
        data: folder for the generated recordings.
        workers: trials at once; None is one a core.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.
        told: called with (what, done, total) as recordings are prepared.
        listen: called with the study's `Progress` after each trial.

    Returns:
        How the study ended; `leaderboard(study="demo")` and `compare(study="demo")` are its answers.
    """
    generate_recordings(data, told=told)
    return run(data, workers=workers, places=places, told=told, listen=listen)
