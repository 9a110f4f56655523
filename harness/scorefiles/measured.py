"""Official metrics of anybody's score files, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contract import Dataset, MachineMetrics, Part
from benchmarks.metrics.measures import entering, machine_h_means, measure, official_score
from benchmarks.metrics.rules import metric_rule
from benchmarks.metrics.score_files import ScoredFolder, read_scores
from benchmarks.metrics.sections import split_sections
from harness import plugins
from harness.statistics.intervals import LEVEL, RESAMPLES, ClipDraws, Interval, ScoreIntervals, score_intervals


@dataclass(frozen=True)
class MeasuredFolder:
    """A folder of score files, measured.

    Attributes:
        year: whose rule holds.
        found: its clips with their scores.
        metrics: of its sections.
        intervals: of its numbers.
    """

    year: Dataset
    found: ScoredFolder
    metrics: tuple[MachineMetrics, ...]
    intervals: ScoreIntervals

    @property
    def official(self) -> float | None:
        """Return the official score as a fraction; None where one of its numbers is undefined."""
        return None if any(each.undefined for each in self.metrics) else official_score(self.metrics, self.year.rule)

    def document(self, *, explain: bool = False) -> dict[str, Any]:
        """Return everything as `asdbench score` prints it.

        Args:
            explain: name the clips that enter each number.

        Returns:
            `dataset part clips official_score ci_low ci_high machines_ci_low machines_ci_high level rows machines
            undefined absent notes`, fractions throughout, None where undefined. `rows` has `machine section domain
            metric value ci_low ci_high` a number; with `explain` also `normal` and `anomalous`, how many clips enter,
            the domain that these are from, and their names. `absent` are sections of the part without a file, `notes`
            what looks odd about the clips.
        """
        rows = _rows(self)
        if explain:
            rows = [{**row, **entered} for row, entered in zip(rows, _entering(self), strict=True)]
        intervals, known = self.intervals, self.official is not None
        return {
            "dataset": self.year.name,
            "part": self.found.part,
            "clips": len(self.found.clips),
            "official_score": self.official,
            **_ends(intervals.official if known else None),
            **_ends(intervals.official_machines if known else None, "machines_"),
            "level": LEVEL,
            "rows": rows,
            "machines": _machines(self),
            "undefined": [why for each in self.metrics for why in each.undefined],
            "absent": [{"machine": machine, "section": section} for machine, section in self.found.absent],
            "notes": list(self.found.notes),
        }


def measure_folder(
    folder: Path | str,
    *,
    dataset: str,
    ground_truth: Path | None = None,
    part: Part | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> MeasuredFolder:
    """Measure a folder of `anomaly_score_*.csv` by a year's official rule.

    Args:
        folder: with the files, in it or in folders below; see `benchmarks.metrics.score_files.read_scores`.
        dataset: the year.
        ground_truth: the user's copy of the official files about evaluation clips.
        part: dev or eval, where the folder holds both.
        resamples: of the bootstrap that the 95 % intervals come from.
        seed: of these resamples.

    Raises:
        BenchmarkError: files that cannot be scored.
        HarnessError: there is no such dataset, or an argument is out of range.
    """
    year: Dataset = plugins.load("dataset", dataset)
    found = read_scores(folder, year, ground_truth=ground_truth, part=part)
    metrics = tuple(measure(found.clips, year.rule))
    draws = ClipDraws(resamples=resamples, seed=seed)
    return MeasuredFolder(year, found, metrics, score_intervals(found.clips, {year.name: year.rule}, draws=draws))


def _rows(measured: MeasuredFolder) -> list[dict[str, Any]]:
    numbers = metric_rule(measured.year.rule).numbers
    return [
        {
            "machine": each.machine,
            "section": each.section,
            "domain": number.domain,
            "metric": number.metric,
            "value": getattr(each, number.field),
            **_ends(measured.intervals.numbers[each.dataset, each.machine, each.section][number.field]),
        }
        for each in measured.metrics
        for number in numbers
    ]


def _machines(measured: MeasuredFolder) -> list[dict[str, Any]]:
    """Return the harmonic mean of each machine type; None where one of its numbers is undefined."""
    partly = {each.machine for each in measured.metrics if each.undefined}
    return [
        {
            "machine": machine,
            "sections": sum(each.machine == machine for each in measured.metrics),
            "h_mean": None if machine in partly else value,
            **_ends(None if machine in partly else measured.intervals.h_means[dataset, machine]),
        }
        for (dataset, machine), value in machine_h_means(measured.metrics, measured.year.rule).items()
    ]


def _ends(interval: Interval | None, front: str = "") -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{front}ci_low": low, f"{front}ci_high": high}


def _entering(measured: MeasuredFolder) -> list[dict[str, Any]]:
    """Return how many clips enter each number and which, in the order of the document's rows."""
    clips, explained = measured.found.clips, []
    labeled = set(clips.loc[clips["condition"].notna(), "clip_id"])
    for section in split_sections(clips):
        known = np.array([name in labeled for name in section.ids], dtype=np.bool_)
        names = np.array([str(name).rsplit("/", 1)[1] for name in section.ids], dtype=object)
        for number in metric_rule(measured.year.rule).numbers:
            enters = entering(section, number) & known
            normal, anomalous = names[enters & ~section.anomalous], names[enters & section.anomalous]
            explained.append(
                {
                    "normal": len(normal),
                    "normal_from": number.normals or "all",
                    "anomalous": len(anomalous),
                    "anomalous_from": number.anomalies or "all",
                    "normal_clips": normal.tolist(),
                    "anomalous_clips": anomalous.tolist(),
                }
            )
    return explained
