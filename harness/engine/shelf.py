"""A study's trials as workers receive them: one block of bytes, of which a worker unpacks its own and a few others."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from harness.trials.contract import TrialSpec

TOGETHER = 64  # specs pickled together, since they share protocol and recipe: 0.3 kB each instead of 1.3


class SpecShelf(Mapping[str, TrialSpec]):
    """Key -> spec of a study's trials, quick to receive however many there are.

    Ray hands it to a worker at the start of every trial, and arrays are not copied then but mapped. A dict of 100,000
    specs would be built anew each time: over two seconds and 100 MB a trial.

    Args:
        specs: of the study.
    """

    def __init__(self, specs: Mapping[str, TrialSpec]) -> None:
        keys = sorted(specs)
        blocks = [
            pickle.dumps([specs[key] for key in keys[start : start + TOGETHER]], protocol=5)
            for start in range(0, len(keys), TOGETHER)
        ]
        self.names: NDArray[np.str_] = np.array(keys, dtype=np.str_)  # (n,) sorted
        self.ends: NDArray[np.int64] = np.cumsum([len(block) for block in blocks], dtype=np.int64)  # (blocks,)
        self.content: NDArray[np.uint8] = np.frombuffer(b"".join(blocks), dtype=np.uint8)

    def __getitem__(self, key: str) -> TrialSpec:
        place = int(np.searchsorted(self.names, key))
        if place == len(self.names) or self.names[place] != key:
            raise KeyError(key)
        block = place // TOGETHER
        start = int(self.ends[block - 1]) if block else 0
        # bytes of our own driver, which Ray hands over as it does every other argument of a trial
        found: TrialSpec = pickle.loads(self.content[start : int(self.ends[block])].data)[place % TOGETHER]
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.names.tolist())

    def __len__(self) -> int:
        return len(self.names)
