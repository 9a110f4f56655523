"""The recordings of a protocol: indexed, split, packed once, fingerprinted."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from backbones.features.embedding_file import read_embeddings
from benchmarks.clips import check_clips
from benchmarks.contract import Dataset, Protocol
from benchmarks.protocols import heard, says_no_labels, split_clips
from benchmarks.recordings.index import index_names, scan_root, usable_clips
from benchmarks.recordings.packed import PackedAudio, SilentClips, open_pack, warn_of_copies
from benchmarks.recordings.packing import pack
from benchmarks.recordings.truth import add_ground_truth, read_truth
from harness import plugins
from harness.cache import Cache
from harness.errors import HarnessError
from harness.files import make_private_folder, read_bytes, write_whole
from harness.keys import digest
from labeling.withhold import withhold

logger = logging.getLogger(__name__)

AUDIO = "audio"  # folder of a cache with the packed audio of each root
SILENT = "silent"  # kind of a cache's values: embeddings of clips whose sound is not available
AUDIO_FILE, TRUTH_FILE = "audio.txt", "truth.json"  # files in the folder of prepared recordings, beside two tables
SILENT_FILE = "silent.txt"  # instead of AUDIO_FILE if there is no sound: holds the embeddings' key in the cache
MOST_ROWS = 5_000_000  # clips of a table; all years together have some 100,000
MOST_TABLE_BYTES = 2**32  # of a table once it is unpacked
LABEL_COLUMNS = ["clip_id", "machine", "section", "domain", "condition", "attribute"]


@dataclass(frozen=True)
class Recordings:
    """What a trial reads; `place` opens the same recordings in another process.

    Attributes:
        train: clip table of the training clips, sorted by id.
        test: clip table of the test clips, sorted by id.
        packed: their audio.
        train_data: fingerprint (digest) of the training clips' audio and labels.
        test_data: fingerprint of the test clips' audio and labels.
        place: folder in the cache that holds all of it; `open_recordings(place)` reads it in a worker.
        skipped: number of bad files that were left out with `skip_bad`. Not stored: 0 after `open_recordings`.
        truth: training clip id -> attribute that `train` does not show: hidden by the protocol, or released later.
            Labels are judged by it; nothing is made from it, except the labels "truth" of a trial that asks for them.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    packed: PackedAudio
    train_data: str
    test_data: str
    place: Path
    skipped: int = 0
    truth: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def truth_data(self) -> str:
        """Return the fingerprint of the withheld attributes; "" if none are known."""
        return digest(self.truth) if self.truth else ""


@dataclass(frozen=True)
class Indexed:
    """The clips found under a folder, the datasets they belong to, and how many files were left out."""

    clips: pd.DataFrame
    datasets: tuple[Dataset, ...]
    skipped: int


def load_datasets(names: tuple[str, ...] = ()) -> tuple[Dataset, ...]:
    """Load datasets by name; without names, every one that there is."""
    return tuple(plugins.load("dataset", name) for name in names or plugins.names("dataset"))


def index_datasets(
    root: Path, names: tuple[str, ...] = (), *, ground_truth: Path | None = None, skip_bad: bool = False
) -> Indexed:
    """Index the named datasets of a root, or every one that is there.

    Args:
        root: folder with recordings, or a file of embeddings (`backbones.features.embedding_file`), whose names say
            what the clips are.
        names: datasets; none means all that there are.
        ground_truth: the user's copy of the official files about evaluation clips.
        skip_bad: leave out files that cannot be indexed, and count them.
    """
    datasets = load_datasets(names)
    named = root.is_file()
    scan = index_names(root, read_embeddings(root).places, datasets) if named else scan_root(root, datasets)
    clips = usable_clips(scan, root, datasets, skip_bad=skip_bad)
    if ground_truth is not None:
        clips = add_ground_truth(clips, ground_truth, datasets)
    return Indexed(clips, datasets, scan.left_out)


def prepare_recordings(
    root: Path,
    protocol: Protocol,
    cache: Cache,
    *,
    workers: int = 1,
    ground_truth: Path | None = None,
    skip_bad: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Recordings:
    """Index a root, split it as a protocol says, and pack what has not been packed yet.

    Args:
        root: folder with recordings, in a layout that `benchmarks.recordings.index.index_root` reads; or an .npz file
            of embeddings (`asdbench embed`), from which trials run without sound, except for the level row.
        protocol: which parts train and which are scored.
        cache: packed audio and tables are kept there.
        workers: processes that decode.
        ground_truth: the user's copy of the official files about evaluation clips.
        skip_bad: go on without files that cannot be used; `skipped` counts those of all datasets of the protocol that
            cannot be indexed, and those of its clips that cannot be read.
        progress: called with (clips done, clips in all).
    """
    years = tuple(dict.fromkeys(part.dataset for part in (*protocol.train, *protocol.score)))
    indexed = index_datasets(root, years, ground_truth=ground_truth, skip_bad=skip_bad)
    train, test = _split(indexed.clips, protocol)
    if unlabelled := says_no_labels(test):
        logger.warning("%s", unlabelled)
    if root.is_file():
        train, truth = withhold_attributes(train, protocol)
        return replace(_prepare_embeddings(root, train, test, truth, cache=cache), skipped=indexed.skipped)
    packed = pack_root(
        root, pd.concat([train, test], ignore_index=True), indexed.datasets, cache, protocol=protocol,
        workers=workers, progress=progress, skip_bad=skip_bad,
    )  # fmt: skip
    if packed.skipped:
        bad = [problem.path for problem in packed.skipped]
        train, test = _split(indexed.clips[~indexed.clips["path"].isin(bad)], protocol)
    train, truth = withhold_attributes(train, protocol)
    warn_of_copies(packed, train["clip_id"].tolist(), test["clip_id"].tolist())
    recordings = Recordings(
        train, test, packed, _fingerprint(train, packed), _fingerprint(test, packed),
        cache.folder / "recordings" / "new", skipped=indexed.skipped + len(packed.skipped), truth=truth,
    )  # fmt: skip
    return place_recordings(recordings, _audio_folder(root, cache, protocol))


def pack_root(
    root: Path,
    clips: pd.DataFrame,
    datasets: tuple[Dataset, ...],
    cache: Cache,
    *,
    protocol: Protocol | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    skip_bad: bool = False,
) -> PackedAudio:
    """Pack what has not been packed yet of a root's clips; see `benchmarks.recordings.packing.pack`."""
    mix = {dataset.name: heard(dataset, protocol) for dataset in datasets}
    folder = _audio_folder(root, cache, protocol)
    make_private_folder(folder)
    return pack(clips, folder, workers=workers, progress=progress, mix=mix, skip_bad=skip_bad)


def _audio_folder(root: Path, cache: Cache, protocol: Protocol | None) -> Path:
    """Return the folder of a root's packed audio. Protocols that mix channels differently have different folders."""
    name = hashlib.blake2b(str(root.absolute()).encode(), digest_size=8).hexdigest()
    apart = "" if protocol is None or protocol.channels in (None, "near") else f"-{protocol.channels}"
    return cache.folder / AUDIO / f"{name}{apart}"


def _prepare_embeddings(
    root: Path, train: pd.DataFrame, test: pd.DataFrame, truth: Mapping[str, str], *, cache: Cache
) -> Recordings:
    """Prepare clips of which only embeddings are known, and log what differs without sound."""
    file = read_embeddings(root)
    ids = [*train["clip_id"], *test["clip_id"]]
    silent = SilentClips(str(root), ids, file.vectors[file.rows(ids)])
    logger.warning(
        "%s holds embeddings and no sound: there is no row of the level, and where labeling reads MFCC it reads the "
        "embeddings.", root,
    )  # fmt: skip
    warn_of_copies(silent, train["clip_id"].tolist(), test["clip_id"].tolist())
    recordings = Recordings(
        train, test, silent, _fingerprint(train, silent), _fingerprint(test, silent),
        cache.folder / "recordings" / "new", truth=truth,
    )  # fmt: skip
    key = digest({"clips": silent.fingerprint(ids)})
    cache.put(SILENT, key, (silent.source, silent.ids, silent.vectors))
    return place_recordings(recordings, Path(key))


def withhold_attributes(train: pd.DataFrame, protocol: Protocol) -> tuple[pd.DataFrame, dict[str, str]]:
    """Hide the attributes that a protocol withholds on purpose.

    Args:
        train: clip table of the training clips.
        protocol: its `withhold` tables say what to hide; a clip is hidden if any of them hides it.

    Returns:
        The clips with NA where hidden, and the hidden attributes by clip id.

    Raises:
        HarnessError: the protocol withholds from a machine type that has no training clips.
        LabelingError: it withholds from a domain that none of them has.
    """
    seen, truth = train, dict[str, str]()
    for each in protocol.withhold:
        meant = seen["machine"] == each.machine if each.machine else pd.Series(True, index=seen.index)
        if not meant.any():
            raise HarnessError(plugins.unknown("machine of withhold", each.machine, set(seen["machine"])))
        clips = seen[meant]
        attributes, hidden = withhold(
            clips["clip_id"].to_numpy(dtype=str), objects(clips["attribute"]),
            share=each.share, domains=objects(clips["domain"]), domain=each.domain, seed=each.seed,
        )  # fmt: skip
        seen = seen.copy()
        seen.loc[meant, "attribute"] = pd.array(attributes, dtype="string")
        truth |= hidden
    return seen, truth


def place_recordings(recordings: Recordings, audio: Path) -> Recordings:
    """Write prepared recordings to a folder that workers open; its name is their fingerprints.

    Args:
        recordings: are written to a new folder beside `recordings.place`.
        audio: folder of the packed audio; for clips without sound, the cache key of their embeddings.

    Returns:
        The recordings with the new folder as `place`.

    Raises:
        HarnessError: the folder cannot be written.
    """
    data = (recordings.train_data, recordings.test_data, recordings.truth_data)
    place = recordings.place.with_name("-".join(each for each in data if each))
    files = {
        "train.parquet": recordings.train.to_parquet(index=False),
        "test.parquet": recordings.test.to_parquet(index=False),
        TRUTH_FILE: json.dumps(dict(recordings.truth), sort_keys=True).encode(),
        AUDIO_FILE if recordings.packed.heard else SILENT_FILE: os.fsencode(audio),
    }
    try:
        make_private_folder(place)
        for name, content in files.items():
            write_whole(place / name, content, private=True)
    except OSError as error:
        raise HarnessError(
            f"The cache must take prepared recordings, but {place}: {error.strerror}; make room there, or name another "
            "one with ASDBENCH_CACHE."
        ) from error
    return replace(recordings, place=place)


def objects(column: pd.Series[Any]) -> NDArray[np.object_]:
    """Return a column as an object array with None where it is NA."""
    return column.astype(object).where(column.notna(), None).to_numpy(dtype=object)


@lru_cache(maxsize=4)
def open_recordings(place: Path) -> Recordings:
    """Open prepared recordings in a worker. The result is cached for the worker's next trials.

    The folder's name consists of the fingerprints that are part of the trials' keys. They are checked here, since
    somebody may have edited the tables or packed other audio since.

    Raises:
        HarnessError: the folder does not hold what its name says.
    """
    names = place.name.split("-")
    if len(names) not in (2, 3):
        raise HarnessError(f"Prepared recordings must lie in a folder named after their fingerprints, but got {place}.")
    train, test = (_read_clips(place / f"{name}.parquet") for name in ("train", "test"))
    packed = _open_silent(place) if (place / SILENT_FILE).exists() else open_pack(audio_of(place))
    truth = _read_truth(place / TRUTH_FILE)
    found = Recordings(train, test, packed, _fingerprint(train, packed), _fingerprint(test, packed), place, truth=truth)
    if names != [each for each in (found.train_data, found.test_data, found.truth_data) if each]:
        raise HarnessError(
            f"Prepared recordings must be those that their folder is named after, but {place} holds others: it was "
            "edited, or its audio was packed anew; start again, so that they are prepared anew."
        )
    return found


def _read_clips(path: Path) -> pd.DataFrame:
    content = read_bytes(path, what="A table of prepared recordings")
    try:
        with pq.ParquetFile(io.BytesIO(content)) as file:
            rows = file.metadata.num_rows
            size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups))
        if rows > MOST_ROWS or size > MOST_TABLE_BYTES:
            raise HarnessError(
                f"A table of prepared recordings must have at most {MOST_ROWS} clips, but {path} has more."
            )
        return check_clips(pd.read_parquet(io.BytesIO(content)))
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, HarnessError):
            raise
        raise HarnessError(
            f"A table of prepared recordings must be one that asdbench wrote, but {path} is not; delete {path.parent}, "
            "so that they are prepared anew."
        ) from error


def _read_truth(path: Path) -> dict[str, str]:
    try:
        truth = json.loads(read_bytes(path, what="The truth of prepared recordings"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, HarnessError):
            raise
        truth = None
    if not isinstance(truth, dict) or not all(isinstance(each, str) for each in truth.values()):
        raise HarnessError(
            f"The truth of prepared recordings must name attributes by clip, but {path} does not; delete {path.parent}."
        )
    return truth


def _open_silent(place: Path) -> SilentClips:
    """Open the embeddings of prepared clips without sound."""
    cache, key = Cache(place.parent.parent), silent_key(place)
    found = cache.find(SILENT, key, fits=lambda kept: len(kept) == 3 and len(kept[1]) == len(kept[2]))
    if found is None:
        raise HarnessError(
            f"The embeddings of prepared clips must be in {cache.folder}, but are not; start again, so that they are "
            "prepared anew."
        )
    source, ids, vectors = found
    return SilentClips(source, ids.tolist(), vectors)


def silent_key(place: Path) -> str:
    """Return the cache's key of the embeddings of prepared clips without sound; "" where it says none."""
    named = read_bytes(place / SILENT_FILE, what="The place of embeddings", most=64).decode("ascii", "replace")
    return named if named.isalnum() else ""


def audio_of(place: Path) -> Path:
    """Return the folder of the packed audio of prepared recordings: one of the same cache."""
    named = read_bytes(place / AUDIO_FILE, what="The place of packed audio", most=2**16).replace(b"\0", b"?")
    audio, packs = Path(os.path.realpath(os.fsdecode(named))), Path(os.path.realpath(place.parent.parent / AUDIO))
    if audio.parent != packs:
        raise HarnessError(
            f"Packed audio must lie in {packs}, but {place / AUDIO_FILE} names {audio}; delete {place}, so that the "
            "recordings are prepared anew."
        )
    return audio


def _split(clips: pd.DataFrame, protocol: Protocol) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split clips as a protocol says, each part sorted by id."""
    train, test = split_clips(clips, protocol)
    return train.sort_values("clip_id", ignore_index=True), test.sort_values("clip_id", ignore_index=True)


def _fingerprint(clips: pd.DataFrame, packed: PackedAudio) -> str:
    labels = clips[LABEL_COLUMNS].astype(object).where(clips[LABEL_COLUMNS].notna(), None)
    text = packed.fingerprint(clips["clip_id"].to_numpy(dtype=str)) + repr(labels.to_numpy().tolist())
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def with_released(recordings: Recordings, folder: Path) -> Recordings:
    """Add the attributes that the organisers released later, to compare pseudo-labels with.

    Only `truth` changes, and keeps what the protocol itself withholds: clips, fingerprints, keys and labels stay.

    Args:
        recordings: prepared without it.
        folder: the user's copy of the official *_correspondence.csv files.

    Raises:
        HarnessError: none of the released attributes belongs to an unlabeled training clip.
        BenchmarkError: there are no such files, or they cannot be read.
    """
    bare = set(recordings.train.loc[recordings.train["attribute"].isna(), "clip_id"])
    told = read_truth(folder)
    released = {clip_id: attribute for clip_id, attribute in told.items() if clip_id in bare}
    if not released:
        raise HarnessError(
            f"The truth must tell attributes of training clips that have none, but none of the {len(told)} that "
            f"{folder} tells is of the {len(bare)} unlabeled training clips; name the folder of their year's tables."
        )
    changed = replace(recordings, truth={**released, **recordings.truth})
    kept = audio_of(recordings.place) if recordings.packed.heard else Path(silent_key(recordings.place))
    return place_recordings(changed, kept)
