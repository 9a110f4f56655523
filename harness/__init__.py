"""asdbench: studies, trials, tracking and leaderboards for anomalous sound detection.

Importing it makes Python find the packages that stand beside it. `benchmarks`, `labeling` and `backbones` are plain
names: a folder or file of such a name in the working directory comes first on Python's path in a notebook, under
`python -m`, in Ray's workers and in the processes that decode recordings.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

ROOMS = ("backbones", "benchmarks", "harness", "labeling")
PLACE = Path(__file__).resolve().parents[1]  # the repository, or site-packages


class RoomFinder(MetaPathFinder):
    """Finds the packages beside this one; every other name is left to Python."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a package is, None for a name that is not one of ours."""
        return PathFinder.find_spec(fullname, [str(PLACE)]) if fullname in ROOMS else None


def hold_rooms() -> None:
    """Make this Python find our packages, whatever else has their names.

    Raises:
        ImportError: something else has been imported under one of their names.
    """
    for name in ROOMS:
        known = sys.modules.get(name)
        if known is not None and Path(known.__file__ or "").resolve().parent != PLACE / name:
            place = known.__file__ or next(iter(getattr(known, "__path__", ())), "something else")
            raise ImportError(
                f"asdbench has a package named {name}, but {place} has been imported under that name; "
                "import asdbench before it, in a new Python, or rename it."
            )
    if not any(isinstance(finder, RoomFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, RoomFinder())


def shadows(folders: Iterable[Path]) -> bool:
    """Tell whether something in these folders would be imported under one of our names if they came first."""
    return any(
        PathFinder.find_spec(name, [str(folder)]) is not None
        for folder in folders
        if folder.resolve() != PLACE
        for name in ROOMS
    )


hold_rooms()
