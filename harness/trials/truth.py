"""Attributes that the challenge withheld and released later, brought beside the recordings that lack them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.recordings.truth import read_truth
from harness.trials.contract import HarnessError
from harness.trials.recordings import Recordings, place_recordings


def with_released(recordings: Recordings, folder: Path) -> Recordings:
    """Return the recordings with the truth of training clips whose attributes were withheld.

    Clips, fingerprints and audio stay as they are, so that no key and no label changes. What the protocol itself hides
    is kept.

    Args:
        recordings: prepared without it.
        folder: the user's copy of the official *_correspondence.csv files.

    Raises:
        HarnessError: none of the released attributes belongs to an unlabeled training clip.
        BenchmarkError: there are no such files, or they cannot be read.
    """
    bare = set(recordings.train.loc[recordings.train["attribute"].isna(), "clip_id"])
    told = read_truth(folder)
    released = {clip_id: attribute for clip_id, attribute in told.items() if clip_id in bare}
    if not released:
        raise HarnessError(
            f"The truth must tell attributes of training clips that have none, but none of the {len(told)} that "
            f"{folder} tells is of the {len(bare)} unlabeled training clips; name the folder of their year's tables."
        )
    audio = Path((recordings.place / "audio.txt").read_text())
    return place_recordings(replace(recordings, truth={**released, **recordings.truth}), audio)
