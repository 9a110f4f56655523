"""A study on unlabelled recordings of one's own, from the csv to a served model of its best trial."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.places import find_places
from harness.stores.history import History
from harness.stores.kept.models import KeptModels
from tests.harness.detection.test_detect import write_tone

STUDY = """
name = "own-best"
protocol = "own"
keep = "{keep}"
space = {{ backbone = ["tiny"], m = [1, 2], k1 = [2], k2 = [2] }}
recipe = {{ epochs = 1, batch_size = 8, clip_seconds = 0.5 }}
"""


@pytest.mark.slow
@pytest.mark.parametrize("labelled", [False, pytest.param(True, marks=pytest.mark.long)])
def test_from_a_folder_to_detections(labelled: bool, tmp_path: Path, asdbench: Any) -> None:
    """Commands alone: csv, study with kept encoders, leaderboard, report, and new clips by a learned trial."""
    for machine, hz in (("pump", 200.0), ("press", 700.0)):
        for number in range(8):
            word = ("anomaly" if number == 3 else "normal") if labelled and number in (3, 7) else "clip"
            write_tone(tmp_path / "own" / machine / f"{word} {number}.wav", hz=3000.0 if number == 3 else hz)
    if labelled:  # a normal test clip a machine, so that an AUC is defined
        for machine in ("pump", "press"):
            place = tmp_path / "own" / machine / "normal 7.wav"
            place.rename(place.with_name("normal test 7.wav"))
    assert asdbench("data own own")[0] == 0
    (tmp_path / "study.toml").write_text(STUDY.format(keep="best" if labelled else "all"))
    status, _, said = asdbench("study run study.toml --data own --workers 1")
    assert status == 0, said
    for line in ("leaderboard", "report --out report.html --study own-best", "study status own-best"):
        assert asdbench(line)[0] == 0, line
    history = History(find_places().tracking)
    models = KeptModels(history.client, history.experiment, history.uri).of()
    assert [each.whole for each in models] == ([True] if labelled else [True, True])
    for name in ("a.wav", "b.wav"):
        write_tone(tmp_path / "new" / "pump" / name, hz=200.0 if name == "a.wav" else 3000.0)
    status, out, said = asdbench(f"detect {models[0].key} new --json")
    assert status == 0, said
    document = json.loads(out)
    assert [row["file"] for row in document["rows"]] == ["pump/b.wav", "pump/a.wav"]
    status, out, said = asdbench("detect own-best new --best --json")
    assert (status == 0) == labelled, said
    assert labelled or "no trial of own-best has one" in said
