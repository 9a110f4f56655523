"""Prepared recordings are opened as they were prepared, or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.protocols import find_protocol
from benchmarks.synthetic.generator import generate
from harness.cache import Cache
from harness.errors import HarnessError
from harness.trials.recordings import Recordings, open_recordings, prepare_recordings


@pytest.fixture
def recordings(tmp_path: Path) -> Recordings:
    """A few generated recordings, prepared."""
    generate(tmp_path / "d", DATASET, machines=("fan",), train_source=4, train_target=2, test_per_cell=2, seconds=0.5)
    return prepare_recordings(tmp_path / "d", find_protocol("dcase2023"), Cache(tmp_path / "cache"))


def test_test_clips_that_are_copies_of_training_clips_are_said(
    tmp_path: Path, recordings: Recordings, caplog: pytest.LogCaptureFixture
) -> None:
    """Preparing recordings warns once of test clips with a training clip's samples, and names a pair of them."""
    assert "copies" not in caplog.text
    source, copy = recordings.train["path"].iloc[1], recordings.test["path"].iloc[2]
    Path(copy).write_bytes(Path(source).read_bytes())
    again = prepare_recordings(tmp_path / "d", find_protocol("dcase2023"), Cache(tmp_path / "cache"))
    said = [record.getMessage() for record in caplog.records if "copies" in record.getMessage()]
    assert len(said) == 1 and said[0].startswith("1 of 8 test clips are copies of training clips")
    assert f"{again.test['clip_id'].iloc[2]} is {again.train['clip_id'].iloc[1]}" in said[0]


def edit(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    """A change of one of the two tables."""

    def forge(place: Path) -> None:
        change(pd.read_parquet(place / name)).to_parquet(place / name, index=False)

    return forge


def bend(place: Path) -> None:
    """Let the place of the audio be a folder outside of the cache."""
    outside = place.parent.parent.parent / "outside"
    outside.mkdir()
    (place / "audio.txt").write_text(str(outside))


def pipe(place: Path) -> None:
    """Put a named pipe where a table was."""
    (place / "train.parquet").unlink()
    os.mkfifo(place / "train.parquet")


FORGED: dict[str, Callable[[Path], object]] = {
    "other attributes": edit("train.parquet", lambda clips: clips.assign(attribute="x")),
    "other conditions": edit("test.parquet", lambda clips: clips.assign(condition="normal")),
    "fewer clips": edit("train.parquet", lambda clips: clips.iloc[1:]),
    "a column too few": edit("train.parquet", lambda clips: clips.drop(columns="machine")),
    "no table": lambda place: (place / "test.parquet").write_bytes(b"PAR1"),
    "a missing table": lambda place: (place / "test.parquet").unlink(),
    "a named pipe": pipe,
    "a truth that nobody released": lambda place: (place / "truth.json").write_text(json.dumps({"a": "b"})),
    "a truth of lists": lambda place: (place / "truth.json").write_text("[1]"),
    "a truth without end": lambda place: (place / "truth.json").write_text("[" * 100_000),
    "audio outside of the cache": bend,
    "audio above it": lambda place: (place / "audio.txt").write_text(f"{place.parent.parent}/audio/../../d"),
    "audio in the cache itself": lambda place: (place / "audio.txt").write_text(str(place.parent)),
    "no place of audio": lambda place: (place / "audio.txt").write_bytes(b""),
    "a place of zeros": lambda place: (place / "audio.txt").write_bytes(bytes(10)),
}


def test_what_was_prepared_is_opened(recordings: Recordings) -> None:
    """Another process finds the same clips, fingerprints and audio."""
    found = open_recordings(recordings.place)
    assert (found.train_data, found.test_data) == (recordings.train_data, recordings.test_data)
    assert found.train.equals(recordings.train) and found.test.equals(recordings.test)
    assert found.packed.ids.tolist() == recordings.packed.ids.tolist()


@pytest.mark.parametrize("how", FORGED)
def test_forged_recordings_are_refused(recordings: Recordings, how: str) -> None:
    """A folder that no longer holds what it is named after is refused in one sentence, before any number."""
    FORGED[how](recordings.place)
    with pytest.raises(HarnessError, match=" must "):
        open_recordings(recordings.place)
