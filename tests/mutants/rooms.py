"""The rooms whose numbers must not change unnoticed: their files, and the tests that should notice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Room:
    """Code and the tests that guard it.

    Attributes:
        sources: files or folders.
        tests: files or folders.
        heavy: packages that are imported once, before tests are.
    """

    sources: tuple[str, ...]
    tests: tuple[str, ...]
    heavy: tuple[str, ...]

    def files(self) -> list[str]:
        """Return the room's modules, relative to the repository."""
        found = [
            path
            for source in self.sources
            for path in ([ROOT / source] if source.endswith(".py") else sorted((ROOT / source).rglob("*.py")))
        ]
        return [str(path.relative_to(ROOT)) for path in found if path.name != "__init__.py"]

    def test_files(self) -> list[str]:
        """Return the room's test files, relative to the repository."""
        found = [
            path
            for test in self.tests
            for path in ([ROOT / test] if test.endswith(".py") else sorted((ROOT / test).rglob("test_*.py")))
        ]
        return [str(path.relative_to(ROOT)) for path in found]


TABLES = ("numpy", "scipy.stats", "pandas", "sklearn.metrics", "pydantic")
LEARNING = (*TABLES, "scipy.cluster.hierarchy", "sklearn.cluster", "sklearn.mixture", "sklearn.ensemble",
            "sklearn.covariance", "librosa", "soundfile")  # fmt: skip
NETWORKS = (*LEARNING, "torch", "torchaudio")
# not mlflow, of which the project turns telemetry off before it imports it
STORES = (*TABLES, "torch", "sqlalchemy", "alembic", "optuna.importance", "sklearn.ensemble", "rich.table", "typer")
ROOMS: Mapping[str, Room] = {
    "metrics": Room(
        ("benchmarks/metrics/measures.py", "benchmarks/metrics/roc.py", "benchmarks/metrics/numbers.py",
         "benchmarks/metrics/rules.py", "benchmarks/metrics/sections.py"),
        ("tests/benchmarks/metrics",),
        TABLES,
    ),
    "labeling": Room(("labeling",), ("tests/labeling",), LEARNING),
    "statistics": Room(("harness/statistics",), ("tests/harness/statistics",), LEARNING),
    "scorers": Room(
        ("harness/scorers", "harness/scoring/folds.py", "harness/scoring/layers.py", "harness/scoring/neighbours.py",
         "harness/scoring/reference_sets.py", "harness/scoring/thresholds.py"),
        ("tests/harness/scorers", "tests/harness/scoring"),
        NETWORKS,
    ),
    "training": Room(
        ("backbones/training/finetune.py", "backbones/training/pretrain.py", "backbones/training/optimiser.py",
         "backbones/training/recipe.py", "backbones/training/projection.py", "backbones/training/adapters.py",
         "backbones/features/masks.py", "backbones/losses", "backbones/networks/directions.py",
         "backbones/networks/noise.py"),
        ("tests/backbones/training", "tests/backbones/losses", "tests/backbones/features",
         "tests/backbones/networks/test_noise.py"),
        NETWORKS,
    ),
    "answers": Room(
        ("harness/gate/regression.py", "harness/gate/unlike.py", "harness/gate/checks.py", "harness/answers/compare.py",
         "harness/answers/selection.py", "harness/answers/leaderboard.py", "harness/answers/standings.py",
         "harness/answers/importance.py"),
        ("tests/harness/answers", "tests/harness/gate"),
        STORES,
    ),
}  # fmt: skip
