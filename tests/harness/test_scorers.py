"""What every scorer promises, and what each one computes."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf

import harness.scorers
from harness.contract import HarnessError, Scorer, ScoreRequest
from harness.scorers import gmm, knn, knn_rescaled, level, mahalanobis

NAMES = sorted(path.stem for path in Path(harness.scorers.__file__).parent.glob("*.py") if path.stem != "__init__")


def load(name: str) -> Scorer:
    """Return the scorer that a file declares."""
    scorer = importlib.import_module(f"harness.scorers.{name}").SCORER
    assert isinstance(scorer, Scorer)
    return scorer


def request(
    scorer: Scorer | None = None, *, source: int = 30, target: int = 6, queries: int = 20, seed: int = 0
) -> ScoreRequest:
    """Build a request: source and target references around different places, queries that drift away from them."""
    random = np.random.default_rng(seed)
    dimension = 1 if scorer is not None and scorer.reads == "level" else 8
    places = np.array(["source"] * source + ["target"] * target, dtype=object)
    centres = np.where(places[:, None] == "target", 4.0, 1.0) * np.ones(dimension)
    drift = np.linspace(0, 12, queries)[:, None] * np.linspace(-1, 1, dimension) ** 2
    return ScoreRequest(
        references=(centres + random.normal(size=(len(places), dimension))).astype(np.float32),
        reference_domains=places,
        queries=(1 + random.normal(size=(queries, dimension)) * 0.5 + drift).astype(np.float32),
    )


@pytest.fixture(params=NAMES)
def scorer(request: pytest.FixtureRequest) -> Scorer:
    """Return each scorer of the folder in turn."""
    return load(request.param)


def test_the_folder_holds_the_scorers_of_the_first_version() -> None:
    """Listing the folder finds these scorers, so that the contract tests below do not run over nothing."""
    assert {"gmm", "knn", "knn_rescaled", "level", "mahalanobis"} <= set(NAMES)


class TestContract:
    def test_its_name_is_its_files(self, scorer: Scorer) -> None:
        """The declared name is the file's, and a listing has a line to print."""
        assert scorer.name in NAMES
        assert load(scorer.name) is scorer
        assert scorer.summary
        assert "\n" not in scorer.summary

    def test_one_finite_score_a_query(self, scorer: Scorer) -> None:
        """Scores are (q,) finite float64."""
        scores = scorer.score(request(scorer))
        assert scores.shape == (20,)
        assert scores.dtype == np.float64
        assert np.isfinite(scores).all()

    def test_what_is_far_from_all_references_scores_higher(self, scorer: Scorer) -> None:
        """The query that drifted furthest scores above the references themselves."""
        asked = request(scorer)
        far = scorer.score(asked)[-1]
        assert far > np.median(scorer.score(replace(asked, queries=asked.references)))

    def test_the_same_request_gives_the_same_scores(self, scorer: Scorer) -> None:
        """Two calls agree bit for bit, and the request is left as it was."""
        asked = request(scorer)
        before = [asked.references.copy(), asked.queries.copy()]
        np.testing.assert_array_equal(scorer.score(asked), scorer.score(asked))
        np.testing.assert_array_equal(asked.references, before[0])
        np.testing.assert_array_equal(asked.queries, before[1])

    def test_a_query_is_scored_alike_in_any_company(self, scorer: Scorer) -> None:
        """A query's score does not depend on the other queries or on their order."""
        asked = request(scorer, queries=1100)
        together = scorer.score(asked)
        alone = [scorer.score(replace(asked, queries=asked.queries[[at]]))[0] for at in (0, 7, 1099)]
        np.testing.assert_allclose(alone, together[[0, 7, 1099]], rtol=0, atol=1e-6)
        turned = scorer.score(replace(asked, queries=asked.queries[::-1]))
        np.testing.assert_allclose(turned[::-1], together, rtol=0, atol=1e-6)

    def test_no_query_has_no_score(self, scorer: Scorer) -> None:
        """Without queries the result is empty and no error."""
        asked = request(scorer)
        assert scorer.score(replace(asked, queries=asked.queries[:0])).shape == (0,)

    def test_years_without_domains_are_served(self, scorer: Scorer) -> None:
        """With None for every domain there is one set of references."""
        asked = request(scorer)
        one_set = replace(asked, reference_domains=np.full(len(asked.references), None, dtype=object))
        assert np.isfinite(scorer.score(one_set)).all()

    def test_equal_references_are_survived(self, scorer: Scorer) -> None:
        """Where all embeddings are equal every score is finite and the same."""
        asked = request(scorer)
        flat = replace(asked, references=np.full_like(asked.references, 2), queries=np.full_like(asked.queries, 2))
        scores = scorer.score(flat)
        assert np.isfinite(scores).all()
        assert np.ptp(scores) == 0

    def test_zero_vectors_are_survived(self, scorer: Scorer) -> None:
        """Where all embeddings are zero every score is finite and the same."""
        asked = request(scorer)
        flat = replace(asked, references=np.zeros_like(asked.references), queries=np.zeros_like(asked.queries))
        scores = scorer.score(flat)
        assert np.isfinite(scores).all()
        assert np.ptp(scores) == 0

    @pytest.mark.parametrize("which", ["references", "queries"])
    def test_vectors_that_are_not_finite_are_refused(self, scorer: Scorer, which: str) -> None:
        """NaN in references or queries is an error that says which vector it is."""
        asked = request(scorer)
        broken = getattr(asked, which).copy()
        broken[3, 0] = np.nan
        with pytest.raises(HarnessError, match=rf"1 of {len(broken)} \w+ vectors are not, first number 3"):
            scorer.score(replace(asked, **{which: broken}))

    def test_no_reference_is_refused(self, scorer: Scorer) -> None:
        """Without any normal training clip there is nothing to compare with."""
        asked = request(scorer)
        with pytest.raises(HarnessError, match="at least one normal training clip"):
            scorer.score(replace(asked, references=asked.references[:0], reference_domains=asked.reference_domains[:0]))

    def test_vectors_of_two_sizes_are_refused(self, scorer: Scorer) -> None:
        """References and queries must have the same dimension."""
        asked = request(scorer)
        with pytest.raises(HarnessError, match=r"\(r, d\) and \(q, d\)"):
            scorer.score(replace(asked, queries=np.ones((2, 3), dtype=np.float32)))

    def test_domains_that_do_not_fit_are_refused(self, scorer: Scorer) -> None:
        """Every reference has a domain or None."""
        asked = request(scorer)
        with pytest.raises(HarnessError, match="needs its domain or None"):
            scorer.score(replace(asked, reference_domains=asked.reference_domains[:3]))


def test_knn_is_the_smaller_cosine_distance() -> None:
    """The score is the smallest cosine distance to a reference, of whichever domain."""
    asked = request()
    np.testing.assert_allclose(
        knn.score(asked), cdist(asked.queries, asked.references, "cosine").min(axis=1), rtol=0, atol=1e-12
    )


def test_nearest_finds_k_neighbours_over_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks of references and queries give the k nearest in order, a point itself left out if asked."""
    monkeypatch.setattr(knn, "REFERENCE_ROWS", 7)
    monkeypatch.setattr(knn, "QUERY_ROWS", 3)
    vectors = request(source=40, target=0).references
    distances, places = knn.nearest(vectors, vectors, k=3, exclude=np.arange(40))
    truth = cdist(vectors, vectors, "cosine")
    np.fill_diagonal(truth, np.inf)
    np.testing.assert_array_equal(places, truth.argsort(axis=1)[:, :3])
    np.testing.assert_allclose(distances, np.sort(truth, axis=1)[:, :3], rtol=0, atol=1e-12)


def test_knn_keeps_the_digits_of_near_duplicates() -> None:
    """Two embeddings a millionth apart are at a distance above 0, which float32 alone would round away."""
    reference = np.ones((1, 64), dtype=np.float32)
    query = reference.copy()
    query[0, 0] += 1e-5
    asked = ScoreRequest(reference, np.array(["source"], dtype=object), query)
    expected = cdist(query.astype(np.float64), reference.astype(np.float64), "cosine")[0]
    assert 0 < knn.score(asked)[0] < 1e-11
    np.testing.assert_allclose(knn.score(asked), expected, rtol=1e-3)


def test_a_zero_vector_is_at_distance_one() -> None:
    """A silent embedding points nowhere: distance 1 from every reference."""
    asked = request()
    assert knn.score(replace(asked, queries=np.zeros((1, 8), dtype=np.float32)))[0] == 1.0


def test_fewer_references_than_k_are_refused() -> None:
    """A domain with fewer references than neighbours is an error that says both numbers."""
    vectors = np.eye(3, dtype=np.float32)
    with pytest.raises(HarnessError, match=r"k = 4 references to compare with, but one has 3\."):
        knn.nearest(vectors, vectors, k=4)
    with pytest.raises(HarnessError, match="at least 2 references"):
        knn_rescaled.score(ScoreRequest(vectors[:1], np.array(["source"], dtype=object), vectors))


def test_knn_rescaled_divides_by_the_references_spacing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The score is the smallest distance to a reference over that reference's distance to its own neighbours."""
    monkeypatch.setattr(knn_rescaled, "K", 2)
    asked = request()
    among = cdist(asked.references, asked.references, "cosine")
    np.fill_diagonal(among, np.inf)
    spacing = np.sort(among, axis=1)[:, :2].mean(axis=1)
    expected = (cdist(asked.queries, asked.references, "cosine") / spacing).min(axis=1)
    np.testing.assert_allclose(knn_rescaled.score(asked), expected, rtol=1e-9)


def test_knn_rescaled_survives_duplicated_references() -> None:
    """References that stand twice have no spacing; scores stay finite and a copy of one scores 0."""
    asked = request()
    doubled = replace(
        asked,
        references=np.repeat(asked.references, 2, axis=0),
        reference_domains=np.repeat(asked.reference_domains, 2),
        queries=np.concatenate([asked.queries, asked.references[:1]]),
    )
    doubled.references[-1] += 1
    scores = knn_rescaled.score(doubled)
    assert np.isfinite(scores).all()
    assert scores[-1] == pytest.approx(0, abs=1e-9)


def test_level_is_the_distance_in_db() -> None:
    """Between references at -30 and -20 dB, -27 lies 3 dB off; outside, the nearer end counts."""
    levels = np.array([[-20.0], [-30.0]], dtype=np.float32)
    queries = np.array([[-27.0], [-40.0], [-15.0], [-20.0]], dtype=np.float32)
    asked = ScoreRequest(levels, np.array(["source", "target"], dtype=object), queries)
    assert level.score(asked).tolist() == [3.0, 10.0, 5.0, 0.0]


def test_level_refuses_embeddings() -> None:
    """More than one number a clip is no level."""
    with pytest.raises(HarnessError, match="one number a clip, its level in dB, but got 8"):
        level.score(request())


def test_the_shrunk_covariance_is_ledoit_and_wolfs() -> None:
    """With one domain the covariance is scikit-learn's Ledoit-Wolf estimate, and 1e-12 of it at most away."""
    vectors = request(source=25, target=0).references
    ours = mahalanobis.shrunk_covariance([vectors], vectors.mean(axis=0, dtype=np.float64)[None])
    np.testing.assert_allclose(ours, LedoitWolf().fit(vectors.astype(np.float64)).covariance_, rtol=1e-10)


def test_mahalanobis_takes_the_nearer_mean() -> None:
    """A query on the target mean scores 0 though it lies far from the source mean."""
    asked = request()
    target = asked.references[asked.reference_domains == "target"].mean(axis=0)
    scores = mahalanobis.score(replace(asked, queries=target[None]))
    assert scores[0] == pytest.approx(0, abs=1e-5)


def test_mahalanobis_works_with_fewer_references_than_dimensions() -> None:
    """Twelve references of eight dimensions, or of 200, give finite distances."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(12, 200)).astype(np.float32)
    asked = ScoreRequest(vectors, np.full(12, "source", dtype=object), vectors)
    assert np.isfinite(mahalanobis.score(asked)).all()


def test_a_mixture_of_one_is_a_gaussian() -> None:
    """Few references give one component, whose density is the normal one with the prior's variance."""
    mixture = gmm.Mixture(np.ones(1), np.array([[1.0, -1.0]]), np.array([[2.0, 0.5]]))
    vectors = np.array([[0.0, 0.0], [3.0, 1.0]])
    np.testing.assert_allclose(
        mixture.log_joint(vectors)[:, 0], multivariate_normal([1, -1], np.diag([2, 0.5])).logpdf(vectors)
    )


def test_gmm_finds_groups_that_one_gaussian_would_bridge() -> None:
    """Between two groups of references a clip is less probable than inside one of them."""
    random = np.random.default_rng(0)
    groups = np.concatenate([random.normal(-6, 1, (100, 4)), random.normal(6, 1, (100, 4))]).astype(np.float32)
    asked = ScoreRequest(groups, np.full(200, None, dtype=object), np.array([[0.0] * 4, [6.0] * 4], dtype=np.float32))
    between, inside = gmm.score(asked)
    assert between > inside + 1


def test_gmm_depends_on_its_seed_alone() -> None:
    """Other seeds may start elsewhere; the same seed gives the same scores bit for bit."""
    asked = request(source=100)
    np.testing.assert_array_equal(gmm.score(asked), gmm.score(replace(asked)))
