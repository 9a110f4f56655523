"""Recordings, decoded once into packs: in parallel, only what has changed, safe against a kill at any moment.

What has changed is told by content. A file counts as unchanged while its size, its two times and its inode are those of
when it was read; the time of the last change of any kind cannot be set back. Where it does not, the file is decoded
again, and samples that are the same as before are not written twice. Systems that keep no such time are found out by a
sample: of `SAMPLED` clips, spread over the table, blocks of the file are compared with those that were read, and where
one differs every file is decoded again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import astuple, dataclass, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from filelock import FileLock

from benchmarks.contract import BenchmarkError, Mix, Problem, Progress
from benchmarks.files import open_regular
from benchmarks.recordings.audio import RecordingError, decode
from benchmarks.recordings.packed import FORMAT, Entry, FileState, PackedAudio, read_index, samples_digest
from benchmarks.recordings.processes import open_pool

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 32 * 2**20  # of source files; a killed run loses a few segments' work at most
SAMPLED = 256  # clips whose bytes are compared at a start that finds them packed; some 10 ms in all
BLOCK_BYTES = 4096  # at the head, in the middle and at the tail of each


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A recording that has to be read."""

    clip_id: str
    path: str
    state: FileState
    mix: Mix
    before: Entry | None  # what was packed of it, which may still hold


@dataclass(frozen=True, slots=True)
class _Job:
    """A segment to be written: its place, its recordings, and whether bad ones are left out."""

    data: Path
    clips: list[_Wanted]
    skip_bad: bool


@dataclass(frozen=True, slots=True)
class _Written:
    """What came of a segment: what stands in it, and the bad recordings, by path, that do not."""

    entries: list[Entry]
    bad: list[tuple[str, RecordingError]]


def pack(
    clips: pd.DataFrame,
    folder: Path | str,
    *,
    workers: int = 1,
    progress: Progress | None = None,
    mix: Mapping[str, Mix] | None = None,
    skip_bad: bool = False,
) -> PackedAudio:
    """Decode every clip once into a folder of packs; clips whose file has not changed are not read again.

    Any number of callers may pack into one folder; one of them decodes at a time. A killed run leaves the segments that
    it finished, and nothing half-written is ever taken for whole: the next run ends with the same bytes as an
    undisturbed one. Samples are int16 at 16 kHz: one channel, or both, one behind the other.

    Args:
        clips: a clip table.
        folder: of the packs; made if it is not there. Files in it get its rights.
        workers: processes that decode; 1 decodes in this one.
        progress: told after each clip that had to be read.
        mix: dataset -> which sound of several channels counts; the first channel's where nothing is said.
        skip_bad: leave out files that cannot be used, and name them in `skipped`, instead of raising.

    Returns:
        These clips, in the table's order.

    Raises:
        RecordingError: if a recording is missing, empty, cut short, no audio or not finite; those before it are kept.
    """
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    mixes = {dataset: (mix or {}).get(dataset, "first") for dataset in clips["dataset"].unique()}
    ids, paths = clips["clip_id"].tolist(), clips["path"].tolist()
    wanted = {
        path: (clip_id, mixes[dataset])
        for path, clip_id, dataset in zip(paths, ids, clips["dataset"].tolist(), strict=True)
    }
    skipped: dict[str, Problem] = {}
    states = _file_states(wanted, skipped if skip_bad else None)
    packed = _unchanged(read_index(folder), states, wanted)
    if len(packed) < len(states):
        with FileLock(folder / "pack.lock", mode=folder.stat().st_mode & 0o666):
            index = read_index(folder)
            packed = _unchanged(index, states, wanted)  # another process may have packed them meanwhile
            _remove_leftovers(folder)
            missing = [
                _Wanted(wanted[path][0], path, states[path], wanted[path][1], index.get(path))
                for path in states
                if path not in packed
            ]
            for entry in _pack_segments(
                folder, missing, workers=workers, progress=progress, skipped=skipped if skip_bad else None
            ):
                packed[entry.path] = entry
    if skipped:
        logger.warning("%d bad recordings are left out. First: %s", len(skipped), next(iter(skipped.values())).sentence)
    kept = [(packed[path], clip_id) for path, clip_id in zip(paths, ids, strict=True) if path not in skipped]
    return PackedAudio(folder, [entry for entry, _ in kept], [clip_id for _, clip_id in kept], list(skipped.values()))


def _file_states(paths: Iterable[str], skipped: dict[str, Problem] | None) -> dict[str, FileState]:
    """Return what each recording looks like; one that is not there is skipped or an error."""
    states = {}
    for path in paths:
        try:
            state = os.stat(path)  # noqa: PTH116 - a Path a clip would double the time on 200,000 clips
        except OSError as error:
            bad = RecordingError(f"recordings must be readable, but {path} is not: {error.strerror}.", "unreadable")
            _skip(path, bad, skipped)
            continue
        states[path] = FileState(state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
    return states


def _skip(path: str, bad: RecordingError, skipped: dict[str, Problem] | None) -> None:
    """Note a bad recording, or raise where bad ones are not to be skipped."""
    if skipped is None:
        raise bad
    skipped[path] = Problem(bad.kind, path, str(bad))


def _unchanged(
    index: Mapping[str, Entry], states: Mapping[str, FileState], wanted: Mapping[str, tuple[str, Mix]]
) -> dict[str, Entry]:
    """Keep the entries of files that look as they did when they were read, and were mixed alike; keys are paths."""
    found = ((path, index.get(path), state) for path, state in states.items())
    same = {
        path: entry for path, entry, state in found if entry and entry.state == state and entry.mix == wanted[path][1]
    }
    for entry in list(same.values())[:: max(1, -(-len(same) // SAMPLED))]:
        if _digest_blocks(entry.path, entry.state.size) != entry.blocks:
            logger.warning("%s was changed under its old size and times; every recording is read again.", entry.path)
            return {}
    return same


def _digest_blocks(path: str, size: int) -> str:
    """Digest some bytes of a file of so many: head, middle and tail; "" where it cannot be read."""
    digest = blake2b(digest_size=8)
    try:
        with open_regular(Path(path)) as opened:
            for start in (0, size // 2, max(0, size - BLOCK_BYTES)):
                opened.seek(start)
                digest.update(opened.read(BLOCK_BYTES))
    except (BenchmarkError, OSError):
        return ""
    return digest.hexdigest()


def _remove_leftovers(folder: Path) -> None:
    """Remove what a killed run left: unfinished files, and samples without a table. Call under the lock."""
    for path in folder.glob("*.tmp"):
        path.unlink()
    for path in folder.glob("segment-*.i16"):
        if not path.with_suffix(".json").exists():
            path.unlink()


def _pack_segments(
    folder: Path,
    missing: Sequence[_Wanted],
    *,
    workers: int,
    progress: Progress | None,
    skipped: dict[str, Problem] | None,
) -> Iterator[Entry]:
    """Decode recordings into as many segments as they need; call under the lock.

    Segments count in their order alone, so that a killed run leaves the first ones of an undisturbed run.
    """
    done = 0

    def tell(clips: int) -> None:
        nonlocal done
        for _ in range(clips):
            done += 1
            if progress is not None:
                progress(done, len(missing))

    numbers = [int(path.stem.split("-")[1]) for path in folder.glob("segment-*.json")]
    first = max(numbers, default=0) + 1
    jobs = [
        _Job(folder / f"segment-{number:06d}.i16", clips, skipped is not None)
        for number, clips in enumerate(_cut(missing), start=first)
    ]
    with _writer(min(workers, len(jobs)), tell) as write_all:
        for job, written in zip(jobs, write_all(jobs), strict=True):
            _commit(job, written)
            yield from written.entries
            for path, bad in written.bad:
                _skip(path, bad, skipped)


def _cut(missing: Sequence[_Wanted]) -> Iterator[list[_Wanted]]:
    """Cut recordings into segments by the size of their files; what is left after some segments is cut alike."""
    clips: list[_Wanted] = []
    size = 0
    for clip in missing:
        clips.append(clip)
        size += clip.state.size
        if size >= SEGMENT_BYTES:
            yield clips
            clips, size = [], 0
    if clips:
        yield clips


def _write(job: _Job, tell: Callable[[int], None] | None = None) -> _Written:
    """Decode a segment's recordings into a file beside its place; the first bad one ends it, unless bad are skipped."""
    entries: list[Entry] = []
    bad: list[tuple[str, RecordingError]] = []
    offset = 0
    with _create(Path(f"{job.data}.tmp")) as out:
        for clip in job.clips:
            try:
                samples = np.ascontiguousarray(decode(clip.path, clip.mix), dtype="<i2")
            except RecordingError as error:
                bad.append((clip.path, error))
                if not job.skip_bad:
                    break
            else:
                found, before = samples_digest(samples), clip.before
                blocks = _digest_blocks(clip.path, clip.state.size)
                if before is not None and (before.digest, before.length) == (found, samples.size):
                    entries.append(replace(before, clip_id=clip.clip_id, state=clip.state, blocks=blocks, mix=clip.mix))
                else:
                    place = (samples.size, found, job.data.stem, offset)
                    entries.append(Entry(clip.clip_id, clip.path, clip.state, blocks, *place, clip.mix))
                    out.write(samples.view(np.uint8).data)
                    offset += samples.size
            if tell is not None:
                tell(1)
    return _Written(entries, bad)


def _create(path: Path) -> BinaryIO:
    """Open a new file for writing, which whoever may read its folder may read, and nobody else."""
    file = path.open("wb")
    os.fchmod(file.fileno(), path.parent.stat().st_mode & 0o666)
    return file


def _commit(job: _Job, written: _Written) -> None:
    """Give a written segment its name, then its table, which makes it count."""
    beside = Path(f"{job.data}.tmp")
    if not written.entries:
        beside.unlink()
        return
    with beside.open("rb") as data:  # here and not where it was written, so that decoding goes on meanwhile
        os.fsync(data.fileno())  # or the table could outlive the samples when the power fails
    beside.replace(job.data)
    rows = [astuple(entry) for entry in written.entries]
    size = job.data.stat().st_size
    table = job.data.with_suffix(".json.tmp")
    with _create(table) as out:
        out.write(json.dumps({"format": FORMAT, "bytes": size, "clips": rows}).encode())
    table.replace(job.data.with_suffix(".json"))


@contextlib.contextmanager
def _writer(workers: int, tell: Callable[[int], None]) -> Iterator[Callable[[list[_Job]], Iterator[_Written]]]:
    """Give a function that writes segments in order, with processes where that is worth their start."""
    if workers <= 1:
        yield lambda jobs: (_write(job, tell) for job in jobs)
        return
    with open_pool(workers) as pool:
        yield lambda jobs: _write_ahead(pool, jobs, tell, ahead=2 * workers)


def _write_ahead(
    pool: ProcessPoolExecutor, jobs: Sequence[_Job], tell: Callable[[int], None], *, ahead: int
) -> Iterator[_Written]:
    """Write segments in order, a few ahead of the one that counts next: more would be lost where a clip is bad."""
    rest = iter(jobs)
    waiting = deque((job, pool.submit(_write, job)) for job in islice(rest, ahead))
    try:
        while waiting:
            job, future = waiting.popleft()
            written = future.result()
            waiting.extend((job, pool.submit(_write, job)) for job in islice(rest, 1))
            tell(len(job.clips))
            yield written
    except BrokenProcessPool as error:
        raise BenchmarkError(
            "decoding processes must stay alive, but one was killed; pack with fewer workers."
        ) from error
    finally:
        for _, future in waiting:
            future.cancel()
