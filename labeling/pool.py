"""Checks of a request, and its clips sorted by id, so that the result does not depend on the order of the clips."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeling.contract import Case, Ids, LabelingError, RankedCandidates, RankRequest

SHOWN = 3  # ids that an error message names before it says "..."
SEEDS = 2**32  # scikit-learn takes seeds below this
LARGEST = 1e15  # features beyond have squares that float32 cannot hold, so that every distance would be infinite


@dataclass(frozen=True)
class Pool:
    """The labeled and the unlabeled clips of one machine type, sorted by id.

    Attributes:
        ids: (n,) clip ids, sorted.
        features: (n, d) float64 or float32, row by row with `ids`.
        names: (c,) the distinct attributes, sorted.
        codes: (n,) index of a clip's attribute in `names`, -1 where it has none.
        domains: (n,) domain names, "" where a clip has none.
        order: (n,) positions in the request of the sorted clips.
    """

    ids: Ids
    features: NDArray[np.floating[Any]]
    names: NDArray[np.str_]
    codes: NDArray[np.int64]
    domains: NDArray[np.str_]
    order: NDArray[np.int64]

    @property
    def labeled(self) -> NDArray[np.bool_]:
        """Tell which clips have an attribute: (n,)."""
        return self.codes >= 0


def open_pool(request: RankRequest, *, strategy: str, cases: Sequence[Case], reads_features: bool = True) -> Pool:
    """Check a request and sort its clips by id.

    Args:
        request: the training clips of one machine type.
        strategy: who asks, for the message.
        cases: those that the strategy serves.
        reads_features: False where the features are neither read nor checked, apart from their length.

    Raises:
        LabelingError: a case that is not served, no clip, lengths that differ, ids that are missing or repeated,
            attributes that are neither text nor None, features that are not an (n, d) table of finite numbers
            up to 1e15, a bad seed.
    """
    if request.case not in cases:
        raise LabelingError(f"{strategy} serves the cases {', '.join(cases)}, but got {request.case}.")
    if not 0 <= request.seed < SEEDS:
        raise LabelingError(f"seed must be between 0 and {SEEDS - 1}, but got {request.seed}.")
    ids = np.asarray(request.ids, dtype=np.str_)
    _check_lengths(request, ids)
    order = np.argsort(ids)
    _check_unique(ids[order])
    names, codes = _encode(request.attributes, ids)
    if reads_features:
        _check_features(request.features, ids)
    domains = np.array([d or "" for d in request.domains] if request.domains is not None else [""] * len(ids))
    return Pool(ids[order], request.features[order], names, codes[order], domains[order], order)


def require_labels(pool: Pool, case: Case, way_out: str) -> None:
    """Refuse a pool without a single labeled clip.

    Raises:
        LabelingError: no clip has an attribute.
    """
    if not pool.labeled.any():
        raise LabelingError(
            f"{case} needs at least one labeled clip, but none of the {len(pool.ids)} clips has an attribute; "
            f"{way_out}."
        )


def keeping_own(pool: Pool, case: Case) -> NDArray[np.bool_]:
    """Tell which clips keep their own attribute under a strategy of clusters: the labeled ones.

    In *fragmented* none does, since the labels themselves conflict (`labeling.routing.route`, rule 3).

    Args:
        pool: (n,) clips.
        case: of the machine type.
    """
    return np.zeros(len(pool.ids), dtype=np.bool_) if case == "fragmented" else pool.labeled


def memo_name(request: RankRequest, pool: Pool, step: str, *, labels: bool = True, **settings: object) -> str:
    """Return the name under which `RankRequest.memo` keeps a step: all that its value depends on but the features.

    Args:
        request: gives the seed.
        pool: gives the clips, in sorted order.
        step: what is made.
        labels: whether the value depends on attributes and domains too.
        settings: other numbers that it depends on, such as K2.

    Returns:
        The step, its settings and a digest of the clips, for example "clusters k2=15 seed=0 clips=1f3a...". With
        `labels`, the digest also covers the attributes, so that withholding others gives another name.
    """
    digest = hashlib.sha256()
    for column in (pool.ids, pool.names, pool.codes, pool.domains) if labels else (pool.ids,):
        digest.update(f"{column.dtype.str}{column.shape}".encode())
        digest.update(np.ascontiguousarray(column).tobytes())
    said = "".join(f" {name}={value}" for name, value in settings.items())
    return f"{step}{said} seed={request.seed} clips={digest.hexdigest()[:16]}"


def answer(
    request: RankRequest,
    pool: Pool,
    *,
    names: NDArray[np.str_],
    confidence: NDArray[np.float64],
    labeled: NDArray[np.bool_],
    strategy: str,
    retained: NDArray[np.bool_] | None = None,
) -> RankedCandidates:
    """Make a strategy's result: the candidates of the sorted pool, back in the request's order.

    Args:
        request: gives ids and case.
        pool: the clips in sorted order, like all that follows.
        names: (n, k) best first; "" pads.
        confidence: (n, k) in 0..1.
        labeled: (n,) True where a clip keeps its own attribute, the only name in its row.
        strategy: who ranked.
        retained: (n,) False where the best confidence is below `min_confidence`; None retains all.
    """
    back = np.empty_like(pool.order)
    back[pool.order] = np.arange(len(pool.order))
    kept = np.ones(len(back), dtype=np.bool_) if retained is None else retained[back]
    return RankedCandidates(
        np.asarray(request.ids, dtype=np.str_),
        names[back],
        confidence[back],
        kept,
        labeled[back],
        request.case,
        strategy,
    )


def some(ids: Ids) -> str:
    """Name the first few ids of many."""
    return ", ".join(map(str, ids[:SHOWN])) + (", ..." if len(ids) > SHOWN else "")


def _check_lengths(request: RankRequest, ids: Ids) -> None:
    if ids.ndim != 1 or len(ids) == 0:
        raise LabelingError(f"a request must hold at least one clip, but its ids have the shape {ids.shape}.")
    columns = {"features": request.features, "attributes": request.attributes, "domains": request.domains}
    for name, column in columns.items():
        if column is not None and len(column) != len(ids):
            raise LabelingError(f"{name} must have one row a clip, {len(ids)}, but got {len(column)}.")


def _check_unique(ids: Ids) -> None:
    repeated = np.unique(ids[1:][ids[1:] == ids[:-1]])
    if len(repeated):
        raise LabelingError(f"clip ids must be unique, but {len(repeated)} stand twice or more: {some(repeated)}.")


def _encode(attributes: NDArray[np.object_], ids: Ids) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    strange = np.array([not (a is None or (isinstance(a, str) and a != "")) for a in attributes])
    if strange.any():
        raise LabelingError(
            f"an attribute must be a name or None where it is withheld, but {strange.sum()} are neither: "
            f"{attributes[strange][0]!r} of {some(ids[strange])}."
        )
    names = sorted({str(a) for a in attributes if a is not None})
    index = {name: code for code, name in enumerate(names)}
    codes = np.array([-1 if a is None else index[a] for a in attributes])
    return np.array(names, dtype=np.str_), codes


def _check_features(features: NDArray[np.floating[Any]], ids: Ids) -> None:
    if features.ndim != 2 or features.shape[1] == 0:
        raise LabelingError(f"features must be a table (clips, dimensions), but got the shape {features.shape}.")
    if not np.issubdtype(features.dtype, np.floating):
        raise LabelingError(f"features must be floating-point numbers, but got {features.dtype}.")
    broken = ~np.isfinite(features).all(axis=1)
    if broken.any():
        raise LabelingError(
            f"features must be finite, but {broken.sum()} of {len(ids)} clips hold NaN or infinity: "
            f"{some(ids[broken])}; make their features anew or leave these clips out."
        )
    huge = np.maximum(features.max(axis=1), -features.min(axis=1)) > LARGEST
    if huge.any():
        raise LabelingError(
            f"features must lie within {LARGEST:g} of 0, but {huge.sum()} of {len(ids)} clips hold larger ones: "
            f"{some(ids[huge])}; the encoder that made them has diverged."
        )
