"""Checkpoints that are hostile, broken or odd: one row a file, with what must be answered."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from backbones import load_encoder
from backbones.contract import BackboneError
from tests.backbones.conftest import ORACLES
from tests.hostile.sockets import listening

BEATS, AUDIOMAE = ORACLES / "beats_small.pt", ORACLES / "audiomae_small.pt"
POS = "encoder.pos_conv.0."
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 361499833\n" % (b"0" * 64)


class Trap:
    """Runs a command where a pickle is trusted."""

    def __reduce__(self):
        return os.system, ("touch trapped",)


class Build:
    """Changes an object by what a pickle says."""

    def __reduce__(self):
        return setattr, (argparse.Namespace(), "a", 1)


SAFE = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'  # header of a safetensors file


def saved(content, **how) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


def beats(change, **how):
    """Return a row's file: the small BEATs checkpoint after a change."""

    def make(path):
        content = torch.load(BEATS, weights_only=True)
        change(content)
        path.write_bytes(saved(content, **how))

    return make


def audiomae(change):
    """Return a row's file: the small AudioMAE checkpoint after a change."""

    def make(path):
        content = torch.load(AUDIOMAE, weights_only=False)
        change(content)
        path.write_bytes(saved(content))

    return make


def holds(data: bytes):
    return lambda path: path.write_bytes(data)


def model(**tensors):
    return lambda c: c["model"].update(tensors)


def bias(tensor):
    return lambda c: c["model"].update({"layer_norm.bias": tensor})


def cfg(**values):
    return lambda c: c["cfg"].update(values)


def every(convert):
    return lambda c: c.update(model={name: convert(tensor) for name, tensor in c["model"].items()})


def zipped(change):
    """Return a row's file: the parts of the small BEATs checkpoint's zip file, written anew."""

    def make(path):
        with zipfile.ZipFile(BEATS) as source:
            parts = {name: source.read(name) for name in source.namelist()}
        with zipfile.ZipFile(path, "w") as target:
            change(target, parts)

    return make


def deflated(target, parts):
    for name, data in parts.items():
        target.writestr(name, data, zipfile.ZIP_DEFLATED)


def bomb(target, parts):
    target.writestr("archive/data.pkl", bytes(50_000_000), zipfile.ZIP_DEFLATED)


def without_pickle(target, parts):
    for name, data in parts.items():
        if not name.endswith("data.pkl"):
            target.writestr(name, data)


def climbing(target, parts):
    target.writestr("../../climbed", b"x")


def short_storage(target, parts):
    for name, data in parts.items():
        target.writestr(name, data[:4] if name.endswith("data/0") else data)


def huge_dimensions(path):
    """Write a pickle whose tensor has a side of 2**70."""
    data = saved({"model": {"w": torch.zeros(8)}})
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    pickled = next(name for name in parts if name.endswith("data.pkl"))
    side = b"\x8a\x09" + (2**70).to_bytes(9, "little")  # LONG1
    changed = parts[pickled].replace(b"K\x00K\x08\x85", b"K\x00" + side + b"\x85")
    assert changed != parts[pickled]
    with zipfile.ZipFile(path, "w") as target:
        for name, part in parts.items():
            target.writestr(name, changed if name == pickled else part)


def laughing():
    """Return lists of lists, ten times ten times ...: short in a file, and endless when printed."""
    each = ["ha"]
    for _ in range(30):
        each = [each] * 10
    return each


def sparse_giant(path):
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(2**40)


def many(c):
    c["model"].update({f"extra.{i}": torch.zeros(1) for i in range(10_001)})


def one_shared(c):
    shown = torch.zeros(200_000)
    c["model"].update({f"extra.{i}": shown for i in range(200)})


ROWS = {
    # nothing runs
    "zip that runs": (holds(saved({"model": {"a": Trap()}})), "would call posix.system"),
    "zip that runs beside good weights": (beats(lambda c: c.update(extra=Trap())), "would call posix.system"),
    "legacy file that runs": (
        beats(lambda c: c.update(extra=Trap()), _use_new_zipfile_serialization=False), "would call posix.system",
    ),
    "bare pickle that runs": (holds(pickle.dumps({"model": Trap()})), "would call posix.system"),
    "oldest pickle that runs": (holds(pickle.dumps({"model": Trap()}, protocol=0)), "would call posix.system"),
    "pickle that sets": (beats(lambda c: c.update(extra=Build())), "would call setattr"),
    "pickle that evaluates": (holds(b"cbuiltins\neval\n(S'open(\"trapped\", \"w\")'\ntR."), "would call"),
    "pickle of a path": (beats(lambda c: c.update(extra=Path("x"))), "would call pathlib"),
    "pickle of bytes to decode": (holds(b"c_codecs\ndecode\n(S'x'\ntR."), "would call _codecs.decode"),
    # no files
    "nothing": (lambda path: None, "does not exist"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "named pipe": (os.mkfifo, "is a named pipe"),
    "socket": (listening, "is a socket"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "link to a pipe": (lambda path: (os.mkfifo(path.parent / "p"), path.symlink_to("p")), "is a named pipe"),
    "link to nothing": (lambda path: path.symlink_to("gone"), "is a link to nothing"),
    "link to itself": (lambda path: path.symlink_to(path.name), "cannot be reached"),
    "link to a good file": (lambda path: path.symlink_to(BEATS), "loads"),
    "sparse file of 1 TiB": (sparse_giant, "must have at most"),
    # other files under the name
    "empty": (holds(b""), "is empty"),
    "git lfs pointer": (holds(LFS), "git lfs pull"),
    "git lfs pointer behind a mark": (holds(b"\xef\xbb\xbf" + LFS), "git lfs pull"),
    "web page": (holds(b"<!DOCTYPE html><html>quota</html>"), "error page"),
    "xml": (holds(b"\n\n<?xml version='1.0'?><Error/>"), "error page"),
    "json": (holds(b'{"error": "quota"}'), "is a text file"),
    "zeros": (holds(bytes(5_000)), "is no checkpoint"),
    "safetensors": (holds(struct.pack("<Q", 2) + b'{"a":1}'), "is not a safetensors file, or it is damaged"),
    "safetensors of another model": (holds(struct.pack("<Q", len(SAFE)) + SAFE + bytes(8)), 'lacks "cfg"'),
    "zip of something else": (zipped(climbing), "could not be read as a checkpoint"),
    "numbers": (holds(saved([1, 2])), "holds a list"),
    "state dict alone": (holds(saved({"state_dict": {}})), "its keys are state_dict"),
    # cut and damaged
    "first half": (holds(BEATS.read_bytes()[: BEATS.stat().st_size // 2]), "cut off or damaged"),
    "last byte missing": (holds(BEATS.read_bytes()[:-1]), "cut off or damaged"),
    "overwritten": (
        holds(BEATS.read_bytes()[:60_000] + bytes(64) + BEATS.read_bytes()[60_064:]), "sum of",
    ),
    "compressed": (zipped(deflated), "is compressed"),
    "bomb": (zipped(bomb), "is compressed"),
    "no pickle inside": (zipped(without_pickle), "could not be read as a checkpoint"),
    "storage shorter than its tensor": (zipped(short_storage), "could not be read as a checkpoint"),
    "side of 2 to the 70": (huge_dimensions, "could not be read as a checkpoint"),
    # numbers that are none
    "expanded": (beats(bias(torch.zeros(1).expand(10**6, 10**6))), "fewer numbers"),
    "expanded by one": (beats(bias(torch.zeros(31).as_strided((32,), (0,)))), "fewer numbers"),
    "one storage under 200 names": (beats(one_shared), "show the same numbers"),
    "too many tensors": (beats(many), "at most 10,000 tensors"),
    "float8": (beats(every(lambda t: t.to(torch.float8_e4m3fn))), "float8_e4m3fn"),
    "float8 of exponents": (beats(bias(torch.zeros(32).to(torch.float8_e8m0fnu))), "float8_e8m0fnu"),
    "float8 table": (
        beats(lambda c: c["model"].update({
            name: t.to(torch.float8_e5m2) for name, t in c["model"].items() if "relative_attention_bias" in name
        })), "float8_e5m2",
    ),
    "complex": (beats(bias(torch.zeros(32, dtype=torch.complex64))), "complex64"),
    "int8": (beats(every(lambda t: (100 * t).to(torch.int8))), "must be floating-point"),
    "bool": (beats(bias(torch.ones(32, dtype=torch.bool))), "must be floating-point"),
    "quantised": (
        beats(bias(torch.quantize_per_tensor(torch.zeros(32), 0.1, 0, torch.qint8))), "quantised",
    ),
    "sparse": (beats(bias(torch.zeros(32).to_sparse())), "is sparse"),
    "sparse rows": (beats(bias(torch.eye(4).to_sparse(1))), "is sparse"),
    "without data": (beats(bias(torch.zeros(32, device="meta"))), "without"),
    "no numbers": (beats(bias(torch.zeros(0))), "must hold numbers"),
    "no rows": (beats(model(surplus=torch.zeros(0, 8))), "must hold numbers"),
    "NaN": (beats(bias(torch.full((32,), torch.nan))), "must be finite"),
    "infinite": (beats(bias(torch.full((32,), -torch.inf))), "must be finite"),
    "NaN in the shared table": (
        beats(lambda c: [t.fill_(torch.nan) for name, t in c["model"].items() if "relative_attention_bias" in name]),
        "must be finite",
    ),
    "infinite as float32": (beats(bias(torch.full((32,), 1e300, dtype=torch.float64))), "must be finite"),
    "finite, and overflowing": (beats(bias(torch.full((32,), 3e38))), "turn a clip of noise into NaN"),
    "a direction of length 0": (
        beats(lambda c: c["model"][POS + "weight_v"].zero_()), "turn a clip of noise into NaN",
    ),
    "float16": (beats(every(lambda t: t.half())), "loads"),
    "bfloat16": (beats(every(lambda t: t.bfloat16())), "loads"),
    "float64": (beats(every(lambda t: t.double())), "loads"),
    "not contiguous": (beats(every(lambda t: t.t().contiguous().t() if t.ndim == 2 else t)), "loads"),
    "as parameters": (beats(every(torch.nn.Parameter)), "loads"),
    # names
    "number for a name": (beats(lambda c: c["model"].update({1: torch.zeros(1)})), "must map names to tensors"),
    "absurd layer": (beats(model(**{"encoder.layers.99999999.fc1.bias": torch.zeros(1)})), "unknown"),
    "layer of a wide digit": (beats(model(**{"encoder.layers.².fc1.bias": torch.zeros(1)})), "unknown"),
    "escape in a name": (beats(model(**{"a\x1b[31m\nb": torch.zeros(1)})), r"a\x1b[31m\nb"),
    "name of a megabyte": (beats(model(**{"a" * 10**6: torch.zeros(1)})), "unknown aaa"),
    # cfg
    "fbank_std of 0": (beats(cfg(fbank_std=0.0)), "fbank_std must be above 0"),
    "fbank_std below 0": (beats(cfg(fbank_std=-1)), "fbank_std must be above 0"),
    "fbank_std NaN": (beats(cfg(fbank_std=float("nan"))), "must be a finite number"),
    "fbank_mean NaN": (beats(cfg(fbank_mean=float("nan"))), "must be a finite number"),
    "fbank_mean infinite": (beats(cfg(fbank_mean=float("inf"))), "must be a finite number"),
    "fbank_mean of 600 digits": (beats(cfg(fbank_mean=10**600)), "must be a finite number"),
    "fbank_mean that overflows": (beats(cfg(fbank_mean=1e300)), "turn a clip of noise into NaN"),
    "dropout NaN": (beats(cfg(dropout=float("nan"))), "must be a finite number"),
    "a billion layers": (beats(cfg(encoder_layers=10**9)), "lacks encoder.layers.3 of the 1000000000"),
    "layers of 600 digits": (beats(cfg(encoder_layers=10**600)), "lacks encoder.layers.3 of the"),
    "no layers": (beats(cfg(encoder_layers=0)), "at least 1"),
    "a billion channels": (beats(cfg(encoder_embed_dim=10**9)), "at most 1,048,576"),
    "channels of 600 digits": (beats(cfg(embed_dim=10**600)), "at most 1,048,576"),
    "a patch of nothing": (beats(cfg(input_patch_size=0)), "at least 1"),
    "a billion buckets": (beats(cfg(num_buckets=2**70, max_distance=2**71)), "at most 1,048,576"),
    "endless words for a number": (beats(cfg(encoder_layers=laughing())), "must be of type int"),
    "cfg of a word": (beats(lambda c: c.update(cfg="x")), '"cfg" must be a mapping'),
    "cfg with a number for a name": (beats(lambda c: c["cfg"].update({3: 4})), "loads"),
    "cfg as a namespace": (beats(lambda c: c.update(cfg=argparse.Namespace(**c["cfg"]))), "loads"),
}  # fmt: skip

AUDIOMAE_ROWS = {
    "as it is": (lambda c: None, "loads"),
    "absurd block": (model(**{"blocks.99999999.norm1.bias": torch.zeros(96)}), "unknown blocks.99999999"),
    "block of a wide digit": (model(**{"blocks.².norm1.bias": torch.zeros(96)}), "unknown"),
    "block of 600 digits": (model(**{f"blocks.{10**600}.norm1.bias": torch.zeros(96)}), "unknown blocks.1000"),
    "block below 0": (model(**{"blocks.-1.norm1.bias": torch.zeros(96)}), "unknown blocks.-1"),
    "int8 block": (
        lambda c: c["model"].update({"blocks.0.norm1.bias": torch.zeros(96, dtype=torch.int8)}), "floating-point",
    ),
    "float8 block": (
        lambda c: c["model"].update({"blocks.0.norm1.bias": torch.zeros(96).to(torch.float8_e4m3fn)}), "float8",
    ),
    "expanded positions": (
        lambda c: c["model"].update({"pos_embed": torch.zeros(1).expand(1, 10**9, 96)}), "fewer numbers",
    ),
    "patches of no width": (
        lambda c: c["model"].update({"patch_embed.proj.weight": torch.zeros(96, 1, 16, 0)}), "must hold numbers",
    ),
    "wide patches": (
        lambda c: c["model"].update({"patch_embed.proj.weight": torch.zeros(96, 1, 1, 999)}), "1 to 128 mel bins",
    ),
    "positions without end": (lambda c: c["model"]["pos_embed"].fill_(torch.inf), "must be finite"),
    "overflowing positions": (lambda c: c["model"]["pos_embed"].fill_(3e38), "turn a clip of noise into NaN"),
    "blocks that share all": (
        lambda c: c["model"].update({
            name.replace("blocks.0.", f"blocks.{i}."): t
            for i in range(3, 800) for name, t in list(c["model"].items()) if name.startswith("blocks.0.")
        }), "show the same numbers",
    ),
}  # fmt: skip


def answer(path, backbone="beats", **options):
    """Say "loads", with finite embeddings, or how a file is refused."""
    try:
        encoder = load_encoder(backbone, path, **options)
    except BackboneError as error:
        said = str(error)
        assert "\n" not in said
        assert len(said) <= 1_000
        assert said.isprintable()
        return said
    with torch.no_grad():
        assert torch.isfinite(encoder(0.1 * torch.randn(1, 16_000))).all()
    return "loads"


@pytest.mark.parametrize("row", ROWS)
def test_beats(tmp_path, monkeypatch, row):
    """Each file is answered as its row says, in one printable sentence, and nothing runs."""
    monkeypatch.chdir(tmp_path)
    make, wanted = ROWS[row]
    make(tmp_path / "weights.pt")
    assert wanted in answer(tmp_path / "weights.pt")
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize("row", AUDIOMAE_ROWS)
def test_audiomae(tmp_path, row):
    """Each file is answered as its row says."""
    change, wanted = AUDIOMAE_ROWS[row]
    audiomae(change)(tmp_path / "weights.pt")
    assert wanted in answer(tmp_path / "weights.pt", "audiomae", heads=6)
