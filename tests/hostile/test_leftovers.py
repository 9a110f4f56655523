"""What a killed process leaves is swept by the next one that writes there, and what a living one holds is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from backbones.training.checkpoint import save_whole
from benchmarks import folders
from benchmarks.folders import clear_folders, clear_unfinished, file_beside, held_folder, whole_file
from harness.files import write_whole

GONE = (".0123456789abcdef.part", ".section_00.wav.4711.tmp", ".attributes_00.csv.1.tmp", ".synthetic.json.99999.tmp")
KEPT = (
    "0123456789abcdef.part", ".notes.txt.4711.tmp", ".0123.part", ".0123456789ABCDEF.part", "a.tmp", ".a.wav.tmp",
    ".a.wav.x.tmp", "section_00.wav", ".0123456789abcdef.part.txt",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _another_process() -> None:
    """Forget which folders this process has cleared, as another one would."""
    folders._clear_once.cache_clear()


@pytest.mark.parametrize("name", GONE)
@pytest.mark.parametrize("way", ["whole_file", "write_whole", "write_whole, private", "file_beside"])
def test_unfinished_files_go_at_the_next_write(name: str, way: str, tmp_path: Path) -> None:
    """Whichever writer comes next to a folder, what an earlier one left there unfinished is gone."""
    (tmp_path / name).write_bytes(b"half")
    out = tmp_path / "out.json"
    if way == "whole_file":
        with whole_file(out) as file:
            file.write(b"x")
    elif way == "file_beside":
        with file_beside(out) as file:
            file.write(b"x")
    else:
        write_whole(out, b"x", private="private" in way)
    assert [each.name for each in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.parametrize("name", KEPT)
def test_other_files_stay(name: str, tmp_path: Path) -> None:
    """A file that is called otherwise is somebody's."""
    (tmp_path / name).write_bytes(b"mine")
    clear_unfinished(tmp_path)
    assert (tmp_path / name).read_bytes() == b"mine"


def test_links_and_folders_of_such_names_stay(tmp_path: Path) -> None:
    """Only files are cleared, and through no link."""
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / f".{'0' * 16}.part").symlink_to("mine")
    (tmp_path / f".{'1' * 16}.part").mkdir()
    os.mkfifo(tmp_path / ".a.wav.1.tmp")
    clear_unfinished(tmp_path)
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert (tmp_path / f".{'1' * 16}.part").is_dir()


WRITER = (
    "import sys, time; from pathlib import Path; from benchmarks.folders import whole_file, held_folder\n"
    "with whole_file(Path('out.json')) as file, held_folder(Path('.'), 'made-'):\n"
    "    file.write(b'half'); file.flush(); print('held', flush=True); time.sleep(float(sys.argv[1]))\n"
)


def start(tmp_path: Path, seconds: float) -> subprocess.Popen[str]:
    """Start a process that writes for so long."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    running = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(seconds)], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "held\n"
    return running


def test_what_a_living_process_writes_stays_and_what_it_left_goes(tmp_path: Path) -> None:
    """A file and a folder are held until their process ends, however it ends."""
    running = start(tmp_path, 60)
    clear_unfinished(tmp_path)
    clear_folders(tmp_path, lambda name: name.startswith("made-"))
    assert len(list(tmp_path.iterdir())) == 2
    running.send_signal(signal.SIGKILL)
    running.wait(timeout=60)
    assert len(list(tmp_path.iterdir())) == 2
    clear_unfinished(tmp_path)
    clear_folders(tmp_path, lambda name: name.startswith("made-"))
    assert not list(tmp_path.iterdir())


def test_a_writer_that_others_clear_around_ends_well(tmp_path: Path) -> None:
    """Clearing a folder again and again while somebody writes there takes nothing from them."""
    running = start(tmp_path, 0.3)
    ends = time.monotonic() + 60
    while running.poll() is None and time.monotonic() < ends:
        clear_unfinished(tmp_path)
        clear_folders(tmp_path, lambda name: name.startswith("made-"))
    assert running.returncode == 0
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"out.json": b"half"}


def test_a_folder_is_gone_afterwards_whatever_happened(tmp_path: Path) -> None:
    """A folder to work in does not outlive an error."""
    with pytest.raises(RuntimeError), held_folder(tmp_path / "deep", "x-") as folder:
        (folder / "a").write_bytes(b"x")
        raise RuntimeError
    assert not list((tmp_path / "deep").iterdir())


def test_a_name_as_long_as_may_be_is_written(tmp_path: Path) -> None:
    """What stands beside a file while it is written has a name of its own, and so no name is too long for it."""
    with whole_file(tmp_path / ("x" * 251 + ".wav")) as file:
        file.write(b"x")
    assert [len(each.name) for each in tmp_path.iterdir()] == [255]


def test_halves_of_checkpoints_go_when_the_next_is_saved(tmp_path: Path) -> None:
    """A training that is killed while it saves leaves a half that the next one removes; another's stays."""
    (tmp_path / ".a.pt.12ab.part").write_bytes(b"half")
    (tmp_path / ".b.pt.12ab.part").write_bytes(b"half")
    save_whole({"w": torch.zeros(1)}, tmp_path / "a.pt")
    assert sorted(each.name for each in tmp_path.iterdir()) == [".b.pt.12ab.part", "a.pt"]


def test_generation_that_was_killed_leaves_nothing(tmp_path: Path, asdbench: Any) -> None:
    """The same `data generate` again ends whole, without what the killed one left."""
    line = (
        "data generate r --dataset dcase2025 --machine fan --train-source 1 --train-target 1 --test-per-cell 1 "
        "--seconds 0.5"
    )
    assert asdbench(line)[0] == 0
    (train,) = tmp_path.rglob("train")
    (train / ".section_00_source_train_normal_0000_noAttribute.wav.4711.tmp").write_bytes(b"half")
    (train / f".{'a' * 16}.part").write_bytes(b"half")
    (year,) = (tmp_path / "r").glob("dcase2025*")
    (year / "synthetic.json").rename(year / "synthetic.started.json")
    next(train.glob("*.wav")).unlink()
    folders._clear_once.cache_clear()
    assert asdbench(line)[0] == 0
    assert not [each.name for each in tmp_path.rglob(".*") if each.suffix in (".tmp", ".part")]
