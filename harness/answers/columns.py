"""Columns of leaderboards, comparisons, selections, verdicts and published tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.tables import NOTHING, Column, Row, count, in_percent, percent, plain

SHOWN = {
    "accepted": "not worse",
    "worse": "worse",
    "unclear": "cannot tell",
}  # of a machine type, which decides nothing


def select_columns(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the columns of a selection, with the year where there are several."""

    def span(low: str, high: str) -> Column:
        return Column(
            "95 % interval",
            lambda row: (
                f"{in_percent(row[low], signed=low != 'ci_low')} to {in_percent(row[high], signed=low != 'ci_low')}"
            ),
            right=True,
        )

    return [
        plain("backbone"),
        *([plain("dataset")] if len({row["dataset"] for row in rows}) > 1 else []),
        plain("labels"),
        plain("scorer"),
        plain("chosen_on", "chosen on"),
        count("cells"),
        percent("official_score", "left out %"),
        span("ci_low", "ci_high"),
        Column("best on its own test set", lambda row: _cell(row["best"])),
        percent("optimistic_score", "own test set %"),
        percent("optimism", "optimism, points", signed=True),
        span("optimism_ci_low", "optimism_ci_high"),
    ]


def machine_choice_columns(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the columns of what was chosen for each machine type."""
    return [
        plain("backbone"),
        *([plain("dataset")] if len({row["dataset"] for row in rows}) > 1 else []),
        plain("chosen_on", "chosen on"),
        plain("machine"),
        Column("chosen without it", _cell),
        percent("h_mean", "left out %"),
        percent("h_mean_of_best", "best cell %"),
    ]


def regress_columns(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the columns of a verdict, with the year where there are several."""
    return [
        plain("setting"),
        *([plain("dataset")] if len({row["dataset"] for row in rows}) > 1 else []),
        Column("machine", lambda row: row["machine"] or "official score"),
        percent("baseline_score", "baseline %"),
        percent("candidate_score", "candidate %"),
        percent("delta", "difference, points", signed=True),
        Column(
            "90 % interval",
            lambda row: f"{in_percent(row['low'], signed=True)} to {in_percent(row['high'], signed=True)}",
            right=True,
        ),
        Column("verdict", _verdict),
    ]


def _cell(row: Mapping[str, Any]) -> str:
    return shown_cell([row[name] for name in ("m", "k1", "k2", "fusion")])


def _verdict(row: Mapping[str, Any]) -> str:
    if row["machine"] is not None:
        return SHOWN[str(row["verdict"])]
    return {"accepted": "accepted", "worse": "refused: worse", "unclear": "refused: cannot tell"}[str(row["verdict"])]


def machine_columns(rows: Sequence[Row]) -> list[Column]:
    """Make a column a machine type."""
    names = sorted({name for row in rows for name in row["machines"]})

    def column(name: str) -> Column:
        return Column(name, lambda row: in_percent(row["machines"].get(name)), right=True)

    return [column(name) for name in names]


def place_columns() -> list[Column]:
    """Return the columns that say where a row stands and what it is."""
    return [count("rank", "#"), count("tier"), plain("kind"), Column("backbone", _named), count("m", "M")]


def leaderboard_columns(rows: Sequence[Row], *, machines: bool = True) -> list[Column]:
    """Return the columns of a leaderboard, with one a machine type unless these are left out."""
    measured = [name for name in ("auc", "s_auc", "t_auc", "p_auc") if any(row.get(name) is not None for row in rows)]
    headings = {"auc": "AUC", "s_auc": "sAUC", "t_auc": "tAUC", "p_auc": "pAUC"}
    ranked_by = next((row["machine"] for row in rows if "machine" in row), None)
    return [
        *place_columns(),
        Column("K1/K2", _neighbours_and_clusters),
        *([plain("fusion")] if len({row["fusion"] for row in rows if row["fusion"]}) > 1 else []),
        *([Column("labels", _label_source)] if {row.get("labels") for row in rows} - {None, "paper"} else []),
        plain("scorer"),
        count("trials"),
        *([Column(f"{ranked_by} %", _machine_with_spread, right=True)] if ranked_by is not None else []),
        Column("official %", _with_spread, right=True),
        *(percent(name, headings[name]) for name in measured),
        *(machine_columns(rows) if machines else []),
        count("classes"),
        count("singletons", "single"),
        Column("s/trial", lambda row: NOTHING if row["seconds"] is None else f"{row['seconds']:.1f}", right=True),
        count("peak_mb", "MiB"),
        *([plain("source")] if any(row.get("source") for row in rows if row["kind"] == "published") else []),
    ]


def reference_lines(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return published numbers with the machine types side by side: a line a system, setting and metric."""
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    names = ("table", "system", "backbone", "m", "dataset", "part", "metric")
    by_machine = {tuple(row[name] for name in names[:-1]) for row in rows if row["metric"] == "h_mean"}
    for row in rows:
        setting = tuple(row[name] for name in names[:-1])
        # over all machine types the harmonic mean is the official score from 2021 on; where that is all, it says so
        metric = "h_mean" if row["metric"] == "official_score" and setting in by_machine else row["metric"]
        key = (*setting, metric)
        line = lines.setdefault(key, {name: row[name] for name in names} | {"metric": metric, "machines": {}})
        line["machines"][row["machine"]] = (row["published"], row["difference"])
    return list(lines.values())


def reference_columns(lines: Sequence[Row]) -> list[Column]:
    """Return the columns of a published table: its machine types, the mean over all last."""
    names = sorted({name for line in lines for name in line["machines"]} - {"all"})

    def column(name: str, heading: str) -> Column:
        return Column(heading, lambda line: _beside(line["machines"].get(name)), right=True)

    return [
        *(plain(name) for name in ("system", "dataset", "part")),
        *([plain("backbone"), count("m", "M")] if any(line["m"] is not None for line in lines) else []),
        plain("metric"),
        *(column(name, name) for name in names),
        column("all", "all"),
    ]


def _beside(numbers: tuple[float, float | None] | None) -> str:
    if numbers is None:
        return NOTHING
    published, difference = numbers
    if difference is None:
        return in_percent(published)
    return f"{in_percent(published)} ({in_percent(difference, signed=True)})"


def _named(row: Row) -> str:
    """Print a backbone, with a star where its cell was chosen on the test set that it reports."""
    return (row["backbone"] or NOTHING) + ("*" if row.get("chosen_on_test") else "")


def compare_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of a comparison of Top-M with Top-1, with the year where there are several."""
    return [
        plain("backbone"),
        *([plain("dataset")] if len({row["dataset"] for row in rows}) > 1 else []),
        Column("K1/K2", _neighbours_and_clusters),
        plain("fusion"),
        plain("labels"),
        plain("scorer"),
        count("m", "M"),
        count("pairs"),
        percent("delta", "M − 1, points", signed=True),
        Column(
            "95 % interval",
            lambda row: f"{in_percent(row['ci_low'], signed=True)} to {in_percent(row['ci_high'], signed=True)}",
            right=True,
        ),
        Column("p", lambda row: _p(row["p_value"]), right=True),
        Column("p corrected", lambda row: _p(row["p_corrected"]), right=True),
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


def _neighbours_and_clusters(row: Row) -> str:
    numbers = [row["k1"], row["k2"]]
    return NOTHING if numbers == [None, None] else "/".join(NOTHING if each is None else str(each) for each in numbers)


def _label_source(row: Row) -> str:
    """Print what labeled the training clips; who trained on the truth is never shown without saying so."""
    source = row.get("labels") or NOTHING
    return "truth (upper bound)" if source == "truth" else str(source)


def _with_spread(row: Row) -> str:
    return _spread(row["official_score"], row["official_score_std"])


def _machine_with_spread(row: Row) -> str:
    return _spread(row["machine_score"], row["machine_score_std"])


def _spread(mean: float | None, deviation: float | None) -> str:
    return f"{in_percent(mean)} ± {100 * deviation:.2f}" if deviation is not None else in_percent(mean)


def _p(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:.3f}" if value >= 0.0005 else "<0.001"


def shown_cell(cell: Sequence[Any]) -> str:
    """Say a cell: "M = 3, K1 = 15, K2 = 15", with the fusion unless it is the paper's."""
    m, k1, k2, fusion = cell
    numbers = ", ".join(f"{name} = {value}" for name, value in (("M", m), ("K1", k1), ("K2", k2)) if value is not None)
    return numbers if fusion == "composite" else f"{numbers}, {fusion}"
