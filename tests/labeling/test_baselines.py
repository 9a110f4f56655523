"""The direct, machine and Gaussian-mixture strategies."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from labeling.contract import LabelingError
from labeling.fusion import fuse_top_m
from labeling.strategies import direct, gmm, machine


def test_direct_gives_each_clip_its_attribute(make_blobs):
    """Direct use is the attribute itself, one candidate wide."""
    request = make_blobs({"a_1": (3, 0), "b_1": (2, 0)}, case="direct")
    ranked = direct.rank(request)
    assert ranked.names.tolist() == [[a] for a in request.attributes]
    assert ranked.labeled.all()


def test_direct_leaves_clips_without_attribute_to_the_machine(make_blobs):
    """A clip without attribute has an empty row, so its class is the machine type."""
    ranked = direct.rank(make_blobs({"a": (2, 1)}, case="direct"))
    labels = fuse_top_m({"fan": ranked}, m=1)
    assert labels.classes[labels.targets].tolist() == ["fan|a", "fan|a", "fan"]
    assert ranked.labeled.tolist() == [True, True, False]
    assert ranked.confidence.tolist() == [[1.0], [1.0], [0.0]]


def test_direct_needs_a_label(make_blobs):
    """With no attribute at all there is nothing to use directly."""
    with pytest.raises(LabelingError, match="direct needs at least one labeled clip"):
        direct.rank(make_blobs({"a": (0, 3)}, case="direct"))


@pytest.mark.parametrize("strategy", [direct, machine])
def test_features_of_nothing_are_not_read(make_blobs, strategy):
    """NaN features do not matter to a strategy that declares none."""
    request = replace(make_blobs({"a": (3, 0)}, case="direct"), features=np.full((3, 1), np.nan))
    assert strategy.rank(request).retained.all()


def test_machine_trains_every_clip_under_its_machine_type(make_blobs):
    """The lower bound ignores attributes, even those of labeled clips."""
    labels = fuse_top_m({"fan": machine.rank(make_blobs({"a": (3, 2), "b": (3, 2)}))}, m=1)
    assert labels.classes.tolist() == ["fan"]
    assert len(labels.ids) == 10


def test_gmm_finds_as_many_components_as_blobs(make_blobs):
    """BIC stops at the three blobs that there are, though ten components were allowed; each blob is one component."""
    request = make_blobs({"a": (0, 30), "b": (0, 30), "c": (0, 30)}, case="unlabeled", k2=10)
    ranked = gmm.rank(request)
    first = {clip[0]: set() for clip in request.ids}
    for clip, name in zip(ranked.ids, ranked.names[:, 0], strict=True):
        first[clip[0]].add(name)
    assert sorted(map(len, first.values())) == [1, 1, 1]
    assert len(set.union(*first.values())) == 3
    assert (ranked.names != "").sum(axis=1).tolist() == [3] * 90
    np.testing.assert_allclose(ranked.confidence.sum(axis=1), 1.0)


def test_gmm_keeps_domains_apart(make_blobs):
    """Each domain has its own mixture: a component's name says whose it is."""
    request = make_blobs({"a": (0, 20), "b": (0, 20)}, case="unlabeled", k2=4)
    domains = np.array(["source"] * 30 + ["target"] * 10, dtype=object)
    names = gmm.rank(replace(request, domains=domains)).names[:, 0]
    assert all(name.startswith("source_") for name in names[:30])
    assert all(name.startswith("target_") for name in names[30:])


def test_gmm_of_one_clip_is_one_component(make_blobs):
    """A domain of a single clip has a component of its own, with certainty."""
    request = make_blobs({"a": (0, 7)}, case="unlabeled", k2=3)
    domains = np.array(["source"] * 6 + ["target"], dtype=object)
    ranked = gmm.rank(replace(request, domains=domains))
    assert ranked.names[6].tolist() == ["target_00", "", ""]
    assert ranked.confidence[6].tolist() == [1.0, 0.0, 0.0]


def test_gmm_of_identical_clips_is_one_component(make_blobs):
    """Where nothing differs, BIC asks for one component."""
    request = make_blobs({"a": (0, 20)}, case="unlabeled", k2=5)
    ranked = gmm.rank(replace(request, features=np.ones((20, 4))))
    assert set(ranked.names.ravel()) == {"gmm_00", ""}


def test_gmm_leaves_labeled_clips_their_own(make_blobs):
    """In the partial case only unlabeled clips take components."""
    ranked = gmm.rank(make_blobs({"a": (5, 5), "b": (5, 5)}, case="partial"))
    assert (ranked.names[ranked.labeled, 0] == [clip[0] for clip in ranked.ids[ranked.labeled]]).all()
    assert all(name.startswith("gmm_") for name in ranked.names[~ranked.labeled, 0])


def test_gmm_fits_once_per_domain_and_k2(make_blobs, memo):
    """Mixtures are kept by the memo under their domain, and asked for once a ranking."""
    asked = []

    def told(name, make):
        asked.append(name)
        return memo(name, make)

    request = make_blobs({"a": (0, 20)}, case="unlabeled", k2=2, memo=told)
    request = replace(request, domains=np.array(["source", "target"] * 10, dtype=object))
    gmm.rank(request)
    gmm.rank(request)
    assert memo.made == ["mixture", "mixture"]
    assert len(asked) == 4


def test_gmm_shares_no_mixture_between_k2(make_blobs, memo):
    """With one memo, K2 = 1 and K2 = 3 give three groups one component and three."""
    for k2 in (3, 1, 2):
        request = make_blobs({"a": (0, 20), "b": (0, 20), "c": (0, 20)}, case="unlabeled", k2=k2, memo=memo)
        assert len(set(gmm.rank(request).names[:, 0])) == k2


def test_gmm_refuses_k2_above_the_clips(make_blobs):
    """K2 is the largest number of components, at most the clips."""
    with pytest.raises(LabelingError, match="k2 must be between 1 and 4"):
        gmm.rank(make_blobs({"a": (0, 4)}, case="unlabeled", k2=5))


def test_gmm_orders_equal_posteriors_by_name(make_blobs):
    """Components that a clip has nothing of, of which there may be many, follow in the order of their names."""
    posterior = np.random.default_rng(0).integers(0, 3, size=(30, 24)) / 40
    request = make_blobs({"a": (0, 30)}, case="unlabeled", k2=26, memo=lambda name, make: gmm.Mixture(posterior))
    ranked = gmm.rank(request)
    place = np.argsort(request.ids)
    for row, clip in zip(posterior, place, strict=True):
        order = sorted(range(24), key=lambda one, row=row: (-row[one], one))
        assert ranked.names[clip].tolist() == [*(f"gmm_{one:02d}" for one in order), "", ""]
        assert ranked.confidence[clip].tolist() == [*row[order], 0.0, 0.0]


@pytest.mark.parametrize(("floor", "steps"), [(0.01, 2), (0.5, 100)])
def test_gmm_s_floor_and_steps_are_its_constants(floor, steps, monkeypatch):
    """The floor is a share of the mean variance over dimensions; EM stops after so many steps; clips are counted."""
    monkeypatch.setattr(gmm, "VARIANCE_FLOOR", floor)
    monkeypatch.setattr(gmm, "MAX_ITERATIONS", steps)
    monkeypatch.setattr(gmm, "DIMENSIONS", 3)
    monkeypatch.setattr(gmm, "CLIPS_PER_COMPONENT", 10)
    features = np.random.default_rng(1).normal(size=(60, 5)) + 2.0 * (np.arange(60) % 2)[:, None]
    points = (features - features.mean(axis=0)) / features.std(axis=0)
    reduced = points @ np.linalg.eigh(points.T @ points).eigenvectors[:, ::-1][:, :3]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits = [
            GaussianMixture(
                count,
                covariance_type="diag",
                reg_covar=floor * reduced.var(axis=0).mean(),
                max_iter=steps,
                random_state=4,
            ).fit(reduced)
            for count in range(1, 7)
        ]
    best = min(fits, key=lambda fit: fit.bic(reduced))
    found = gmm.fit_mixture(features, largest=9, seed=4).posterior
    np.testing.assert_allclose(found, best.predict_proba(reduced), rtol=1e-9, atol=1e-12)


def test_gmm_s_numbers_stay():
    """Sizes and limits are those with which trials were recorded."""
    assert (gmm.DIMENSIONS, gmm.CLIPS_PER_COMPONENT, gmm.VARIANCE_FLOOR, gmm.MAX_ITERATIONS) == (16, 5, 0.01, 100)


def test_gmm_of_clips_of_no_domain_beside_others(make_blobs):
    """Each domain's mixture learns from its clips alone, in their order; K2 bounds each."""
    request = make_blobs({"a": (0, 12), "b": (3, 12)}, case="partial", k2=2, seed=2)
    domains = np.array(["source", None, "target"], dtype=object)[np.arange(27) % 3]
    ranked = gmm.rank(replace(request, domains=domains))
    for domain, prefix in (("source", "source"), (None, "gmm"), ("target", "target")):
        rows = np.flatnonzero((domains == domain) & ~ranked.labeled)
        posterior = gmm.fit_mixture(request.features[rows], largest=2, seed=2).posterior
        for row, shares in zip(rows, posterior, strict=True):
            order = sorted(range(len(shares)), key=lambda one, shares=shares: (-shares[one], one))
            assert ranked.names[row, : len(order)].tolist() == [f"{prefix}_{one:02d}" for one in order]
            assert ranked.confidence[row, : len(order)].tolist() == shares[order].tolist()
