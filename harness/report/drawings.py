"""Figures of the report page: which rows stand in which chart, and what is said about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from harness.answers.board import row_name
from harness.report import charts
from harness.report.charts import Point
from harness.report.evidence import curve_families
from harness.tables import in_percent

LINES = charts.SERIES - 1  # the last colour is the references'
REFERENCE = charts.SERIES - 1
MARKED = 30  # points with letters beside them; more would cover one another
NEAR_CHANCE = 60.0  # percent; a chart that reaches down to here shows chance too
MEASURES = (("purity", "purity"), ("recall_at_m", "recall at M"), ("confidence", "mean confidence"))

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Drawn:
    """A figure of the page: a chart with its caption and legend."""

    title: str
    said: str
    chart: Markup
    legend: list[tuple[Markup, str]]


def figures(rows: Rows, *, place: int) -> list[Drawn]:
    """Return a board's figures, as far as its rows have what they show."""
    found = (draw(rows, place=place) for draw in (m_curve, source_against_target, quality_against_score, cost))
    return [figure for figure in found if figure is not None]


def spread_of(row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return a row's interval in percent: its own where it has one, else a standard deviation over seeds."""
    score = row["official_score"]
    if row.get("ci_low") is not None and row.get("ci_high") is not None:
        return 100 * row["ci_low"], 100 * row["ci_high"]
    spread = row["official_score_std"]
    return (None, None) if spread is None else (100 * (score - spread), 100 * (score + spread))


def m_curve(rows: Rows, *, place: int) -> Drawn | None:
    """Draw the official score over M, a line a backbone, frozen encoders and chance as levels."""
    families = curve_families(rows)
    if not families:
        return None
    shown = dict(list(families.items())[:LINES])
    lines = [
        [
            Point(row["m"], 100 * row["official_score"], *spread_of(row), series, name=_said(row))
            for row in family
        ]
        for series, family in enumerate(shown.values())
    ]  # fmt: skip
    frozen = {name: _best(rows, "frozen", name) for name in shown}
    levels: list[tuple[float, str, int | None]] = [
        (100 * score, "", series) for series, score in enumerate(frozen.values()) if score is not None
    ]
    lowest = min([p.y for line in lines for p in line] + [level for level, _, _ in levels])
    if lowest < NEAR_CHANCE:
        levels.append((50.0, "chance", None))
    legend = [
        (charts.key(series), _family_name(name, family, frozen=frozen[name]))
        for series, (name, family) in enumerate(shown.items())
    ]
    own = any(row.get("ci_low") is not None for family in shown.values() for row in family)
    more = f" {len(families) - len(shown)} more backbones are in the table alone." if len(families) > LINES else ""
    return Drawn(
        "Official score over M",
        f"Points are means over seeds, bars {'their 95 % intervals' if own else 'a standard deviation over seeds'}; "
        f"whether two M differ is for the table of differences, which pairs them.{more}",
        charts.line_chart(
            lines, name=f"curve{place}", title="Official score over M",
            x_label="M, attributes joined in a pseudo-label", y_label="official score, %", levels=levels,
            description=_told(shown, lines),
        ),
        legend,
    )  # fmt: skip


def source_against_target(rows: Rows, *, place: int) -> Drawn | None:
    """Draw the AUC of the target domain over that of the source domain, a point a row."""
    measured = [row for row in rows if row["kind"] != "chance"]  # the diagonal's 50 would stretch both axes
    chosen = [row for row in measured if row.get("s_auc") is not None and row.get("t_auc") is not None]
    if not chosen:
        return None
    series = _series(rows)
    points = [_point(row, 100 * row["s_auc"], 100 * row["t_auc"], series, len(chosen)) for row in chosen]
    return Drawn(
        "Source against target",
        "Harmonic means over machines. Below the diagonal a row hears anomalies less well after a change of domain. "
        + _reading(points),
        charts.scatter_chart(
            points, name=f"domains{place}", title="Target AUC over source AUC", x_label="source AUC, %",
            y_label="target AUC, %", diagonal="dashed: source = target",
            description=_listed(points, "source", "target"),
        ),
        _legend(points, series),
    )  # fmt: skip


def quality_against_score(rows: Rows, *, place: int) -> Drawn | None:
    """Draw the official score over the quality of the labels; over their confidence where nobody judged them."""
    fine_tuned = [row for row in rows if row["kind"] == "trial" and row["official_score"] is not None]
    found = next(
        ((name, said) for name, said in MEASURES if any(row[name] is not None for row in fine_tuned)), None
    )  # fmt: skip
    if found is None:
        return None
    name, said = found
    chosen = [row for row in fine_tuned if row[name] is not None]
    series = _series(rows)
    points = [_point(row, 100 * row[name], 100 * row["official_score"], series, len(chosen)) for row in chosen]
    judged = (
        "as far as the truth was known"
        if name != "confidence"
        else "in place of their quality, since no truth was named to judge them by"
    )
    return Drawn(
        "Label quality against score",
        f"The {said} of pseudo-labels, {judged}. {_reading(points)}",
        charts.scatter_chart(
            points, name=f"quality{place}", title=f"Official score over {said} of the labels",
            x_label=f"{said} of pseudo-labels, %", y_label="official score, %",
            description=_listed(points, said, "official score"),
        ),
        _legend(points, series),
    )  # fmt: skip


def cost(rows: Rows, *, place: int) -> Drawn | None:
    """Draw the official score over the seconds of a trial."""
    chosen = [row for row in rows if row.get("seconds") and row["official_score"] is not None]
    if not chosen:
        return None
    series = _series(rows)
    points = [_point(row, row["seconds"], 100 * row["official_score"], series, len(chosen)) for row in chosen]
    return Drawn(
        "Cost against score",
        f"Seconds of a trial, on a logarithmic axis. {_reading(points)}",
        charts.scatter_chart(
            points, name=f"spent{place}", title="Official score over seconds", x_label="seconds a trial",
            y_label="official score, %", log_x=True, description=_listed(points, "seconds", "official score"),
        ),
        _legend(points, series),
    )  # fmt: skip


def _series(rows: Rows) -> dict[str, int]:
    names = dict.fromkeys(str(row["backbone"]) for row in rows if row["kind"] in ("trial", "frozen"))
    return {name: place for place, name in enumerate(list(names)[:LINES])}


def _point(row: Mapping[str, Any], x: float, y: float, series: Mapping[str, int], points: int) -> Point:
    mark = str(row["m"]) if row["m"] is not None and row["kind"] == "trial" else row["kind"][:1].upper()
    return Point(
        x,
        y,
        series=series.get(str(row["backbone"]), REFERENCE),
        hollow=row["kind"] != "trial",
        name=f"{row_name(row)}: {x:.1f}, {y:.1f}",
        mark=mark if points <= MARKED else "",
    )


def _reading(points: Sequence[Point]) -> str:
    marks = {point.mark for point in points if point.mark}
    said = "Numbers beside points are M" if any(mark.isdigit() for mark in marks) else ""
    letters = {"F": "F frozen", "L": "L level", "P": "P published", "E": "E external"}
    told = [letters[mark] for mark in sorted(marks) if mark in letters]
    return ", ".join([*([said] if said else []), *told]) + "." if said or told else ""


def _legend(points: Sequence[Point], series: Mapping[str, int]) -> list[tuple[Markup, str]]:
    there = {point.series for point in points}
    legend = [(charts.key(place), name) for name, place in series.items() if place in there]
    if REFERENCE in there:
        legend.append((charts.key(REFERENCE, hollow=True), "any other row"))
    return legend


def _said(row: Mapping[str, Any]) -> str:
    low, high = spread_of(row)
    span = "" if low is None else f" ({low:.2f} to {high:.2f})"
    return f"M = {row['m']}: {in_percent(row['official_score'])}{span}"


def _told(names: Iterable[str], lines: Sequence[Sequence[Point]]) -> str:
    said = ("; ".join(point.name for point in line) for line in lines)
    return " ".join(f"{name}: {each}." for name, each in zip(names, said, strict=True))


def _listed(points: Sequence[Point], x: str, y: str) -> str:
    more = f" And {len(points) - MARKED} more." if len(points) > MARKED else ""
    return f"Each point: {x}, {y}. " + "; ".join(point.name for point in points[:MARKED]) + "." + more


def _best(rows: Rows, kind: str, backbone: str) -> float | None:
    scores = [
        row["official_score"]
        for row in rows
        if row["kind"] == kind and row["backbone"] == backbone and row["official_score"] is not None
    ]
    return max(scores, default=None)


def _family_name(name: str, family: Rows, *, frozen: float | None) -> str:
    first = family[0]
    dashed = f"; dashed: frozen, {in_percent(frozen)}" if frozen is not None else ""
    numbers = "/".join(str(first[k]) for k in ("k1", "k2") if first[k] is not None)
    labels = "" if first["labels"] in (None, "paper") else f", {first['labels']} labels"
    cell = f"K1/K2 {numbers}, {first['scorer']}" if numbers else str(first["scorer"])
    return f"{name} ({cell}{labels}){dashed}"
