"""A first csv of own recordings, guessed from names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.contract import BenchmarkError
from benchmarks.files import read_table
from benchmarks.recordings.own import guess_table


def rows_of(folder: Path, names: Sequence[str], **options: str) -> dict[str, tuple[str, ...]]:
    """Make empty files, and return machine, split, domain and condition of each as they are guessed."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    columns = ("machine", "split", "domain", "condition")
    return {row["file"]: tuple(row[each] for each in columns) for row in guess_table(folder, **options).rows}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pump/train/normal/a.wav", ("pump", "train", "", "normal")),
        ("Pump 2/test_abnormal/a b.FLAC", ("Pump 2", "test", "", "anomaly")),
        ("testing/pump_faulty/1.wav", ("pump", "test", "", "anomaly")),
        ("line/ok/x_ng_1.wav", ("line", "test", "", "anomaly")),
        ("fan/section_00_target_test_normal_0001_v_1.wav", ("fan", "test", "target", "normal")),
        ("train/fan/bad/1.wav", ("fan", "test", "", "anomaly")),
    ],
)
def test_what_names_say(tmp_path: Path, name: str, said: tuple[str, ...]) -> None:
    """Folders and names say machine, split, domain and condition; the nearest word counts, and no anomaly trains."""
    assert rows_of(tmp_path, [name]) == {name: said}


@pytest.mark.parametrize(
    ("names", "machines"),
    [
        (["pump_1.wav", "pump_2.wav", "fan-1.wav", "fan-2.wav"], {"pump", "fan"}),
        (["alpha.wav", "beta.wav"], {"hall"}),
        (["rec_1.wav", "rec_2.wav"], {"hall"}),
        (["0001.wav", "0002.wav"], {"hall"}),
        (["press/day/1.wav", "fan/day/1.wav"], {"press", "fan"}),
    ],
)
def test_the_machine(tmp_path: Path, names: list[str], machines: set[str]) -> None:
    """The machine is the outer folder, a beginning that several names share, or else the folder's own name."""
    assert {row[0] for row in rows_of(tmp_path / "hall", names).values()} == machines
    assert {row[0] for row in rows_of(tmp_path / "hall", names, machine="x").values()} == {"x"}


@pytest.mark.parametrize(
    ("names", "test"),
    [
        ([f"{i}.wav" for i in range(8)], {"3.wav", "7.wav"}),
        (["1.wav", "2.wav"], {"2.wav"}),
        (["1.wav"], set()),
        (["train/1.wav", "2.wav"], {"2.wav"}),
        (["test/1.wav", "2.wav"], {"test/1.wav"}),
        (["anomaly/1.wav", "2.wav", "3.wav"], {"anomaly/1.wav", "3.wav"}),
    ],
)
def test_the_split(tmp_path: Path, names: list[str], test: set[str]) -> None:
    """Every fourth clip is a test clip where nothing is said; where some names say it the others are of the other."""
    assert {name for name, row in rows_of(tmp_path, names).items() if row[1] == "test"} == test


def test_what_is_left_out(tmp_path: Path) -> None:
    """Other formats, hidden files and second files of a name are not listed, and a sentence says so."""
    assert set(rows_of(tmp_path, ["a.wav", "a.flac", "b.mp3", ".c.wav", "n.txt", 'q",x.wav'])) == {"a.flac", 'q",x.wav'}
    table = guess_table(tmp_path)
    assert ["a.wav has the name" in table.left_out[0], ".mp3" in table.left_out[1], len(table.left_out)] == [1, 1, 2]
    (tmp_path / "recordings.csv").write_text(table.text())
    assert read_table(tmp_path / "recordings.csv").rows[2][1][0] == 'q",x.wav'


def test_an_empty_folder(tmp_path: Path) -> None:
    """A folder without recordings is a sentence."""
    with pytest.raises(BenchmarkError, match="must hold WAV or FLAC recordings, but holds none"):
        guess_table(tmp_path)
