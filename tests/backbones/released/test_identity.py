"""What a file is: a released one by its sum, another layout by its tensors, or what lies there in its place."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
import torch

from backbones.contract import BackboneError
from backbones.released.identity import identify
from tests.backbones.conftest import ORACLES
from tests.backbones.released.conftest import CONTENT, SUM

BEATS, AUDIOMAE = ORACLES / "beats_small.pt", ORACLES / "audiomae_small.pt"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{SUM}\nsize {len(CONTENT)}\n".encode()


def test_a_released_file_is_known_by_its_sum(tmp_path: Path) -> None:
    """Whatever it is called: name, stage and licence are said."""
    path = tmp_path / "weights(1).pt"
    path.write_bytes(CONTENT)
    found = identify(path)
    assert (found.released, found.backbone, found.bytes, found.sha256) == ("BEATs_small", "beats", len(CONTENT), SUM)
    assert found.what == "the released BEATs_small, byte for byte; pre-trained without labels, licence MIT"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>Sign in</html>", "a web page"),
        (b"\n <?xml version='1.0'?><Error/>", "a web page or an error"),
        (b'{"error": "quota"}', "a text in JSON"),
        (POINTER, "a pointer of Git LFS that stands for BEATs_small"),
        (POINTER.replace(b"a", b"b"), "a pointer of Git LFS, not the file itself"),
        (BEATS.read_bytes()[:-1_000], "the first .* bytes of a checkpoint"),
        (b"\x00" * 1_000, "no file of weights that can be used"),
        (b"just words", "no file of weights that can be used"),
    ],
)
def test_what_lies_there_in_its_place(tmp_path: Path, content: bytes, said: str) -> None:
    """Pages, pointers, halves and texts under a checkpoint's name are said to be that; no backbone reads them."""
    path = tmp_path / "BEATs_small.pt"
    path.write_bytes(content)
    found = identify(path)
    assert (found.released, found.backbone) == (None, None)
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert re.match(said, found.what), found.what


def test_other_files_are_known_by_their_tensors(tmp_path: Path) -> None:
    """BEATs and AudioMAE, pre-trained or fine-tuned, official or timm's, are told apart without a released sum."""
    save_file = pytest.importorskip("safetensors.torch", reason="comes with the extra asdbench[hf]").save_file
    beats, mae = (torch.load(path, weights_only=False) for path in (BEATS, AUDIOMAE))
    encoder = {name: value for name, value in mae["model"].items() if not name.startswith(("decoder", "mask"))}
    width = encoder["norm.weight"]
    made = {
        "a pre-trained BEATs, but none": beats,
        "a fine-tuned BEATs, but none": {**beats, "cfg": {**beats["cfg"], "finetuned_model": True}},
        "tensors of BEATs without their cfg": {"model": beats["model"]},
        "a pre-trained AudioMAE in the official layout": mae,
        "a fine-tuned AudioMAE in the official layout": {"model": {**encoder, "fc_norm.weight": width}},
        "a checkpoint of another model": {"model": {"conv.weight": width}},
        "a checkpoint of another layout": {"state_dict": {"conv.weight": width}},
    }
    path = tmp_path / "file.pt"
    for said, content in made.items():
        torch.save(content, path)
        assert identify(path).what.startswith(said)
    save_file(encoder, tmp_path / "model.safetensors")
    assert identify(tmp_path / "model.safetensors").what.startswith("AudioMAE in timm's layout, pre-trained")
    save_file({"a": width}, tmp_path / "model.safetensors")
    assert identify(tmp_path / "model.safetensors").what.startswith("a safetensors file of another model (a)")


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    """A missing file and a folder without a model are errors; a model's folder is named."""
    with pytest.raises(BackboneError, match="does not exist"):
        identify(tmp_path / "nothing.pt")
    with pytest.raises(BackboneError, match=r"without a model's config\.json"):
        identify(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "hubert"}')
    assert "hubert" in identify(tmp_path).what
