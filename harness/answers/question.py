"""Filters on recorded trials, and settings of the bootstrap, shared by all answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """Which recorded trials an answer is about, and how its bootstrap draws. A filter that is None keeps all trials.

    Attributes:
        study: only this study's trials, by its name (the newest of that name) or key.
        protocol: only this protocol's.
        backbone: only this backbone's.
        scorer: only this scorer's, in canonical form (`harness.scoring.choice`), such as `knn:k=5`.
        keys: only the trials with these keys; replaces `study`.
        resamples: number of bootstrap resamples.
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


EVERYTHING = Question()  # no filter
