"""Which of the paper's cases a machine type is, from what its training clips show."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from labeling.contract import CASES, Case, LabelingError

CASE_STRATEGY: Mapping[Case, str] = {
    "sample-wise": "sample_wise",
    "fragmented": "cluster_wise",
    "partial": "cluster_wise",
    "unlabeled": "cluster_wise",
    "direct": "direct",
}
LABEL_RICH = 0.5  # from this share of labeled clips on, a machine type or a year counts as labeled (rules 3 and 5)
SHARED_KEYS = 0.5  # two years conflict if they share less than this part of the smaller year's keys
AGREEMENT = 0.05  # adjusted mutual information of labels and clusters; chance is 0, the same partition 1
AGREEMENT_CLIPS = 30  # labeled clips below which agreement with clusters says nothing
CLIPS_PER_ATTRIBUTE = 5.0  # labeled clips that a forest needs of each attribute, on average
FEW_ATTRIBUTES = 64  # the paper's "relatively small" set; its sample-wise types have 20 to 26 (dcase.md, 1.4)

ClusterNumbers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Route:
    """The case of a machine type, and why.

    Attributes:
        case: one of the paper's cases.
        strategy: the strategy that serves it.
        why: one sentence with the numbers that decided.
    """

    case: Case
    strategy: str
    why: str


def route(
    attributes: NDArray[np.object_],
    *,
    domains: NDArray[np.object_] | None = None,
    years: NDArray[np.object_] | None = None,
    clusters: ClusterNumbers | Callable[[], ClusterNumbers] | None = None,
    fixed: str | None = None,
) -> Route:
    """Choose the labeling case of one machine type.

    The first rule that holds decides:

    1. `fixed`, from a protocol.
    2. No clip is labeled: *unlabeled*.
    3. At least half of the clips are labeled and the labels conflict: *fragmented*. They conflict when two years share
       less than half of the smaller year's keys (`attribute_keys`), or when labels and clusters have an adjusted mutual
       information under 0.05.
    4. Every clip is labeled: *direct*.
    5. *sample-wise*, if the labels can be carried over to the unlabeled clips, as from the earlier years of a machine
       type to a test year that withholds its attributes. All of these must hold:

       - less than half of the newest year's clips are labeled (or the clips are of a single year, or `years` is None);
       - no two years conflict, in the sense of rule 3;
       - there are at most 64 attributes, with at least five labeled clips each on average.
    6. Otherwise *partial*.

    Args:
        attributes: (n,) names, None where withheld or never given.
        domains: (n,) "source", "target" or None; they decide nothing, but `why` says when all labels are of one.
        years: (n,) the year, or data set, that a clip comes from; they sort in time.
        clusters: (n,) cluster numbers, or a callable that makes them when they are asked for.
        fixed: a case that settles it.

    Raises:
        LabelingError: no clip, columns of different lengths, or a fixed case that is none.
    """
    _check(attributes, domains, years)
    if fixed is not None:
        return _fixed(fixed)
    labeled = np.array([a is not None for a in attributes])
    clips, known = len(labeled), int(labeled.sum())
    names = len({a for a in attributes if a is not None})
    if known == 0:
        return _route("unlabeled", f"none of the {clips} clips is labeled")
    attributes_said = "1 attribute" if names == 1 else f"{names} attributes"
    counted = f"{known} of {clips} clips {'is' if known == 1 else 'are'} labeled with {attributes_said}"
    conflict = _year_conflict(attributes, labeled, years)
    if known >= LABEL_RICH * clips:
        said = conflict or _cluster_conflict(attributes, labeled, clusters)
        if said:
            return _route("fragmented", f"{counted}, and {said}")
    if known == clips:
        return _route("direct", f"all {clips} clips are labeled with {attributes_said}, and nothing contradicts them")
    obstacle = conflict or _late_labels(labeled, years) or _thin(known, names)
    aside = _one_domain(labeled, domains)
    if obstacle:
        return _route("partial", f"{counted}, but {obstacle}{aside}")
    return _route("sample-wise", f"{counted}, few and consistent, {known / names:.1f} clips each{aside}")


def attribute_keys(attribute: str) -> frozenset[str]:
    """Name what an attribute is about, without its values: "car_B1_spd_31V" -> {"car", "spd"}.

    The official names alternate key and value, joined by "_", so the first, third, ... token is a key. A digit ends a
    key: "weight15_BckgF" gives {"weight"} and "pat_03" gives {"pat"}. If no key is left, as in "07", the attribute is
    its own key.
    """
    tokens = attribute.strip("_").split("_")[0::2]
    keys = frozenset(key for token in tokens if (key := re.split(r"\d", token)[0]))
    return keys or frozenset({attribute})


def _check(attributes: NDArray[np.object_], *columns: NDArray[np.object_] | None) -> None:
    if len(attributes) == 0:
        raise LabelingError("a machine type must have at least one clip to be routed, but got none.")
    for column in columns:
        if column is not None and len(column) != len(attributes):
            raise LabelingError(
                f"domains and years must have one row a clip, {len(attributes)}, but got {len(column)}."
            )


def _route(case: Case, why: str) -> Route:
    return Route(case, CASE_STRATEGY[case], f"{why[0].upper()}{why[1:]}: {case}.")


def _fixed(fixed: str) -> Route:
    for case in CASES:
        if case == fixed:
            return Route(case, CASE_STRATEGY[case], f"The protocol fixes {case}.")
    raise LabelingError(f"a fixed case must be one of {', '.join(CASES)}, but got {fixed}.")


def _year_conflict(
    attributes: NDArray[np.object_], labeled: NDArray[np.bool_], years: NDArray[np.object_] | None
) -> str:
    """Say in words which two years conflict; "" if none do."""
    if years is None:
        return ""
    keys: dict[str, set[str]] = {}
    for attribute, year in zip(attributes[labeled], years[labeled], strict=True):
        keys.setdefault(str(year), set()).update(attribute_keys(attribute))
    for (one, ones), (other, others) in combinations(sorted(keys.items()), 2):
        shared = len(ones & others) / min(len(ones), len(others))
        if shared < SHARED_KEYS:
            return f"{one} ({_listed(ones)}) and {other} ({_listed(others)}) share {shared:.0%} of their keys"
    return ""


def _cluster_conflict(
    attributes: NDArray[np.object_],
    labeled: NDArray[np.bool_],
    clusters: ClusterNumbers | Callable[[], ClusterNumbers] | None,
) -> str:
    """Say in words that labels and clusters hardly agree; "" if they do, or if too few clips are labeled to tell."""
    names = [str(a) for a in attributes[labeled]]
    if clusters is None or len(names) < AGREEMENT_CLIPS or len(set(names)) < 2:
        return ""
    numbers = clusters() if callable(clusters) else clusters
    if len(numbers) != len(attributes):
        raise LabelingError(f"clusters must have one number a clip, {len(attributes)}, but got {len(numbers)}.")
    if len(np.unique(numbers[labeled])) < 2:
        return ""
    from sklearn.metrics import adjusted_mutual_info_score  # noqa: PLC0415  # a second to import, for this rule alone

    agreement = float(adjusted_mutual_info_score(names, numbers[labeled]))
    return f"labels and clusters agree by {agreement:.2f} where chance is 0" if agreement < AGREEMENT else ""


def _late_labels(labeled: NDArray[np.bool_], years: NDArray[np.object_] | None) -> str:
    """Say in words that the newest year is labeled; "" if it is not, or if there are not several years."""
    if years is None or len(set(years)) < 2:
        return ""
    newest = max(years)
    share = float(labeled[years == newest].mean())
    return f"the newest year, {newest}, has them ({share:.0%})" if share >= LABEL_RICH else ""


def _thin(known: int, names: int) -> str:
    """Say in words that there are too many attributes, or too few labeled clips of each; "" if neither."""
    if names > FEW_ATTRIBUTES:
        return f"{names} attributes are more than {FEW_ATTRIBUTES}"
    each = known / names
    return f"{each:.1f} clips an attribute are under {CLIPS_PER_ATTRIBUTE:.0f}" if each < CLIPS_PER_ATTRIBUTE else ""


def _one_domain(labeled: NDArray[np.bool_], domains: NDArray[np.object_] | None) -> str:
    """Say in words that only one of several domains has labels; "" otherwise."""
    if domains is None or len(set(domains)) < 2:
        return ""
    known = set(domains[labeled])
    return f"; all labeled clips come from the {known.pop()} domain" if len(known) == 1 else ""


def _listed(keys: set[str]) -> str:
    return ", ".join(sorted(keys)[:3]) + (", ..." if len(keys) > 3 else "")
