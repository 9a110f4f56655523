"""A study in Optuna's database: which trials were begun, how they ended, and what the sampler proposes next."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from harness.credentials import shown
from harness.errors import HarnessError
from harness.places import sqlite_path
from harness.stores.database import create_schema, creation_lock, write_ahead
from harness.studies.goals import MINIMISED
from harness.studies.plan import Plan, m_values
from harness.studies.study_file import SEARCHES, SpaceTable
from harness.trials.axes import AXES, axis_values
from harness.trials.choices import PAPER, read_by
from harness.trials.contract import TrialSpec

optuna.logging.set_verbosity(optuna.logging.WARNING)

UNSIGNED_SECONDS = 120.0  # a proposal without an owner after this time was left behind by a killed driver
SEEDS = 2**32  # number of seeds that a sampler accepts
SPENT = "asdbench seconds of "
# SQL on Optuna's tables, since `study.trials` reads every parameter of every trial: 8 s against 0.03 s for 10,000
COMPLETE_KEYS = (
    "select a.value_json from trial_user_attributes a join trials t on t.trial_id = a.trial_id "
    "where t.study_id = {} and t.state = 'COMPLETE' and a.key = 'key'"
)
TRIALS = "select count(*) from trials where study_id = {}"
NUMBER = "select number from trials where study_id = {} and trial_id = {}"  # Optuna reads the whole trial


@dataclass(frozen=True)
class Running:
    """A trial that Optuna holds as running.

    Attributes:
        number: Optuna's trial number.
        key: the trial's key; empty for a proposal whose driver was killed before it wrote down the key.
        owner: the driver.
        age: seconds since it was begun.
    """

    number: int
    key: str
    owner: str
    age: float


class Journal:
    """One study in Optuna's database.

    A grid's cells are added as they begin. In a search (tpe, gp, nsga2) the sampler proposes them. References (frozen,
    level) are not added: they have no values of the searched axes, some samplers model only the parameters that all
    trials of a study have in common, and loudness alone must not be the best trial of a study. Studies of earlier
    versions have those of a grid.

    Args:
        uri: Optuna's database.
        name: of the study there.
        plan: the space and its sampler.
        specs: every cell and reference by key.

    Raises:
        HarnessError: the database cannot be opened.
    """

    def __init__(self, uri: str, name: str, *, plan: Plan, specs: Mapping[str, TrialSpec]) -> None:
        self.uri, self.plan = uri, plan
        self.asks = plan.file.sampler.name in SEARCHES
        with _errors(uri):
            self.tables = _open_tables(uri)
            self.storage = optuna.storages.get_storage(self.tables)  # keeps in memory what it has read
            self.study = _open_study(uri, self.storage, name, plan)
            self.study_id = self.storage.get_study_id_from_name(name)
            # the seed depends on the number of trials, so that a study that goes on does not get its first proposals
            # again; two drivers that start at once may get the same, and claims keep them from running the same cell
            self.study.sampler = make_sampler(plan, seed=(plan.file.sampler.seed + self._count()) % SEEDS)
        self._any_trial = next((spec for spec in specs.values() if spec.kind == "trial"), None)
        self._by_choice: dict[tuple[Any, ...], dict[int, TrialSpec]] = {}
        for spec in specs.values():
            if spec.kind == "trial":
                self._by_choice.setdefault(tuple(axis_values(spec).values()), {})[spec.seed] = spec

    def begin(self, spec: TrialSpec, *, owner: str) -> int | None:
        """Add a planned cell as running and return Optuna's trial number; None for a reference."""
        if spec.kind != "trial":
            return None
        with _errors(self.uri):
            trial = self._template(spec, state=TrialState.RUNNING, attributes={"owner": owner})
            return int(self._rows(NUMBER, trial=self.storage.create_new_trial(self.study_id, trial))[0][0])

    def ask(self, *, owner: str) -> tuple[int, Sequence[TrialSpec]]:
        """Ask the sampler for a proposal; return Optuna's trial number and its cells, one for each seed."""
        with _errors(self.uri):
            trial = self.study.ask()
            trial.set_user_attr("owner", owner)
            cells = self._by_choice.get(self._suggest(trial), {})
        return trial.number, [cells[seed] for seed in self.plan.file.seeds if seed in cells]

    def sign(self, number: int, spec: TrialSpec) -> None:
        """Record which cell a proposal is run as, by its key."""
        with _errors(self.uri):
            for name, value in _attributes(spec).items():
                self._set(number, name, value)

    def tell(self, number: int | None, values: Sequence[float] | None, *, back: bool = False) -> None:
        """Say how a trial ended.

        Args:
            number: Optuna's trial number; None for a trial that Optuna does not see.
            values: one for each goal; None if the trial failed.
            back: whether the trial was lost and will be run again.
        """
        if number is None:
            return
        if back:
            self._mark(number, "given back")
        self._end(number, values, TrialState.FAIL if values is None else None)

    def prune(self, number: int | None) -> None:
        """Say that a trial was stopped early; it has no value, since its training loss is on another scale."""
        self._end(number, None, TrialState.PRUNED)

    def drop(self, number: int) -> None:
        """Mark a proposal as a duplicate of a trial that was begun before; samplers ignore it."""
        self._mark(number, "duplicate")
        self._end(number, None, TrialState.FAIL)

    def add(self, spec: TrialSpec, values: Sequence[float]) -> None:
        """Add a trial that another study recorded, unless it is a reference."""
        if spec.kind != "trial":
            return
        with _errors(self.uri):
            self.study.add_trial(self._template(spec, state=TrialState.COMPLETE, values=values))

    def running(self) -> list[Running]:
        """Return the trials whose state in Optuna is running."""
        now = datetime.now()
        with _errors(self.uri):
            held = self.tables.get_all_trials(self.study_id, deepcopy=False, states=(TrialState.RUNNING,))
        return [
            Running(
                number=trial.number,
                key=str(trial.user_attrs.get("key", "")),
                owner=str(trial.user_attrs.get("owner", "")),
                age=(now - (trial.datetime_start or now)).total_seconds(),
            )
            for trial in held
        ]

    def complete_keys(self) -> set[str]:
        """Return the keys of trials that have a value."""
        with _errors(self.uri):
            found = self._rows(COMPLETE_KEYS)
        return {str(json.loads(row[0])) for row in found}

    def begun_keys(self) -> set[str]:
        """Return the keys that this study has begun, whatever became of them."""
        trials = self._trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL)
        attributes = [trial.user_attrs for trial in trials]
        return {str(each["key"]) for each in attributes if "key" in each and "duplicate" not in each}

    def front(self) -> list[dict[str, Any]]:
        """Return the best trials: those of which no other is better in every goal, and their values."""
        goals = self.plan.file.sampler.goals
        with _errors(self.uri):
            best = self.study.best_trials
        rows = [
            {
                "key": trial.user_attrs.get("key"),
                "label": trial.user_attrs.get("label"),
                **dict(zip(goals, trial.values, strict=True)),
            }
            for trial in best
        ]
        return sorted(rows, key=lambda row: -row[goals[0]] if goals[0] not in MINIMISED else row[goals[0]])

    def spend(self, owner: str, seconds: float) -> None:
        """Write down how long a driver has run."""
        with _errors(self.uri):
            self.study.set_user_attr(f"{SPENT}{owner}", round(seconds, 3))

    def spent(self, owner: str) -> float:
        """Return the seconds of all other drivers together, those of the past included."""
        with _errors(self.uri):
            attributes = self.study.user_attrs
        mine = f"{SPENT}{owner}"
        return sum(float(v) for name, v in attributes.items() if name.startswith(SPENT) and name != mine)

    def _count(self) -> int:
        return int(self._rows(TRIALS)[0][0])

    def _rows(self, query: str, *, trial: int = 0) -> Sequence[Any]:
        with self.tables.engine.connect() as connection:
            return connection.exec_driver_sql(query.format(int(self.study_id), int(trial))).fetchall()

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        with _errors(self.uri):
            return self.study.get_trials(deepcopy=False, states=states)

    def _template(
        self,
        spec: TrialSpec,
        *,
        state: TrialState,
        values: Sequence[float] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> FrozenTrial:
        cell = _cell(spec, self.plan.file.space)
        if self.asks:
            cell.pop("seed", None)
            cell = {self._name(name, spec): value for name, value in cell.items()}
        distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(self._choices(name, value)) for name, value in cell.items()
        }
        return optuna.trial.create_trial(
            state=state,
            params=cell,
            distributions=distributions,
            values=values,
            user_attrs={**_attributes(spec), **(attributes or {})},
        )

    def _suggest(self, trial: optuna.Trial) -> tuple[Any, ...]:
        """Suggest a value for each axis; M, K1, K2 and fusion only if the suggested labels depend on them."""
        file, space = self.plan.file, self.plan.file.space
        chosen: dict[str, Any] = {"fusion": "composite"}
        for name in ("labels", "backbone"):
            chosen[name] = trial.suggest_categorical(name, space.values(name))
        read = read_by(chosen["labels"])
        for name in ("k1", "k2"):
            chosen[name] = trial.suggest_categorical(name, space.values(name)) if name in read else None
        fitting = m_values(space, chosen["labels"], k1=chosen["k1"], k2=chosen["k2"]) if "m" in read else []
        chosen["m"] = trial.suggest_categorical(_name_of_m(fitting, space.values("m")), fitting) if fitting else None
        for axis in AXES:
            if axis.name in chosen and not (axis.name == "fusion" and "fusion" in read):
                continue
            values = file.values(axis)
            if axis.of == "recipe" and not space.values(axis.name):  # not varied: no parameter
                chosen[axis.name] = values[0]
            else:
                chosen[axis.name] = trial.suggest_categorical(axis.name, values)
        if self._any_trial is None:
            raise HarnessError("A search needs trials to propose, but no backbone of the study has weights to learn.")
        return tuple(axis_values(self.plan.with_choices(self._any_trial, chosen)).values())

    def _name(self, name: str, spec: TrialSpec) -> str:
        if name != "m":
            return name
        space = self.plan.file.space
        return _name_of_m(m_values(space, spec.labels, k1=spec.k1, k2=spec.k2), space.values("m"))

    def _choices(self, name: str, value: Any) -> list[Any]:
        space = self.plan.file.space
        if name.startswith("m_up_to_"):
            return [m for m in space.values("m") if m <= int(name.removeprefix("m_up_to_"))]
        choices = list(self.plan.file.seeds) if name == "seed" else space.values(name)
        return choices if value in choices else [*choices, value]

    def _set(self, number: int, name: str, value: Any) -> None:
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number)
        self.storage.set_trial_user_attr(trial_id, name, value)

    def _mark(self, number: int, name: str) -> None:
        try:
            with _errors(self.uri):
                self._set(number, name, True)
        except optuna.exceptions.UpdateFinishedTrialError:
            return  # another driver of the study has ended it

    def _end(self, number: int | None, values: Sequence[float] | None, state: TrialState | None) -> None:
        if number is None:
            return
        with _errors(self.uri):
            # another driver of the study may have ended it, taking this one for dead
            self.study.tell(number, values, state=state, skip_if_finished=True)


@contextmanager
def _errors(uri: str) -> Iterator[None]:
    try:
        yield
    except (optuna.exceptions.StorageInternalError, OSError, RuntimeError, ImportError) as error:
        if isinstance(error, optuna.exceptions.UpdateFinishedTrialError):
            raise
        raise HarnessError(
            f"Optuna's database must be one that can be opened and written, but {shown(uri)} answered: "
            f"{str(error).splitlines()[0]}; name another one with --optuna."
        ) from error


def _open_tables(uri: str) -> optuna.storages.RDBStorage:
    path = sqlite_path(uri)
    with creation_lock(uri, of="Optuna"):
        create_schema(uri, "optuna")
        storage = optuna.storages.RDBStorage(uri)
        if path is not None:
            write_ahead(storage.engine)
            storage.engine.dispose()  # what it has opened so far does not
        return storage


def _open_study(uri: str, storage: optuna.storages.BaseStorage, name: str, plan: Plan) -> optuna.Study:
    goals = plan.file.sampler.goals
    way = optuna.study.StudyDirection
    directions = [way.MINIMIZE if goal in MINIMISED else way.MAXIMIZE for goal in goals]
    with creation_lock(uri, of="Optuna"):
        study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True, directions=directions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(goals))
    return study


def make_sampler(plan: Plan, *, seed: int) -> optuna.samplers.BaseSampler:
    """Make the sampler that a study names; grid and random order ask none."""
    name, space = plan.file.sampler.name, plan.file.space
    if name == "tpe":
        k1, k2 = min(space.values("k1")), min(space.values("k2"))
        fixed = space.values("labels") == [PAPER] and m_values(space, PAPER, k1=k1, k2=k2) == space.values("m")
        # M exists only for some labels, for example: with group=True, TPE models trials with the same parameters
        # together
        several = len(plan.file.sampler.goals) > 1
        return optuna.samplers.TPESampler(seed=seed, multivariate=not fixed or not several, group=not fixed)
    if name == "gp":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.GPSampler(seed=seed, deterministic_objective=False)  # seeds differ
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=plan.file.sampler.population)
    return optuna.samplers.RandomSampler(seed=seed)


def is_left_behind(running: Running) -> bool:
    """Tell whether a proposal has had no owner for so long that its driver must have been killed."""
    return not running.owner and running.age > UNSIGNED_SECONDS


def _name_of_m(fitting: Sequence[int], every: Sequence[int]) -> str:
    # Optuna refuses other choices under the same name; with K1 = K2 = 5 the parameter is "m_up_to_5"
    return "m" if len(fitting) == len(every) else f"m_up_to_{max(fitting, default=0)}"


def _attributes(spec: TrialSpec) -> dict[str, Any]:
    return {"key": spec.key(), "label": spec.label()}  # each attribute costs a millisecond; the rest is in MLflow


def _cell(spec: TrialSpec, space: SpaceTable) -> dict[str, Any]:
    """Return a trial's choices as Optuna's parameters: those that it has, of the axes that its study varies."""
    cell = {
        axis.name: axis.value(spec)
        for axis in AXES
        if space.values(axis.name) and (axis.name == "backbone" or spec.kind == "trial")
    }
    cell["seed"] = spec.seed if spec.kind != "level" else None
    return {name: value for name, value in cell.items() if value is not None}
