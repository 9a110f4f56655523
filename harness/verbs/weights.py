"""The `weights` verbs as Python functions: list released weights, download a file, identify a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.told import Told, silent

MB = 10**6


def weights_ls() -> list[dict[str, Any]]:
    """List the released files of BEATs and AudioMAE, and which of them are here.

    They are looked for in the folder that ASDBENCH_WEIGHTS names, and in `weights` of the cache.

    Returns:
        A row for each file: name, backbone, stage, bytes and sha256 (None if they are not published), licence, source
        (its place on the hub, else the address given by its authors), path, and status: "here", "absent", "another
        file" (one of that name with another SHA-256), or "here, sum unknown".
    """
    from backbones.released.catalogue import RELEASED, where
    from backbones.weights import sha256_of

    rows = []
    for released in RELEASED:
        path = where(released)
        status = "absent"
        if path is not None:
            right = released.bytes in (None, path.stat().st_size) and sha256_of(path) == released.sha256
            status = "here, sum unknown" if released.sha256 is None else "here" if right else "another file"
        rows.append(
            {
                "name": released.name,
                "backbone": released.backbone,
                "stage": released.stage,
                "bytes": released.bytes,
                "sha256": released.sha256,
                "licence": released.licence,
                "source": released.sources[0] if released.sources else released.elsewhere,
                "status": status,
                "path": None if path is None else str(path),
            }
        )
    return rows


def weights_download(
    name: str, *, to: Path | None = None, source: str | None = None, told: Told = silent
) -> dict[str, Any]:
    """Download a released file by its name: it resumes a stopped download, checks the SHA-256, and only then renames.

    Args:
        name: as `weights_ls` lists it.
        to: folder that gets it; None is ASDBENCH_WEIGHTS, else `weights` of the cache.
        source: another place on the hub, ORG/NAME@REVISION; None asks the known mirrors in turn.
        told: progress in MB.

    Returns:
        name, path, bytes, sha256, source (ORG/NAME@COMMIT, "" where it was here before) and whether it was `fetched`.

    Raises:
        BackboneError: there is no such name or file, the network is forbidden or broken, the disk is full, or what came
            is not the released file.
    """
    from dataclasses import asdict

    from backbones.released.download import bring

    brought = bring(name, to, source, told=lambda there, total: told(f"{name}, MB", there // MB, total // MB))
    return {**asdict(brought), "path": str(brought.path)}


def weights_check(file: Path) -> dict[str, Any]:
    """Say which released file a file is, or what it is instead.

    Returns:
        file, bytes, sha256, released (its name, None for any other file), backbone (that reads it, None where none
        does) and what, in words.

    Raises:
        BackboneError: there is no such file, or it cannot be read.
    """
    from backbones.released.identity import identify

    found = identify(file)
    return {
        "file": str(found.path), "bytes": found.bytes, "sha256": found.sha256, "released": found.released,
        "backbone": found.backbone, "what": found.what,
    }  # fmt: skip
