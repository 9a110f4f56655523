"""The answer in processes that started with different numbers of threads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import hashlib
import numpy as np
from importlib import import_module
from labeling.contract import RankRequest

rng = np.random.default_rng(0)
n = 3000
blob = rng.integers(0, 6, n)
features = (rng.normal(size=(6, 40))[blob] + rng.normal(size=(n, 40))).astype(np.float32)
attributes = np.array([f"pat_{b}" for b in blob], dtype=object)
attributes[rng.random(n) < 0.5] = None
ids = np.array([f"{i:05d}" for i in range(n)])
digest = hashlib.sha256()
baselines = (("gmm", "unlabeled"), ("ward", "unlabeled"), ("iterated", "unlabeled"))
for name, case in (("sample_wise", "sample-wise"), ("cluster_wise", "partial"), *baselines):
    request = RankRequest(ids, features, attributes, case, k1=15, k2=15, seed=1)
    ranked = import_module(f"labeling.strategies.{name}").rank(request)
    digest.update(ranked.names.tobytes() + ranked.confidence.tobytes())
print(digest.hexdigest())
"""


def answer(threads: int) -> str:
    """Rank 3,000 clips in a fresh process and return a digest of the tables."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    found = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    return found.stdout.strip()


@pytest.mark.slow
def test_processes_with_other_thread_counts_agree():
    """A process with one thread and one with four rank 3,000 clips alike, bit for bit."""
    assert answer(1) == answer(4)
