"""What a driver holds does not grow with the trials that it has recorded."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import psutil
import pytest

from harness.places import find_places
from harness.studies.plan import make_plan
from harness.studies.progress import Progress
from harness.studies.study_file import StudyFile
from tests.harness.made_up import make_result, make_spec
from tests.harness.quick_trials import answer_at_once
from tests.speed.test_overhead_speed import run

TRIALS, WARM = 30, 10
CLIPS = 60_000  # of each trial's table of labels, some 6 MB as it is sent


@pytest.mark.slow
def test_results_of_a_study_leave_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty results of six megabytes go through the driver, and it holds no more than three of them at the end.

    Memory of its own is told from pages of Ray's object store, which a driver shares: a page counts as resident once
    it was used, so that those grow until as much was used as results are underway at once (some fifteen of these) and
    are used again afterwards. Results that stayed in the store would take new pages each.
    """
    monkeypatch.setenv("ASDBENCH_CACHE", str(tmp_path / "cache"))
    names = [f"dcase2025/dev/fan/train/section_00_source_train_normal_{at:06d}" for at in range(CLIPS)]
    table = pd.DataFrame({"clip_id": names, "machine": "fan", "class": [f"fan|{name[-6:]}" for name in names]})
    result = replace(make_result(make_spec()), pseudo_labels=table, pictures={})
    size = int(table.memory_usage(deep=True).sum())
    own: list[int] = []
    shared: list[int] = []

    def listen(progress: Progress) -> None:
        held = psutil.Process().memory_info()
        own.append(held.rss - held.shared)
        shared.append(held.shared)

    file = {"name": "flat", "protocol": "dcase2023", "seeds": list(range(TRIALS // 3)), "frozen": False, "level": False}
    plan = make_plan(StudyFile.model_validate({**file, "space": {"backbone": ["tiny"], "m": [1, 2, 3]}}))
    places = find_places(tracking=f"sqlite:///{tmp_path / 'mlflow.db'}")
    outcome = run(plan, places, trial=partial(answer_at_once, result=result), listen=listen)
    assert outcome.progress.finished == TRIALS
    for held, most in ((own, 3), (shared, (TRIALS - WARM) // 2)):
        grown = max(held[-3:]) - max(held[:WARM])
        assert grown < most * size, (
            f"{grown / 2**20:.0f} MiB more after {TRIALS - WARM} results of {size / 2**20:.0f} MiB each"
        )
