"""Decision thresholds: above which score a clip is called anomalous, from scores of normal training clips alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from harness.errors import HarnessError
from harness.scoring.contract import Floats, ScoreRequest
from harness.scoring.folds import Scoring, deal, score_unseen

# nttcslab/dcase2023_task2_baseline_ae: --decision_threshold 0.9, of a gamma distribution fitted to training scores
QUANTILE = 0.9
ROUNDING = 1e-12  # relative spread of scores below which they are equal
EPS = 1e-6  # least squared skewness from which the shape is estimated
MOST_SHAPE = 1e4  # beyond, a gamma distribution is a normal one
NEAR = 1.63  # divided by sqrt(n): critical value of the Kolmogorov-Smirnov test at 1 %

Gamma: TypeAlias = tuple[float, float, float]  # shape, location, scale


@dataclass(frozen=True)
class Threshold:
    """The threshold of one scorer in one section.

    Attributes:
        dataset: year.
        machine: machine type.
        section: section, or machine ID in 2020.
        value: a clip with a higher score is called anomalous; None if there is no threshold.
        why: why there is no threshold, in one sentence; empty if there is one.
    """

    dataset: str
    machine: str
    section: str
    value: float | None
    why: str = ""


def decision_threshold(training_scores: ArrayLike, *, quantile: float = QUANTILE) -> float:
    """Return the quantile of a gamma distribution fitted to (n,) scores of normal training clips.

    This is the official baseline's rule, with shape, location and scale fitted by maximum likelihood. The search may
    fail on scores that are skewed to the left, as distances often are. So if the fit is rejected by a
    Kolmogorov-Smirnov test at 1 %, a second search starts from the moments of the scores, and the better fit is used.
    If all scores are equal, the threshold is their value.

    Raises:
        HarnessError: fewer than two scores, one that is not finite, a quantile outside (0, 1), or no gamma
            distribution fits.
    """
    scores = np.sort(np.asarray(training_scores, dtype=np.float64))
    if not 0 < quantile < 1:
        raise HarnessError(f"The quantile of a threshold must lie between 0 and 1, but got {quantile}.")
    if scores.ndim != 1 or scores.size < 2 or not np.isfinite(scores).all():
        raise HarnessError(
            f"A threshold needs finite scores of at least two training clips, but got {scores.size} scores, "
            f"{int(np.isfinite(scores).sum())} of them finite."
        )
    if np.ptp(scores) <= np.abs(scores).max() * ROUNDING:
        return float(scores[-1])
    sound: list[tuple[float, float]] = []
    for start in (None, _moments(scores)):
        fit = _fit(scores, start)
        value = np.nan if fit is None else float(stats.gamma.ppf(quantile, *fit))
        if fit is not None and np.isfinite(value):
            sound.append((_distance(scores, fit), value))
            if sound[0][0] <= NEAR / np.sqrt(scores.size):
                break
    if not sound:
        raise HarnessError(
            f"A gamma distribution must fit the {scores.size} training scores, {scores[0]:.6g} to {scores[-1]:.6g}, "
            "but no search found one."
        )
    return min(sound)[1]


def _moments(scores: Floats) -> Gamma:
    """Return the gamma distribution with the scores' mean, standard deviation and absolute skewness."""
    shape = min(4.0 / max(float(stats.skew(scores)) ** 2, EPS), MOST_SHAPE)
    scale = float(scores.std()) / np.sqrt(shape)
    return shape, float(scores.mean()) - shape * scale, scale


def _fit(scores: Floats, start: Gamma | None) -> Gamma | None:
    """Fit (shape, location, scale) by maximum likelihood, from scipy's own start or another; None if that fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of intermediate steps; where the search ends is judged by its caller
            shape, location, scale = (
                stats.gamma.fit(scores)
                if start is None
                else stats.gamma.fit(scores, start[0], loc=start[1], scale=start[2])
            )
    except (ValueError, RuntimeError, FloatingPointError):
        return None
    return float(shape), float(location), float(scale)


def _distance(scores: Floats, fit: Gamma) -> float:
    """Return the Kolmogorov-Smirnov distance between sorted (n,) scores and a gamma distribution."""
    below, n = stats.gamma.cdf(scores, *fit), scores.size
    return float(max((np.arange(1, n + 1) / n - below).max(), (below - np.arange(n) / n).max()))


def training_scores(scorer: Scoring, request: ScoreRequest) -> Floats:
    """Score the references by cross-validation, as if they were new clips (`harness.scoring.folds`): (r,).

    Args:
        scorer: of the trial.
        request: of the section; its queries are ignored.

    Raises:
        HarnessError: fewer than two references, or the scorer cannot score a fold.
    """
    if len(request.references) < 2:
        raise HarnessError(f"A threshold needs at least two training clips, but there are {len(request.references)}.")
    domains = request.reference_domains.tolist()
    order = [place for domain in dict.fromkeys(domains) for place, one in enumerate(domains) if one == domain]
    return score_unseen(scorer, request, deal(np.array(order, dtype=np.intp)))


def section_threshold(scorer: Scoring, request: ScoreRequest, *, dataset: str, machine: str, section: str) -> Threshold:
    """Return a section's threshold, or the reason why there is none: that does not make the trial fail."""
    try:
        return Threshold(dataset, machine, section, decision_threshold(training_scores(scorer, request)))
    except ValueError as error:
        return Threshold(dataset, machine, section, None, str(error))


@dataclass
class SectionThresholds:
    """The thresholds of a trial, section by section as these are scored.

    Attributes:
        by_scorer: by the scorer's name.
    """

    by_scorer: dict[str, tuple[Threshold, ...]] = field(default_factory=dict)

    def add(self, name: str, scorer: Scoring, request: ScoreRequest, unit: tuple[str, str, str]) -> None:
        """Add the threshold of a section, (year, machine type, section)."""
        dataset, machine, section = unit
        found = section_threshold(scorer, request, dataset=dataset, machine=machine, section=section)
        self.by_scorer[name] = (*self.by_scorer.get(name, ()), found)


def decisions(scores: ArrayLike, threshold: float) -> NDArray[np.int64]:
    """Return 1 for each score above the threshold, else 0: (n,), as the official baseline decides."""
    decided: NDArray[np.int64] = (np.asarray(scores, dtype=np.float64) > threshold).astype(np.int64)
    return decided


def threshold_of(detail: Mapping[str, Any], scorer: str) -> dict[tuple[str, str, str], Threshold]:
    """Return a recorded trial's thresholds of one scorer by (dataset, machine, section)."""
    rows = detail.get("thresholds", {}).get(scorer, [])
    return {(row["dataset"], row["machine"], row["section"]): Threshold(**row) for row in rows}
