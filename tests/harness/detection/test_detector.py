"""A made-up detector: which clip is nearest, and how a waveform of several channels is taken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backbones.contract import Backbone
from benchmarks.contract import Mix
from benchmarks.recordings.packed import HeldClips
from harness import plugins
from harness.detection.bundle import COLUMNS
from harness.detection.detector import Detector, Hearing, References
from harness.detection.new_clips import detect_in
from harness.trials.contract import BackboneChoice
from tests.harness.detection.test_detect import write_tone

RATE = 16_000


def made_detector(machines: tuple[str, ...] = ("pump",), mix: Mix = "first") -> Detector:
    """A frozen trial with an encoder that scores by level, too: three quiet to loud training clips a machine."""
    rows = [
        (f"{machine} {place}", "own", machine, "00", "source", f"{machine}/{name}.wav", f"{machine}{place}")
        for machine in machines
        for place, name in enumerate(("quiet", "middling", "loud"))
    ]
    clips = pd.DataFrame(rows, columns=list(COLUMNS))
    hearing = Hearing(
        key="k", label="made up", kind="frozen", backbone=BackboneChoice("tiny", "tiny"), seed=0, samples=RATE,
        fit="repeat", whole=False, mixes={"own": mix}, scorers=("level", "knn"),
    )  # fmt: skip
    backbone: Backbone = plugins.load("backbone", "tiny")
    levels = np.array([-60.0, -30.0, -10.0] * len(machines))
    return Detector(hearing, References(clips, {}, {}, levels), {}, backbone.build(weights=None, seed=0).eval())


@pytest.mark.parametrize(("amplitude", "nearest"), [(0.001, "quiet"), (0.04, "middling"), (0.5, "loud")])
def test_by_level_the_nearest_clip_is_the_one_of_the_nearest_level(amplitude: float, nearest: str) -> None:
    """Of a trial with an encoder, too."""
    tone = amplitude * np.sin(np.arange(RATE)) * 32767
    held = HeldClips({"new": np.rint(tone).astype(np.int16)}, channels=1)
    (found,) = made_detector().detect({"new": ("own", "pump", "00")}, held, scorer="level")
    assert found.nearest == f"pump/{nearest}.wav"


@pytest.mark.parametrize(
    ("on_disk", "listed"),
    [
        ("gera\u0308t 1.wav", "ger\u00e4t 1.wav"), ("ger\u00e4t 1.wav", "gera\u0308t 1"), ("a.v2.wav", "a.v2"),
        ("a.flac", "a.wav"), ("x/a.WAV", "x\\a"),
    ],
)  # fmt: skip
def test_a_csv_may_spell_a_name_otherwise(on_disk: str, listed: str, tmp_path: Path) -> None:
    """Without the ending or with another, and in Unicode's other form, as `recordings.csv` may."""
    write_tone(tmp_path / on_disk)
    write_tone(tmp_path / "other.wav")
    (tmp_path / "list.csv").write_text(f"file,machine\n{listed},press\nother.wav,pump\n", encoding="utf-8")
    rows = detect_in(made_detector(("pump", "press")), tmp_path).rows
    assert {Path(row.clip_id).name: row.machine for row in rows} == {Path(on_disk).name: "press", "other.wav": "pump"}


def test_a_waveform_may_be_a_list_of_channels() -> None:
    """What hears the difference of two microphones takes both; one channel alone is an error of its row."""
    from harness.stores.kept.served import score_table

    tone = (0.1 * np.sin(np.arange(RATE))).tolist()
    table = pd.DataFrame({"waveform": [[tone, [0.0] * RATE], [tone, tone], tone], "sampling_rate": [RATE] * 3})
    rows = score_table(made_detector(mix="difference"), table, scorer="level")
    assert np.isfinite(rows["score"][0])
    assert rows["error"].isna().tolist() == [True, False, False]
    assert "silent" in rows["error"][1]
    assert "channel" in rows["error"][2]


@pytest.mark.slow
def test_a_model_loads_beside_files_of_our_names(tmp_path: Path) -> None:
    """A `benchmarks.py` or `harness.py` where a server is started is not taken for ours."""
    from harness.stores.kept.models import SERVED

    for name in ("benchmarks", "harness"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('wrong')")
    code = f"import runpy, sys; sys.path.append({str(SERVED.parents[3])!r}); runpy.run_path({str(SERVED)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=100)
