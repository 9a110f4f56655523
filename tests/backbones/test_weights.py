"""Checkpoints: found, verified, read safely, and refused in one sentence when they are bad."""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import pickle
import shutil

import pytest
import torch

from backbones import load_encoder
from backbones.contract import BackboneError
from backbones.weights import find_checkpoint, read_checkpoint
from tests.backbones.conftest import ORACLES

BEATS = ORACLES / "beats_small.pt"


class Trap:
    def __reduce__(self):
        return os.system, ("touch trapped",)


def changed(tmp_path, change, source=BEATS):
    """Save the small checkpoint after a change to what it holds."""
    content = torch.load(source, weights_only=False)
    change(content)
    torch.save(content, tmp_path / "changed.pt")
    return tmp_path / "changed.pt"


def test_found_by_name(tmp_path, monkeypatch):
    """A checkpoint is found by path, and by name with or without suffix in ASDBENCH_WEIGHTS."""
    shutil.copy(BEATS, tmp_path / "BEATs_iter3.pt")
    monkeypatch.setenv("ASDBENCH_WEIGHTS", str(tmp_path))
    for name in ("BEATs_iter3.pt", "BEATs_iter3", tmp_path / "BEATs_iter3.pt"):
        assert find_checkpoint(name) == tmp_path / "BEATs_iter3.pt"
    with pytest.raises(BackboneError, match=r"does not exist.*ASDBENCH_WEIGHTS"):
        find_checkpoint("BEATs_iter4")


def test_missing(tmp_path, monkeypatch):
    """A missing file or a folder is named, with the way out."""
    monkeypatch.delenv("ASDBENCH_WEIGHTS", raising=False)
    with pytest.raises(BackboneError, match=r"nowhere\.pt does not exist.*is not set"):
        load_encoder("beats", tmp_path / "nowhere.pt")
    with pytest.raises(BackboneError, match="is a folder"):
        load_encoder("beats", tmp_path)


def test_sha256(tmp_path):
    """The sum of the file goes with the encoder, and with nothing that was drawn at random."""
    shutil.copy(BEATS, tmp_path / "beats.pt")
    wanted = hashlib.sha256(BEATS.read_bytes()).hexdigest()
    assert load_encoder("beats", tmp_path / "beats.pt").weights_sha256 == wanted
    assert load_encoder("tiny").weights_sha256 is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "text file"),
        (b"  \n<html>", "text file"),
        (b'{"error": "quota"}', "text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (BEATS.read_bytes()[:1_000], "cut off"),
        (BEATS.read_bytes()[:-1_000], "cut off"),
        (BEATS.read_bytes()[:60_000] + bytes(64) + BEATS.read_bytes()[60_064:], "damaged: the sum of"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "cut off"),
        (b"hello, this is no file\n", "cut off or damaged: it begins like no checkpoint"),
        (pickle.dumps([1, 2, 3]), "cut off|mapping"),
    ],
    ids=[
        "empty",
        "html",
        "html after blanks",
        "json",
        "lfs",
        "beginning",
        "end missing",
        "overwritten",
        "wav",
        "text",
        "pickle",
    ],
)
def test_no_checkpoint(tmp_path, content, message):
    """What is no whole checkpoint is said to be so, by path, in one sentence."""
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(BackboneError, match=message) as error:
        load_encoder("beats", path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_refused(tmp_path, monkeypatch, zipped):
    """A pickle that would run a command is refused by the command's name, and nothing runs."""
    monkeypatch.chdir(tmp_path)
    torch.save({"cfg": {}, "model": {"a": Trap()}}, "trap.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(BackboneError, match=r"refused.*(posix|os)\.system"):
        load_encoder("beats", "trap.pt")
    assert not (tmp_path / "trapped").exists()


def test_bare_pickle_of_code(tmp_path, monkeypatch):
    """A bare pickle that would run a command is refused by its name likewise, in every protocol of pickle."""
    monkeypatch.chdir(tmp_path)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "trap.pt").write_bytes(pickle.dumps({"model": Trap()}, protocol=protocol))
        with pytest.raises(BackboneError, match=r"refused.*(posix|os)\.system"):
            load_encoder("beats", "trap.pt")
    assert not (tmp_path / "trapped").exists()


def test_namespace_alone_is_let_in(tmp_path):
    """AudioMAE's argparse.Namespace is let in; another class is refused by name."""
    assert isinstance(read_checkpoint(ORACLES / "audiomae_small.pt").content["args"], argparse.Namespace)
    path = changed(tmp_path, lambda content: content.update(extra=io.StringIO()))
    with pytest.raises(BackboneError, match="StringIO"):
        read_checkpoint(path)


@pytest.mark.parametrize(("backbone", "file"), [("audiomae", "beats_small.pt"), ("beats", "audiomae_small.pt")])
def test_another_model(backbone, file):
    """A checkpoint of another model is refused, naming what it lacks and what it holds."""
    with pytest.raises(BackboneError, match=f"not a checkpoint of {backbone}: it lacks .* and holds"):
        load_encoder(backbone, ORACLES / file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"].pop("encoder.layers.1.fc1.bias"), "lacks encoder.layers.1.fc1.bias"),
        (lambda c: c["model"].update(surplus=torch.zeros(1)), "unknown surplus"),
        (
            lambda c: c["model"].update({"layer_norm.weight": torch.zeros(7)}),
            r"layer_norm.weight \(7,\) instead of \(32,\)",
        ),
        (lambda c: c["cfg"].update(encoder_layers=4), "lacks encoder.layers.3"),
        (lambda c: c["cfg"].update(encoder_layers="three"), "encoder_layers .* must be of type int"),
        (lambda c: c["cfg"].update(deep_norm=True, layer_norm_first=True), "exclude each other"),
        (lambda c: c.update(cfg=7), '"cfg" must be a mapping'),
        (lambda c: c.update(model=[1]), '"model", but holds a list'),
        (lambda c: c.update(model={}), '"model", but holds an empty one'),
        (lambda c: c["cfg"].update(encoder_layers=10**6), "lacks encoder.layers.3 of the 1000000"),
        (lambda c: c["cfg"].update(encoder_layerdrop=2.0), "encoder_layerdrop must be"),
        (lambda c: c["model"].update({"layer_norm.bias": torch.zeros(32).to_sparse()}), "layer_norm.bias is sparse"),
        (
            lambda c: c["model"].update({"layer_norm.bias": torch.full((32,), 1e300, dtype=torch.float64)}),
            "infinite ones in layer_norm.bias",
        ),
        (lambda c: c["model"].update({"layer_norm.bias": torch.zeros(32, device="meta")}), "without data"),
        (lambda c: c["model"].update(word="text"), "must map names to tensors"),
        (lambda c: c["model"]["encoder.layer_norm.bias"].fill_(torch.nan), "NaN .* in encoder.layer_norm.bias"),
        (lambda c: c["model"]["post_extract_proj.weight"][0].fill_(torch.inf), "infinite .* in post_extract_proj"),
        (
            lambda c: c["model"].update({"layer_norm.bias": torch.zeros(32, dtype=torch.int64)}),
            "floating-point .* layer_norm.bias torch.int64",
        ),
        (
            lambda c: c["model"].update(
                {"encoder.layers.2.self_attn.relative_attention_bias.weight": torch.ones(320, 12)}
            ),
            "share one relative_attention_bias",
        ),
    ],
)
def test_tensors_that_do_not_fit(tmp_path, change, message):
    """Missing, surplus, misshapen, broken tensors and odd settings are refused by name, never replaced."""
    with pytest.raises(BackboneError, match=message) as error:
        load_encoder("beats", changed(tmp_path, change))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"].pop("blocks.2.mlp.fc2.bias"), "lacks blocks.2.mlp.fc2.bias"),
        (lambda c: c["model"].update({"pos_embed": torch.zeros(1, 512, 96)}), r"pos_embed \(1, 512, 96\) instead"),
        (lambda c: c["model"].pop("pos_embed"), "lacks pos_embed"),
        (lambda c: c["model"].update({"pos_embed": torch.zeros(3)}), r"pos_embed has shape \(3,\), where 3 sides"),
        (lambda c: c["model"].update({"blocks.0.mlp.fc1.weight": torch.zeros(())}), r"fc1.weight has shape \(\)"),
        (lambda c: c["model"]["cls_token"].fill_(torch.nan), "NaN .* in cls_token"),
    ],
)
def test_audiomae_tensors_that_do_not_fit(tmp_path, change, message):
    """AudioMAE's files are held to the same."""
    with pytest.raises(BackboneError, match=message):
        load_encoder("audiomae", changed(tmp_path, change, ORACLES / "audiomae_small.pt"), heads=6)


def test_half_precision(tmp_path):
    """A checkpoint in half precision loads as float32."""

    def halve(content):
        content["model"] = {name: tensor.half() for name, tensor in content["model"].items()}

    encoder = load_encoder("beats", changed(tmp_path, halve))
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
