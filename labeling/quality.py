"""How well pseudo-labels agree with the attributes that were withheld: purity, NMI, adjusted Rand index, recall."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labeling.contract import RankedCandidates
from labeling.fusion import Fusion, check_m, fused_names


@dataclass(frozen=True)
class LabelQuality:
    """How close one machine type's pseudo-labels come to the truth.

    The true attribute of a clip is its "truth". Judged are the clips that have a pseudo-label instead of their own
    attribute and whose truth is known. Purity, NMI, ARI and entropy compare the classes with the truths of the retained
    ones among them, and are None if none is retained. Soft labels put a clip in several classes at once, so these four
    are None for them and `classes` is 0; their recall is defined.

    Attributes:
        clips: number of judged clips.
        left_out: share of the judged clips that are not retained, 0..1; None where none is judged.
        purity: share of clips whose truth is the most frequent one of their class, 0..1.
        nmi: normalised mutual information: that of classes and truths over the mean of their entropies, 0..1.
        ari: adjusted Rand index; 0 is what chance gives, 1 the same partition.
        recall_at_m: share of the judged, retained or not, whose truth is among their M best candidates, 0..1.
        recall_at_m_retained: the same share among the retained clips.
        classes: number of different classes (fused pseudo-labels).
        true_classes: number of different truths.
        entropy: entropy of the class sizes, in bits.
    """

    clips: int
    left_out: float | None
    purity: float | None
    nmi: float | None
    ari: float | None
    recall_at_m: float | None
    recall_at_m_retained: float | None
    classes: int
    true_classes: int
    entropy: float | None


def label_quality(
    candidates: Mapping[str, RankedCandidates],
    truth: Mapping[str, str],
    *,
    m: int,
    fusion: Fusion = "composite",
    widest: int | None = None,
) -> dict[str, LabelQuality]:
    """Judge each machine type's pseudo-labels at M.

    Clips without candidates share one class, the machine type, and count as misses in the recall.

    Args:
        candidates: by machine type.
        truth: the withheld attribute by clip id; other clips are not judged.
        m: attributes a pseudo-label.
        fusion: as in `labeling.fusion.fuse_top_m`.
        widest: the larger of K1 and K2, which bounds M; None takes the widest row of all machine types.

    Raises:
        LabelingError: m is out of range.
    """
    check_m(m, widest or max((ranked.names.shape[1] for ranked in candidates.values()), default=1))
    return {machine: _judge(ranked, truth, m=m, fusion=fusion) for machine, ranked in candidates.items()}


def _judge(ranked: RankedCandidates, truth: Mapping[str, str], *, m: int, fusion: Fusion) -> LabelQuality:
    true = np.array([truth.get(clip, "") for clip in ranked.ids.tolist()])
    judged = (true != "") & ~ranked.labeled
    taken = judged & ranked.retained
    if not judged.any():
        return LabelQuality(0, None, None, None, None, None, None, 0, 0, None)
    hit = (ranked.names[:, :m] == true[:, None]).any(axis=1)  # (n, k) -> (n,)
    purity = nmi = ari = entropy = None
    classes = 0
    if taken.any() and fusion != "soft":
        fused = fused_names(ranked, m=m, fusion=fusion)
        labels = _numbers([fused[row] for row in np.flatnonzero(taken)])
        truths = _numbers(true[taken].tolist())
        purity, entropy, classes = _purity(labels, truths), _entropy(labels), int(labels.max()) + 1
        nmi, ari = _agreement(labels, truths)
    return LabelQuality(
        clips=int(judged.sum()),
        left_out=float((judged & ~taken).sum() / judged.sum()),
        purity=purity,
        nmi=nmi,
        ari=ari,
        recall_at_m=float(hit[judged].mean()),
        recall_at_m_retained=float(hit[taken].mean()) if taken.any() else None,
        classes=classes,
        true_classes=len(set(true[judged].tolist())),
        entropy=entropy,
    )


def _numbers(values: list[str] | list[tuple[str, ...]]) -> NDArray[np.int64]:
    """Number different values 0, 1, ... in the order they come."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values])


def _purity(labels: NDArray[np.int64], truths: NDArray[np.int64]) -> float:
    from sklearn.metrics.cluster import contingency_matrix  # noqa: PLC0415 - as in `_agreement`

    return float(contingency_matrix(labels, truths).max(axis=1).sum() / len(labels))


def _entropy(labels: NDArray[np.int64]) -> float:
    shares = np.bincount(labels) / len(labels)
    return float(-(shares * np.log2(shares)).sum()) + 0.0  # + 0.0: one class has 0, not -0


def _agreement(labels: NDArray[np.int64], truths: NDArray[np.int64]) -> tuple[float, float]:
    # imported here since it takes a second, and most trials have no truth to compare with
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score  # noqa: PLC0415

    return float(normalized_mutual_info_score(truths, labels)), float(adjusted_rand_score(truths, labels))
