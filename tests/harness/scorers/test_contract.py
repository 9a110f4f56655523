"""What every scorer promises, and what each one computes."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf

import harness.scorers
from harness.errors import HarnessError
from harness.scorers import ensemble, gmm, kmeans, knn, knn_rescaled, level, mahalanobis, smote_knn
from harness.scoring import neighbours
from harness.scoring.choice import ScorerChoice, load_scorer, parse_scorer
from harness.scoring.contract import ScoreRequest
from harness.scoring.folds import deal, in_any_order

NAMES = sorted(path.stem for path in Path(harness.scorers.__file__).parent.glob("*.py") if path.stem != "__init__")


# options other than the defaults, so that the contract tests below hold for them too
VARIANTS = (
    "ensemble:of=gmm+kmeans+knn+knn_rescaled+mahalanobis+smote_knn",
    "gmm:components=1",
    "gwrp:decay=0.9,k=4,metric=euclidean",
    "kmeans:clusters=4,metric=euclidean",
    "knn:k=3,metric=euclidean",
    "knn:domains=together,k=5",
    "knn_bands:bands=2,join=max",
    "knn_median:k=2,metric=euclidean",
    "knn_rescaled:k=3,metric=euclidean",
    "mahalanobis:covariance=domain",
    "smote_knn:k=2,metric=euclidean,neighbours=2",
    "zmin:of=gwrp+knn+knn_median",
)


def request(
    scorer: ScorerChoice | None = None, *, source: int = 30, target: int = 6, queries: int = 20, seed: int = 0
) -> ScoreRequest:
    """Build a request: source and target references around different places, queries that drift away from them."""
    random = np.random.default_rng(seed)
    dimension = 1 if scorer is not None and scorer.scorer.reads == "level" else 8
    places = np.array(["source"] * source + ["target"] * target, dtype=object)
    centres = np.where(places[:, None] == "target", 4.0, 1.0) * np.ones(dimension)
    drift = np.linspace(0, 12, queries)[:, None] * np.linspace(-1, 1, dimension) ** 2
    return ScoreRequest(
        references=(centres + random.normal(size=(len(places), dimension))).astype(np.float32),
        reference_domains=places,
        queries=(1 + random.normal(size=(queries, dimension)) * 0.5 + drift).astype(np.float32),
    )


@pytest.fixture(params=[*NAMES, *VARIANTS])
def scorer(request: pytest.FixtureRequest) -> ScorerChoice:
    """Return each scorer of the folder in turn, and some with options."""
    return parse_scorer(request.param)


def test_the_folder_holds_the_scorers_that_are_documented() -> None:
    """Listing the folder finds these scorers, so that the contract tests below do not run over nothing."""
    named = {"ensemble", "gmm", "kmeans", "knn", "knn_rescaled", "level", "mahalanobis", "smote_knn"}
    assert named <= set(NAMES)
    assert {name for name in NAMES if load_scorer(name).options} == {each.partition(":")[0] for each in VARIANTS}


class TestContract:
    def test_its_name_is_its_files(self, scorer: ScorerChoice) -> None:
        """The declared name is the file's, and a listing has a line to print."""
        assert scorer.name in NAMES
        assert scorer.scorer.name == scorer.name
        assert scorer.scorer.summary
        assert "\n" not in scorer.scorer.summary

    def test_its_options_are_arguments_of_its_function(self, scorer: ScorerChoice) -> None:
        """Every default that is listed is the function's own, and is one of the words where there are some."""
        declared = scorer.scorer
        taken = {name: each.default for name, each in inspect.signature(declared.score).parameters.items()}
        assert {**declared.options, "request": inspect.Parameter.empty} == taken
        assert all(declared.options[option] in words for option, words in declared.words.items())

    def test_one_finite_score_a_query(self, scorer: ScorerChoice) -> None:
        """Scores are (q,) finite float64."""
        scores = scorer.score(request(scorer))
        assert scores.shape == (20,)
        assert scores.dtype == np.float64
        assert np.isfinite(scores).all()

    def test_what_is_far_from_all_references_scores_higher(self, scorer: ScorerChoice) -> None:
        """The query that drifted furthest scores above the references themselves."""
        asked = request(scorer)
        far = scorer.score(asked)[-1]
        assert far > np.median(scorer.score(replace(asked, queries=asked.references)))

    def test_the_same_request_gives_the_same_scores(self, scorer: ScorerChoice) -> None:
        """Two calls agree bit for bit, and the request is left as it was."""
        asked = request(scorer)
        before = [asked.references.copy(), asked.queries.copy()]
        np.testing.assert_array_equal(scorer.score(asked), scorer.score(asked))
        np.testing.assert_array_equal(asked.references, before[0])
        np.testing.assert_array_equal(asked.queries, before[1])

    def test_a_query_is_scored_alike_in_any_company(self, scorer: ScorerChoice) -> None:
        """A query's score does not depend on the other queries or on their order."""
        asked = request(scorer, queries=1100)
        together = scorer.score(asked)
        alone = [scorer.score(replace(asked, queries=asked.queries[[at]]))[0] for at in (0, 7, 1099)]
        np.testing.assert_allclose(alone, together[[0, 7, 1099]], rtol=0, atol=1e-6)
        turned = scorer.score(replace(asked, queries=asked.queries[::-1]))
        np.testing.assert_allclose(turned[::-1], together, rtol=0, atol=1e-6)

    def test_no_query_has_no_score(self, scorer: ScorerChoice) -> None:
        """Without queries the result is empty and no error."""
        asked = request(scorer)
        assert scorer.score(replace(asked, queries=asked.queries[:0])).shape == (0,)

    def test_years_without_domains_are_served(self, scorer: ScorerChoice) -> None:
        """With None for every domain there is one set of references."""
        asked = request(scorer)
        one_set = replace(asked, reference_domains=np.full(len(asked.references), None, dtype=object))
        assert np.isfinite(scorer.score(one_set)).all()

    @pytest.mark.parametrize("value", [0, 2])
    def test_a_constant_embedding_is_refused(self, scorer: ScorerChoice, value: float) -> None:
        """Where all references are equal, zero or not, clips cannot be told apart; equal levels are no mistake."""
        asked = request(scorer)
        flat = replace(asked, references=np.full_like(asked.references, value))
        if scorer.name == "level":
            assert scorer.score(flat)[0] == pytest.approx(abs(flat.queries[0, 0] - value))
            return
        with pytest.raises(HarnessError, match="must differ between clips, but all 36 reference vectors are equal"):
            scorer.score(flat)

    def test_a_silent_query_has_a_score(self, scorer: ScorerChoice) -> None:
        """A query that is zero, or equal to a reference, has a finite score."""
        asked = request(scorer)
        queries = np.concatenate([np.zeros_like(asked.references[:1]), asked.references[:1]])
        assert np.isfinite(scorer.score(replace(asked, queries=queries))).all()

    def test_one_domain_alone_is_served(self, scorer: ScorerChoice) -> None:
        """A section whose references are all of one domain is scored against these."""
        asked = request(scorer)
        for domain in ("source", "target"):
            alone = replace(asked, reference_domains=np.full(len(asked.references), domain, dtype=object))
            assert np.isfinite(scorer.score(alone)).all()

    @pytest.mark.parametrize("which", ["references", "queries"])
    def test_vectors_that_are_not_finite_are_refused(self, scorer: ScorerChoice, which: str) -> None:
        """NaN in references or queries is an error that says which vector it is."""
        asked = request(scorer)
        broken = getattr(asked, which).copy()
        broken[3, 0] = np.nan
        with pytest.raises(HarnessError, match=rf"1 of {len(broken)} \w+ vectors are not, first number 3"):
            scorer.score(replace(asked, **{which: broken}))

    @pytest.mark.parametrize("scale", [1e19, 1e-25])
    def test_vectors_that_float32_cannot_square_are_refused(self, scorer: ScorerChoice, scale: float) -> None:
        """Their products would overflow or vanish, and neighbours be chance; levels are compared as they are."""
        asked = request(scorer)
        scaled = replace(asked, references=asked.references * np.float32(scale))
        if scorer.name == "level":
            assert np.isfinite(scorer.score(scaled)).all()
            return
        with pytest.raises(HarnessError, match="whose squares float32 can hold"):
            scorer.score(scaled)

    def test_no_reference_is_refused(self, scorer: ScorerChoice) -> None:
        """Without any normal training clip there is nothing to compare with."""
        asked = request(scorer)
        with pytest.raises(HarnessError, match="at least one normal training clip"):
            scorer.score(replace(asked, references=asked.references[:0], reference_domains=asked.reference_domains[:0]))

    def test_vectors_of_two_sizes_are_refused(self, scorer: ScorerChoice) -> None:
        """References and queries must have the same dimension."""
        asked = request(scorer)
        with pytest.raises(HarnessError, match=r"\(r, d\) and \(q, d\)"):
            scorer.score(replace(asked, queries=np.ones((2, 3), dtype=np.float32)))

    def test_whole_numbers_and_odd_seeds_are_refused(self, scorer: ScorerChoice) -> None:
        """Vectors are floating-point numbers, and a seed is one that NumPy and scikit-learn take."""
        asked = request(scorer)
        for wrong in (asked.references.astype(int), asked.references.astype(object)):
            with pytest.raises(HarnessError, match=r"must be floating-point numbers, but got (int64|object)"):
                scorer.score(replace(asked, references=wrong))
        for seed in (-1, 2**32):
            with pytest.raises(HarnessError, match=f"seed must be between 0 and 4294967295, but got {seed}"):
                scorer.score(replace(asked, seed=seed))

    def test_one_target_clip_is_served(self, scorer: ScorerChoice) -> None:
        """A domain of a single clip has no spread of its own, and scores stay finite."""
        if scorer.scorer.options.get("k") is None or dict(scorer.options).get("k", 1) == 1:
            assert np.isfinite(scorer.score(request(scorer, source=40, target=1))).all()

    def test_domains_that_do_not_fit_are_refused(self, scorer: ScorerChoice) -> None:
        """Every reference has a domain or None."""
        asked = request(scorer)
        with pytest.raises(HarnessError, match="needs its domain or None"):
            scorer.score(replace(asked, reference_domains=asked.reference_domains[:3]))
        with pytest.raises(HarnessError, match="must be source, target or None, but got 'nan'"):
            scorer.score(replace(asked, reference_domains=np.full(36, np.nan, dtype=object)))


def test_knn_is_the_smaller_cosine_distance() -> None:
    """The score is the smallest cosine distance to a reference, of whichever domain."""
    asked = request()
    np.testing.assert_allclose(
        knn.score(asked), cdist(asked.queries, asked.references, "cosine").min(axis=1), rtol=0, atol=1e-12
    )


def test_nearest_finds_k_neighbours_over_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks of references and queries give the k nearest in order, a point itself left out if asked."""
    monkeypatch.setattr(neighbours, "REFERENCE_ROWS", 7)
    monkeypatch.setattr(neighbours, "QUERY_ROWS", 3)
    vectors = request(source=40, target=0).references
    distances, places = neighbours.nearest(vectors, vectors, k=3, exclude=np.arange(40))
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
    with pytest.raises(
        HarnessError, match=r"k = 4 references of a domain to compare with, but one has 3; take a smaller k"
    ):
        neighbours.nearest(vectors, vectors, k=4)
    with pytest.raises(HarnessError, match="at least 2 references"):
        knn_rescaled.score(ScoreRequest(vectors[:1], np.array(["source"], dtype=object), vectors))


def test_knn_rescaled_divides_by_the_references_spacing() -> None:
    """The score is the smallest distance to a reference over that reference's distance to its own neighbours."""
    asked = request()
    among = cdist(asked.references, asked.references, "cosine")
    np.fill_diagonal(among, np.inf)
    spacing = np.sort(among, axis=1)[:, :2].mean(axis=1)
    expected = (cdist(asked.queries, asked.references, "cosine") / spacing).min(axis=1)
    np.testing.assert_allclose(knn_rescaled.score(asked, k=2), expected, rtol=1e-9)


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


def test_the_covariance_is_shrunk_about_each_domains_mean() -> None:
    """It is scikit-learn's Ledoit-Wolf estimate of what is left of each reference without its domain's mean."""
    asked = request(source=25, target=6)
    sets = [asked.references[:25], asked.references[25:]]
    means = [vectors.mean(axis=0, dtype=np.float64) for vectors in sets]
    away = np.concatenate([vectors - mean for vectors, mean in zip(sets, means, strict=True)])
    ours = mahalanobis.covariance_around(sets, means)
    np.testing.assert_allclose(ours, LedoitWolf(assume_centered=True).fit(away).covariance_, rtol=1e-12)


def test_a_direction_without_spread_keeps_distances_finite() -> None:
    """Two references have one direction of spread, of which nothing is drawn to the identity but the least share."""
    vectors = np.array([[1, 0, 0], [-1, 0, 0]], dtype=np.float32)
    asked = ScoreRequest(vectors, np.full(2, "source", dtype=object), 2 * np.eye(3, dtype=np.float32))
    along, across, other = mahalanobis.score(asked)
    assert along < 3 < across == other < np.inf


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
    """Few references give one component, whose density is the normal one with variances drawn to the common one."""
    asked = request(source=12, target=0)
    deviation = asked.references.std(axis=0, dtype=np.float64)
    vectors = (asked.queries - asked.references.mean(axis=0, dtype=np.float64)) / deviation
    expected = -multivariate_normal(np.zeros(8), np.eye(8)).logpdf(vectors) / 8  # (12 * 1 + 10 * 1) / 22 = 1
    np.testing.assert_allclose(gmm.score(asked), expected, rtol=1e-9)


def test_few_clips_of_a_domain_take_the_common_variance() -> None:
    """Five target clips of variance 0.2 beside sources of 1 count as (5 * 0.2 + 10 * 1) / 15, in units of the whole."""
    random = np.random.default_rng(0)
    source, target = random.normal(0, 1, (15, 2)), random.normal(50, 0.2**0.5, (5, 2))
    references = np.concatenate([source, target]).astype(np.float32)
    domains = np.array(["source"] * 15 + ["target"] * 5, dtype=object)
    asked = ScoreRequest(references, domains, (references[15:] + 1).astype(np.float32))
    within = np.sqrt((15 * references[:15].var(axis=0) + 5 * references[15:].var(axis=0)) / 20)
    scaled = references[15:] / within
    drawn = (5 * scaled.var(axis=0) + 10) / 15
    density = multivariate_normal(scaled.mean(axis=0), np.diag(drawn)).logpdf(asked.queries / within)
    np.testing.assert_allclose(gmm.score(asked), -density / 2, rtol=1e-4)


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


def test_knn_takes_the_nearer_domain_or_all_references() -> None:
    """With k = 3 apart, the smaller of the domains' mean distances; together, the mean over the three of all."""
    asked = request()
    away = cdist(asked.queries, asked.references, "euclidean")
    of = {domain: np.sort(away[:, asked.reference_domains == domain], axis=1)[:, :3] for domain in ("source", "target")}
    apart = np.minimum(of["source"].mean(axis=1), of["target"].mean(axis=1))
    np.testing.assert_allclose(knn.score(asked, k=3, metric="euclidean"), apart, rtol=1e-6)
    together = np.sort(away, axis=1)[:, :3].mean(axis=1)
    found = knn.score(asked, k=3, metric="euclidean", domains="together")
    np.testing.assert_allclose(found, together, rtol=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 4, 12])
def test_neighbours_are_those_of_a_full_search(metric: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over blocks of which the first holds fewer than k references and the last a single one, none is missed."""
    monkeypatch.setattr(neighbours, "REFERENCE_ROWS", 9)
    monkeypatch.setattr(neighbours, "QUERY_ROWS", 16)
    random = np.random.default_rng(0)
    references, queries = 1 + random.normal(size=(64, 30)).astype("f4"), random.normal(size=(33, 30)).astype("f4")
    distances, places = neighbours.nearest(queries, references, k=k, metric=metric)
    truth = cdist(queries, references, metric)
    np.testing.assert_array_equal(places, truth.argsort(axis=1)[:, :k])
    np.testing.assert_allclose(distances, np.sort(truth, axis=1)[:, :k], rtol=1e-6)


def test_kmeans_keeps_target_clips_as_they_are() -> None:
    """A query on a target clip scores 0, one on a source clip the distance to its cluster's centre."""
    asked = request()
    target = asked.references[asked.reference_domains == "target"]
    assert kmeans.score(replace(asked, queries=target), clusters=2, metric="euclidean") == pytest.approx(0, abs=1e-6)
    groups = np.repeat([[0.0, 0.0], [10.0, 0.0]], 5, axis=0) + np.tile([[0, 1.0], [0, -1]], (5, 1))[:10]
    two = ScoreRequest(groups.astype(np.float32), np.full(10, "source", dtype=object), np.zeros((1, 2), np.float32))
    centre = np.mean([1, -1, 1, -1, 1])
    assert kmeans.score(two, clusters=2, metric="euclidean")[0] == pytest.approx(abs(centre))


def test_kmeans_needs_a_source_clip_a_cluster() -> None:
    """More clusters than source references are refused with a name that works."""
    with pytest.raises(HarnessError, match=r"at most the 30 source references .* kmeans:clusters=30"):
        kmeans.score(request(), clusters=31)


def test_smote_fills_the_rarer_domain_between_its_clips() -> None:
    """Target clips become as many as source clips, each new one on a line between two of them; source stays."""
    asked = request(source=30, target=3)
    target = asked.references[30:]
    filled = smote_knn._filled(target, 30, metric="cosine", neighbours=5, random=np.random.default_rng(0))
    np.testing.assert_array_equal(filled[:3], target)
    assert filled.shape == (30, 8)
    for new in filled[3:]:
        detours = [
            np.linalg.norm(new - one) + np.linalg.norm(new - other) - np.linalg.norm(one - other)
            for place, one in enumerate(target)
            for other in target[place + 1 :]
        ]
        assert min(detours) < 1e-5
    midpoint = replace(asked, queries=target[:1] + 0.5 * (target[1:2] - target[:1]))
    assert smote_knn.score(midpoint)[0] < knn.score(midpoint)[0]


def test_smote_leaves_a_domain_of_one_clip() -> None:
    """One target clip has nothing to be mixed with, so the search is the plain one."""
    asked = request(target=1)
    np.testing.assert_array_equal(smote_knn.score(asked), knn.score(asked))


def held_out(asked: ScoreRequest, held: np.ndarray) -> ScoreRequest:
    """Ask for some references by the others."""
    return replace(
        asked,
        references=asked.references[~held],
        reference_domains=asked.reference_domains[~held],
        queries=asked.references[held],
    )


def test_an_ensemble_is_the_mean_of_standardised_scores() -> None:
    """References are scored by folds against the others; queries are measured by their mean and deviation alone."""
    asked = request()
    parts = deal(in_any_order(asked))
    assert sorted(np.bincount(parts).tolist()) == [7, 7, 7, 7, 8]
    assert sorted(np.bincount(parts[30:], minlength=5).tolist()) == [1, 1, 1, 1, 2]
    expected = []
    for member in (knn, mahalanobis):
        unseen = np.concatenate([member.score(held_out(asked, parts == part)) for part in range(5)])
        expected.append((member.score(asked) - unseen.mean()) / unseen.std())
    np.testing.assert_allclose(ensemble.score(asked), np.mean(expected, axis=0), rtol=1e-12)


def test_copies_among_references_blow_up_no_member() -> None:
    """Where held-out references are copies of others, a member's scores differ by rounding, which is no unit."""
    asked = request()
    copies = replace(
        asked,
        references=np.repeat(asked.references[:4], 9, axis=0),
        reference_domains=np.full(36, "source", dtype=object),
    )
    assert np.abs(ensemble.score(copies, of="gmm+kmeans")).max() < 1e6


def test_an_ensemble_of_one_reference_is_refused() -> None:
    """Nothing can be held out of one reference."""
    vectors = np.eye(3, dtype=np.float32)
    with pytest.raises(HarnessError, match="at least 2 references, to score one against the others, but got 1"):
        ensemble.score(ScoreRequest(vectors[:1], np.array(["source"], dtype=object), vectors))


def test_mahalanobis_per_domain_measures_each_by_its_own_spread() -> None:
    """Beside a narrow source domain a wide target domain counts its own clips as near; one clip shares."""
    random = np.random.default_rng(0)
    source, target = random.normal(0, 0.1, (200, 3)), random.normal(5, 2.0, (200, 3))
    domains = np.array(["source"] * 200 + ["target"] * 200, dtype=object)
    asked = ScoreRequest(
        np.concatenate([source, target]).astype("f4"), domains, np.array([[1, 1, 1], [3, 3, 3]], dtype=np.float32)
    )
    shared, own = mahalanobis.score(asked), mahalanobis.score(asked, covariance="domain")
    assert shared[0] < shared[1]
    assert own[0] > own[1]
    lonely = replace(asked, references=asked.references[:201], reference_domains=domains[:201])
    assert mahalanobis.score(lonely, covariance="domain")[1] > 10
