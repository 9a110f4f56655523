"""Fusion, its statistics, the quality of labels and what is withheld, written a second time in a few plain lines."""

from __future__ import annotations

import hashlib
import math
from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from labeling import fusion as fusion_module
from labeling.contract import LabelingError, RankedCandidates
from labeling.fusion import fuse_top_m, fused_names, label_statistics
from labeling.quality import label_quality
from labeling.withhold import withhold


def random_candidates(seed: int, machine: str, *, clips: int = 25, width: int = 4) -> RankedCandidates:
    """Rank random candidates, some rows short or empty, some clips labeled, some not retained."""
    rng = np.random.default_rng(seed)
    names = np.full((clips, width), "", dtype="<U3")
    confidence = np.zeros((clips, width))
    labeled = rng.random(clips) < 0.2
    for clip in range(clips):
        count = 1 if labeled[clip] else int(rng.integers(0, width + 1))
        names[clip, :count] = rng.choice(["a", "b", "b_c", "c", "c_d"], count, replace=False)
        confidence[clip, :count] = 1.0 if labeled[clip] else np.sort(rng.integers(0, 4, count))[::-1] / 4
    ids = np.array([f"{machine}-{clip:02d}" for clip in range(clips)])
    retained = labeled | (rng.random(clips) < 0.7)
    return RankedCandidates(ids, names, confidence, retained, labeled, "sample-wise", "sample_wise")


def rows_by_hand(ranked: RankedCandidates, m: int, fusion: str, below: str):
    """Return (id, names, weights) of every clip that takes part."""
    rows = []
    for place, clip in enumerate(ranked.ids.tolist()):
        if not ranked.retained[place] and below == "drop":
            continue
        best = [name for name in ranked.names[place, :m].tolist() if name] if ranked.retained[place] else []
        weights = ranked.confidence[place, : len(best)].tolist()
        rows.append((clip, tuple(sorted(best)) if fusion == "set" else tuple(best), weights))
    return rows


@pytest.mark.parametrize("below", ["drop", "machine"])
@pytest.mark.parametrize("fusion", ["composite", "set", "soft"])
@pytest.mark.parametrize("seed", [0, 1])
def test_fusion_is_its_definition(seed, fusion, below):
    """Who takes part, which class or weights each has, and the counts of every machine type."""
    candidates = {machine: random_candidates(seed + at, machine) for at, machine in enumerate(("pump", "fan"))}
    for m in (1, 2, 4):
        labels = fuse_top_m(candidates, m=m, fusion=fusion, below=below)
        rows = [(machine, *row) for machine, one in candidates.items() for row in rows_by_hand(one, m, fusion, below)]
        assert labels.ids.tolist() == [clip for _, clip, _, _ in rows]
        assert labels.classes.tolist() == sorted(set(labels.classes.tolist()))
        used: dict[str, Counter[str]] = {"pump": Counter(), "fan": Counter()}
        if fusion == "soft":
            assert labels.targets.dtype == np.float32
            for target, (machine, _, names, weights) in zip(labels.targets, rows, strict=True):
                shares = (
                    [each / sum(weights) for each in weights] if sum(weights) else [1 / max(len(names), 1)] * len(names)
                )
                wanted = {f"{machine}|{name}": share for name, share in zip(names, shares, strict=True)} or {
                    machine: 1.0
                }
                given = dict(zip(labels.classes.tolist(), target.tolist(), strict=True))
                assert {k: v for k, v in given.items() if v} == pytest.approx({k: v for k, v in wanted.items() if v})
                used[machine].update(name for name, share in wanted.items() if share)
            every = {f"{machine}|{name}" for machine, _, names, _ in rows for name in names}
            every |= {machine for machine, _, names, _ in rows if not names}
            assert set(labels.classes.tolist()) == every
        else:
            classes = labels.classes[labels.targets].tolist()
            kinds: dict[str, set] = {}
            for name, (machine, _, names, _) in zip(classes, rows, strict=True):
                joined = f"{machine}|{'_'.join(names)}" if names else machine
                assert name.split("#")[0] == joined
                kinds.setdefault(name, set()).add((machine, names))
                used[machine][name] += 1
            assert all(len(names) == 1 for names in kinds.values())  # one class, one tuple
            assert len(kinds) == len({(machine, names) for machine, _, names, _ in rows}) == len(labels.classes)
        statistics = label_statistics(candidates, labels)
        assert list(statistics) == ["pump", "fan"]
        for machine, ranked in candidates.items():
            taking = {clip: names for at, clip, names, _ in rows if at == machine}
            own = dict(zip(ranked.ids.tolist(), ranked.labeled.tolist(), strict=True))
            guessed = [clip for clip, names in taking.items() if names and not own[clip]]
            places = [ranked.ids.tolist().index(clip) for clip in guessed]
            counts = [(ranked.names[place] != "").sum() for place in places]
            found = statistics[machine]
            assert (found.clips, found.labeled, found.pseudo_labeled) == (25, sum(ranked.labeled), len(guessed))
            assert found.machine_alone == sum(not names and not own[clip] for clip, names in taking.items())
            assert found.left_out == 25 - len(taking)
            assert (found.classes, found.singletons) == (
                len(used[machine]),
                sum(n == 1 for n in used[machine].values()),
            )
            assert found.mean_confidence == pytest.approx(ranked.confidence[places, 0].mean())
            assert (found.candidates, found.distinct_m) == (pytest.approx(np.mean(counts)), max(counts))


def test_texts_that_are_equal_by_chance_are_numbered():
    """Of tuples that read alike the shortest keeps the text, others follow by tuple; a taken number gets a sign."""
    rows = [["b_c", "d", ""], ["b", "c_d", ""], ["b_c_d", "", ""], ["b", "c", "d"], ["b_c_d#2", "", ""]]
    ranked = RankedCandidates(
        np.array(list("vwxyz")),
        np.array(rows),
        np.full((5, 3), 0.1),
        np.ones(5, bool),
        np.zeros(5, bool),
        "partial",
        "a",
    )
    labels = fuse_top_m({"fan": ranked}, m=3)
    assert dict(zip(labels.ids.tolist(), labels.classes[labels.targets].tolist(), strict=True)) == {
        "x": "fan|b_c_d", "w": "fan|b_c_d#2#", "v": "fan|b_c_d#3", "y": "fan|b_c_d#4", "z": "fan|b_c_d#2",
    }  # fmt: skip
    alone = RankedCandidates(
        np.array(["p"]), np.array([[""]]), np.zeros((1, 1)), np.ones(1, bool), np.zeros(1, bool), "partial", "a"
    )
    named = RankedCandidates(
        np.array(["q"]), np.array([["x"]]), np.ones((1, 1)), np.ones(1, bool), np.zeros(1, bool), "partial", "a"
    )
    labels = fuse_top_m({"fan": named, "fan|x": alone}, m=1)
    assert dict(zip(labels.ids.tolist(), labels.classes[labels.targets].tolist(), strict=True)) == {
        "p": "fan|x", "q": "fan|x#2",
    }  # fmt: skip
    assert (fusion_module.FUSIONS, fusion_module.BELOWS) == (("composite", "set", "soft"), ("drop", "machine"))


def test_defaults_of_fusion():
    """Composite labels; clips that are not retained are dropped; M up to the widest row, or to `widest`."""
    candidates = {"fan": random_candidates(3, "fan"), "pump": random_candidates(4, "pump", width=2)}
    plain, said = fuse_top_m(candidates, m=4), fuse_top_m(candidates, m=4, fusion="composite", below="drop", widest=4)
    assert plain.ids.tolist() == said.ids.tolist() and np.array_equal(plain.targets, said.targets)
    assert fused_names(candidates["fan"], m=2) == fused_names(candidates["fan"], m=2, fusion="composite")
    for widest in (None, 4):
        with pytest.raises(LabelingError, match=r"between 1 and 4, .* but got 5"):
            fuse_top_m(candidates, m=5, widest=widest)
    twice = {"fan": candidates["fan"], "pump": candidates["fan"]}
    with pytest.raises(LabelingError, match=r"one machine type, but fan-0.*, \.\.\. stand in two"):
        fuse_top_m(twice, m=1)


@pytest.mark.parametrize("fusion", ["composite", "set", "soft"])
def test_quality_is_its_definition(fusion):
    """Purity, NMI, ARI, entropy, recall and counts of clips, by hand, for two machine types and several M."""
    candidates = {"fan": random_candidates(5, "fan", clips=40), "pump": random_candidates(6, "pump")}
    rng = np.random.default_rng(0)
    truth = {
        clip: str(rng.choice(["a", "b", "c"]))
        for one in candidates.values()
        for clip in one.ids.tolist()
        if rng.random() < 0.8
    }
    for m in (1, 3):
        for machine, found in label_quality(candidates, truth, m=m, fusion=fusion, widest=4).items():
            ranked = candidates[machine]
            fused = fused_names(ranked, m=m, fusion="composite" if fusion == "soft" else fusion)
            judged = [at for at, clip in enumerate(ranked.ids.tolist()) if clip in truth and not ranked.labeled[at]]
            kept = [at for at in judged if ranked.retained[at]]
            true = {at: truth[str(ranked.ids[at])] for at in judged}
            hits = {at: true[at] in ranked.names[at, :m].tolist() for at in judged}
            assert (found.clips, found.true_classes) == (len(judged), len(set(true.values())))
            assert found.left_out == pytest.approx(1 - len(kept) / len(judged))
            assert found.recall_at_m == pytest.approx(sum(hits.values()) / len(judged))
            assert found.recall_at_m_retained == pytest.approx(sum(hits[at] for at in kept) / len(kept))
            if fusion == "soft":
                assert (found.classes, found.purity, found.nmi, found.ari, found.entropy) == (0, None, None, None, None)
                continue
            groups: dict[tuple, Counter[str]] = {}
            for at in kept:
                groups.setdefault(fused[at], Counter())[true[at]] += 1
            shares = [sum(group.values()) / len(kept) for group in groups.values()]
            assert found.classes == len(groups)
            assert found.purity == pytest.approx(sum(max(group.values()) for group in groups.values()) / len(kept))
            assert found.entropy == pytest.approx(-sum(share * math.log2(share) for share in shares))
            names, truths = ["/".join(fused[at]) for at in kept], [true[at] for at in kept]
            assert found.nmi == pytest.approx(normalized_mutual_info_score(truths, names))
            assert found.ari == pytest.approx(adjusted_rand_score(truths, names))


def test_quality_of_nobody():
    """No machine type has no quality, and M is still checked: at most 1 of no candidates."""
    assert label_quality({}, {}, m=1) == {}
    with pytest.raises(LabelingError, match=r"between 1 and 1, .* but got 2"):
        label_quality({}, {}, m=2)
    nothing = label_quality({"fan": random_candidates(0, "fan")}, {}, m=1)["fan"]
    assert (nothing.clips, nothing.classes, nothing.true_classes, nothing.entropy, nothing.nmi) == (0, 0, 0, None, None)


def number(clip: str, seed: int) -> float:
    """Return a clip's number in 0..1: the upper 53 of 64 bits of BLAKE2b salted with the seed."""
    digest = hashlib.blake2b(clip.encode(), digest_size=8, salt=str(seed).encode()[:16]).digest()
    return (int.from_bytes(digest, "big") // 2**11) / 2**53


@pytest.mark.parametrize("seed", [0, 7, 10**20])
def test_withheld_clips_are_those_whose_number_is_under_the_share(seed):
    """Every clip's number decides, so recorded studies hide the same clips for ever; at the border it is not hidden."""
    ids = np.array([f"clip_{clip}" for clip in range(60)], dtype=object)
    attributes = np.array(["a", "b", None] * 20, dtype=object)
    domains = np.array(["source", "source", "source", "target"] * 15, dtype=object)
    border = sorted(number(clip, seed) for clip in ids)[30]
    for share in (0.3, border, 1.0):
        for domain in (None, "target"):
            seen, truth = withhold(ids, attributes, share=share, domains=domains, domain=domain, seed=seed)
            hidden = {
                clip: name
                for clip, name, at in zip(ids, attributes, domains, strict=True)
                if name and number(clip, seed) < share and domain in (None, at)
            }
            assert truth == hidden
            assert seen.tolist() == [None if clip in hidden else a for clip, a in zip(ids, attributes, strict=True)]
    plain = withhold(ids, attributes)[1]
    assert len(plain) == 40
    assert withhold(ids, attributes, share=0.5)[1] == withhold(ids, attributes, share=0.5, seed=0)[1]
    for share in (-0.01, 1.01):
        with pytest.raises(LabelingError, match=f"share must be between 0 and 1, but got {share}"):
            withhold(ids, attributes, share=share)
    with pytest.raises(LabelingError, match="the domain target, domains must have one row a clip, 60, but got 5"):
        withhold(ids, attributes, domains=domains[:5], domain="target")
    with pytest.raises(LabelingError, match="must be one of source, target, but got x"):
        withhold(ids, attributes, domains=domains, domain="x")
