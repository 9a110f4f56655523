"""A notebook's figures show what the rows say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from harness.answers.compare import compare
from harness.answers.frames import answer_frame, machines_frame
from harness.answers.leaderboard import leaderboard
from harness.answers.question import Question
from harness.answers.selection import select
from harness.errors import HarnessError
from harness.pictures.candidates import png
from harness.report.evidence import with_details
from harness.report.figures import (
    compare_figure,
    cost_against_score,
    curve_limits,
    goes_on,
    m_curve_figure,
    machine_heat_map,
    quality_against_score,
    source_against_target,
    write_numbers,
)
from harness.stores.recorder import Recorder
from tests.harness.made_up import STUDY_MACHINES as MACHINES
from tests.harness.made_up import record_study


@pytest.fixture
def rows(recorder: Recorder) -> list[dict[str, Any]]:
    """Leaderboard rows of a small study, with what its trials know of their labels."""
    record_study(recorder, m=(1, 3))
    return with_details(recorder.results, leaderboard(recorder.results))


def test_figures_show_what_the_rows_say(rows: list[dict[str, Any]]) -> None:
    """The M-curve has a line a backbone, the heat map a number a cell, the scatter plots a point a row."""
    figure = m_curve_figure(rows)
    curve = figure.axes[0]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[0] == "beats-small"  # both families have the same K1, K2, fusion and scorer
    assert sum("frozen" in each for each in legend) == 2
    drawn = {tuple(round(x) for x in container[0].get_xdata()) for container in curve.containers}
    assert drawn == {(1, 3)}
    assert len(curve.containers) == 2
    heat = machine_heat_map(rows).axes[0]
    first = next(row for row in rows if row["machines"])
    assert [label.get_text() for label in heat.get_xticklabels()] == sorted(MACHINES)
    assert heat.texts[0].get_text() == f"{100 * first['machines'][min(MACHINES)]:.1f}"
    points = [line for line in source_against_target(rows).axes[0].lines if line.get_marker() != "None"]
    assert sum(len(line.get_xdata()) for line in points) == len([row for row in rows if row["s_auc"] is not None])
    quality = quality_against_score(rows, "recall_at_m")
    assert quality.axes[0].get_xlabel() == "recall at M of pseudo-labels, %"
    assert png(quality).startswith(b"\x89PNG")


def test_a_huge_interval_does_not_flatten_the_curve(rows: list[dict[str, Any]]) -> None:
    """The axis is that of the means and references: an interval far beyond it ends at the edge in an arrow."""
    near = [{**row, "ci_low": None, "ci_high": None, "official_score_std": 0.001} for row in rows]
    far = [
        {**row, "ci_low": 0.05, "ci_high": 0.99} if row["kind"] == "trial" and row["m"] == 3 else row for row in near
    ]
    assert (goes_on(near), goes_on(far)) == (False, True)
    low, high = curve_limits(far)
    levels = [100 * row["official_score"] for row in far if row["kind"] in ("trial", "frozen")]
    assert low < min(levels)
    assert max(levels) < high
    assert high - low < 3 * max(max(levels) - min(levels), 5.0)
    axes = m_curve_figure(far).axes[0]
    assert axes.get_ylim() == pytest.approx((low, high))
    arrows = [(line.get_marker(), line.get_ydata()[0]) for line in axes.lines if line.get_marker() in ("v", "^")]
    assert sorted(set(arrows)) == [("^", pytest.approx(high)), ("v", pytest.approx(low))]
    assert len(arrows) == 4  # of two backbones


def test_numbers_beside_points_do_not_cover_each_other() -> None:
    """Points that nearly coincide have their M on different sides."""
    figure = Figure(figsize=(4, 3))
    axes = figure.add_subplot()
    points = [(1.0, 1.0), (1.01, 1.01), (1.02, 0.99), (2.0, 2.0)]
    axes.plot(*zip(*points, strict=True), "o")
    write_numbers(axes, [(str(at), *point) for at, point in enumerate(points)], points)
    places = [(np.array(axes.transData.transform(text.xy)) / (figure.dpi / 72) + text.xyann) for text in axes.texts]
    apart = [np.hypot(*(one - other)) for at, one in enumerate(places) for other in places[:at]]
    assert min(apart) > 5  # points; letters have nine


def test_comparisons_are_drawn_and_framed(recorder: Recorder) -> None:
    """Comparisons and selections become frames and a figure with a point and an interval a comparison."""
    record_study(recorder, m=(1, 3))
    compared, selected = (
        compare(recorder.results, Question(resamples=100)),
        select(recorder.results, Question(resamples=100)),
    )
    frame = answer_frame(compared)
    assert (len(frame), frame["m"].dtype, "machines" in frame) == (len(compared), pd.Int64Dtype(), False)
    assert frame["delta"].tolist() == [row["delta"] for row in compared]
    by_machine = machines_frame(compared)
    assert len(by_machine) == sum(len(row["machines"]) for row in compared)
    assert {"backbone", "m", "machine", "delta", "ci_low"} <= set(by_machine.columns)
    assert answer_frame(selected)["best.m"].tolist() == [row["best"]["m"] for row in selected]
    assert machines_frame(selected)["m"].dtype == pd.Int64Dtype()
    board = leaderboard(recorder.results)
    of_board = machines_frame(board)
    assert len(of_board) == sum(len(row["machines"]) for row in board)
    first = of_board.iloc[0]
    assert first["h_mean"] == board[0]["machines"][first["machine"]]
    assert {"rank", "kind", "backbone", "m", "fusion", "loss", "scorer", "machine"} <= set(of_board.columns)
    axes = compare_figure(compared).axes[0]
    assert list(axes.containers[0][0].get_xdata()) == [100 * row["delta"] for row in compared]
    assert axes.get_yticklabels()[0].get_text() == "beats-small, M = 3"
    with pytest.raises(HarnessError, match="needs one"):
        compare_figure([])


def test_cost_is_drawn(rows: list[dict[str, Any]]) -> None:
    """The score is drawn over a trial's seconds, as they are, on a logarithmic axis."""
    axes = cost_against_score(rows).axes[0]
    drawn = sorted(float(x) for line in axes.lines for x in line.get_xdata())
    assert drawn == pytest.approx(sorted(row["seconds"] for row in rows if row["seconds"]))
    assert axes.get_xscale() == "log"


def test_what_cannot_be_drawn_is_said(rows: list[dict[str, Any]]) -> None:
    """No row of the kind needed, an unknown measure and rows of two boards are one sentence each."""
    level = [row for row in rows if row["kind"] == "level"]
    with pytest.raises(HarnessError, match="needs fine-tuned rows"):
        m_curve_figure(level)
    with pytest.raises(HarnessError, match="measure must be one of purity"):
        quality_against_score(rows, "beauty")
    with pytest.raises(HarnessError, match="rows with purity"):
        quality_against_score(level)
    with pytest.raises(HarnessError, match="one protocol"):
        machine_heat_map([*rows, {**rows[0], "protocol": "other"}])
