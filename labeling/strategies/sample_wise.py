"""Sample-wise transfer: attributes of the nearest labeled clips, ranked by a forest (paper, section 2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labeling.contract import Case, LabelingError, RankedCandidates, RankRequest, Strategy
from labeling.distances import nearest, single_thread, standardise
from labeling.pool import Pool, answer, memo_name, open_pool, require_labels
from labeling.table import ranked_rows, with_own

CASES: tuple[Case, ...] = ("sample-wise",)
TREES = 100  # the paper names no size; scikit-learn's default
SEARCH = 64  # neighbours kept by one search: trials with any K1 up to 64 share it


def rank(request: RankRequest) -> RankedCandidates:
    """Rank the distinct attributes among a clip's K1 nearest labeled clips by a random forest's probability.

    Distances are Euclidean in the features standardised over the request's clips. Ties in probability are broken by
    the distance of an attribute's nearest clip, then by name. The forest is trained on the labeled clips. The
    confidence is its probability as it is, so a row sums to less than 1 if the forest gives some probability to
    attributes that are not among the K1 neighbours. Labeled clips keep their own attribute. Domains play no part. If
    there is only one attribute, every clip takes it with confidence 1.

    Returns:
        Rows k1 wide; `retained` is False where an unlabeled clip's best confidence is under `min_confidence`.

    Raises:
        LabelingError: no labeled clip, k1 below 1 or above their number, min_confidence outside 0..1, or a request that
            does not hold together (`labeling.pool.open_pool`).
    """
    pool = open_pool(request, strategy=STRATEGY.name, cases=CASES)
    require_labels(pool, request.case, "choose unlabeled instead")
    _check(request, int(pool.labeled.sum()))
    unlabeled = np.flatnonzero(~pool.labeled)
    rows = np.full((0, request.k1), ""), np.zeros((0, request.k1))
    if len(unlabeled):
        positions, distances = _neighbours(request, pool)
        codes = pool.codes[pool.labeled][positions[:, : request.k1]]  # (u, k1)
        reach = _distance_by_name(codes, distances[:, : request.k1], names=len(pool.names))
        rows = ranked_rows(pool.names, _probabilities(request, pool), reach, width=request.k1)
    names, confidence = with_own(rows, pool.names, pool.codes, unlabeled=unlabeled)
    return answer(
        request,
        pool,
        names=names,
        confidence=confidence,
        labeled=pool.labeled,
        retained=pool.labeled | (confidence[:, 0] >= request.min_confidence),
        strategy=STRATEGY.name,
    )


def _check(request: RankRequest, labeled: int) -> None:
    if not 1 <= request.k1 <= labeled:
        raise LabelingError(
            f"k1 must be between 1 and {labeled}, the labeled clips of this machine type, but got {request.k1}."
        )
    if not 0.0 <= request.min_confidence <= 1.0:
        raise LabelingError(f"min_confidence must be between 0 and 1, but got {request.min_confidence}.")


def _neighbours(request: RankRequest, pool: Pool) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Find at least k1 nearest labeled clips of each unlabeled one: positions and distances (u, >= k1)."""
    wanted = max(SEARCH, 1 << (request.k1 - 1).bit_length())  # 64, or the power of two that holds k1
    kept = min(int(pool.labeled.sum()), wanted)

    def search() -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        features = standardise(pool.features)
        return nearest(features[~pool.labeled], features[pool.labeled], k=kept)

    found: tuple[NDArray[np.int32], NDArray[np.float64]] = request.memo(
        memo_name(request, pool, "neighbours", kept=kept), search
    )
    return found


def _probabilities(request: RankRequest, pool: Pool) -> NDArray[np.float64]:
    """Ask a random forest, grown on the labeled clips, about the unlabeled ones: (u, c)."""

    def grow() -> NDArray[np.float64]:
        if len(pool.names) == 1:
            return np.ones((int((~pool.labeled).sum()), 1))
        from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - nearly a second, which checks do without

        forest = RandomForestClassifier(TREES, random_state=request.seed, n_jobs=1)
        features = pool.features.astype(np.float32)
        with single_thread():
            forest.fit(features[pool.labeled], pool.codes[pool.labeled])  # classes 0..c-1, in order
            return np.asarray(forest.predict_proba(features[~pool.labeled]), dtype=np.float64)

    probabilities: NDArray[np.float64] = request.memo(memo_name(request, pool, "forest", trees=TREES), grow)
    return probabilities


def _distance_by_name(codes: NDArray[np.int64], distances: NDArray[np.float64], *, names: int) -> NDArray[np.float64]:
    """Return the distance to each attribute's nearest neighbour: (u, k1), (u, k1) -> (u, c), inf if it has none."""
    reach = np.full((len(codes), names), np.inf)
    rows = np.arange(len(codes))
    for column in reversed(range(codes.shape[1])):  # the nearest is written last
        reach[rows, codes[:, column]] = distances[:, column]
    return reach


STRATEGY = Strategy(
    name="sample_wise",
    features="mfcc",
    cases=CASES,
    rank=rank,
    summary="attributes of the K1 nearest labeled clips in MFCC space, ranked by a random forest",
)
