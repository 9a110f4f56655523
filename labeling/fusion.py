"""From ranked candidates to the classes that fine-tuning learns (paper, section 3.2); the only place that knows M."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from labeling.contract import LabelingError, PseudoLabels, RankedCandidates
from labeling.pool import some

Fusion: TypeAlias = Literal["composite", "set", "soft"]
Below: TypeAlias = Literal["drop", "machine"]
Names: TypeAlias = tuple[str, ...]
Key: TypeAlias = tuple[str, Names]  # machine type, fused attributes

FUSIONS: tuple[Fusion, ...] = get_args(Fusion)
BELOWS: tuple[Below, ...] = get_args(Below)
JOIN = "_"  # paper, section 3.2: "a_b_c"
MACHINE_END = "|"  # between machine type and attributes


def check_m(m: int, widest: int) -> None:
    """Refuse an M that the candidates cannot fill.

    Args:
        m: attributes fused into a pseudo-label.
        widest: k, the candidates that a clip can have: K1 or K2.

    Raises:
        LabelingError: m is below 1 or above `widest`.
    """
    if not 1 <= m <= widest:
        raise LabelingError(f"m must be between 1 and {widest}, the candidates per clip, but got {m}.")


def fuse_top_m(
    candidates: Mapping[str, RankedCandidates],
    *,
    m: int,
    fusion: Fusion = "composite",
    below: Below = "drop",
    widest: int | None = None,
) -> PseudoLabels:
    """Fuse each clip's M best candidates into its class.

    - *composite* (the paper): the names joined by "_", best first, so that "a_b" is not "b_a".
    - *set*: the names in alphabetical order, so that clips ranked (a, b) and (b, a) share the class "a_b".
    - *soft*: no joined class. The classes are single attributes, and a clip's target is a weight on each of its M best:
      their confidences divided by their sum, or equal weights if all are 0.

    The machine type stands in front: "fan|a_b". A clip with fewer than M candidates uses those it has; with none its
    class is the machine type alone, "fan". Attributes may themselves contain "_" and "|", so different tuples can give
    the same text: ("a_b", "c") and ("a", "b_c") are both "a_b_c". They stay different classes, and the later ones are
    called "fan|a_b_c#2", "#3" and so on, in the order of their tuples.

    Args:
        candidates: by machine type.
        m: attributes a clip, 1 to `widest`.
        fusion: how they are fused.
        below: what happens to clips that are not retained: "drop" leaves them out, "machine" trains them under their
            machine type alone.
        widest: the largest M that is allowed, the larger of K1 and K2. None takes the most candidates that a row of
            these machine types has, which is 1 if every one of them is used with its own attributes.

    Returns:
        The clips that take part, machine types in the mapping's order, clips in the candidates' order.

    Raises:
        LabelingError: no machine type, m out of range, an unknown fusion or below, an id in two machine types, or no
            clip left to train on.
    """
    _check(candidates, m, fusion, below, widest)
    ids = [clip for machine in candidates.values() for clip in _taking_part(machine, below)]
    if not ids:
        raise LabelingError(
            "no clip is left to train on: all are under min_confidence; lower it, or train them under their machine "
            'type with below="machine".'
        )
    _check_unique(ids)
    if fusion == "soft":
        return PseudoLabels(np.array(ids), *_soft(candidates, m=m, below=below))
    kinds = {machine: _kinds(ranked, m=m, fusion=fusion, below=below) for machine, ranked in candidates.items()}
    called = _class_names((machine, names) for machine, (tuples, _) in kinds.items() for names in tuples)
    classes = sorted(called.values())
    index = {name: target for target, name in enumerate(classes)}
    targets = [
        np.array([index[called[machine, names]] for names in tuples], dtype=np.int64)[kind_of]
        for machine, (tuples, kind_of) in kinds.items()
    ]
    return PseudoLabels(np.array(ids), np.array(classes), np.concatenate(targets))


def fused_names(ranked: RankedCandidates, *, m: int, fusion: Literal["composite", "set"] = "composite") -> list[Names]:
    """Take each clip's M best names, in order of rank or, for *set*, of the alphabet: n tuples of at most m."""
    tuples, kind_of = _rows(ranked.names[:, :m], fusion)  # (n, k) -> (n, m)
    return [tuples[kind] for kind in kind_of.tolist()]


@dataclass(frozen=True)
class LabelStatistics:
    """How one machine type's clips are trained: `labeled + pseudo_labeled + machine_alone + left_out == clips`.

    Attributes:
        clips: training clips of the machine type.
        labeled: clips whose class is their own attribute.
        pseudo_labeled: clips whose class is made of ranked candidates.
        machine_alone: clips whose class is the machine type, since they have no candidate or too little confidence.
        left_out: clips that fine-tuning does not see.
        classes: number of classes of these clips.
        singletons: number of those classes that have a single clip.
        mean_confidence: mean confidence of the pseudo-labeled clips' best candidates, 0..1; None without such clips.
        candidates: mean number of candidates of the pseudo-labeled clips; None without such clips. Sample-wise, the K1
            neighbours of a clip share attributes, so that it is often far below K1.
        distinct_m: largest number of candidates of a pseudo-labeled clip, 0 without such clips: larger M give the same
            labels as this one.
    """

    clips: int
    labeled: int
    pseudo_labeled: int
    machine_alone: int
    left_out: int
    classes: int
    singletons: int
    mean_confidence: float | None
    candidates: float | None
    distinct_m: int


def label_statistics(candidates: Mapping[str, RankedCandidates], labels: PseudoLabels) -> dict[str, LabelStatistics]:
    """Count what became of each machine type's clips.

    Args:
        candidates: that the labels were fused from.
        labels: of the same clips.

    Returns:
        By machine type, in the mapping's order.
    """
    row_of = {clip: row for row, clip in enumerate(labels.ids.tolist())}
    return {machine: _count(machine, ranked, labels, row_of) for machine, ranked in candidates.items()}


def _count(machine: str, ranked: RankedCandidates, labels: PseudoLabels, row_of: Mapping[str, int]) -> LabelStatistics:
    part = np.array([clip in row_of for clip in ranked.ids.tolist()])
    targets = labels.targets[[row_of[clip] for clip in ranked.ids[part].tolist()]]
    own = labels.classes == machine  # (c,) its class, if there is one
    alone = part.copy()
    if targets.ndim == 1:
        sizes = np.bincount(targets)
        alone[part] = own[targets]
    else:
        sizes = np.count_nonzero(targets, axis=0)
        alone[part] = (targets[:, own] > 0).any(axis=1)
    guessed = part & ~ranked.labeled & ~alone
    candidates = (ranked.names[guessed] != "").sum(axis=1)  # (g,)
    return LabelStatistics(
        clips=len(part),
        labeled=int((part & ranked.labeled).sum()),
        pseudo_labeled=int(guessed.sum()),
        machine_alone=int(alone.sum()),
        left_out=int((~part).sum()),
        classes=int((sizes > 0).sum()),
        singletons=int((sizes == 1).sum()),
        mean_confidence=float(ranked.confidence[guessed, 0].mean()) if guessed.any() else None,
        candidates=float(candidates.mean()) if guessed.any() else None,
        distinct_m=int(candidates.max(initial=0)),
    )


def _check(candidates: Mapping[str, RankedCandidates], m: int, fusion: str, below: str, widest: int | None) -> None:
    if not candidates:
        raise LabelingError("fusion needs the candidates of at least one machine type, but got none.")
    for what, value, known in (("fusion", fusion, FUSIONS), ("below", below, BELOWS)):
        if value not in known:
            raise LabelingError(f"{what} must be one of {', '.join(known)}, but got {value}.")
    check_m(m, widest or max(ranked.names.shape[1] for ranked in candidates.values()))


def _check_unique(ids: list[str]) -> None:
    if len(set(ids)) < len(ids):
        repeated = sorted(clip for clip, count in Counter(ids).items() if count > 1)
        raise LabelingError(f"a clip must belong to one machine type, but {some(np.array(repeated))} stand in two.")


def _rows(names: NDArray[np.str_], fusion: str) -> tuple[list[Names], NDArray[np.int64]]:
    """Find the distinct rows of (n, m) names: their tuples without padding, and the index of each row's tuple, (n,)."""
    # Making Python strings of NumPy text is slow, so rows are compared as bytes and each distinct row is read once.
    raw, size = names.tobytes(), names.itemsize * names.shape[1]
    kinds: dict[bytes, int] = {}
    kind_of = np.array(
        [kinds.setdefault(raw[start : start + size], len(kinds)) for start in range(0, len(raw), size)], dtype=np.int64
    )
    first = np.unique(kind_of, return_index=True)[1]
    tuples = [tuple(filter(None, row)) for row in names[first].tolist()]  # "" pads the end
    return [tuple(sorted(row)) for row in tuples] if fusion == "set" else tuples, kind_of


def _kinds(ranked: RankedCandidates, *, m: int, fusion: str, below: Below) -> tuple[list[Names], NDArray[np.int64]]:
    """Find the distinct tuples that the training clips of a machine type use, and the index of each clip's tuple."""
    tuples, kind_of = _rows(ranked.names[ranked.retained, :m], fusion)
    if below == "drop" or ranked.retained.all():
        return tuples, kind_of
    every = np.full(len(ranked.ids), len(tuples))
    every[ranked.retained] = kind_of
    return [*tuples, ()], every


def _taking_part(ranked: RankedCandidates, below: Below) -> list[str]:
    kept: list[str] = (ranked.ids if below == "machine" else ranked.ids[ranked.retained]).tolist()
    return kept


def _class_names(keys: Iterable[Key]) -> dict[Key, str]:
    """Give each distinct key a name of its own."""
    distinct = dict.fromkeys(keys)
    joined = [f"{machine}{MACHINE_END}{JOIN.join(names)}" if names else machine for machine, names in distinct]
    called = dict(zip(distinct, joined, strict=True))
    same: defaultdict[str, list[Key]] = defaultdict(list)
    for key, name in called.items():
        same[name].append(key)
    for name, group in same.items():
        # The machine type alone keeps its bare name, since its tuple is the shortest.
        for number, key in enumerate(sorted(group, key=lambda key: (len(key[1]), key))[1:], start=2):
            numbered = f"{name}#{number}"
            while numbered in joined:
                numbered += "#"
            called[key] = numbered  # no other text is numbered so: what stands before its last # and digits is its own
    return called


def _soft(
    candidates: Mapping[str, RankedCandidates], *, m: int, below: Below
) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
    """Make soft targets of each clip's M best attributes: classes (c,), weights (n, c) that sum to 1 a row."""
    blocks: list[tuple[str, list[list[str]], NDArray[np.float64]]] = []
    for machine, ranked in candidates.items():
        kept = np.ones_like(ranked.retained) if below == "machine" else ranked.retained
        names = np.where(ranked.retained[:, None], ranked.names[:, :m], "")[kept]  # (n, k) -> (n', m)
        weights = np.where(names == "", 0.0, ranked.confidence[:, :m][kept])
        even = (names != "").astype(np.float64)
        even[:, 0] = 1.0  # no candidate: the machine type takes all
        weights = np.where(weights.any(axis=1, keepdims=True), weights, even)
        blocks.append((machine, names.tolist(), weights / weights.sum(axis=1, keepdims=True)))
    called = _class_names(
        (machine, (name,) if name else ())
        for machine, rows, _ in blocks
        for name in dict.fromkeys(name for row in rows for rank, name in enumerate(row) if name or rank == 0)
    )
    classes = sorted(called.values())
    index = {name: column for column, name in enumerate(classes)}
    targets = np.zeros((sum(len(rows) for _, rows, _ in blocks), len(classes)), dtype=np.float32)
    start = 0
    for machine, rows, weights in blocks:
        column_of = {"".join(key[1]): index[name] for key, name in called.items() if key[0] == machine}  # one, or none
        columns = np.array([[column_of.get(name, 0) for name in row] for row in rows], dtype=np.int64)
        columns = columns.reshape(weights.shape)  # also of no rows
        places = np.arange(start, start + len(rows))[:, None]
        np.add.at(targets, (places, columns), weights.astype(np.float32))  # pads add 0
        start += len(rows)
    return np.array(classes), targets
