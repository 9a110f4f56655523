"""Training that is cut and goes on."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones import load_encoder
from backbones.contract import BackboneError
from backbones.training.checkpoint import TrainingCheckpoint
from tests.backbones.conftest import SMALL, tones
from tests.backbones.training.test_finetune import NOISY, QUICK, changed, farthest, run

LONGER = changed(QUICK, epochs=5, batch_size=8)
ADAPTED = changed(LONGER, lora_rank=2)


class CutError(Exception):
    """Stands for whatever ends a process."""


def cut_after(epochs):
    """Return a listener that ends the run after so many epochs."""

    def on_epoch(report):
        if report.epoch == epochs:
            raise CutError

    return on_epoch


def every_epoch(folder):
    """Return a checkpoint that is written after every epoch."""
    return TrainingCheckpoint(folder / "run.pt", every_seconds=0)


@pytest.mark.parametrize("recipe", [LONGER, ADAPTED], ids=["all", "adapters"])
@pytest.mark.parametrize("name", ["beats", "audiomae"])
def test_cut_and_resumed(tmp_path, name, recipe):
    """A run cut after a random epoch and resumed ends with the same weights bit for bit, and reports every epoch."""
    encoder = load_encoder(name, **SMALL[name], **NOISY[name])
    waveforms, targets = tones(20), np.arange(20) % 2
    whole, reports = [], []
    uncut = run(encoder, waveforms, targets, recipe, on_epoch=whole.append)
    with pytest.raises(CutError):
        cut = cut_after(random.randint(1, 4))
        run(encoder, waveforms, targets, recipe, on_epoch=cut, checkpoint=every_epoch(tmp_path))
    resumed = run(encoder, waveforms, targets, recipe, on_epoch=reports.append, checkpoint=every_epoch(tmp_path))
    assert farthest(uncut, resumed) == 0
    assert [report.loss for report in reports] == [report.loss for report in whole]


def test_resuming_repeats_nothing(tmp_path):
    """What was finished is read back and not trained again."""
    encoder = load_encoder("tiny", **SMALL["tiny"])
    told, reports = [], []
    first = run(encoder, tones(8), np.arange(8) % 2, LONGER, checkpoint=every_epoch(tmp_path), on_epoch=told.append)
    again = run(encoder, tones(8), np.arange(8) % 2, LONGER, checkpoint=every_epoch(tmp_path), on_epoch=reports.append)
    unheard = run(encoder, tones(8), np.arange(8) % 2, LONGER, checkpoint=every_epoch(tmp_path))
    assert farthest(first, again) == farthest(first, unheard) == 0
    assert len(reports) == LONGER.epochs
    assert reports == told, "down to the seconds that they took"


PROGRAM = """
import sys, time
from pathlib import Path
import numpy as np, torch
from backbones import load_encoder
from tests.backbones.training.test_checkpoint import LONGER, every_epoch
from tests.backbones.training.test_finetune import changed, run
from tests.backbones.conftest import SMALL, tones
torch.set_num_threads(1)

def on_epoch(report):
    print(report.epoch, flush=True)
    time.sleep(float(sys.argv[2]))

encoder = load_encoder("beats", **SMALL["beats"])
recipe = changed(LONGER, epochs=6)
tuned = run(encoder, tones(8), np.arange(8) % 2, recipe, on_epoch=on_epoch, checkpoint=every_epoch(Path(sys.argv[1])))
torch.save(tuned.state_dict(), sys.argv[1] + "/tuned.pt")
"""


@pytest.mark.slow
def test_killed_process(tmp_path):
    """A process that is killed in a random epoch, and again, and then started a third time ends as an uncut one."""
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()

    def start(name, nap):
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / name), nap]
        root = Path(__file__).parents[3]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)

    assert start("whole", "0").wait(timeout=120) == 0
    first = random.randint(1, 2)
    for epoch in (first, first + random.randint(1, 2)):
        process = start("cut", "0.05")
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= epoch:
                process.send_signal(signal.SIGKILL)
                break
        assert process.wait(timeout=120) == -signal.SIGKILL
    assert start("cut", "0").wait(timeout=120) == 0
    whole, cut = (torch.load(tmp_path / name / "tuned.pt", weights_only=True) for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_damaged_checkpoint(tmp_path, caplog):
    """A checkpoint cut off or with a flipped byte is passed over with a warning, and the numbers are the same."""
    encoder = load_encoder("tiny", **SMALL["tiny"])
    waveforms, targets = tones(8), np.arange(8) % 2
    uncut = run(encoder, waveforms, targets)
    run(encoder, waveforms, targets, checkpoint=every_epoch(tmp_path))
    path = tmp_path / "run.pt"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (whole[: len(whole) // 2], bytes(flipped), b"", b"<html>"):
        path.write_bytes(content)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert farthest(run(encoder, waveforms, targets, checkpoint=every_epoch(tmp_path)), uncut) == 0
        assert "starts over" in caplog.text


@pytest.mark.parametrize(
    ("recipe", "options", "targets"),
    [
        (changed(QUICK, learning_rate=2e-3), {}, np.arange(8) % 2),
        (QUICK, {"seed": 1}, np.arange(8) % 2),
        (QUICK, {}, 1 - np.arange(8) % 2),
    ],
)
def test_checkpoint_of_another_run(tmp_path, caplog, recipe, options, targets):
    """The checkpoint of another recipe, seed or labeling is not taken up."""
    encoder = load_encoder("tiny", **SMALL["tiny"])
    run(encoder, tones(8), np.arange(8) % 2, checkpoint=every_epoch(tmp_path))
    with caplog.at_level(logging.WARNING):
        tuned = run(encoder, tones(8), targets, recipe, checkpoint=every_epoch(tmp_path), **options)
    assert "another training" in caplog.text
    assert farthest(tuned, run(encoder, tones(8), targets, recipe, **options)) == 0


def test_quick_runs_write_nothing(tmp_path):
    """A run that takes less than the time between two writes leaves no file."""
    checkpoint = TrainingCheckpoint(tmp_path / "run.pt")
    run(load_encoder("tiny", **SMALL["tiny"]), tones(4), np.arange(4) % 2, checkpoint=checkpoint)
    assert not list(tmp_path.iterdir())


class Trap:
    def __reduce__(self):
        return os.system, ("touch trapped",)


def forge(path, change):
    """Change what a kept state holds, under its right key."""
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(extra=Trap()),
        lambda c: c.update(state=[1]),
        lambda c: c["state"].pop("head"),
        lambda c: c["state"]["head"].update(weight=torch.zeros(3)),
        lambda c: c["state"].update(reports=[{"epoch": 1}]),
        lambda c: c["state"].update(optimiser={"state": {}, "param_groups": []}),
    ],
    ids=["code", "no state", "a part missing", "another shape", "odd reports", "another optimiser"],
)
def test_forged_checkpoint(tmp_path, caplog, monkeypatch, change):
    """A state in a shared cache that somebody else wrote runs nothing, and training starts over."""
    monkeypatch.chdir(tmp_path)
    encoder = load_encoder("tiny", **SMALL["tiny"])
    waveforms, targets = tones(8), np.arange(8) % 2
    uncut = run(encoder, waveforms, targets)
    run(encoder, waveforms, targets, checkpoint=every_epoch(tmp_path))
    forge(tmp_path / "run.pt", change)
    with caplog.at_level(logging.WARNING):
        assert farthest(run(encoder, waveforms, targets, checkpoint=every_epoch(tmp_path)), uncut) == 0
    assert "starts over" in caplog.text
    assert not (tmp_path / "trapped").exists()


def test_kept_for_the_owner_alone(tmp_path):
    """The state is readable by its owner alone, and something else under its name is named instead of waited for."""
    checkpoint = every_epoch(tmp_path)
    checkpoint.write({})
    assert checkpoint.path.stat().st_mode & 0o077 == 0
    pipe = TrainingCheckpoint(tmp_path / "pipe.pt", every_seconds=0)
    os.mkfifo(pipe.path)
    assert pipe.open("key") is None
    with pytest.raises(BackboneError, match="is a named pipe"):
        pipe.write({})
