"""Small requests with a known right answer."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from labeling.contract import RankRequest


def blobs(
    counts: dict[str, tuple[int, int]], *, spread: float = 0.1, dims: int = 4, case: str = "sample-wise", **options: Any
) -> RankRequest:
    """Make a request of well-separated blobs: name -> (labeled, unlabeled) clips; a name starting with "?" is no label.

    Clip ids say their blob: "a-000" is the first clip of blob a. Blob i lies round the point (10 i, 10 i, ...).
    """
    rng = np.random.default_rng(3)
    ids, features, attributes = [], [], []
    for place, (name, (labeled, unlabeled)) in enumerate(counts.items()):
        for number in range(labeled + unlabeled):
            ids.append(f"{name}-{number:03d}")
            features.append(10.0 * place + spread * rng.normal(size=dims))
            attributes.append(name if number < labeled else None)
    defaults: dict[str, Any] = {"k1": 3, "k2": len(counts)}
    return RankRequest(
        ids=np.array(ids),
        features=np.array(features),
        attributes=np.array(attributes, dtype=object),
        case=case,  # type: ignore[arg-type]
        **{**defaults, **options},
    )


@pytest.fixture
def make_blobs() -> Callable[..., RankRequest]:
    """The function `blobs`."""
    return blobs


class CountingMemo:
    """A memo as the harness keeps it: pickled by name, counting what had to be made."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    @property
    def made(self) -> list[str]:
        return [name.split()[0] for name in self.kept]

    def __call__(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self.kept:
            self.kept[name] = pickle.dumps(make())
        return pickle.loads(self.kept[name])


@pytest.fixture
def memo() -> CountingMemo:
    """An empty memo."""
    return CountingMemo()
