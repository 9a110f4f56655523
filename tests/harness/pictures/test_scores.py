"""Pictures of scores show what the clips say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.metrics.measures import measure
from harness.pictures.candidates import png
from harness.pictures.scores import roc_curves, score_histograms, score_pictures, source_against_target
from tests.harness.made_up import RULE, make_scored


def test_every_picture_is_one() -> None:
    """Histograms, ROC curves and source against target are figures that become PNG."""
    scored = make_scored()
    metrics = measure(scored.assign(score=scored["score_knn"]), RULE)
    pictures = score_pictures(scored, metrics, "knn")
    assert list(pictures) == ["scores", "roc", "domains"]
    assert all(png(figure).startswith(b"\x89PNG") for figure in pictures.values())


def test_roc_curves_mark_the_partial_region() -> None:
    """Each machine type has a marked region a tenth of its square wide, and a curve a domain from corner to corner."""
    axes = roc_curves(make_scored(), "knn").axes[0]
    assert len(axes.collections) == 2
    region = axes.collections[0].get_paths()[0].get_extents()
    assert region.width == pytest.approx(region.height / 10)
    curves = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) > 6]
    assert len(curves) == 4
    for curve in curves:
        assert (np.diff(curve, axis=0) >= 0).all()
        assert curve[-1] - curve[0] == pytest.approx(region.height)


def test_points_of_source_against_target_are_the_aucs() -> None:
    """A machine type's point lies at its source and target AUC; one that lacks either is not drawn."""
    scored = make_scored()
    scored = scored[(scored["machine"] != "fan") | (scored["domain"] == "source") | (scored["condition"] != "normal")]
    metrics = measure(scored.assign(score=scored["score_knn"]), RULE)
    axes = source_against_target(metrics, "knn").axes[0]
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert drawn["ToyCar (dcase2023)"] == [[metrics[0].s_auc, metrics[0].t_auc]]
    assert "fan (dcase2023)" not in drawn


def test_clips_without_domain_are_drawn() -> None:
    """2020 has no domains: one histogram a condition, one curve a machine type."""
    scored = make_scored().assign(domain=None)
    curves = [line for line in roc_curves(scored, "knn").axes[0].lines if len(line.get_xydata()) > 6]
    assert len(curves) == 2
    assert png(score_histograms(scored, "knn")).startswith(b"\x89PNG")
    assert png(source_against_target((), "knn")).startswith(b"\x89PNG")
