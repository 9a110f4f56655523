"""Labeling's speed: the paper's grid over 10,000 clips, one more M, and clip-level MFCC in parallel."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import librosa
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from labeling.clusters import STARTS
from labeling.contract import RankRequest
from labeling.fusion import fuse_top_m, label_statistics
from labeling.mfcc import mfcc_statistics
from labeling.strategies import cluster_wise, sample_wise

CLIPS = 10_000
ATTRIBUTES = 26  # as many as 2025 bearing and ToyTrain hide
MS = (1, 3, 5, 7, 10, 13, 15)  # paper, section 3.2
BACKBONES = 2  # paper, section 4.2; with seven M these are the 14 cells
K = 15  # paper, section 3.1
TIMED = 2  # of the reference's 14 equal cells, whose time is multiplied up
SCALED_UP = "scikit-learn anew per cell, scaled"
SAMPLE_WISE = 6.0  # of 14, if the forest were all; how fast trees grow and how fast strings are fused moves by machine

pytestmark = pytest.mark.speed


def seconds_of(work: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """Time one run on one thread in seconds of the processor, which neighbours on it do not lengthen."""
    start = clock()
    with threadpool_limits(1):
        work()
    return clock() - start


def keep() -> Callable[[str, Callable[[], Any]], Any]:
    """Make a memo in memory."""
    kept: dict[str, Any] = {}

    def memo(name: str, make: Callable[[], Any]) -> Any:
        if name not in kept:
            kept[name] = make()
        return kept[name]

    return memo


def machine(case: str, *, dims: int, seed: int = 0) -> RankRequest:
    """Make 10,000 clips of 26 overlapping attributes, every second clip labeled."""
    rng = np.random.default_rng(seed)
    blob = rng.integers(0, ATTRIBUTES, CLIPS)
    features = (0.5 * rng.normal(size=(ATTRIBUTES, dims))[blob] + rng.normal(size=(CLIPS, dims))).astype(np.float32)
    attributes = np.array([f"car_A{number}_spd_{number}V" for number in blob], dtype=object)
    attributes[1::2] = None
    ids = np.array([f"{case}_{number:05d}" for number in range(CLIPS)])
    return RankRequest(ids, features, attributes, case, k1=K, k2=K, memo=keep())  # type: ignore[arg-type]


def scikit_sample_wise(request: RankRequest) -> None:
    """Search neighbours and grow a forest with scikit-learn, as one cell of a grid would on its own."""
    labeled = np.array([a is not None for a in request.attributes])
    features = StandardScaler().fit_transform(request.features)
    NearestNeighbors(n_neighbors=request.k1).fit(features[labeled]).kneighbors(features[~labeled])
    forest = RandomForestClassifier(sample_wise.TREES, random_state=0)
    forest.fit(features[labeled], request.attributes[labeled].astype(str)).predict_proba(features[~labeled])


def scikit_cluster_wise(request: RankRequest) -> None:
    """Cluster with scikit-learn and search the labeled neighbours of each cluster, as one cell would on its own."""
    labeled = np.array([a is not None for a in request.attributes])
    members = KMeans(request.k2, n_init=STARTS, random_state=0).fit_predict(request.features)
    for number in range(request.k2):
        lenders, takers = labeled & (members == number), ~labeled & (members == number)
        if lenders.any() and takers.any():
            search = NearestNeighbors(n_neighbors=min(request.k2, int(lenders.sum()))).fit(request.features[lenders])
            search.kneighbors(request.features[takers])


def test_the_grid_sample_wise(bench):
    """The 14 cells of the paper's grid, sample-wise: one search and one forest against fourteen."""
    request = machine("sample-wise", dims=40)

    def grid() -> None:
        for _ in range(BACKBONES):  # MFCC are the same for both, so the memo is
            ranked = sample_wise.rank(request)
            for m in MS:
                fuse_top_m({"bearing": ranked}, m=m, below="machine")

    ours = seconds_of(grid)
    reference = BACKBONES * len(MS) * min(seconds_of(lambda: scikit_sample_wise(request)) for _ in range(TIMED))
    bench.row("label 14 cells, sample-wise, 10,000 clips", ours, SCALED_UP, reference, SAMPLE_WISE)


def test_the_grid_cluster_wise(bench):
    """The 14 cells, cluster-wise in the latents of two backbones: two clusterings against fourteen."""
    requests = [machine("partial", dims=768, seed=seed) for seed in range(BACKBONES)]

    def grid() -> None:
        for request in requests:
            ranked = cluster_wise.rank(request)
            for m in MS:
                fuse_top_m({"ToyCar": ranked}, m=m)

    ours = seconds_of(grid)
    reference = len(MS) * sum(seconds_of(partial(scikit_cluster_wise, request)) for request in requests)
    bench.row("label 14 cells, cluster-wise, 10,000 clips", ours, SCALED_UP, reference, 10.0)


@pytest.mark.parametrize("fusion", ["composite", "set", "soft"])
def test_a_further_m(bench, fusion):
    """One more M over 10,000 clips, fused to 10,000 classes and counted, stays under 100 ms."""
    ranked = {"AirCompressor": cluster_wise.rank(replace(machine("unlabeled", dims=40), case="unlabeled"))}
    ours = min(seconds_of(lambda: label_statistics(ranked, fuse_top_m(ranked, m=10, fusion=fusion))) for _ in range(5))
    bench.row(f"one more M, {fusion}, 10,000 clips", ours, "limit of 100 ms", 0.1, 1.0)


def test_mfcc_in_parallel(bench):
    """Clip-level MFCC on all cores reach 0.6 of the cores' worth of librosa's single-thread rate.

    Two threads of one physical core, which count as two here, are worth 1.4 of one: 0.7 was reached there.
    """
    cores = len(os.sched_getaffinity(0))
    clips = [np.random.default_rng(seed).normal(size=160_000).astype(np.float32) for seed in range(16)]
    count = 128

    def plain() -> None:
        for position in range(count):
            found = librosa.feature.mfcc(
                y=clips[position % 16], sr=16_000, n_mfcc=20, n_fft=2048, hop_length=512, n_mels=128
            )
            np.concatenate([found.mean(axis=1), found.std(axis=1)])

    def ours() -> None:
        mfcc_statistics(lambda i: clips[i % 16], count, workers=cores)

    wall = time.perf_counter
    both = [(seconds_of(ours, wall), seconds_of(plain, wall)) for _ in range(3)]
    mine, reference = (min(times) for times in zip(*both, strict=True))
    what = f"MFCC of {count} clips of 10 s, {cores} workers"
    bench.row(what, mine, f"librosa, 1 thread, over {cores}", reference / cores, 0.6)
