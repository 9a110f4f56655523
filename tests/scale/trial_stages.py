"""What many recorded trials cost those who ask, each in a process of its own: `python -m ... FOLDER TRIALS`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import sqlalchemy as sa

from harness import verbs
from harness.engine import tune
from harness.places import Places, find_places
from harness.scorefiles.submission import find_key
from harness.stores.results import Results
from harness.verbs.stores import open_results
from tests.scale.measured import Private, serve_stages
from tests.speed.many_trials import copy_trial, plan_of_many
from tests.speed.recorded import STUDY, record_trials
from tests.speed.test_overhead_speed import DATA, Clocked, run

TOP = 50
A_BACKBONE = 1000  # cells of `plan_of_many`


class Place:
    """One size's folder.

    Args:
        folder: its path.
        trials: that are recorded there.
    """

    def __init__(self, folder: Path, trials: int) -> None:
        self.folder, self.trials = folder, trials
        self.recorded, self.begun = self._places("recorded"), self._places("begun")

    def _places(self, name: str) -> Places:
        """Return the stores of recorded trials, or of a study whose trials but a few are recorded.

        They are files of the folder, or databases of the server that ASDBENCH_SCALE_SERVER names.
        """
        if server := os.environ.get("ASDBENCH_SCALE_SERVER"):
            database = f"asd_scale_{name}_{self.trials}"
            admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
            with admin.connect() as connection, suppress(sa.exc.ProgrammingError):  # it is there already
                connection.execute(sa.text(f"CREATE DATABASE {database}"))
            admin.dispose()
            return find_places(
                tracking=sa.make_url(server).set(database=database).render_as_string(hide_password=False)
            )
        (self.folder / name).mkdir(exist_ok=True)
        return find_places(tracking=f"sqlite:///{self.folder / name / 'mlflow.db'}")


def recorded(place: Place) -> Callable[[Private], None]:
    """The database, made in bulk; its cost is no stage of the product's."""
    return lambda _: record_trials(place.recorded.results, place.trials) and None


def leaderboard(place: Place) -> Callable[[Private], Mapping[str, float]]:
    """The best 50 rows, with tiers over all."""
    return lambda _: {"rows": len(verbs.leaderboard(places=place.recorded, top=TOP, references=False))}


def whole_leaderboard(place: Place) -> Callable[[Private], Mapping[str, float]]:
    """Every row, as --csv has them."""
    return lambda _: {"rows": len(verbs.leaderboard(places=place.recorded, references=False))}


def compare(place: Place) -> Callable[[Private], Mapping[str, float]]:
    """Top-M against Top-1 in the 50 families with the best scores."""
    return lambda _: {"rows": len(verbs.compare(places=place.recorded, resamples=100))}


def importance(place: Place) -> Callable[[Private], Mapping[str, float]]:
    """What mattered."""
    return lambda _: {"rows": len(verbs.importance(places=place.recorded, resamples=100))}


def report(place: Place) -> Callable[[Private], Mapping[str, float]]:
    """The page."""
    return lambda _: {"MB": verbs.report(place.folder / "report.html", places=place.recorded)["bytes"] / 1e6}


def status(place: Place) -> Callable[[Private], Mapping[str, float]]:
    """How far the study is."""
    return lambda _: {"finished": verbs.study_status(STUDY, places=place.recorded)["finished"]}


def one_trial(place: Place) -> Callable[[Private], None]:
    """A trial found by the first digits of its key, as `submit` and `detect` find it."""

    def find(_: Private) -> None:
        with open_results(place.recorded) as results:
            (key,) = results.study_keys("5" * 16)[:1]
            assert find_key(results, key[:12]) == key

    return find


def begun(place: Place) -> Callable[[Private], None]:
    """A study of that many trials, one run and the others copied of it; its cost is no stage of the product's."""

    def make(_: Private) -> None:
        plan, places = plan_of_many(-(-(place.trials + 10) // A_BACKBONE)), place.begun
        specs = {spec.key(): spec for spec in plan.specs(**DATA)}
        with patch.object(tune, "_run", first := Clocked(specs, most=1)):
            run(plan, places)
        results = Results(places.results)
        run_id = results.run_of(first.keys[0]) or ""
        results.close()
        others = [each for each in specs if each != first.keys[0]][: place.trials - 1]
        copy_trial(places, key=first.keys[0], run_id=run_id, number=0, keys=others)

    return make


def going_on(place: Place) -> Callable[[Private], Mapping[str, float]]:
    """The study started again: its plan, what is recorded in every store, and eight trials that do nothing."""

    def go(_: Private) -> Mapping[str, float]:
        plan, places = plan_of_many(-(-(place.trials + 10) // A_BACKBONE)), place.begun
        specs = {spec.key(): spec for spec in plan.specs(**DATA)}
        with patch.object(tune, "_run", clock := Clocked(specs, most=8)):
            run(plan, places)
        return {"s of one more": min(clock.trials)}

    return go


STAGES: dict[str, Callable[[Place], Callable[[Private], Any]]] = {
    each.__name__: each
    for each in (
        recorded, leaderboard, whole_leaderboard, compare, importance, report, status, one_trial, begun, going_on,
    )
}  # fmt: skip
NEEDS = {each: "recorded" for each in STAGES if each not in ("recorded", "begun")} | {"going_on": "begun"}


if __name__ == "__main__":
    serve_stages(STAGES, Place)
