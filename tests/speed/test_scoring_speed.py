"""Speed and memory of scorers and of the bootstrap, against scikit-learn."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from benchmarks.metrics.sections import SectionScores, split_sections
from harness.scorers import knn
from harness.scoring.contract import ScoreRequest
from harness.statistics.bootstrap import Bootstrap, bootstrap_sections, draw_clips

MACHINES = ("bearing", "fan", "gearbox", "slider", "ToyCar", "ToyTrain", "valve")
RESAMPLES = 1000
LOOPED = 50  # of the resamples, for scikit-learn; its time is multiplied up


def development_set() -> pd.DataFrame:
    """Return scored clips like a year's development set: 7 machines, 50 clips of each domain and condition."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        [
            ("dcase2025", machine, "00", domain, condition, f"{machine}/{domain}/{condition}/{at}")
            for machine in MACHINES
            for domain in ("source", "target")
            for condition in ("normal", "anomaly")
            for at in range(50)
        ],
        columns=["dataset", "machine", "section", "domain", "condition", "clip_id"],
    )
    return table.assign(score=random.normal(size=len(table)) + 0.7 * (table["condition"] == "anomaly"))


def resampled(table: pd.DataFrame) -> Bootstrap:
    """Return every number and the official score of 1,000 resamples."""
    sections = split_sections(table)
    return bootstrap_sections(sections, [draw_clips(one, resamples=RESAMPLES, seed=0) for one in sections], "dcase2022")


def looped(sections: list[SectionScores], drawn: list[np.ndarray]) -> np.ndarray:
    """Return (machines, 3, LOOPED) numbers by scikit-learn, resample by resample."""
    values = np.empty((len(sections), 3, LOOPED))
    for at, (section, counts) in enumerate(zip(sections, drawn, strict=True)):
        for column in range(LOOPED):
            clips = np.repeat(np.arange(len(section.ids)), counts[:, column])
            labels, scores, domains = section.anomalous[clips], section.scores[clips], section.domains[clips]
            for row, domain in enumerate(("source", "target")):
                taken = labels | (domains == domain)
                values[at, row, column] = roc_auc_score(labels[taken], scores[taken])
            values[at, 2, column] = roc_auc_score(labels, scores, max_fpr=0.1)
    return values


@pytest.mark.speed
def test_the_bootstrap_is_fifty_times_a_loop(bench: Any) -> None:
    """1,000 resamples of 7 machines with 200 clips take a fiftieth of a loop over roc_auc_score, with equal values."""
    table = development_set()
    sections = split_sections(table)
    drawn = [draw_clips(section, resamples=RESAMPLES, seed=0) for section in sections]
    found = resampled(table)
    ours = np.array(
        [[found.numbers[section.key][field][:LOOPED] for field in ("s_auc", "t_auc", "p_auc")] for section in sections]
    )
    np.testing.assert_allclose(ours, looped(sections, drawn), rtol=0, atol=1e-12)
    fast = bench.best_of(5, lambda: resampled(table))
    slow = bench.best_of(2, lambda: looped(sections, drawn)) * RESAMPLES / LOOPED
    bench.row("bootstrap, 7 machines x 200 clips x 1,000", fast, f"roc_auc_score, {LOOPED} looped", slow, 50)


def scikit_learns(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return the cosine distance to the nearest reference by scikit-learn's brute-force search."""
    search = NearestNeighbors(n_neighbors=1, algorithm="brute", metric="cosine").fit(references)
    return search.kneighbors(queries)[0][:, 0]


def ours(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return the same by the scorer, checks and all."""
    return knn.score(ScoreRequest(references, np.full(len(references), None, dtype=object), queries))


def embeddings(n: int, *, seed: int) -> np.ndarray:
    """Make (n, 768) vectors as encoders give them: 30 groups, common offset, deviations that fall off as 1 / rank."""
    fixed, random = np.random.default_rng(0), np.random.default_rng(seed)
    directions = np.linalg.qr(fixed.normal(size=(768, 768)))[0]
    spread = 1.0 / (1 + np.arange(768))
    groups = fixed.normal(size=(30, 768)) * spread
    vectors = groups[random.integers(30, size=n)] + 0.5 * spread * random.normal(size=(n, 768))
    return np.asarray(vectors @ directions.T + 0.05, dtype=np.float32)


@pytest.mark.speed
@pytest.mark.parametrize("machines", [1, 7], ids=["each query against 7,000", "each machine against its own 1,000"])
@pytest.mark.parametrize("kind", ["embedding-like", "Gaussian noise"])
def test_knn_is_faster_than_scikit_learns(bench: Any, kind: str, machines: int) -> None:
    """1,400 queries against 7 x 1,000 references of 768 dimensions beat brute force, with equal scores.

    The matrix product alone, a row of its own, takes a third to a half of scikit-learn's time, so that no exact search
    by products can be much faster.
    """
    if kind == "Gaussian noise":
        random = np.random.default_rng(0)
        queries = random.standard_normal((1400, 768), dtype=np.float32)
        references = random.standard_normal((7000, 768), dtype=np.float32)
    else:
        queries, references = embeddings(1400, seed=1), embeddings(7000, seed=2)
    parts = list(zip(np.split(queries, machines), np.split(references, machines), strict=True))
    for part in parts:
        np.testing.assert_allclose(ours(*part), scikit_learns(*part), rtol=0, atol=1e-6)
    fast = bench.best_of(9, lambda: [ours(*part) for part in parts])
    slow = bench.best_of(9, lambda: [scikit_learns(*part) for part in parts])
    bare = bench.best_of(9, lambda: [q @ r.T for q, r in parts])
    shape = f"{machines} x {1400 // machines} x {7000 // machines} x 768, {kind}"
    bench.row(f"matrix product alone, {shape}", bare, "NearestNeighbors, brute, cosine", slow, 1)
    bench.row(f"kNN, {shape}", fast, "NearestNeighbors, brute, cosine", slow, 1)


MANY = """
from pathlib import Path
import numpy as np
from harness.scoring.contract import ScoreRequest
from harness.scorers import knn

random = np.random.default_rng(0)
references = random.standard_normal((150_000, 768), dtype=np.float32)
domains = np.array(["source"] * 148_500 + ["target"] * 1_500, dtype=object)
queries = random.standard_normal((1_400, 768), dtype=np.float32)
assert np.isfinite(knn.score(ScoreRequest(references, domains, queries))).all()
status = Path("/proc/self/status").read_text()  # getrusage would count the process that this one was forked from
print(status.split("VmHWM:")[1].split()[0])
"""


@pytest.mark.speed
def test_many_references_stay_under_two_gigabytes(bench: Any) -> None:
    """A process that scores 1,400 queries against 150,000 references of 768 dimensions never holds 2 GB."""
    done = subprocess.run([sys.executable, "-c", MANY], check=True, capture_output=True, text=True)
    bench.limit("kNN against 150,000 references, peak memory", int(done.stdout) / 1e6, 2.0, "GB")
