"""What a trial builds is what it was planned with."""

from __future__ import annotations

import os
import shutil

import pytest
import torch

from backbones.weights import sha256_of
from harness.errors import HarnessError
from harness.trials.choices import choose_backbone
from harness.trials.stages import pretrained_encoder
from tests.backbones.conftest import ORACLES
from tests.backbones.hugging_face_models import save_model


def swapped(path):
    """Put other weights in a checkpoint's place, under the same size and time."""
    about, content = path.stat(), torch.load(path, weights_only=True)
    content["model"]["layer_norm.bias"] += 1
    torch.save(content, path)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert path.stat().st_mtime_ns == about.st_mtime_ns


def test_weights_swapped_after_planning_are_refused(tmp_path):
    """Other weights under the planned file's name, size and time are refused with both sums; the planned ones load."""
    path = tmp_path / "beats.pt"
    torch.save(torch.load(ORACLES / "beats_small.pt", weights_only=True), path)
    choice = choose_backbone("small", "beats", weights=str(path))
    assert pretrained_encoder(choice, seed=0).weights_sha256 == choice.weights_sha256
    swapped(path)
    with pytest.raises(HarnessError, match="planned with") as caught:
        pretrained_encoder(choice, seed=0)
    assert choice.weights_sha256[:12] in str(caught.value) and sha256_of(path)[:12] in str(caught.value)


def test_a_folder_swapped_after_planning_is_refused(tmp_path):
    """A model's folder whose weights or configuration changed after planning is refused; a note beside is not."""
    folder = save_model("wav2vec2", tmp_path / "model")
    choice = choose_backbone(f"hf:{folder}", f"hf:{folder}")
    (folder / "README.md").write_text("a note")
    assert pretrained_encoder(choice, seed=0).weights_sha256 == choice.weights_sha256
    other = save_model("wav2vec2", tmp_path / "other", seed=1)
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(HarnessError, match="planned with"):
        pretrained_encoder(choice, seed=0)
