"""A scorer's text is read once, and has one canonical form."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import plugins
from harness.errors import HarnessError
from harness.scoring.choice import canonical_scorers, is_computed, load_scorer, parse_scorer, plain_name
from harness.stores.run_names import result_metrics
from harness.studies.study_file import StudyFile
from tests.harness.made_up import make_result, make_spec


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("knn", "knn"),
        ("knn:k=1,metric=cosine", "knn"),
        (" knn: metric=euclidean , k=5 ", "knn:k=5,metric=euclidean"),
        ("ensemble:of=mahalanobis+knn", "ensemble"),
        ("ensemble:of=knn+gmm+knn", "ensemble:of=gmm@2+knn"),
        ("knn@1:k=3", "knn:k=3"),
        ("gmm:components=2", "gmm@2:components=2"),
    ],
)
def test_equal_choices_have_equal_text(text: str, canonical: str) -> None:
    """Defaults are left out, options and members sorted."""
    assert str(parse_scorer(text)) == canonical
    assert parse_scorer(canonical) == parse_scorer(text)


@settings(max_examples=20, deadline=None)
@given(
    st.permutations(
        [("k", st.integers(1, 50)), ("metric", st.sampled_from(["cosine", "euclidean"])),
         ("domains", st.sampled_from(["apart", "together"]))]
    ).flatmap(lambda pairs: st.tuples(*(st.tuples(st.just(name), values) for name, values in pairs)))
)  # fmt: skip
def test_order_does_not_matter(options: tuple[tuple[str, Any], ...]) -> None:
    """In whatever order options come, reading the canonical text gives the same choice again."""
    choice = parse_scorer("knn:" + ",".join(f"{name}={value}" for name, value in options))
    assert parse_scorer(str(choice)) == choice
    assert dict(choice.options).items() <= dict(options).items()
    assert re.fullmatch(r"[\w.-]+", plain_name(str(choice)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("knm", r"scorer must be one of .*Did you mean 'knn'\?"),
        (
            "knn:metrik=cosine",
            r"option of the scorer knn must be one of domains.* metric, .*Did you mean 'metric'\?",
        ),
        ("knn:metric=cosin", r"knn:metric must be one of cosine, euclidean, but got 'cosin'\. Did you mean 'cosine'\?"),
        ("knn:k=0", "knn:k must be a whole number of at least 1, but got '0'"),
        ("knn:k=2.5", "knn:k must be a whole number of at least 1, but got '2.5'"),
        ("knn:k", "must read option=value,option=value after its name, but got 'k'"),
        ("knn:k=1,k=2", "k stands twice"),
        ("gmm@1:components=2", "gmm is computed as its version 2 here, but got 'gmm@1'; name it gmm"),
        ("knn@2", "knn is computed as its version 1 here"),
        ("knn@", "knn is computed as its version 1 here"),
        ("ensemble:of=gmm+gmm@1", "gmm is computed as its version 2 here"),
        ("ensemble:of=knn+level", "takes scorers of embeddings without options, joined by [+], but level is none"),
        ("level:k=1", "The scorer level takes no options, but got k=1"),
        ("ensemble:of=knn", "at least two scorers joined by"),
        ("ensemble:of=knn+level", "joined by [+], but level is none"),
        ("ensemble:of=knn+ensemble", "joined by [+], but ensemble is none"),
        ("ensemble:of=knn+knm", r"Did you mean 'knn'\?"),
        ("kmeans:clusters=" + "9" * 60, "at most 64 characters"),
    ],
)
def test_mistakes_are_one_sentence(text: str, said: str) -> None:
    """What is wrong, the rule, and the nearest right name."""
    with pytest.raises(HarnessError, match=said):
        parse_scorer(text)


WORDED = [
    (name, option)
    for name in plugins.names("scorer")
    for option, default in load_scorer(name).options.items()
    if isinstance(default, str) and option != "of"
]


@pytest.mark.parametrize(("name", "option"), WORDED)
def test_a_word_that_an_option_does_not_have_is_refused(name: str, option: str) -> None:
    """Every option that takes a word says which ones there are; none lets another through to the scorer."""
    with pytest.raises(HarnessError, match=f"{name}:{option} must be one of .*, but got 'nonsense'"):
        parse_scorer(f"{name}:{option}=nonsense")


def test_scores_of_an_earlier_version_stand_apart() -> None:
    """What was recorded as "gmm" is not what is computed as gmm today, and names of files and metrics differ too."""
    assert [is_computed(text) for text in ("gmm@2", "knn", "ensemble:of=gmm@2+knn")] == [True] * 3
    assert [is_computed(text) for text in ("gmm", "gmm@1", "ensemble:of=gmm+knn", "gone")] == [False] * 4
    assert (plain_name("gmm@2:components=3"), plain_name("gmm")) == ("gmm-v2-components.3", "gmm")


def test_a_study_holds_canonical_scorers() -> None:
    """Two spellings of one scorer are one, in the order of their first naming."""
    assert canonical_scorers(["knn:k=2", "gmm", "knn:metric=cosine,k=2"]) == ("knn:k=2", "gmm@2")
    table = {"name": "x", "protocol": "dcase2023", "scorers": ["knn:metric=cosine", "knn:k=5"]}
    space = {"backbone": ["tiny"], "m": [1], "k1": [3], "k2": [3]}
    assert StudyFile.model_validate({**table, "space": space}).scorers == ["knn", "knn:k=5"]


def test_metric_names_are_legal_for_mlflow() -> None:
    """A second scorer's options are part of its metrics' names, in characters that MLflow takes."""
    made = make_result(make_spec())
    second = "knn:k=5,metric=euclidean"
    both = {
        name: {"knn": getattr(made, name)["knn"], second: getattr(made, name)["knn"]}
        for name in ("metrics", "official", "machines")
    }
    names = result_metrics(type(made)(**{**made.__dict__, **both}))
    assert "knn-k.5-metric.euclidean/official_score" in names
    assert all(re.fullmatch(r"[\w./ -]+", name) for name in names)


def test_the_listing_shows_options(asdbench: Any) -> None:
    """`ls scorers --json` says what each scorer takes, with defaults and words."""
    status, out, _ = asdbench("ls scorers --json")
    assert status == 0
    rows = {row["name"]: row for row in json.loads(out)["rows"]}
    assert rows["knn"]["options"]["metric"] == {"default": "cosine", "words": ["cosine", "euclidean"]}
    assert rows["level"]["options"] == {}
