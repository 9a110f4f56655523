"""What a study needs is opened side by side, and Ray only where something is left to run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from harness.engine import cluster as placement
from harness.engine.opening import opened
from harness.errors import HarnessError
from harness.places import Places, find_places
from harness.stores.recorder import Recorder
from harness.studies.plan import make_plan
from tests.harness.conftest import make_result
from tests.harness.studies.test_cells import RECORDINGS, study

DATA = {"train_data": "aaaa", "test_data": "bbbb"}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Addresses for which a Ray was asked; none is started."""
    asked: list[str | None] = []

    @contextmanager
    def cluster(address: str | None) -> Iterator[list[Any]]:
        asked.append(address)
        yield []

    monkeypatch.setattr(placement, "ray_cluster", cluster)
    return asked


def test_ray_is_started_beside_the_stores_where_trials_are_left(places: Places, started: list[str | None]) -> None:
    """A new study has all of its trials left; its recorder writes into the stores that were named."""
    with opened(make_plan(study()), RECORDINGS, places, code="test", address="somewhere:1") as study_opened:
        assert study_opened.recorder.tracker.uri == places.tracking
    assert started == ["somewhere:1"]


def test_ray_stops_while_pictures_are_drawn(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once no trial is left Ray is let go of beside what is still to do, and stopped once."""
    stopped: list[str] = []
    drawing = threading.Event()

    @contextmanager
    def cluster(address: str | None) -> Iterator[list[Any]]:
        del address
        yield []
        assert drawing.wait(30)
        stopped.append(threading.current_thread().name)

    monkeypatch.setattr(placement, "ray_cluster", cluster)
    with opened(make_plan(study()), RECORDINGS, places, code="test") as study_opened:
        study_opened.leave_ray()
        drawing.set()  # a Ray that stopped in here would wait for it in vain
    assert len(stopped) == 1 and stopped[0] != threading.current_thread().name


def test_an_error_of_stopping_ray_is_not_lost(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong beside the pictures is raised where the study is closed."""

    @contextmanager
    def cluster(address: str | None) -> Iterator[list[Any]]:
        del address
        yield []
        raise HarnessError("Ray would not stop")

    monkeypatch.setattr(placement, "ray_cluster", cluster)
    with pytest.raises(HarnessError, match="would not stop"):  # noqa: SIM117 - only its end may raise
        with opened(make_plan(study()), RECORDINGS, places, code="test") as study_opened:
            study_opened.leave_ray()


def test_a_study_that_is_done_starts_no_ray(places: Places, recorder: Recorder, started: list[str | None]) -> None:
    """All planned trials are recorded, so nothing would run."""
    plan = make_plan(study())
    specs = plan.specs(**DATA)
    key = plan.key(**DATA)
    recorder.results.put_study(key, name="toy", protocol="toy", run_id="", planned=len(specs), content="{}")
    recorder.results.link(key, [spec.key() for spec in specs])
    for spec in specs[:-1]:
        recorder.results.put_result(make_result(spec), run_id="a", code="test")
    with opened(plan, RECORDINGS, places, code="test"):
        assert started == [None]
    recorder.results.put_result(make_result(specs[-1]), run_id="a", code="test")
    with opened(plan, RECORDINGS, places, code="test"):
        assert started == [None]


def test_a_server_that_does_not_answer_is_one_sentence(tmp_path: Any, started: list[str | None]) -> None:
    """An error of the stores is told, whichever of the two was opened first."""
    places = find_places(tracking="http://127.0.0.1:9", results=f"sqlite:///{tmp_path / 'mine.db'}")
    with pytest.raises(HarnessError, match=r"127\.0\.0\.1"), opened(make_plan(study()), RECORDINGS, places, code="t"):
        pass
