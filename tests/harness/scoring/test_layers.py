"""Which layers a scorer hears: one text a choice, and one score of several layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from harness import plugins
from harness.errors import HarnessError
from harness.scoring.choice import list_scorers, parse_scorer, plain_name, with_layers
from harness.scoring.contract import Part, ScoreRequest
from harness.scoring.folds import standardised
from harness.scoring.layers import OPTIONS, read_layers, score_layers
from harness.scoring.thresholds import training_scores
from harness.studies.study_file import StudyFile
from tests.harness.scorers.test_contract import request

PARTS = (Part(4, 3), Part(2, 5), Part(1, 6))


def layered(parts: tuple[Part, ...] = PARTS, *, seed: int = 0) -> ScoreRequest:
    """Build a request whose vectors are layers of these sizes, each of another scale."""
    random = np.random.default_rng(seed)
    asked = request()
    sizes = [part.bands * part.width for part in parts]
    scales = np.repeat(10.0 ** np.arange(len(parts)), sizes)

    def vectors(n: int) -> np.ndarray:
        return ((1 + random.normal(size=(n, sum(sizes)))) * scales).astype(np.float32)

    return replace(asked, references=vectors(36), queries=vectors(20), parts=parts)


def split(vectors: np.ndarray, parts: tuple[Part, ...] = PARTS) -> list[np.ndarray]:
    """Cut vectors into their layers, in double precision."""
    ends = np.cumsum([part.bands * part.width for part in parts])[:-1]
    return np.split(vectors.astype(np.float64), ends, axis=1)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("knn:layer=6", "knn:layer=6"),
        ("knn:layer=last", "knn"),
        ("knn:layer=8+4+ 6 +4", "knn:layer=4+6+8"),
        ("knn:layer=last+-1+mean+12", "knn:layer=12+-1+mean+last"),
        ("knn:metric=euclidean,merge=zmin,layer=6+4", "knn:layer=4+6,merge=zmin,metric=euclidean"),
        ("knn:layer=4+6,merge=join", "knn:layer=4+6"),
        ("knn:layer=4,merge=mean", "knn:layer=4"),
        ("knn:layer=4,frequency=keep", "knn:frequency=keep,layer=4"),
        ("knn_bands:layer=5,bands=8", "knn_bands:bands=8,layer=5"),
        ("gmm:layer=-2", "gmm@2:layer=-2"),
        ("zmin:of=mahalanobis+gwrp,layer=3", "zmin:layer=3,of=gwrp+mahalanobis"),
    ],
)
def test_equal_choices_have_equal_text(text: str, canonical: str) -> None:
    """Layers stand from low to high, each once; what changes nothing is left out."""
    assert str(parse_scorer(text)) == canonical
    assert parse_scorer(canonical) == parse_scorer(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("knn:layer=0", r"knn:layer must be a layer's number \(from 1, .* but got '0'"),
        ("knn:layer=4.5", "but got '4.5'"),
        ("knn:layer=", "but got ''"),
        ("knn:layer=4+", "but got ''"),
        ("knn:layer=first", "last or mean, or several joined by [+], but got 'first'"),
        ("knn:layer=4,layer=5", "layer stands twice"),
        ("knn:layer=4+5,merge=max", "knn:merge must be one of join, mean, zmin, but got 'max'"),
        ("knn:frequency=keep", "needs a layer that keeps frequency, .* name one"),
        ("knn:layer=4,frequency=kept", "knn:frequency must be one of .*Did you mean 'keep'"),
        ("knn_bands:layer=4,frequency=mean", "option of the scorer knn_bands must be one of .*, but got 'frequency'"),
        ("level:layer=4", "The scorer level takes no options"),
        ("ensemble:of=knn+knn:layer=4", "must be|takes|unknown"),
        ("knn:layer=" + "+".join(map(str, range(1, 30))), "at most 64 characters"),
    ],
)
def test_mistakes_are_one_sentence(text: str, said: str) -> None:
    """What is wrong, the rule, the value."""
    with pytest.raises(HarnessError, match=said):
        parse_scorer(text)


def test_names_of_files_tell_layers_apart() -> None:
    """A layer from the end, and several, have names of their own that files and metrics may have."""
    texts = ("knn:layer=2", "knn:layer=-2", "knn:layer=2+3", "knn:layer=2,frequency=keep", "knn")
    assert len({plain_name(str(parse_scorer(text))) for text in texts}) == len(texts)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_several_layers_are_merged_by_their_definition(metric: str) -> None:
    """Join: vectors of mean square norm 1 end to end; mean: of the scores; zmin: the smallest standardised score."""
    asked = layered()
    references, queries = split(asked.references), split(asked.queries)
    norms = [np.sqrt((one**2).sum(axis=1).mean()) for one in references]
    joined = [np.hstack([one / norm for one, norm in zip(each, norms, strict=True)]) for each in (queries, references)]
    away = [cdist(one, other, metric).min(axis=1) for one, other in zip(queries, references, strict=True)]
    expected = {"join": cdist(*joined, metric).min(axis=1), "mean": np.mean(away, axis=0)}
    for merge, scores in expected.items():
        found = parse_scorer(f"knn:layer=4+5+6,merge={merge},metric={metric}").score(asked)
        np.testing.assert_allclose(found, scores, rtol=1e-6)
    alone = [
        ScoreRequest(one.astype("f4"), asked.reference_domains, other.astype("f4"))
        for one, other in zip(references, queries, strict=True)
    ]
    member = parse_scorer(f"knn:metric={metric}")
    smallest = np.min([standardised(member, one) for one in alone], axis=0)
    found = parse_scorer(f"knn:layer=4+5+6,merge=zmin,metric={metric}").score(asked)
    np.testing.assert_allclose(found, smallest, rtol=1e-9, atol=1e-9)


def test_joined_layers_stand_band_by_band() -> None:
    """Of 4 and 2 bands 2 are made, each with two of the one and one of the other; a scorer of bands hears them so."""
    parts = (Part(4, 3), Part(2, 5))
    asked = layered(parts)
    references, queries = split(asked.references, parts), split(asked.queries, parts)
    norms = [np.sqrt((one**2).sum(axis=1).mean()) for one in references]

    def band(place: int, vectors: list[np.ndarray]) -> np.ndarray:
        first, second = (one / norm for one, norm in zip(vectors, norms, strict=True))
        return np.hstack([first[:, 6 * place : 6 * place + 6], second[:, 5 * place : 5 * place + 5]])

    away = [
        [
            cdist(band(place, queries), band(place, references)[asked.reference_domains == domain], "cosine").min(
                axis=1
            )
            for place in (0, 1)
        ]
        for domain in ("source", "target")
    ]
    expected = np.mean(away, axis=1).min(axis=0)
    found = parse_scorer("knn_bands:bands=2,layer=3+7").score(asked)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(HarnessError, match="bands must divide the 2 frequency bands of what it hears, but got 4"):
        parse_scorer("knn_bands:bands=4,layer=3+7").score(asked)


def test_a_scorer_is_told_of_one_part() -> None:
    """Joined layers are one part of as many bands as divide all, each alone is its own, with as many numbers a band."""

    class Spy:
        def __init__(self) -> None:
            self.parts: list[tuple[Part, ...]] = []

        def score(self, request: ScoreRequest) -> np.ndarray:
            self.parts.append(request.parts)
            return request.queries[:, 0].astype(float)

    for merge, wanted in (("join", [(Part(2, 11),)]), ("mean", [(Part(4, 3),), (Part(2, 5),)])):
        spy = Spy()
        score_layers(spy, layered((Part(4, 3), Part(2, 5))), merge)
        assert spy.parts == wanted


def test_a_threshold_is_learnt_from_the_same_layers() -> None:
    """Training clips are scored by the same layers and merge as test clips: (r,) finite scores."""
    asked = layered()
    for merge in ("join", "mean", "zmin"):
        scores = training_scores(parse_scorer(f"knn:layer=4+5+6,merge={merge}"), asked)
        assert scores.shape == (36,)
        assert np.isfinite(scores).all()


def test_layers_of_a_study_multiply_its_scorers() -> None:
    """Each scorer of embeddings hears each layer; one with a layer of its own, and the level, stay as they are."""
    assert with_layers(["knn", "gmm:layer=3", "level"], [6, "4+8", "last"]) == (
        "knn:layer=6", "knn:layer=4+8", "knn", "gmm@2:layer=3", "level",
    )  # fmt: skip
    table = {"name": "x", "protocol": "dcase2023", "scorers": ["knn", "mahalanobis"], "layers": [6, -1]}
    space = {"backbone": ["beats"], "m": [1], "k1": [3], "k2": [3]}
    file = StudyFile.model_validate({**table, "space": space})
    assert file.scorers == ["knn:layer=6", "knn:layer=-1", "mahalanobis:layer=6", "mahalanobis:layer=-1"]
    assert StudyFile.model_validate(file.model_dump()).scorers == file.scorers
    bare = StudyFile.model_validate({"name": "x", "protocol": "dcase2023", "space": space})
    assert file.content() == bare.content()  # layers are scored, like scorers: they train nothing


def test_every_scorer_has_a_row_in_the_docs() -> None:
    """docs/scorers.md names each scorer of the folder, and every option by which layers are chosen."""
    text = (Path(__file__).parents[3] / "docs" / "scorers.md").read_text()
    assert [name for name in plugins.names("scorer") if f"| `{name}` |" not in text] == []
    assert all(f"`{option}" in text for option in OPTIONS)


def test_a_loss_of_the_space_is_read_as_in_the_recipe() -> None:
    """Two spellings of a loss are one text, and one that there is not is refused."""
    table = {"name": "x", "protocol": "dcase2023"}
    space = {"backbone": ["tiny"], "m": [1], "k1": [3], "k2": [3], "loss": ["arcface:scale=30,margin=0.3", "adacos"]}
    assert StudyFile.model_validate({**table, "space": space}).space.values("loss")[0].startswith("arcface:margin=0.3")
    with pytest.raises(ValueError, match="arcfac"):
        StudyFile.model_validate({**table, "space": {**space, "loss": ["arcfac"]}})


def test_listings_show_which_layers_a_scorer_takes() -> None:
    """Every scorer of embeddings takes them, with the defaults; the level does not."""
    (shown, level) = (row["options"] for row in list_scorers({"knn": "", "level": ""}))
    assert shown["layer"] == {"default": "last"}
    assert shown["merge"] == {"default": "join", "words": ["join", "mean", "zmin"]}
    assert level == {}
    assert read_layers("knn", {}).options() == ()
    given = {"merge": "mean", "layer": "6+4", "frequency": "keep"}
    wanted = (("frequency", "keep"), ("layer", "4+6"), ("merge", "mean"))
    assert read_layers("knn", given).options() == wanted  # in the order in which listings show them
