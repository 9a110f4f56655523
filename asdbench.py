"""asdbench in Python: every verb of the command line is a function of this module.

`asdbench.leaderboard(study="demo")` returns the rows that `asdbench leaderboard --study demo --json` prints, and
`asdbench.leaderboard_frame(rows)` makes a DataFrame of them. `python -m asdbench` is the command line itself.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.answers.frames import answer_frame, leaderboard_frame, machines_frame  # noqa: F401
    from harness.verbs import *  # noqa: F403

FRAMES = ("answer_frame", "leaderboard_frame", "machines_frame")

_PLACE = str(Path(__file__).parent)
sys.path.insert(0, _PLACE)  # so that a file harness.py in the working directory does not come first
try:
    import harness
finally:
    sys.path.remove(_PLACE)
if Path(harness.__file__ or "").resolve().parent != Path(__file__).resolve().parent / "harness":
    raise ImportError(
        f"asdbench has a package named harness, but {harness.__file__} has been imported under that name; "
        "import asdbench before it, in a new Python, or rename it."
    )


def main() -> None:
    """Run the command line."""
    from harness.cli.main import main as run  # noqa: PLC0415  # a notebook does without it

    run()


def settle() -> None:
    """Do nothing; a process that calls this has imported our packages by then, and not others of the same names."""


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module 'asdbench' has no attribute {name!r}")
    if name in FRAMES:
        from harness.answers import frames  # noqa: PLC0415  # brings pandas

        return getattr(frames, name)
    from benchmarks.suggestions import did_you_mean  # noqa: PLC0415  # not before our packages were told from others
    from harness import verbs  # noqa: PLC0415  # brings numpy

    if name in verbs.__all__:
        return getattr(verbs, name)
    known = sorted([*FRAMES, *verbs.__all__])
    meant = did_you_mean(name, known)
    if meant:
        raise AttributeError(f"asdbench has no {name!r}.{meant}")
    raise AttributeError(f"asdbench has {', '.join(known)}, but no {name!r}.")


def __dir__() -> list[str]:
    from harness import verbs  # noqa: PLC0415  # brings numpy

    return sorted([*FRAMES, *verbs.__all__])


if __name__ == "__main__":
    main()
