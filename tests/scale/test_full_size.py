"""Time and memory of every stage at growing sizes: none may grow faster than its size, unless named with a reason."""

from __future__ import annotations

import os

import pytest

from tests.scale.conftest import Workshop
from tests.scale.growth import Sheet, above_linear, memory_of

pytestmark = pytest.mark.scale

CLIPS = [int(each) for each in os.environ.get("SIZES", "1000 10000 150000").split()]
TRIALS = [int(each) for each in os.environ.get("TRIALS", "1000 10000 100000").split()]
STREAMED_MB = 20  # of a worker's own memory, however many clips it reads

CLIP_STAGES = (
    "index", "doctor", "packing", "packed", "opening", "streaming", "statistics", "latents", "labels", "embeddings",
    "embeddings_opened", "scoring", "trial", "records",
)  # fmt: skip
TRIAL_STAGES = (
    "leaderboard", "whole_leaderboard", "compare", "importance", "report", "status", "one_trial", "going_on",
)  # fmt: skip
# stage -> what of it grows faster than its size, and why that is so
NAMED: dict[str, dict[str, str]] = {
    "scoring": {"time": "every test clip of a section is compared with each of its training clips"},
    "labels": {"time": "every unlabeled clip of a machine type is compared with each labeled one"},
}


def judge(sheet: Sheet, stage: str) -> None:
    """Show a stage's costs, and fail where one grows too fast."""
    found = sheet.growths(stage)
    for size in sheet.sizes(stage):
        cost = sheet.stages[stage][str(size)]
        print(f"{stage:>18} {size:>8,} {cost[sheet.seconds]:>9.2f} s {memory_of(cost):>9.0f} MiB")  # noqa: T201
    print(f"{'':>18} exponents { ({name: each.fitted for name, each in found.items()}) }", flush=True)  # noqa: T201
    fast = above_linear(found, tuple(NAMED.get(stage, ())))
    assert not fast, f"{stage}: {', '.join(fast)} must not grow faster than its size: {found}; mend it, or name it"


@pytest.mark.parametrize("stage", CLIP_STAGES)
def test_clips(stage: str, clips: Workshop) -> None:
    """No stage that clips go through grows faster than their number."""
    for size in CLIPS:
        clips.run(stage, size)
    judge(clips.sheet, stage)


def test_packed_audio_streams(clips: Workshop) -> None:
    """A worker that reads all clips holds no more than a few MiB of its own, however many there are."""
    clips.run("streaming", CLIPS[-1])
    assert memory_of(clips.sheet.stages["streaming"][str(CLIPS[-1])]) < STREAMED_MB


@pytest.mark.parametrize("stage", TRIAL_STAGES)
def test_trials(stage: str, trials: Workshop) -> None:
    """No answer about recorded trials grows faster than their number."""
    for size in TRIALS:
        trials.run(stage, size)
    judge(trials.sheet, stage)


@pytest.mark.parametrize("stage", TRIAL_STAGES)
def test_trials_on_postgresql(stage: str, trials_on_postgresql: Workshop) -> None:
    """Nor does it where a server has them; seconds are the clock's there, and memory is the client's."""
    for size in TRIALS:
        trials_on_postgresql.run(stage, size)
    judge(trials_on_postgresql.sheet, stage)
