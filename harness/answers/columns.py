"""Columns of comparisons, selections, verdicts and published tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from harness.answers.board import axis_columns
from harness.answers.question import chosen_axes, shown_choice
from harness.tables import NOTHING, Column, Row, answering, count, in_percent, naming, percent, plain
from harness.trials.axes import WORDED, shown_cell, study_axes

if TYPE_CHECKING:
    from harness.answers.published import PublishedRow

SHOWN = {
    "accepted": "not worse",
    "worse": "worse",
    "unclear": "cannot tell",
}  # words for a machine type's verdict, which is only informative
STAGES = {  # headings of the seconds of a trial's stages, in the order in which a trial passes them
    "latents": "embedding to label", "rank": "ranking", "fuse": "labeling", "finetune": "fine-tuning",
    "embed": "embedding", "score": "scoring", "measure": "measuring", "intervals": "intervals", "draw": "drawing",
}  # fmt: skip
HELD = {"held": "held", "failed": "did not hold", "unclear": "cannot tell"}
SETTING = ("table", "system", "backbone", "m", "dataset", "part")  # published numbers that agree in these are one row


def ordered_stages(recorded: Iterable[str]) -> list[str]:
    """Return the stages that trials recorded seconds of, each once, in the order in which a trial passes them."""
    order = list(STAGES)
    return sorted(dict.fromkeys(recorded), key=lambda stage: order.index(stage) if stage in STAGES else len(order))


def select_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of a selection, with the year where there are several."""

    def span(low: str, high: str, heading: str = "95 % interval") -> Column:
        return Column(
            heading,
            lambda row: (
                f"{in_percent(row[low], signed=low != 'ci_low')} to {in_percent(row[high], signed=low != 'ci_low')}"
            ),
            right=True,
        )

    return [
        *naming(plain("backbone")),
        *(naming(plain("dataset")) if len({row["dataset"] for row in rows}) > 1 else ()),
        *naming(plain("labels"), plain("scorer"), plain("chosen_on", "chosen on")),
        count("cells"),
        *answering(percent("official_score", "left out %")),
        span("ci_low", "ci_high"),
        Column("best on its own test set", lambda row: shown_choice(row, row["best"])),
        percent("optimistic_score", "own test set %"),
        percent("optimism", "optimism, points", signed=True),
        span("optimism_ci_low", "optimism_ci_high", "95 % of optimism"),
    ]


def machine_choice_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of what was chosen for each machine type."""
    return [
        *naming(plain("backbone")),
        *(naming(plain("dataset")) if len({row["dataset"] for row in rows}) > 1 else ()),
        *naming(plain("chosen_on", "chosen on"), plain("machine")),
        Column("chosen without it", _chosen_cell),
        percent("h_mean", "left out %"),
        percent("h_mean_of_best", "best cell %"),
    ]


def regress_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of a verdict, with the year where there are several."""
    return [
        *naming(plain("setting")),
        *(naming(plain("dataset")) if len({row["dataset"] for row in rows}) > 1 else ()),
        *naming(Column("machine", lambda row: row["machine"] or "official score")),
        percent("baseline_score", "baseline %"),
        percent("candidate_score", "candidate %"),
        percent("delta", "difference, points", signed=True),
        Column(
            "90 % interval",
            lambda row: f"{in_percent(row['low'], signed=True)} to {in_percent(row['high'], signed=True)}",
            right=True,
        ),
        *answering(Column("verdict", _verdict)),
    ]


def check_columns() -> list[Column]:
    """Return the columns of a frozen choice on other recordings."""

    def span(low: str, high: str) -> Column:
        return Column("95 % interval", lambda row: f"{in_percent(row[low])} to {in_percent(row[high])}", right=True)

    return [
        *naming(plain("protocol"), plain("dataset"), plain("test_data", "recordings")),
        count("clips"),
        percent("promised", "promised %"),
        span("promised_low", "promised_high"),
        percent("official_score", "official %"),
        span("ci_low", "ci_high"),
        *answering(Column("verdict", lambda row: HELD[str(row["verdict"])])),
    ]


def _chosen_cell(row: Row) -> str:
    return shown_cell({name: row.get(name) for name in (axis.name for axis in chosen_axes())})


def _verdict(row: Row) -> str:
    if row["machine"] is not None:
        return SHOWN[str(row["verdict"])]
    return {"accepted": "accepted", "worse": "refused: worse", "unclear": "refused: cannot tell"}[str(row["verdict"])]


def reference_lines(rows: Sequence[PublishedRow]) -> list[dict[str, Any]]:
    """Pivot published numbers to one row for each system, setting and metric, with a column for each machine type."""
    lines: dict[tuple[object, ...], dict[str, Any]] = {}
    by_machine = {_setting(row) for row in rows if row["metric"] == "h_mean"}
    for row in rows:
        setting = _setting(row)
        # from 2021 on the official score is the harmonic mean over all machine types, so it belongs to the row of
        # h_mean, if there are numbers of single machine types
        metric = "h_mean" if row["metric"] == "official_score" and setting in by_machine else row["metric"]
        start = dict(zip(SETTING, setting, strict=True)) | {"metric": metric, "machines": {}}
        line = lines.setdefault((*setting, metric), start)
        line["machines"][row["machine"]] = (row["published"], row["deviation"], row["difference"])
    return list(lines.values())


def _setting(row: Row) -> tuple[object, ...]:
    return tuple(row[name] for name in SETTING)


def reference_columns(lines: Sequence[Row]) -> list[Column]:
    """Return the columns of a published table: its machine types, the mean over all last."""
    names = sorted({name for line in lines for name in line["machines"]} - {"all"})

    def column(name: str, heading: str) -> Column:
        return Column(heading, lambda line: _beside(line["machines"].get(name)), right=True)

    return [
        *naming(*(plain(name) for name in ("system", "dataset", "part"))),
        *(naming(plain("backbone"), count("m", "M")) if any(line["m"] is not None for line in lines) else ()),
        *naming(plain("metric")),
        *(column(name, name) for name in names),
        column("all", "all"),
    ]


def _beside(numbers: tuple[float, float | None, float | None] | None) -> str:
    """Print a published number, its deviation over runs, and in brackets how the one recorded here differs."""
    if numbers is None:
        return NOTHING
    published, deviation, difference = numbers
    spread = "" if deviation is None else f" ± {in_percent(deviation)}"
    beside = "" if difference is None else f" ({in_percent(difference, signed=True)})"
    return f"{in_percent(published)}{spread}{beside}"


def compare_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of a comparison of Top-M with Top-1, with the year where there are several."""
    return [
        *naming(plain("backbone")),
        *(naming(plain("dataset")) if len({row["dataset"] for row in rows}) > 1 else ()),
        *(
            column
            for axis in study_axes(but=["backbone", "m"])
            for column in axis_columns(axis, rows, always=axis.name in WORDED)
        ),
        *naming(plain("scorer"), count("m", "M")),
        count("pairs"),
        *answering(
            percent("delta", "M − 1, points", signed=True),
            Column(
                "95 % interval",
                lambda row: f"{in_percent(row['ci_low'], signed=True)} to {in_percent(row['ci_high'], signed=True)}",
                right=True,
            ),
        ),
        Column("p", lambda row: p_value(row["p_value"]), right=True),
        *answering(Column("p corrected", lambda row: p_value(row["p_corrected"]), right=True)),
        Column(
            "machines won/tied/lost",
            lambda row: f"{row['machines_won']}/{row['machines_tied']}/{row['machines_lost']}",
            right=True,
        ),
    ]


def quality_columns() -> list[Column]:
    """Return the columns that judge pseudo-labels by the truth."""

    def number(name: str, heading: str) -> Column:
        return Column(heading, lambda row: NOTHING if row[name] is None else f"{row[name]:.3f}", right=True)

    return [
        count("judged"),
        percent("judged_left_out", "of them left out %"),
        percent("purity", "purity %"),
        number("nmi", "NMI"),
        number("ari", "ARI"),
        percent("recall_at_m", "recall at M %"),
        number("entropy", "entropy, bits"),
    ]


def p_value(value: float | None) -> str:
    """Print a p-value."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:.3f}" if value >= 0.0005 else "<0.001"
