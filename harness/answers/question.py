"""What an answer is about: which recorded trials, and how its intervals are drawn."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """Which recorded trials are asked about, and the draws of the bootstrap. Made once, by the verb; None is all.

    Attributes:
        study: only this study's trials, by its name (the newest of that name) or key.
        protocol: only this protocol's.
        backbone: only this backbone's.
        scorer: only this scorer's, written as results carry it.
        keys: only the trials with these keys, instead of a study's.
        resamples: how many of the bootstrap.
        seed: of the bootstrap's draws.
    """

    study: str | None = None
    protocol: str | None = None
    backbone: str | None = None
    scorer: str | None = None
    keys: tuple[str, ...] | None = None
    resamples: int = 1000
    seed: int = 0

    def names(self) -> dict[str, str | None]:
        """Return what was asked for by name: study, protocol, backbone, scorer."""
        return {name: getattr(self, name) for name in ("study", "protocol", "backbone", "scorer")}


EVERYTHING = Question()  # that is recorded
