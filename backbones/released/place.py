"""Places on the hub, and which server stands for it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backbones.contract import BackboneError

# ORG/NAME@REVISION; datasets/ORG/NAME@REVISION, as in the hub's addresses, for files that lie in a data set
PLACE = re.compile(r"(?P<kind>datasets/)?(?P<repository>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass(frozen=True)
class HubPlace:
    """A repository of the hub at a revision.

    Attributes:
        repository: ORG/NAME.
        revision: a commit, a tag or a branch.
        kind: of the repository.
    """

    repository: str
    revision: str
    kind: Literal["model", "dataset"] = "model"

    def __str__(self) -> str:
        """As it is written: ORG/NAME@REVISION."""
        return f"{'datasets/' if self.kind == 'dataset' else ''}{self.repository}@{self.revision}"


def is_place(text: str) -> bool:
    """Tell whether a text names a repository of the hub with its revision, ORG/NAME@REVISION."""
    return PLACE.fullmatch(text) is not None


def parse_place(text: str) -> HubPlace:
    """Read ORG/NAME@REVISION.

    Raises:
        BackboneError: it is something else.
    """
    found = PLACE.fullmatch(text)
    if found is None or ".." in text:
        raise BackboneError(
            f"A place on the hub must be ORG/NAME@REVISION, the revision a commit, a tag or a branch, but got {text}."
        )
    return HubPlace(found["repository"], found["revision"], "dataset" if found["kind"] else "model")


def is_offline() -> bool:
    """Tell whether the user forbids the network: HF_HUB_OFFLINE=1, read now and not when a library was imported."""
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in OFFLINE)


def endpoint() -> str | None:
    """Return the server that HF_ENDPOINT names; None is the hub itself."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def server() -> str:
    """Say which server is asked."""
    return endpoint() or "The hub"


def hub_cache() -> Path | None:
    """Return the folder of the hub's own cache that the environment names; None is the library's default."""
    named = os.environ.get("HF_HUB_CACHE")
    home = os.environ.get("HF_HOME")
    return Path(named) if named else Path(home) / "hub" if home else None
