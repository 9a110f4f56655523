"""What travels into and out of the labeling room: requests, ranked candidates, pseudo-labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ids: TypeAlias = NDArray[np.str_]
Case: TypeAlias = Literal["sample-wise", "fragmented", "partial", "unlabeled", "direct"]
FeatureKind: TypeAlias = Literal["mfcc", "latent", "finetuned", "none"]
Memo: TypeAlias = Callable[[str, Callable[[], Any]], Any]

FINETUNED: FeatureKind = "finetuned"
CASES: tuple[Case, ...] = ("sample-wise", "fragmented", "partial", "unlabeled", "direct")
MIN_CONFIDENCE = 0.9  # paper, section 2: "only high-confidence predictions (e.g. with >90% confidence)"


class LabelingError(ValueError):
    """A request that cannot be labeled, said in one sentence."""


def forget(_name: str, make: Callable[[], Any]) -> Any:
    """Call `make` every time and remember nothing: the `memo` of a request whose caller has no cache."""
    return make()


@dataclass(frozen=True)
class RankRequest:
    """The training clips of one machine type, as a strategy sees them.

    Attributes:
        ids: (n,) clip ids, unique.
        features: (n, d) one row a clip, of the kind that the strategy declares.
        attributes: (n,) attribute names, None where withheld or never given.
        case: which of the paper's cases (Table 1) this machine type is.
        k1: nearest labeled neighbours of a clip (sample-wise).
        k2: clusters of K-means (cluster-wise).
        min_confidence: best confidence below which a sample-wise clip is not retained.
        seed: of forests and clusterings.
        domains: (n,) "source", "target" or None; only strategies that work per domain read it.
        memo: remembers slow steps. `memo(name, make)` calls `make()` the first time that a name is asked for with these
            features and returns the same value afterwards. Trials with the same K2 and seed share one clustering so.
    """

    ids: Ids
    features: NDArray[np.floating[Any]]
    attributes: NDArray[np.object_]
    case: Case
    k1: int
    k2: int
    min_confidence: float = MIN_CONFIDENCE
    seed: int = 0
    domains: NDArray[np.object_] | None = None
    memo: Memo = field(default=forget, compare=False)


@dataclass(frozen=True)
class RankedCandidates:
    """Candidate attributes of each clip, best first. They do not depend on M, so all M share one ranking.

    Attributes:
        ids: (n,) clip ids in the request's order.
        names: (n, k) attribute names, best first; "" pads.
        confidence: (n, k) in 0..1, never rising along a row; 0 pads.
        retained: (n,) False where the best confidence is under `min_confidence`.
        labeled: (n,) True where the clip keeps its own attribute, which is then the only name in its row.
        case: the case that was ranked.
        strategy: the strategy that ranked.
    """

    ids: Ids
    names: NDArray[np.str_]
    confidence: NDArray[np.float64]
    retained: NDArray[np.bool_]
    labeled: NDArray[np.bool_]
    case: Case
    strategy: str


@dataclass(frozen=True)
class PseudoLabels:
    """The classes that fine-tuning learns.

    Attributes:
        ids: (n,) clip ids that take part in fine-tuning.
        classes: (c,) class names, sorted; each carries its machine type in front.
        targets: (n,) index of the clip's class, or (n, c) weights that sum to 1 a row (soft fusion).
    """

    ids: Ids
    classes: NDArray[np.str_]
    targets: NDArray[np.int64] | NDArray[np.float32]


@dataclass(frozen=True)
class Strategy:
    """One way to rank candidate attributes, declared by a file as `STRATEGY`.

    Attributes:
        name: the file's name.
        features: the kind of features it reads: MFCC statistics, latents of the pre-trained encoder, latents of an
            encoder that was fine-tuned in a first round on the paper's labels, or none.
        cases: the cases of the paper that it serves.
        rank: from a request to ranked candidates.
        summary: one line for listings.
        stands_alone: whether it can label every machine type by itself. If so, a study may choose it with
            `labels = "<name>"` in place of the paper's method.
        choices: only for one that stands alone: which of m, k1 and k2 change its labels. The Gaussian mixtures say
            ("m", "k2"), so trials with `labels = "gmm"` that differ only in K1 are recorded as one trial.
    """

    name: str
    features: FeatureKind
    cases: tuple[Case, ...]
    rank: Callable[[RankRequest], RankedCandidates]
    summary: str
    stands_alone: bool = False
    choices: tuple[str, ...] = ()
