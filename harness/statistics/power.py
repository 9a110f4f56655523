"""How many seeds or machines it takes to show a difference: variance components, and the power that follows."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace

from numpy.typing import ArrayLike
from scipy.special import stdtrit

from harness.statistics.significance import ROUNDING, Spread, finite_array, mean_spread

MOST_SEEDS = 100  # beyond, "more than 100" is all that anybody needs to know
POWER = 0.8  # Cohen 1988, section 2.4: the share of studies of that size which would show the difference
ENDLESS_SEEDS = 1_000_000
MOST_MACHINES = 1000  # all challenges together have some thirty machine types
# Degrees of freedom that an interval over several machines counts at most for each seed beyond the first. Two seeds
# that happen to agree tell little of how seeds differ: without it, intervals of 15 machines and two seeds hold the
# truth in 89 % of cases, with it in 93 to 97 %.
FREEDOM_PER_SEED = 3
SEEDS_ON_MORE_MACHINES = 10  # where more machines are asked for: on each of them as many seeds as a study can afford


@dataclass(frozen=True)
class Variation:
    """What makes a mean difference over machines and seeds vary: variance components of a two-way random layout.

    Attributes:
        machines: number of machines.
        of_machines: variance between the machines' true differences, including that over their clips; for a single
            machine only that over clips.
        of_seeds: variance of a seed's effect on all machines alike (a lucky run is better everywhere).
        of_rest: variance of a seed's effect on one machine only (interaction and residual).
        known: False if there is only one seed, from which `of_seeds` and `of_rest` cannot be estimated.
    """

    machines: int
    of_machines: float
    of_seeds: float
    of_rest: float
    known: bool

    def spread(self, seeds: int, *, per_seed: float | None = None) -> Spread:
        """Return the standard error and degrees of freedom of the mean difference if there were this many seeds.

        Args:
            seeds: how many.
            per_seed: degrees of freedom that count at most for each seed beyond the first; None is what intervals
                count (`capped`).
        """
        if self.machines == 1:
            found = mean_spread(0.0, self.of_seeds + self.of_rest, 0.0, (1, seeds), clips=self.of_machines)
        else:
            found = mean_spread(
                self.of_rest + seeds * self.of_machines, self.of_rest + self.machines * self.of_seeds, self.of_rest,
                (self.machines, seeds),
            )  # fmt: skip
        if per_seed is None:
            return capped(found, seeds, machines=self.machines)
        return Spread(found.error, min(found.freedom, per_seed * max(seeds - 1, 1)))


def capped(spread: Spread, seeds: int, *, machines: int) -> Spread:
    """Return the spread with as many degrees of freedom as several machines and these few seeds allow."""
    if machines < 2 or seeds < 2:
        return spread
    return Spread(spread.error, min(spread.freedom, float(FREEDOM_PER_SEED * (seeds - 1))))


def variation(differences: ArrayLike, *, clips: float = 0.0) -> Variation:
    """Return the variance components of differences over machines and seeds.

    The analysis of variance's estimates, none below 0: (MS_machines - MS_rest) / seeds, (MS_seeds - MS_rest) /
    machines, MS_rest (Searle, Casella and McCulloch 1992, Variance Components, chapter 4).

    Args:
        differences: (machines, seeds).
        clips: variance of the mean over clips, counted where there is one machine alone.
    """
    table = finite_array(differences, "differences")
    machines, seeds = table.shape
    rows, columns, mean = table.mean(axis=1), table.mean(axis=0), table.mean()
    if machines == 1:
        return Variation(1, clips, float(columns.var(ddof=1)) if seeds > 1 else 0.0, 0.0, seeds > 1)
    spread_of_rows = float(rows.var(ddof=1))
    if seeds == 1:
        return Variation(machines, spread_of_rows, 0.0, 0.0, known=False)
    rest = float(((table - rows[:, None] - columns + mean) ** 2).sum() / ((machines - 1) * (seeds - 1)))
    return Variation(
        machines,
        of_machines=max(spread_of_rows - rest / seeds, 0.0),
        of_seeds=max(float(columns.var(ddof=1)) - rest / machines, 0.0),
        of_rest=rest,
        known=True,
    )


def variation_apart(arm: ArrayLike, reference: ArrayLike, *, clips: float = 0.0) -> Variation:
    """Return the variance components of the difference of two arms whose seeds do not pair.

    Each arm's seeds vary by themselves, so their components add up; machines are shared.

    Args:
        arm: (machines, seeds) values.
        reference: (machines, other seeds) values.
        clips: as in `variation`.
    """
    tables = [finite_array(values, "values") for values in (arm, reference)]
    parts = [variation(table) for table in tables]
    of_seeds, of_rest = sum(part.of_seeds for part in parts), sum(part.of_rest for part in parts)
    known = all(part.known for part in parts)
    gains = tables[0].mean(axis=1) - tables[1].mean(axis=1)
    if gains.size == 1:
        return Variation(1, clips, of_seeds, 0.0, known)
    luck = sum(part.of_rest / table.shape[1] for part, table in zip(parts, tables, strict=True))
    return Variation(gains.size, max(float(gains.var(ddof=1)) - luck, 0.0), of_seeds, of_rest, known)


@dataclass(frozen=True)
class SeedsNeeded:
    """How many seeds would show a difference, or how many machines where no number of seeds would.

    Attributes:
        count: number of seeds, at most `MOST_SEEDS`; None if that many are too few, or if `known` is False.
        possible: False if no number of seeds is enough, since the spread over machines alone is too large.
        known: False if there is one seed only, so that the variance over seeds cannot be estimated.
        machines: where no number of seeds is enough, how many machine types would be, with `SEEDS_ON_MORE_MACHINES`
            seeds each, if further ones differ as those tested do; None if more than `MOST_MACHINES`, or if a single
            machine cannot say how machines differ.
    """

    count: int | None
    possible: bool
    known: bool
    machines: int | None = None

    def sentence(self, what: str) -> str:
        """Say it: "about 12 seeds would show <what>"."""
        if not self.known:
            return f"how many seeds would show {what}, one seed cannot say; run at least three"
        if self.count is not None:
            return f"about {self.count} seeds would show {what}"
        if self.possible:
            return f"more than {MOST_SEEDS} seeds would be needed to show {what}"
        never = f"no number of seeds would show {what}, because it takes more machines"
        if self.machines is None:
            return f"{never} and clips"
        return f"{never}: about {self.machines} of them, with {SEEDS_ON_MORE_MACHINES} seeds each"


def seeds_needed(
    distance: float,
    vary: Variation,
    *,
    level: float = 0.95,
    power: float = POWER,
    least: int = 2,
    per_seed: float | None = None,
) -> SeedsNeeded:
    """Estimate how many seeds show a true difference of this size with this power.

    The smallest number n for which distance >= (t(1 - alpha / 2) + t(power)) * error(n), with the standard error and
    degrees of freedom that n seeds would have with the same variance components (Cohen 1988, Statistical Power
    Analysis, chapter 2, with Student's t in place of the normal distribution). The components are treated as known
    although they are estimates, so the result is a rough guide.

    Args:
        distance: size of the difference to be shown, a fraction: |true value - value that the test shall reject|.
        vary: the variance components.
        level: 1 - alpha of the two-sided test or interval.
        power: probability that a study of that size shows the difference.
        least: fewest seeds with which the test can reject at all, however large the difference (`seeds_to_reject`).
        per_seed: degrees of freedom for each seed beyond the first, as in `Variation.spread`.
    """
    if not vary.known:
        return SeedsNeeded(None, possible=False, known=False)
    for seeds in range(max(2, least), MOST_SEEDS + 1):
        if _shows(distance, vary.spread(seeds, per_seed=per_seed), level=level, power=power):
            return SeedsNeeded(seeds, possible=True, known=True)
    if _shows(distance, vary.spread(ENDLESS_SEEDS), level=level, power=power):
        return SeedsNeeded(None, possible=True, known=True)
    machines = _machines_needed(distance, vary, level=level, power=power, per_seed=per_seed)
    return SeedsNeeded(None, possible=False, known=True, machines=machines)


def _machines_needed(
    distance: float, vary: Variation, *, level: float, power: float, per_seed: float | None
) -> int | None:
    """Return the fewest machines that would show a difference of this size, where those tested do not."""
    if vary.machines == 1:
        return None

    def shown_by(machines: int) -> bool:
        spread = replace(vary, machines=machines).spread(SEEDS_ON_MORE_MACHINES, per_seed=per_seed)
        return _shows(distance, spread, level=level, power=power)

    tried = range(vary.machines, MOST_MACHINES + 1)
    at = bisect_left(tried, x=True, key=shown_by)  # more machines never show less
    return tried[at] if at < len(tried) else None


def seeds_to_reject(machines: int, *, level: float = 0.95) -> int:
    """Return the fewest seeds with which the sign-flip test over machine-seed pairs can reject at all.

    With n pairs its smallest two-sided p-value is 2 / 2^n; see `harness.statistics.significance.paired_test`.

    Args:
        machines: how many.
        level: 1 - alpha of the test.
    """
    return math.ceil((1 - math.log2(1 - level)) / machines + ROUNDING)


def _shows(distance: float, spread: Spread, *, level: float, power: float) -> bool:
    if distance <= ROUNDING:
        return False
    reach = spread.half_width(level) + float(stdtrit(spread.freedom, power)) * spread.error
    return distance >= reach
