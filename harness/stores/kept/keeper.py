"""Which encoders are kept: all of a study, its best one, or that of a single trial."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from harness.detection.bundle import kept_folder
from harness.stores.kept.models import KeptModels
from harness.stores.results import Results
from harness.trials.contract import TrialResult

ALL, TRIAL = "all", "trial"  # owners of models that nobody removes


@dataclass
class Keeper:
    """Keeps encoders for one study, or for one trial.

    The best of a study is the finished trial with pseudo-labels whose official score by the study's first scorer is
    highest. Its model is uploaded before the trial is recorded, and the one before it is removed only afterwards, so a
    driver that is killed at any point leaves at least the best. Models of other owners are never touched.

    Attributes:
        models: in MLflow.
        results: the results tables.
        cache: folder of the cache, in which workers leave what is kept.
        owner: key of the study that keeps its best; ALL or TRIAL.
        scorer: by which the best is told.
        keys: returns the keys of the study's trials.
        running: tells which of some trials other living drivers are running.
    """

    models: KeptModels
    results: Results
    cache: Path
    owner: str
    scorer: str = ""
    keys: Callable[[], Collection[str]] = field(default=tuple)
    running: Callable[[Collection[str]], Collection[str]] = field(default=lambda _keys: ())

    @property
    def best_only(self) -> bool:
        """Tell whether models that are no longer the best are removed."""
        return self.owner not in (ALL, TRIAL)

    def keep(self, run_id: str, result: TrialResult) -> str | None:
        """Upload what a trial's worker left as a model of the trial's run, if it is to be kept; return the model's id.

        The worker's folder is removed in either case.
        """
        key = result.spec.key()
        folder = kept_folder(self.cache, key)
        try:
            if not folder.is_dir() or not self._wanted(key, result):
                return None
            return self.models.log(run_id, result.spec, folder, owner=self.owner)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _wanted(self, key: str, result: TrialResult) -> bool:
        if not self.best_only:
            return True
        score = result.official.get(self.scorer)
        best = self.best()
        if score is None or best is None:
            return score is not None
        return best[0] == key or (-score, key) < (-best[1], best[0])

    def best(self) -> tuple[str, float] | None:
        """Return the key and official score of the study's best recorded trial; None where no score is defined."""
        return self.results.best_of(self.keys(), self.scorer)

    def lacking(self, keys: Iterable[str]) -> list[str]:
        """Return those of some finished trials with pseudo-labels whose encoder should be kept, but is not.

        Args:
            keys: of trials of the study.
        """
        wanted = list(keys)
        if self.best_only:
            best = self.best()
            wanted = [key for key in wanted if best is not None and key == best[0]]
        if not wanted:
            return []
        kept = {each.key for each in self.models.of(wanted) if each.whole and each.owner in (self.owner, ALL, TRIAL)}
        return [key for key in wanted if key not in kept]

    def tidy(self) -> None:
        """Remove this owner's models that are not needed: no longer the best, older copies, and cut uploads."""
        mine = self.models.of(owner=self.owner)
        among = set(self.keys()) if self.keys() else {each.key for each in mine}
        mine = [each for each in mine if each.key in among]
        busy = set(self.running([each.key for each in mine]))
        recorded = self.results.finished([each.key for each in mine])
        best = self.best() if self.best_only else None
        best_is_kept = best is not None and not self.lacking([best[0]])  # by whichever owner
        newest = {each.key: each.model_id for each in mine if each.whole}
        for each in mine:
            if each.key in busy or each.key not in recorded:
                continue  # somebody is between uploading and recording it, or will run it again
            stale = not each.whole or newest[each.key] != each.model_id
            beaten = best is not None and each.key != best[0] and best_is_kept
            if stale or beaten:
                self.models.remove(each)
