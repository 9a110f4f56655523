"""Optuna's study: which cells were asked for, which are under way, how they ended, what comes next."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import optuna
import psutil
from optuna.trial import FrozenTrial, TrialState

from harness.contract import HarnessError, TrialSpec
from harness.plan import Plan, labeled_by
from harness.results import create_schema, creation_lock, sqlite_path, without_password

optuna.logging.set_verbosity(optuna.logging.WARNING)

DUPLICATES_IN_A_ROW = 20  # a sampler that proposes nothing new for so long is given an unseen cell


@dataclass(frozen=True)
class Entry:
    """A cell that was taken.

    Attributes:
        number: Optuna's.
        spec: the cell.
        tries: how often it was begun before and lost.
    """

    number: int
    spec: TrialSpec
    tries: int


class Journal:
    """The truth about which cells of a study were started; whether they are finished stands in the results tables.

    Args:
        uri: Optuna's database.
        name: of the study there.
        plan: the space and its sampler.
        specs: every cell and reference by key.

    Raises:
        HarnessError: the database cannot be opened.
    """

    def __init__(self, uri: str, name: str, *, plan: Plan, specs: Mapping[str, TrialSpec]) -> None:
        self.plan, self.specs = plan, dict(specs)
        self.study = _open_study(uri, name, plan)
        self.enumerated = plan.file.sampler.name == "grid"

    def live_keys(self) -> set[str]:
        """Return the keys of trials that a living driver is at."""
        return {trial.user_attrs.get("key", "") for trial in self._trials(TrialState.RUNNING) if _owner_lives(trial)}

    def stale(self) -> list[tuple[int, str]]:
        """Return (number, key) of trials whose driver is gone."""
        return [
            (trial.number, trial.user_attrs.get("key", ""))
            for trial in self._trials(TrialState.RUNNING)
            if not _owner_lives(trial)
        ]

    def known_keys(self) -> set[str]:
        """Return the keys of trials that are told or wait to be taken."""
        return {trial.user_attrs.get("key", "") for trial in self._trials(TrialState.COMPLETE, TrialState.WAITING)}

    def enqueue(self, specs: Iterable[TrialSpec], *, tries: int = 0) -> None:
        """Let cells wait to be taken."""
        for spec in specs:
            self.study.enqueue_trial(_cell(spec), user_attrs={**_attributes(spec), "tries": tries})

    def take(self, taken: set[str]) -> Entry | None:
        """Take the next cell: what waits first, then what the sampler proposes; None when there is no other one.

        Args:
            taken: keys that are finished, failed or under way; the new one is added.
        """
        duplicates = 0
        while len(taken) < len(self.specs):
            if not self._trials(TrialState.WAITING):
                if self.enumerated:
                    return None
                if duplicates >= DUPLICATES_IN_A_ROW:
                    self.enqueue([next(spec for key, spec in self.specs.items() if key not in taken)])
            trial = self.study.ask()
            spec = self._spec(trial)
            key = spec.key()
            if key in taken or key not in self.specs:
                duplicates += 1
                trial.set_user_attr("duplicate", True)
                self.study.tell(trial.number, state=TrialState.PRUNED)
                continue
            trial.set_user_attr("key", key)
            trial.set_user_attr("owner", _owner())
            taken.add(key)
            return Entry(trial.number, self.specs[key], int(trial.user_attrs.get("tries", 0)))
        return None

    def tell(self, number: int, score: float | None) -> None:
        """Say how a trial ended: with a score, or with none, which Optuna calls failed."""
        if score is None:
            self.study.tell(number, state=TrialState.FAIL)
        else:
            self.study.tell(number, score)

    def add_finished(self, spec: TrialSpec, score: float) -> None:
        """Add a trial that another study recorded."""
        cell = _cell(spec)
        distributions: dict[str, optuna.distributions.BaseDistribution] = {
            name: optuna.distributions.CategoricalDistribution(self._choices(name, value))
            for name, value in cell.items()
        }
        self.study.add_trial(
            optuna.trial.create_trial(
                params=cell, distributions=distributions, value=score, user_attrs=_attributes(spec)
            )
        )

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)

    def _spec(self, trial: optuna.Trial) -> TrialSpec:
        fixed = trial.user_attrs.get("key")
        if fixed in self.specs:  # an enqueued cell; suggesting writes its parameters down for the dashboard
            for name, value in _cell(self.specs[fixed]).items():
                trial.suggest_categorical(name, self._choices(name, value))
            return self.specs[fixed]
        space = self.plan.file.space
        m = trial.suggest_categorical("m", space.m)
        k1, k2 = trial.suggest_categorical("k1", space.k1), trial.suggest_categorical("k2", space.k2)
        fusion: Any = trial.suggest_categorical("fusion", space.fusion)
        backbone = self.plan.backbones[trial.suggest_categorical("backbone", space.backbone)]
        seed = trial.suggest_categorical("seed", self.plan.file.seeds)
        labels: Any = trial.suggest_categorical("labels", space.labels)
        like = next(spec for spec in self.specs.values() if spec.kind == "trial")
        labeling = self.plan.file.labeling
        cell = replace(
            like, m=m, k1=k1, k2=k2, fusion=fusion, backbone=backbone, seed=seed, labels="paper", truth_data="",
            min_confidence=labeling.min_confidence, below=labeling.below,
        )  # fmt: skip
        return labeled_by(cell, labels, truth_data=max(spec.truth_data for spec in self.specs.values()))

    def _choices(self, name: str, value: Any) -> list[Any]:
        choices = list(self.plan.file.seeds if name == "seed" else getattr(self.plan.file.space, name))
        return choices if value in choices else [*choices, value]


def running_trials(uri: str, name: str) -> int:
    """Count a study's trials that a living driver is at."""
    path = sqlite_path(uri)
    if path is not None and not path.is_file():
        return 0
    try:
        with creation_lock(uri):  # the driver may be making its tables at this moment
            journal = optuna.load_study(storage=optuna.storages.RDBStorage(uri), study_name=name)
    except KeyError:
        return 0
    return sum(_owner_lives(trial) for trial in journal.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def _open_study(uri: str, name: str, plan: Plan) -> optuna.Study:
    sampler: optuna.samplers.BaseSampler = (
        optuna.samplers.TPESampler(seed=plan.file.sampler.seed)
        if plan.file.sampler.name == "tpe"
        else optuna.samplers.RandomSampler(seed=plan.file.sampler.seed)
    )
    path = sqlite_path(uri)
    try:
        create_schema(uri.partition("?")[0], "optuna")
        with creation_lock(uri):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            return optuna.create_study(
                storage=optuna.storages.RDBStorage(uri),
                study_name=name,
                load_if_exists=True,
                direction="maximize",
                sampler=sampler,
            )
    except (optuna.exceptions.StorageInternalError, OSError, RuntimeError, ImportError) as error:
        raise HarnessError(
            f"Optuna's database must be one that can be opened and written, but {without_password(uri)} answered: "
            f"{str(error).splitlines()[0]}; name another one with --optuna."
        ) from error


def _attributes(spec: TrialSpec) -> dict[str, Any]:
    return {"key": spec.key(), "kind": spec.kind, "label": spec.label()}


def _cell(spec: TrialSpec) -> dict[str, Any]:
    cell = {
        "backbone": spec.backbone.name if spec.backbone else None,
        "m": spec.m,
        "k1": spec.k1,
        "k2": spec.k2,
        "fusion": spec.fusion if spec.kind == "trial" else None,
        "labels": spec.labels if spec.kind == "trial" else None,
        "seed": spec.seed if spec.kind != "level" else None,
    }
    return {name: value for name, value in cell.items() if value is not None}


def _owner() -> str:
    process = psutil.Process()
    return f"{socket.gethostname()}|{process.pid}|{process.create_time():.2f}"


def _owner_lives(trial: FrozenTrial) -> bool:
    host, _, rest = str(trial.user_attrs.get("owner", "")).partition("|")
    pid, _, created = rest.partition("|")
    if host != socket.gethostname():
        return bool(host)  # another host's driver cannot be asked; its trials are its own
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" == created
    except (psutil.Error, ValueError):
        return False
