"""A backbone by its name as studies write it: its conformance report, and its embeddings as a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import HarnessError
from harness.places import Places, find_places
from harness.told import Told, silent

if TYPE_CHECKING:
    import pandas as pd

    from backbones.check import CheckLine
    from backbones.contract import Encoder

SHORTEST = 0.5  # seconds: enough frames for the patches of every encoder here
LONGEST = 60.0
TELL_AFTER = 64  # clips between two reports of progress; a multiple of the batch size


def check_backbone(
    name: str,
    *,
    weights: str = "",
    options: Mapping[str, Any] | None = None,
    seconds: float = 10.0,
    threads: int = 1,
    listen: Callable[[CheckLine], None] = lambda _line: None,
) -> dict[str, Any]:
    """Check a backbone against the contract that studies rely on.

    Args:
        name: as in a study: a built-in backbone, one of an installed package's entry points, or hf:FOLDER.
        weights: path of a checkpoint; "" means random weights.
        options: of the backbone, option -> value.
        seconds: length of the clips that most checks use.
        threads: number of torch's threads, for the check of speed.
        listen: called with the result of each check as soon as it is known.

    Returns:
        `backbone`; `passed`, whether no check failed; and `rows`, one for each check, with `name`, `status`, `found`
        and `why`.

    Raises:
        HarnessError: there is no such backbone, or no clip can have that length.
        BackboneError: the weights are not there, or cannot be used; or an option is wrong.
    """
    from backbones.check import check_encoder
    from harness.trials.choices import choose_backbone
    from harness.trials.limits import hold_threads
    from harness.trials.stages import pretrained_encoder

    if not SHORTEST <= seconds <= LONGEST:
        raise HarnessError(f"--seconds must be between {SHORTEST:g} and {LONGEST:g}, but got {seconds:g}.")
    hold_threads(threads)
    choice = choose_backbone(name, name, weights=weights, options=options)

    def build(seed: int) -> Encoder:
        return pretrained_encoder(choice, seed=seed)

    if choice.weights:
        build(0)  # a file that cannot be used says nothing about the backbone: one sentence, and no report
    rows = []
    for line in check_encoder(build, seconds=seconds):
        listen(line)
        rows.append(asdict(line))
    return {"backbone": name, "passed": all(row["status"] != "fail" for row in rows), "rows": rows}


def embed(
    root: Path,
    *,
    backbone: str,
    out: Path,
    protocol: str = "",
    weights: str = "",
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    clip_seconds: float = 10.0,
    fit: Literal["repeat", "pad"] = "repeat",
    skip_bad: bool = False,
    threads: int = 1,
    workers: int | None = None,
    places: Places | None = None,
    told: Told = silent,
) -> dict[str, Any]:
    """Write the embeddings of a root's clips to an npz, which is a backbone (`emb:FILE`) and a root of its own.

    A trial with that file as its backbone, frozen or with a trained projection, gives the same numbers as a trial with
    this backbone and the same clip length.

    Args:
        root: folder with recordings, in the official layout or your own with their csv.
        backbone: by name.
        out: the .npz file; an existing one is replaced once the new one is complete.
        protocol: only the clips of this protocol; "" embeds all clips.
        weights: path of a checkpoint; "" means random weights from the seed.
        options: of the backbone.
        seed: of random weights.
        clip_seconds: every clip is cut or extended to this length, as in a recipe.
        fit: whether a shorter clip is repeated, or padded with silence.
        skip_bad: go on without files that cannot be used.
        threads: of torch.
        workers: processes that decode; None is one a core.
        places: of the cache.
        told: progress.

    Returns:
        `out`, `backbone`, `clips`, `dim`, `bytes`, `sha256`, `skipped`.

    Raises:
        ValueError: a choice is wrong, the recordings cannot be used, or the file cannot be written.
    """
    import hashlib
    import os

    import numpy as np

    from backbones.embed import embed as embed_clips
    from backbones.features.embedding_file import packed_embeddings
    from benchmarks.protocols import find_protocol, split_clips
    from benchmarks.recordings.audio import SAMPLE_RATE
    from harness.bounds import checked
    from harness.files import write_whole
    from harness.trials.choices import choose_backbone
    from harness.trials.limits import hold_threads
    from harness.trials.recordings import index_datasets, pack_root
    from harness.trials.stages import clip_ids, clip_reader, pretrained_encoder

    checked("clip_seconds", clip_seconds)
    if out.suffix != ".npz":
        raise HarnessError(f"--out must end in .npz, but got {out.name!r}.")
    if root.is_file():
        raise HarnessError(f"Recordings must lie in a folder, but {root} is a file; embeddings need not be made again.")
    hold_threads(threads)
    choice = choose_backbone(backbone, backbone, weights=weights, options=options)
    encoder = pretrained_encoder(choice, seed=seed)
    chosen = find_protocol(protocol) if protocol else None
    years = tuple(dict.fromkeys(part.dataset for part in (*chosen.train, *chosen.score))) if chosen else ()
    indexed = index_datasets(root, years, skip_bad=skip_bad)
    clips = indexed.clips
    if chosen is not None:
        clips = clips[clips["clip_id"].isin([clip for part in split_clips(clips, chosen) for clip in part["clip_id"]])]
    packed = pack_root(
        root, clips, indexed.datasets, (places or find_places()).open_cache(), workers=workers or os.cpu_count() or 1,
        progress=lambda done, total: told("reading recordings", done, total), skip_bad=skip_bad,
    )  # fmt: skip
    clips = clips[clips["clip_id"].isin(packed.ids)].sort_values("clip_id")
    ids, samples = clip_ids(clips), round(clip_seconds * SAMPLE_RATE)
    parts = []
    for start in range(0, len(ids), TELL_AFTER):
        some = ids[start : start + TELL_AFTER]
        parts.append(embed_clips(encoder, clip_reader(encoder, packed, some, samples, fit=fit), len(some)))
        told("embedding", start + len(some), len(ids))
    vectors = np.concatenate(parts)
    content = packed_embeddings(_names_of(clips), vectors)
    try:
        write_whole(out, content)
    except OSError as error:
        raise HarnessError(f"--out must be a place that can be written, but {out}: {error.strerror}.") from error
    return {
        "out": str(out), "backbone": choice.name, "clips": len(ids), "dim": vectors.shape[1], "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(), "skipped": indexed.skipped + len(packed.skipped),
    }  # fmt: skip


def _names_of(clips: pd.DataFrame) -> list[str]:
    """Return the clips' paths as official attribute tables write them; the year in front where there are several."""
    several = clips["dataset"].nunique() > 1
    names = []
    for clip_id, path, dataset, domain in clips[["clip_id", "path", "dataset", "domain"]].itertuples(index=False):
        machine, folder, stem = clip_id.split("/", 4)[2:]
        if folder == "test" and Path(path).parent.name == f"{domain}_test":  # 2021
            folder = f"{domain}_test"
        names.append(f"{f'{dataset}/' if several else ''}{machine}/{folder}/{stem}.wav")
    return names
