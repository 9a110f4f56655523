"""Requests: what is sorted, what is refused, and the names under which slow steps are kept."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from labeling.contract import MIN_CONFIDENCE, LabelingError, RankRequest, forget
from labeling.pool import answer, keeping_own, memo_name, open_pool, require_labels, some


def request(**options) -> RankRequest:
    """Five clips in no order, three of them labeled."""
    columns = {
        "ids": np.array(["e", "b", "d", "a", "c"]),
        "features": np.arange(10.0).reshape(5, 2),
        "attributes": np.array(["y", None, "x", None, "y"], dtype=object),
        "case": "partial",
        "k1": 2,
        "k2": 2,
    }
    return RankRequest(**{**columns, **options})  # type: ignore[arg-type]


def opened(asked: RankRequest, **options):
    """Open a request's pool."""
    return open_pool(asked, strategy="test", cases=("partial",), **options)


def test_clips_are_sorted_by_id_with_all_their_columns():
    """Ids, features, codes and domains stand in the order of the ids; names are sorted and each stands once."""
    pool = opened(request(domains=np.array(["s", None, "t", "s", None], dtype=object)))
    assert pool.ids.tolist() == ["a", "b", "c", "d", "e"]
    assert pool.features.tolist() == [[6, 7], [2, 3], [8, 9], [4, 5], [0, 1]]
    assert pool.names.tolist() == ["x", "y"] and pool.codes.tolist() == [-1, -1, 1, 0, 1]
    assert pool.domains.tolist() == ["s", "", "", "t", "s"]
    assert pool.order.tolist() == [3, 1, 4, 2, 0]
    assert pool.labeled.tolist() == [False, False, True, True, True]
    assert opened(request()).domains.tolist() == [""] * 5
    nobody = opened(request(attributes=np.array([None] * 5, dtype=object)))
    assert nobody.names.shape == (0,) and nobody.names.dtype.kind == "U"


def test_the_answer_comes_in_the_order_of_the_request():
    """Rows of the sorted pool go back to the clips that they belong to; without word of it all are retained."""
    asked = request(ids=np.array(["e", "b", "d", "a", "c"], dtype=object))
    pool = opened(asked)
    own = keeping_own(pool, "partial")
    rows = {"names": pool.ids[:, None], "confidence": np.arange(5.0)[:, None], "labeled": own, "strategy": "test"}
    said = answer(asked, pool, **rows)
    assert said.ids.dtype.kind == pool.ids.dtype.kind == "U"
    assert said.names[:, 0].tolist() == said.ids.tolist() == ["e", "b", "d", "a", "c"]
    assert said.confidence[:, 0].tolist() == [4, 1, 3, 0, 2]
    assert said.labeled.tolist() == [True, False, True, False, True] and said.retained.all()
    assert (said.case, said.strategy) == ("partial", "test")
    assert answer(asked, pool, retained=~own, **rows).retained.tolist() == [False, True, False, True, False]
    assert keeping_own(pool, "direct").tolist() == own.tolist() and not keeping_own(pool, "fragmented").any()


def test_names_of_kept_steps_are_stable():
    """A name holds the step, its settings, the seed and a digest: of the ids alone, or of labels and domains too."""
    asked = request(seed=3)
    pool = opened(asked)
    for labels, columns in ((True, (pool.ids, pool.names, pool.codes, pool.domains)), (False, (pool.ids,))):
        seen = hashlib.sha256()
        for column in columns:
            seen.update(f"{column.dtype.str}{column.shape}".encode() + column.tobytes())
        name = memo_name(asked, pool, "step", labels=labels, k2=4, other="x")
        assert name == f"step k2=4 other=x seed=3 clips={seen.hexdigest()[:16]}"
    assert memo_name(asked, pool, "step") == memo_name(asked, pool, "step", labels=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"case": "direct"}, "test serves the cases partial, but got direct"),
        ({"seed": 2**32}, "seed must be between 0 and 4294967295, but got 4294967296"),
        ({"seed": -1}, "but got -1"),
        ({"ids": np.array([["a"] * 5])}, r"at least one clip, but its ids have the shape \(1, 5\)"),
        ({"ids": np.array(["a", "b", "a", "c", "b"])}, "unique, but 2 stand twice or more: a, b\\."),
        ({"ids": np.array(["a", "a", "a", "c", "b"])}, "unique, but 1 stand twice or more: a\\."),
        ({"features": np.full((5, 2), np.nan)}, "5 of 5 clips hold NaN or infinity: e, b, d, ...;"),
        (
            {"features": np.full((5, 2), 1.01e15)},
            r"within 1e\+15 of 0, but 5 of 5 clips hold larger ones: e, b, d, ...;",
        ),
        ({"features": np.array([[0, -1.01e15], *[[0, 0.0]] * 4])}, "1 of 5 clips hold larger ones: e;"),
        ({"attributes": np.array(["y", "", "x", 3, None], dtype=object)}, "but 2 are neither: '' of b, a\\."),
    ],
)
def test_what_is_refused(change, said):
    """Cases, seeds, ids, features and attributes that do not go are refused, with the clips by name."""
    with pytest.raises(LabelingError, match=said):
        opened(request(**change))


def test_the_last_that_is_taken():
    """The largest seed, features of exactly 1e15, one column; features that are not read may be anything."""
    assert opened(request(seed=2**32 - 1)).ids[0] == "a"
    assert opened(request(features=np.full((5, 2), -1e15))).features.max() == -1e15
    assert opened(request(features=np.full((5, 2), 1e15))).features.max() == 1e15
    assert opened(request(features=np.ones((5, 1)))).features.shape == (5, 1)
    assert opened(request(features=np.full((5, 1), np.nan)), reads_features=False).ids[0] == "a"


def test_some_names_three():
    """Three ids are named, a fourth and more are dots."""
    assert some(np.array(["a", "b", "c"])) == "a, b, c"
    assert some(np.array(["a", "b", "c", "d"])) == "a, b, c, ..."


def test_labels_are_required_where_they_are():
    """One labeled clip is enough, none is refused with the way out."""
    asked = request(attributes=np.array([None, None, "x", None, None], dtype=object))
    require_labels(opened(asked), "partial", "way out")
    with pytest.raises(LabelingError, match="none of the 5 clips has an attribute; way out"):
        require_labels(opened(replace(asked, attributes=np.array([None] * 5, dtype=object))), "partial", "way out")


def test_a_request_s_defaults():
    """The paper's 90 %, seed 0, no domains, and a memo that remembers nothing."""
    asked = request()
    assert (asked.min_confidence, asked.seed, asked.domains, MIN_CONFIDENCE) == (0.9, 0, None, 0.9)
    made = iter(range(9))
    assert [forget("a", lambda: next(made)) for _ in range(3)] == [0, 1, 2] == [*range(3)]
    assert asked.memo is forget


def test_what_is_remembered_is_no_part_of_a_request():
    """Two requests for the same clips are equal, whoever remembers their steps."""
    asked = request()
    assert replace(asked, memo=lambda _name, make: make()) == asked
    assert replace(asked, seed=1) != asked
