"""Folders of transformers models that are hostile, broken or odd: one row a folder, with what must be answered."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from backbones import load_encoder
from backbones.contract import BackboneError
from tests.backbones.hugging_face_models import save_model
from tests.hostile.sockets import listening

pytest.importorskip("transformers", reason="the extra asdbench[hf] is not installed")

CODE = """
from pathlib import Path
Path({trapped!r}).touch()
from transformers import PretrainedConfig, Wav2Vec2FeatureExtractor
class C(PretrainedConfig):
    model_type = "evil"
class F(Wav2Vec2FeatureExtractor):
    pass
"""
AUTO = {"AutoConfig": "evil.C", "AutoModel": "evil.C", "AutoFeatureExtractor": "evil.F"}
CONFIG, EXTRACTOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"


class Trap:
    def __reduce__(self):
        return os.system, ("touch trapped",)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """One saved model of a waveform, one of log-mel features."""
    return {kind: save_model(kind, tmp_path_factory.mktemp(kind)) for kind in ("wav2vec2", "ast")}


def edited(name, **values):
    """Return a change that sets members of a JSON file, made where there is none."""

    def change(folder):
        path = folder / name
        content = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**content, **values}))

    return change


def written(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def placed(name, make):
    """Return a change that puts something else where a file was."""

    def change(folder):
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return change


def header(edit):
    """Return a change of the safetensors header; the bytes of the tensors stay."""

    def change(folder):
        path = folder / WEIGHTS
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        content = json.loads(data[8 : 8 + length])
        text = edit(content) or json.dumps(content).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return change


def tensors(edit):
    """Return a change of the tensors, saved anew."""

    def change(folder):
        from safetensors.torch import load_file, save_file

        save_file(edit(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})

    return change


def each(convert):
    return tensors(lambda found: {name: convert(tensor) for name, tensor in found.items()})


def pickled(content, *, bare=False):
    """Return a change that leaves weights in a pickle alone."""

    def change(folder):
        (folder / WEIGHTS).unlink()
        if bare:
            (folder / "pytorch_model.bin").write_bytes(pickle.dumps(content))
        else:
            torch.save(content, folder / "pytorch_model.bin")

    return change


def as_bin(folder):
    from safetensors.torch import load_file

    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def sharded(folder):
    from safetensors.torch import load_file, save_file

    found = list(load_file(folder / WEIGHTS).items())
    (folder / WEIGHTS).unlink()
    places = {}
    for number, part in enumerate((found[:20], found[20:])):
        save_file(dict(part), folder / f"model-{number}.safetensors", metadata={"format": "pt"})
        places |= {name: f"model-{number}.safetensors" for name, _ in part}
    edited("model.safetensors.index.json", weight_map=places)(folder)


def index_of(place):
    def change(folder):
        (folder / WEIGHTS).unlink()
        edited("model.safetensors.index.json", weight_map={"a": place})(folder)

    return change


def elsewhere(folder):
    """Move the weights out and leave a link, as the hub's cache has it."""
    blobs = folder.parent / "blobs"
    blobs.mkdir()
    shutil.move(folder / WEIGHTS, blobs / "abc")
    (folder / WEIGHTS).symlink_to(blobs / "abc")


def first(content):
    """Return the entry of the tensor that lies first."""
    entries = [entry for name, entry in content.items() if name != "__metadata__"]
    return min(entries, key=lambda entry: entry["data_offsets"])


def set_first(**values):
    return header(lambda content: first(content).update(values))


def swap_first(kind):
    """Return a change of the first tensor's type that keeps its bytes."""
    return header(lambda content: first(content).update(dtype=kind))


def twice(content):
    return b'{"a":1,' + json.dumps(content).encode()[1:-1] + b',"a":1}'


def shifted(content):
    for entry in [entry for name, entry in content.items() if name != "__metadata__"][1:]:
        entry["data_offsets"] = [at + 4 for at in entry["data_offsets"]]


ROWS = {
    # nothing runs
    "code for the configuration": (edited(CONFIG, auto_map=AUTO), "auto_map names code"),
    "code for an unknown model": (edited(CONFIG, model_type="evil", auto_map=AUTO), "auto_map names code"),
    "code and trust": (edited(CONFIG, model_type="evil", trust_remote_code=True, auto_map=AUTO), "auto_map names code"),
    "code for the extractor": (
        edited(EXTRACTOR, feature_extractor_type="Evil", auto_map=AUTO), "auto_map names code",
    ),
    "code for a known extractor": (edited(EXTRACTOR, auto_map=AUTO), "auto_map names code"),
    "code of a word": (edited(CONFIG, auto_map="evil.C"), "auto_map names code"),
    "code within": (edited(CONFIG, audio_config={"deep": [{"auto_map": AUTO}]}), "auto_map names code"),
    "code in the processor": (edited("processor_config.json", auto_map=AUTO), "auto_map names code"),
    "code in the tokenizer": (edited("tokenizer_config.json", auto_map=AUTO), "auto_map names code"),
    "code in a file of any name": (edited("some.json", auto_map=AUTO), "auto_map names code"),
    "a vocabulary with that word": (edited("vocab.json", auto_map=17), "loads"),
    "an unknown extractor without code": (edited(EXTRACTOR, feature_extractor_type="Evil"), "says 'Evil'"),
    "an extractor of another kind": (
        edited(EXTRACTOR, feature_extractor_type="WhisperFeatureExtractor"), "must be a Wav2Vec2FeatureExtractor",
    ),
    "an extractor that is a class of something else": (
        edited(EXTRACTOR, feature_extractor_type="AutoModel"), "must be a Wav2Vec2FeatureExtractor",
    ),
    "a kernel from the hub": (edited(CONFIG, attn_implementation="kernels-community/evil"), "must be eager or sdpa"),
    "a kernel from the hub, old name": (edited(CONFIG, _attn_implementation="a/b"), "must be eager or sdpa"),
    "weights of another name": (edited(CONFIG, transformers_weights="../evil.bin"), "loads"),
    "a type of another package": (edited(CONFIG, torch_dtype="os", dtype="os.system"), "loads"),
    "an adapter that names another model": (
        edited("adapter_config.json", peft_type="LORA", base_model_name_or_path="/etc"), "loads",
    ),
    "a pickle that runs": (pickled({"a": Trap()}), "would call posix.system"),
    "a bare pickle that runs": (pickled({"a": Trap()}, bare=True), "would call posix.system"),
    "a pickle that runs beside good weights": (written("pytorch_model.bin", pickle.dumps(Trap())), "loads"),
    "a good pickle alone": (as_bin, "loads"),
    "a pickle of a list": (pickled([1]), "holds a list"),
    "an activation": (edited(CONFIG, hidden_act="__import__"), "could not be read"),
    # no files
    "weights are a pipe": (placed(WEIGHTS, os.mkfifo), "is a named pipe"),
    "weights are a folder": (placed(WEIGHTS, os.mkdir), "is a folder"),
    "weights are a socket": (placed(WEIGHTS, listening), "is a socket"),
    "weights are a device": (placed(WEIGHTS, lambda path: path.symlink_to("/dev/zero")), "is a device"),
    "weights are a link to nothing": (placed(WEIGHTS, lambda path: path.symlink_to("gone")), "a link to nothing"),
    "weights are a link to themselves": (placed(WEIGHTS, lambda path: path.symlink_to(WEIGHTS)), "cannot be reached"),
    "weights are a link out of the folder": (elsewhere, "loads"),
    "weights link to another file": (
        placed(WEIGHTS, lambda path: path.symlink_to("/etc/passwd")), "is not a safetensors file",
    ),
    "configuration is a pipe": (placed(CONFIG, os.mkfifo), "config.json is a named pipe"),
    "configuration is a folder": (placed(CONFIG, os.mkdir), "config.json is a folder"),
    "another json is a pipe": (placed("vocab.json", os.mkfifo), "is a named pipe"),
    "no configuration": (placed(CONFIG, lambda path: None), "config.json does not exist"),
    "no extractor": (placed(EXTRACTOR, lambda path: None), "is missing"),
    "no weights": (placed(WEIGHTS, lambda path: None), "holds no weights"),
    # safetensors that lie
    "pointer of git lfs": (written(WEIGHTS, b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "pointer for the configuration": (written(CONFIG, b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "web page": (written(WEIGHTS, b"<!DOCTYPE html>"), "error page"),
    "empty": (written(WEIGHTS, b""), "is empty"),
    "seven bytes": (written(WEIGHTS, b"1234567"), "cut short"),
    "zeros": (written(WEIGHTS, bytes(5_000)), "is not JSON"),
    "a zip of torch": (pickled({}), "an empty one"),
    "header without end": (written(WEIGHTS, struct.pack("<Q", 2**62) + b"{}"), "cut short"),
    "header of a list": (header(lambda c: b"[]"), "must be an object"),
    "header of nothing": (header(lambda c: b"{}"), "must hold tensors"),
    "header of words": (header(lambda c: b"\xff\xfe"), "is not JSON"),
    "header nested without end": (header(lambda c: b"[" * 100_000), "is not JSON"),
    "a name twice": (header(twice), "is not JSON"),
    "an entry of a word": (header(lambda c: c.update(a="b")), "says nothing of the tensor a"),
    "a side of 2 to the 70": (set_first(shape=[2**70]), "should have the shape"),
    "sides that overflow to nothing": (set_first(shape=[2**32, 2**32]), "should have the shape"),
    "a side below 0": (set_first(shape=[-1]), "not made of counts"),
    "a side of true": (set_first(shape=[True]), "not made of counts"),
    "a side of a fraction": (set_first(shape=[1.5]), "not made of counts"),
    "a place of one number": (set_first(data_offsets=[0]), "not made of counts"),
    "a place turned round": (set_first(data_offsets=[64, 0]), "should have the shape"),
    "tensors that overlap": (
        header(lambda c: c.update(a=dict(first(c)))), "overlaps another",
    ),
    "tensors with a gap": (header(shifted), "leaves a gap"),
    "bytes of no tensor": (lambda folder: (folder / WEIGHTS).open("ab").write(b"more"), "belong to none"),
    "numbers of no kind": (swap_first("F99"), "of the type F99"),
    "float8": (swap_first("F8_E4M3"), "of the type F8_E4M3"),
    "four bits": (swap_first("F4"), "of the type F4"),
    # weights of no use
    "int8": (each(lambda t: t.to(torch.int8)), "must be floating-point"),
    "int64": (each(lambda t: t.to(torch.int64)), "must be floating-point"),
    "bool": (each(lambda t: t.to(torch.bool)), "must be floating-point"),
    "NaN": (each(lambda t: t * float("nan")), "must be finite"),
    "infinite": (each(lambda t: t / 0.0), "must be finite"),
    "overflowing": (each(lambda t: torch.full_like(t, 3e38)), "turn a clip of noise into NaN"),
    "no numbers": (each(lambda t: t[:0].clone() if t.ndim else t), "must hold numbers"),
    "float16": (each(lambda t: t.half()), "loads"),
    "bfloat16": (each(lambda t: t.bfloat16()), "loads"),
    "float64": (each(lambda t: t.double()), "loads"),
    "other shapes": (each(lambda t: torch.zeros(3)), "have other shapes"),
    "a part missing": (tensors(lambda found: dict(list(found.items())[:-3])), "would be drawn at random"),
    "quantised": (
        edited(CONFIG, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}), "are quantised",
    ),
    # parts
    "weights in two parts": (sharded, "loads"),
    "a part out of the folder": (index_of("../../../etc/passwd"), "no safetensors file of its folder"),
    "a part that is a pickle": (index_of("evil.bin"), "no safetensors file of its folder"),
    "a part that is a list": (index_of([1]), "no safetensors file of its folder"),
    # configurations
    "a list": (written(CONFIG, b"[]"), "must hold a JSON object"),
    "a list for the extractor": (written(EXTRACTOR, b"[]"), "must hold a JSON object"),
    "nested without end": (written(CONFIG, b"[" * 100_000), "nested too deeply"),
    "chance": (written(CONFIG, b"\xc3\x28" + random.Random(0).randbytes(100)), "could not be read as JSON"),
    "utf-16": (written(CONFIG, '{"model_type": "wav2vec2"}'.encode("utf-16")), "could not be read as JSON"),
    "5,000 digits": (written(CONFIG, b'{"model_type": "wav2vec2", "a": %s}' % (b"9" * 5_000)), "as JSON"),
    "behind a mark": (
        lambda folder: (folder / CONFIG).write_bytes(b"\xef\xbb\xbf" + (folder / CONFIG).read_bytes()), "loads",
    ),
    "no size": (edited(CONFIG, hidden_size=0), "could not be read"),
    "a size below 0": (edited(CONFIG, hidden_size=-4), "could not be read"),
    "a size of 10 million": (edited(CONFIG, hidden_size=10**7, num_attention_heads=1), "speaks of"),
    "a size of 2 to the 70": (edited(CONFIG, hidden_size=2**70), "at most 16,777,216"),
    "a size of a word": (edited(CONFIG, hidden_size="x"), "could not be read"),
    "16 million classes": (edited(CONFIG, num_labels=2**24), "loads"),
    "classes that are no numbers": (edited(CONFIG, id2label={"a": "b"}), "loads"),
    "a dropout below 0": (edited(CONFIG, attention_dropout=-1), "must be a share from 0 to 1"),
    "a dropout over 1": (edited(CONFIG, activation_dropout=1.5), "must be a share from 0 to 1"),
    "a hundred thousand convolutions": (
        edited(CONFIG, conv_dim=[8] * 10**5, conv_stride=[1] * 10**5, conv_kernel=[1] * 10**5), "at most 1,000 members",
    ),
    "an attention for each part": (edited(CONFIG, attn_implementation={"": "a/b"}), "must be eager or sdpa"),
    "answers as tuples": (edited(CONFIG, return_dict=False), "could not be read"),
    "code behind the same name": (
        lambda folder: (folder / CONFIG).write_text(
            (folder / CONFIG).read_text().rstrip()[:-1] + ', "auto_map": {"AutoConfig": "evil.C"}}'
        ),
        "auto_map names code",
    ),
    "a million layers": (edited(CONFIG, num_hidden_layers=10**6), "does not fit the weights"),
    "a kind that is a list": (edited(CONFIG, model_type=["a"]), "must hold an audio encoder"),
    "a kind that reads text": (edited(CONFIG, model_type="bert"), "must hold an audio encoder"),
    "NaN in the configuration": (edited(CONFIG, layer_norm_eps=float("nan")), "must be finite"),
    "1e999": (
        lambda folder: (folder / CONFIG).write_text((folder / CONFIG).read_text().replace("1e-05", "1e999")), "finite",
    ),
    "escapes in a name": (edited(CONFIG, model_type="\x1b[31m\n"), r"\x1b[31m\n"),
    "a kind of a megabyte": (edited(CONFIG, model_type="a" * 10**6), "must hold an audio encoder"),
    "no rate": (edited(EXTRACTOR, sampling_rate=0), "must be a number from 4000"),
    "a rate of a word": (edited(EXTRACTOR, sampling_rate="a"), "must be a number from 4000"),
    "another rate": (edited(EXTRACTOR, sampling_rate=8_000), "takes 8000 Hz"),
    "two features a sample": (edited(EXTRACTOR, feature_size=2), "feature_size"),
}  # fmt: skip

AST_ROWS = {
    "as it is": (lambda folder: None, "loads"),
    "std of 0": (edited(EXTRACTOR, std=0), "std of the feature extractor"),
    "std below 0": (edited(EXTRACTOR, std=-4.0), "std of the feature extractor"),
    "std of a word": (edited(EXTRACTOR, std="x"), "std of the feature extractor"),
    "std that is nearly 0": (edited(EXTRACTOR, std=1e-300), "std of the feature extractor"),
    "std NaN": (edited(EXTRACTOR, std=float("nan")), "must be finite"),
    "mean NaN": (edited(EXTRACTOR, mean=float("nan")), "must be finite"),
    "mean infinite": (edited(EXTRACTOR, mean=float("inf")), "must be finite"),
    "mean that overflows": (edited(EXTRACTOR, mean=1e300), "mean of the feature extractor"),
    "no mean": (edited(EXTRACTOR, mean=None), "mean of the feature extractor"),
    "std of 0 that nothing uses": (edited(EXTRACTOR, std=0, do_normalize=False), "loads"),
    "no frames": (edited(EXTRACTOR, max_length=0), "max_length of the feature extractor"),
    "frames below 0": (edited(EXTRACTOR, max_length=-1), "max_length of the feature extractor"),
    "a million frames": (edited(EXTRACTOR, max_length=10**6), "max_length of the feature extractor"),
    "a billion frames": (edited(EXTRACTOR, max_length=10**9), "at most 16,777,216"),
    "no bins": (edited(EXTRACTOR, num_mel_bins=0), "num_mel_bins of the feature extractor"),
    "a million bins": (edited(EXTRACTOR, num_mel_bins=10**6), "num_mel_bins of the feature extractor"),
    "other frames than the model's": (edited(EXTRACTOR, max_length=300), "could not be read"),
    "1 Hz": (edited(EXTRACTOR, sampling_rate=1), "sampling_rate of the feature extractor"),
    "2 to the 31 Hz": (edited(EXTRACTOR, sampling_rate=2**24), "sampling_rate of the feature extractor"),
}  # fmt: skip


def answer(folder):
    """Say "loads", with finite embeddings, or how a folder is refused."""
    try:
        encoder = load_encoder(f"hf:{folder}")
    except BackboneError as error:
        said = str(error)
        assert "\n" not in said
        assert len(said) <= 1_000
        assert said.isprintable()
        return said
    with torch.no_grad():
        assert torch.isfinite(encoder(0.1 * torch.randn(1, 16_000))).all()
    return "loads"


def check(folder, change, wanted):
    trapped = folder.parent / "trapped"
    (folder / "evil.py").write_text(CODE.format(trapped=str(trapped)))
    change(folder)
    assert wanted in answer(folder)
    assert not trapped.exists()


@pytest.mark.parametrize("row", ROWS)
def test_waveform_models(good, tmp_path, monkeypatch, row):
    """Each folder is answered as its row says, in one printable sentence; nothing is asked, and nothing runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    check(shutil.copytree(good["wav2vec2"], tmp_path / "folder"), *ROWS[row])


@pytest.mark.parametrize("row", AST_ROWS)
def test_spectrogram_models(good, tmp_path, row):
    """Each folder is answered as its row says."""
    check(shutil.copytree(good["ast"], tmp_path / "folder"), *AST_ROWS[row])


@pytest.mark.slow
def test_a_yes_to_everything_runs_nothing(good, tmp_path):
    """With a terminal's yes to every question, no code of a folder runs, whatever its model is called."""
    for number, (name, values) in enumerate([
        (CONFIG, {"model_type": "evil", "auto_map": AUTO}),
        (EXTRACTOR, {"feature_extractor_type": "Evil", "auto_map": AUTO}),
    ]):  # fmt: skip
        folder = shutil.copytree(good["wav2vec2"], tmp_path / str(number))
        (folder / "evil.py").write_text(CODE.format(trapped=str(tmp_path / "trapped")))
        edited(name, **values)(folder)
    program = (
        "import sys\nfrom backbones import load_encoder\nfrom backbones.contract import BackboneError\n"
        "for folder in sys.argv[1:]:\n    try:\n        load_encoder('hf:' + folder)\n"
        "    except BackboneError as error:\n        print(error)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "0"), str(tmp_path / "1")],
        input="y\n" * 100, capture_output=True, text=True, timeout=120, cwd=root, check=True,
    )  # fmt: skip
    assert done.stdout.count("auto_map names code") == 2
    assert "[y/N]" not in done.stdout + done.stderr
    assert not (tmp_path / "trapped").exists()
