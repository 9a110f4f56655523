"""A small data set of generated machine sounds, in any year's own layout and naming."""

from __future__ import annotations

import math
import shutil
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.contract import PARTS, USUAL_SECONDS, BenchmarkError, Dataset, Part, Progress
from benchmarks.files import printable
from benchmarks.folders import folder_of, whole_file, writing
from benchmarks.manifests import read_manifest, write_manifest
from benchmarks.recordings.index import format_name
from benchmarks.suggestions import did_you_mean
from benchmarks.synthetic.plan import PART_FOLDERS, PlannedClip, plan_clips
from benchmarks.synthetic.rooms import record, rms
from benchmarks.synthetic.sounds import SAMPLE_RATE, damage, make_voice, render, seed_of, vary
from benchmarks.synthetic.tables import write_tables

MANIFEST = "synthetic.json"
STARTED = "synthetic.started.json"
MOST_CLIPS, MOST_SECONDS = 100_000, 3600  # the largest official section has 1,200 clips, the longest clip 18 s
# Severity of a fault is drawn evenly between these: from one that no simple method hears to one that is plain.
SEVERITIES = (0.05, 1.0)
FAR_NOISE = 0.7  # of the machine's level, at a second microphone far from it
# How far a machine type's faults stand out. Set so that 1-NN on log-mel statistics, whose loudness is taken out, gives
# AUCs between 0.5 and 0.9: neither chance nor perfect.
STRENGTHS = {"bearing": 0.6, "fan": 0.6, "gearbox": 0.8, "slider": 0.8, "valve": 0.75, "ToyCar": 0.85}


def generate(
    root: Path | str,
    dataset: Dataset,
    *,
    machines: Sequence[str] | None = None,
    parts: Sequence[Part] = ("dev",),
    train_source: int = 30,
    train_target: int = 5,
    test_per_cell: int = 10,
    seconds: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> None:
    """Write a small data set: 16-bit 16 kHz wav files, attribute tables, and the truth of what is withheld.

    Files have as many channels as the year's: where there are two, the second one is a microphone far from the machine.

    A clip depends on the seed, the year and its own name, not on the other clips. Once complete, the same call does
    nothing; after a killed one it writes what is missing.

    Args:
        root: folder that gets `<dataset.folder>/`, and beside it `ground_truth_attributes/` (the official tables of
            withheld attributes) and, with part eval, `ground_truth/` (the baseline's list, the evaluator's files).
        dataset: year whose layout, machine types, sections and names to use.
        machines: machine types to write; None writes all of the parts.
        parts: of the year.
        train_source: training clips of each section in the source domain, or of each ID where there are no domains.
        train_target: training clips of each section in the target domain.
        test_per_cell: test clips of each section, domain and condition.
        seconds: length of every clip; None is what the year's recordings of each machine type last.
        seed: of everything that is drawn.
        progress: told after each clip.

    Raises:
        BenchmarkError: if an argument is out of range, or the folder holds other recordings already.
    """
    parts = tuple(part for part in PARTS if part in parts) if set(parts) <= set(PARTS) else _refuse_parts(parts)
    chosen = _choose_machines(dataset, machines, parts)
    for name, value, least, most in (
        ("train_source", train_source, 1, MOST_CLIPS),
        ("train_target", train_target, 0, MOST_CLIPS),
        ("test_per_cell", test_per_cell, 1, MOST_CLIPS),
        ("seconds", USUAL_SECONDS if seconds is None else seconds, 0.5, MOST_SECONDS),
    ):
        if math.isnan(value) or value < least:
            raise BenchmarkError(f"{name} must be at least {least}, but got {value}.")
        if value > most:
            raise BenchmarkError(f"{name} must be at most {most:,}, but got {printable(str(value), most=40)}.")
    arguments: dict[str, Any] = {
        "dataset": dataset.name,
        "machines": {part: list(names) for part, names in chosen.items()},
        "train_source": train_source,
        "train_target": train_target,
        "test_per_cell": test_per_cell,
        "seconds": float(seconds) if seconds is not None else (dict(dataset.seconds) or USUAL_SECONDS),
        "seed": seed,
    }
    year = folder_of(root) / dataset.folder
    with writing(year):
        if _is_complete(year, arguments):
            return
        counts = {"source": train_source, "target": train_target, "test": test_per_cell}
        planned = [clip for part, names in chosen.items() for clip in plan_clips(dataset, part, names, counts=counts)]
        lengths = {clip.machine: _samples(dataset, clip.machine, seconds) for clip in planned}
        lacking = {clip.path for clip in planned if not _is_written(year / clip.path)}
        _check_space(
            year, sum(2 * dataset.channels * lengths[clip.machine] for clip in planned if clip.path in lacking)
        )
        for folder in {(year / clip.path).parent for clip in planned}:
            folder.mkdir(parents=True, exist_ok=True)
        for done, clip in enumerate(planned, start=1):
            if clip.path in lacking:
                _write_wav(year / clip.path, make_clip(clip, dataset, samples=lengths[clip.machine], seed=seed))
            if progress is not None:
                progress(done, len(planned))
        write_tables(year.parent, dataset, planned)
        (year / STARTED).replace(year / MANIFEST)


def make_clip(clip: PlannedClip, dataset: Dataset, *, samples: int, seed: int) -> NDArray[np.int16]:
    """Generate one clip: (samples, channels) int16 at 16 kHz, the same whatever else is generated."""
    true_stem = format_name(clip.truth, with_ids=not dataset.has_domains)
    if not dataset.has_domains:  # names of 2020 do not say the split: train and test have clips of one name
        true_stem = f"{clip.truth.split}/{true_stem}"
    rng = np.random.default_rng(seed_of(seed, dataset.name, clip.part, clip.machine, true_stem))
    voice = vary(make_voice(clip.state, clip.truth.section), rng)
    if clip.truth.condition == "anomaly":
        voice = damage(voice, rng.uniform(*SEVERITIES) * STRENGTHS.get(clip.machine, 1.0), rng)
    sound = render(voice, samples, rng)
    near = record(sound, clip.machine, clip.state.domain, rng)
    if dataset.channels == 1:
        return near[:, None]
    noise = (FAR_NOISE * rms(sound) * rng.standard_normal(samples)).astype(np.float32)
    far = record(sound + noise, f"{clip.machine}, far", clip.state.domain, rng)
    return np.stack([near, far // 2], axis=1)


def _samples(dataset: Dataset, machine: str, seconds: float | None) -> int:
    """Return how many samples a clip of a machine type has: as asked for, or as the year's own."""
    return round((dataset.seconds.get(machine, USUAL_SECONDS) if seconds is None else seconds) * SAMPLE_RATE)


def _refuse_parts(parts: Sequence[str]) -> tuple[Part, ...]:
    raise BenchmarkError(f"parts must be among {', '.join(PARTS)}, but got {', '.join(parts)}.")


def _choose_machines(
    dataset: Dataset, machines: Sequence[str] | None, parts: Sequence[Part]
) -> dict[Part, tuple[str, ...]]:
    """Return the machine types to write of each part, in the year's order."""
    known = {machine for part in parts for machine in dataset.machines[part]}
    for machine in machines or ():
        if machine not in known:
            raise BenchmarkError(
                f"machines must be among those of {dataset.name}'s {' and '.join(parts)} "
                f"({', '.join(sorted(known))}), but got {machine}.{did_you_mean(machine, known)}"
            )
    wanted = known if machines is None else set(machines)
    return {part: tuple(name for name in dataset.machines[part] if name in wanted) for part in parts}


def _is_complete(year: Path, arguments: dict[str, Any]) -> bool:
    """Say whether the set is there already; if not, note what is being written.

    Raises:
        BenchmarkError: if the folder holds recordings made otherwise.
    """
    for manifest in (year / MANIFEST, year / STARTED):
        before = read_manifest(manifest)
        if before is not None:
            differing = [name for name in arguments if before.get(name) != arguments[name]]
            if differing:
                name = differing[0]
                raise BenchmarkError(
                    f"{year} must be generated with the arguments that it was begun with, but {name} was "
                    f"{printable(str(before.get(name)), most=120)} and is now {arguments[name]}; choose another root "
                    "or remove it."
                )
            return manifest.name == MANIFEST
    if year.exists() and any((year / folder).exists() for folder in PART_FOLDERS.values()):
        raise BenchmarkError(f"{year} must be empty or generated, but holds other recordings; choose another root.")
    year.mkdir(parents=True, exist_ok=True)
    write_manifest(year / STARTED, arguments)
    return False


def _is_written(path: Path) -> bool:
    """Tell whether a recording stands in its place; files take their names when they are whole.

    Raises:
        BenchmarkError: if something else stands there.
    """
    if path.exists() and not path.is_file():
        raise BenchmarkError(f"{path} must be a recording or not be there, but is no file; move it away.")
    return path.exists()


def _check_space(year: Path, size: int) -> None:
    """Raise BenchmarkError where the disk cannot hold what is to be written."""
    free = shutil.disk_usage(year).free
    if size > free:
        raise BenchmarkError(
            f"the recordings need {size / 1e9:.1f} GB, but {year} has {free / 1e9:.1f} GB left; make room, or ask for "
            "fewer or shorter clips."
        )


def _write_wav(path: Path, samples: NDArray[np.int16]) -> None:
    """Write a 16-bit wav file at 16 kHz, whole or not at all: (samples, channels)."""
    with whole_file(path) as file, wave.open(file, "wb") as recording:
        recording.setnchannels(samples.shape[1])
        recording.setsampwidth(2)
        recording.setframerate(SAMPLE_RATE)
        recording.writeframes(samples.astype("<i2").tobytes())
