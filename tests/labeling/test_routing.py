"""Which case a machine type is, from what its clips show."""

from __future__ import annotations

import numpy as np
import pytest

from labeling import routing
from labeling.contract import CASES, LabelingError
from labeling.routing import CASE_STRATEGY, attribute_keys, route


def clips(*years: tuple[str, list[str | None]]) -> dict[str, np.ndarray]:
    """Make attributes and years: for each year its attributes, each given to twenty clips."""
    attributes = [name for _, names in years for name in names for _ in range(20)]
    said = [year for year, names in years for _ in names for _ in range(20)]
    return {"attributes": np.array(attributes, dtype=object), "years": np.array(said, dtype=object)}


SPEEDS = ["vel_4", "vel_8", "vel_12"]
ROUTES = {
    "bearing: labeled in 2024, withheld in 2025": ("sample-wise", clips(("2024", SPEEDS), ("2025", [None] * 3))),
    "gearbox: withheld in 2024, labeled in 2025": ("partial", clips(("2024", [None] * 3), ("2025", SPEEDS))),
    "slider: never labeled": ("unlabeled", clips(("2024", [None] * 3), ("2025", [None] * 3))),
    "fan: two schemas": ("fragmented", clips(("2024", ["m-n_W", "m-n_X"]), ("2025", ["zone_1", "zone_2"]))),
    "ToyCar: one schema, all labeled": (
        "direct",
        clips(("2024", ["car_A1_spd_28V", "car_B1_spd_31V"]), ("2025", ["car_C1_spd_28V", "car_A1_spd_40V"])),
    ),
    "a single year, partly withheld": ("sample-wise", clips(("2023", ["pat_00", "pat_01", None, None]))),
    "conflict, but few labels": ("partial", clips(("2021", ["mix_1"]), ("2022", ["m-n_W"]), ("2025", [None] * 4))),
    "slider over all years": (
        "sample-wise",
        clips(("2020", [None]), ("2022", SPEEDS), ("2023", SPEEDS), ("2024", [None] * 3), ("2025", [None] * 3)),
    ),
}


@pytest.mark.parametrize("told", ROUTES)
def test_the_table_of_routes(told):
    """Each kind of machine type goes where the paper's Table 1 has it, and says why in one sentence."""
    case, columns = ROUTES[told]
    found = route(**columns)
    assert found.case == case
    assert found.strategy == CASE_STRATEGY[case]
    assert found.why.endswith(f": {case}.")
    assert found.why[0].isupper() or found.why[0].isdigit()


def test_every_case_has_a_strategy():
    """The map from cases to strategies is complete."""
    assert set(CASE_STRATEGY) == set(CASES)


def test_the_reason_carries_the_numbers():
    """The sentence names counts, so that a reader can check it."""
    found = route(**ROUTES["bearing: labeled in 2024, withheld in 2025"][1])
    assert (
        found.why == "60 of 120 clips are labeled with 3 attributes, few and consistent, 20.0 clips each: sample-wise."
    )


def test_a_protocol_wins():
    """A fixed case is taken whatever the clips show, and an unknown one is refused."""
    columns = ROUTES["slider: never labeled"][1]
    assert route(**columns, fixed="partial").case == "partial"
    with pytest.raises(LabelingError, match=r"one of sample-wise, fragmented, .* but got samplewise"):
        route(**columns, fixed="samplewise")


def test_thin_labels_are_partial():
    """With fewer than five labeled clips an attribute a forest has too little; so has one with too many attributes."""
    thin = np.array(["a_1", "b_1", "c_1", *[None] * 20], dtype=object)
    assert route(thin).case == "partial"
    assert "1.0 clips an attribute" in route(thin).why
    many = np.array([f"spd_{number % 70}" for number in range(700)] + [None] * 700, dtype=object)
    assert "70 attributes are more than 64" in route(many).why


def test_clusters_that_contradict_the_labels_make_fragmented():
    """Labels that say nothing about the clusters conflict; labels that follow them do not."""
    attributes = np.array(["a", "b"] * 50, dtype=object)
    following, crossing = np.arange(100) % 2, np.arange(100) // 50
    assert route(attributes, clusters=following).case == "direct"
    assert route(attributes, clusters=crossing).case == "fragmented"
    assert route(attributes, clusters=lambda: crossing).case == "fragmented"


def test_clusters_are_made_only_when_they_matter():
    """The callable is not asked where nothing is labeled or the years settle it."""

    def never():
        raise AssertionError

    assert route(np.array([None, None], dtype=object), clusters=never).case == "unlabeled"
    assert route(**ROUTES["fan: two schemas"][1], clusters=never).case == "fragmented"


def test_labels_of_one_domain_are_mentioned():
    """When only the source domain is labeled the reason says so."""
    attributes = np.array(["pat_0"] * 10 + [None] * 10, dtype=object)
    domains = np.array(["source"] * 10 + ["target"] * 10, dtype=object)
    assert "all labeled clips come from the source domain" in route(attributes, domains=domains).why


@pytest.mark.parametrize(
    ("attribute", "keys"),
    [
        ("car_B1_spd_31V_mic_1", {"car", "spd", "mic"}),
        ("m-n_X", {"m-n"}),
        ("ac_0.03_", {"ac"}),
        ("v1pat_04", {"v"}),
        ("weight15_BckgF", {"weight"}),
        ("pat_00", {"pat"}),
        ("strength_1_ambient", {"strength", "ambient"}),
        ("17", {"17"}),
    ],
)
def test_keys_of_official_attributes(attribute, keys):
    """Keys are read from every form that the official names have, and can be counted like names."""
    assert attribute_keys(attribute) == keys
    assert len({attribute_keys(attribute), frozenset(keys)}) == 1


def test_refuses_empty_and_uneven_columns():
    """No clip, or columns of other lengths, are refused."""
    with pytest.raises(LabelingError, match="at least one clip"):
        route(np.array([], dtype=object))
    with pytest.raises(LabelingError, match="one row a clip, 2, but got 1"):
        route(np.array(["a", "b"], dtype=object), years=np.array(["2024"], dtype=object))
    with pytest.raises(LabelingError, match="clusters must have one number a clip, 60, but got 3"):
        route(clips(("2024", SPEEDS))["attributes"], clusters=np.zeros(3, dtype=np.int64))


YEARS = {"years": np.array(["2023"] * 20 + ["2024"] * 40, dtype=object)}


@pytest.mark.parametrize(
    ("attributes", "options", "why"),
    [
        ([None] * 3, {}, "None of the 3 clips is labeled: unlabeled."),
        (["a_1", "b_1"] * 2, {}, "All 4 clips are labeled with 2 attributes, and nothing contradicts them: direct."),
        (["a_1"] * 4, {"fixed": "partial"}, "The protocol fixes partial."),
        (["a_1"] * 4 + [None] * 6, {},
         "4 of 10 clips are labeled with 1 attribute, but 4.0 clips an "
         "attribute are under 5: partial."),
        (
            ["a_1"] * 20 + [None] * 20 + ["a_1"] * 20, YEARS,
            "40 of 60 clips are labeled with 1 attribute, but the newest year, 2024, has them (50%): partial.",
        ),
        (
            ["a_1_b_1_c_1_d_1"] * 20 + ["a_1_e_1_f_1_g_1"] * 40, YEARS,
            "60 of 60 clips are labeled with 2 attributes, and 2023 (a, b, c, ...) "
            "and 2024 (a, e, f, ...) share 25% of their keys: fragmented.",
        ),
        (
            ["a_1_b_1_c_1"] * 20 + ["d_1"] * 5 + [None] * 35, YEARS,
            "25 of 60 clips are labeled with 2 attributes, but 2023 (a, b, c) and "
            "2024 (d) share 0% of their keys: partial.",
        ),
        (
            ["a_1"] * 20 + ["b_1"] * 20 + ["c_1"] * 20,
            {"years": np.repeat(["2025", "2024", "2023"], 20).astype(object)},
            "60 of 60 clips are labeled with 3 attributes, and 2023 (c) "
            "and 2024 (b) share 0% of their keys: fragmented.",
        ),
        (
            ["a_1", "a_2"] * 20, {"clusters": np.arange(40) // 2 % 2},
            "40 of 40 clips are labeled with 2 attributes, and labels and clusters "
            "agree by -0.02 where chance is 0: fragmented.",
        ),
        (
            ["a_1"] * 10 + [None] * 20, {"domains": np.array(["target"] * 10 + ["source"] * 20, dtype=object)},
            "10 of 30 clips are labeled with 1 attribute, few and consistent, "
            "10.0 clips each; all labeled clips come from the target domain: sample-wise.",
        ),
        (
            ["a_1"] * 4 + [None] * 20, {"domains": np.array(["target"] * 4 + ["source"] * 20, dtype=object)},
            "4 of 24 clips are labeled with 1 attribute, but 4.0 clips an "
            "attribute are under 5; all labeled clips come from the target domain: partial.",
        ),
        (
            ["a_1"] * 10 + [None] * 20, {"domains": np.array(["target"] * 30, dtype=object)},
            "10 of 30 clips are labeled with 1 attribute, few and consistent, 10.0 clips each: sample-wise.",
        ),
        (
            ["a_1"] * 10 + [None] * 20, {"domains": np.array(["target", "source"] * 15, dtype=object)},
            "10 of 30 clips are labeled with 1 attribute, few and consistent, 10.0 clips each: sample-wise.",
        ),
    ],
)  # fmt: skip
def test_reasons_word_by_word(attributes, options, why):
    """The case and the sentence that says why, with its numbers."""
    assert route(np.array(attributes, dtype=object), **options).why == why


def test_clusters_that_say_nothing_are_not_asked():
    """One attribute, one cluster among the labeled clips, or fewer than 30 labeled clips: no conflict with clusters."""
    two = np.array(["a_1", "a_2"] * 20, dtype=object)
    assert route(np.array(["a_1"] * 40, dtype=object), clusters=np.arange(40) % 2).case == "direct"
    assert route(two, clusters=np.zeros(40, dtype=int)).case == "direct"
    beside = np.append(two, [None] * 20)
    assert route(beside, clusters=np.array([0] * 40 + [1] * 20)).case == "sample-wise"


@pytest.mark.parametrize(
    ("attribute", "keys"), [("_a_1_", {"a"}), ("__b", {"b"}), ("1_2_3", {"1_2_3"}), ("a1b2_x_c9", {"a", "c"})]
)
def test_keys_of_odd_attributes(attribute, keys):
    """Signs at either end are no token, a digit ends a key, and what has no key is its own."""
    assert attribute_keys(attribute) == keys


def test_the_thresholds_stay():
    """Those with which cases were chosen in recorded trials."""
    assert (routing.LABEL_RICH, routing.SHARED_KEYS, routing.AGREEMENT) == (0.5, 0.5, 0.05)
    assert (routing.AGREEMENT_CLIPS, routing.CLIPS_PER_ATTRIBUTE, routing.FEW_ATTRIBUTES) == (30, 5.0, 64)


@pytest.mark.parametrize("names", [("a_1_b_1_c_1", "a_1"), ("a_1", "a_1_b_1_c_1")])
def test_a_year_with_few_of_another_s_keys_shares_them_all(names):
    """What is shared is a part of the smaller year's keys, be it the earlier or the later one."""
    assert (
        route(**clips(*((year, [name]) for year, name in zip(("2023", "2024"), names, strict=True)))).case == "direct"
    )
