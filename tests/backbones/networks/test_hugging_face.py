"""Encoders saved by transformers: tiny models of the real kinds, made and saved here."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from backbones import load_encoder
from backbones.check import check_encoder
from backbones.contract import BackboneError
from backbones.training.finetune import finetune
from backbones.training.recipe import FinetuneRecipe
from backbones.weights import sha256_of
from tests.backbones.conftest import reader, tones
from tests.backbones.hugging_face_models import KINDS, save_model

transformers = pytest.importorskip("transformers", reason="the extra asdbench[hf] is not installed")

HEAVY = ("clap", "clap_fused", "clap_whole", "whisper")  # a window of 10 or 30 s, however short the clip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One saved model of each kind."""
    return {kind: save_model(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind in HEAVY else kind for kind in KINDS]
)
def test_each_kind_meets_the_contract(folders, kind):
    """AST, wav2vec 2.0, HuBERT, CLAP in three forms and Whisper pass the whole conformance report."""
    lines = list(check_encoder(lambda seed: load_encoder(f"hf:{folders[kind]}", seed=seed), seconds=2.0))
    assert {line.name: line.found for line in lines if line.status == "fail"} == {}


def clip(seconds: float, rate: int = 16_000) -> np.ndarray:
    chance = np.random.default_rng(3)
    return (0.1 * chance.standard_normal(int(seconds * rate))).astype(np.float32)


def test_ast_gives_what_transformers_gives(folders):
    """Features and tokens are those of its own extractor and model, without the two special tokens."""
    folder, sound = folders["ast"], clip(4)
    extractor = transformers.ASTFeatureExtractor.from_pretrained(folder)
    model = transformers.ASTModel.from_pretrained(folder).eval()
    with torch.no_grad():
        wanted = model(**extractor(sound, sampling_rate=16_000, return_tensors="pt")).last_hidden_state[:, 2:]
        encoder = load_encoder(f"hf:{folder}")
        found = encoder.tokens(encoder.fbank(torch.from_numpy(sound)[None]))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
def test_waveform_models_give_what_transformers_gives(folders, kind):
    """wav2vec 2.0 and HuBERT hear the samples that their extractor normalised."""
    folder, sound = folders[kind], clip(2)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        wanted = model(**extractor(sound, sampling_rate=16_000, return_tensors="pt")).last_hidden_state
        encoder = load_encoder(f"hf:{folder}")
        found = encoder.tokens(encoder.fbank(torch.from_numpy(sound)[None]))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["clap", "clap_fused", "clap_whole"])
def test_clap_gives_what_transformers_gives(folders, kind):
    """A whole window at 48 kHz equals CLAP's audio tower, pooled as CLAP pools."""
    folder = folders[kind]
    sound = torch.from_numpy(clip(10))[None]
    encoder = load_encoder(f"hf:{folder}")
    extractor = transformers.ClapFeatureExtractor.from_pretrained(folder)
    model = transformers.ClapModel if kind == "clap_whole" else transformers.ClapAudioModel
    tower = model.from_pretrained(folder).eval()
    tower = tower.audio_model if kind == "clap_whole" else tower
    from backbones.features.log_mel import resample

    high = resample(sound, 16_000, 48_000)[0].numpy()
    inputs = extractor(high, sampling_rate=48_000, return_tensors="pt")
    inputs["is_longer"] = torch.zeros_like(inputs["is_longer"])  # the extractor picks one at random to be longer
    with torch.no_grad():
        wanted = tower(**inputs).pooler_output
        found = encoder(sound)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_whisper_gives_what_transformers_gives(folders):
    """The encoder hears 30 s of which the rest is silence; the tokens of the clip itself are what counts."""
    folder, sound = folders["whisper"], clip(4)
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    model = transformers.WhisperModel.from_pretrained(folder).eval().get_encoder()
    with torch.no_grad():
        wanted = model(extractor(sound, sampling_rate=16_000, return_tensors="pt")["input_features"]).last_hidden_state
        encoder = load_encoder(f"hf:{folder}")
        found = encoder.tokens(encoder.fbank(torch.from_numpy(sound)[None]))
    assert found.shape[1] == 200
    # all but the last token, whose frames reach into the silence
    torch.testing.assert_close(found[:, :198], wanted[:, :198], atol=2e-3, rtol=2e-3)


def test_a_long_clip_is_heard_to_its_end(folders):
    """A clip longer than AST's window is encoded window by window: its last second changes the embedding."""
    encoder = load_encoder(f"hf:{folders['ast']}")
    sound = torch.from_numpy(clip(12))[None]
    changed = sound.clone()
    changed[:, -16_000:] = 0.0
    with torch.no_grad():
        assert not torch.allclose(encoder(sound), encoder(changed), atol=1e-4)


@pytest.mark.parametrize("kind", ["ast", "wav2vec2", "clap"])
def test_fine_tuning_learns_and_repeats(folders, kind):
    """Fine-tuning changes the weights, lowers the loss, and the same seed gives the same ones."""
    encoder = load_encoder(f"hf:{folders[kind]}")
    read, targets = reader(tones(4, seconds=0.5)), np.arange(4) % 2
    recipe = FinetuneRecipe(epochs=2, batch_size=4, micro_batch=2, learning_rate=1e-3, warmup_epochs=0)
    one, two = (finetune(encoder, read, targets, n_classes=2, recipe=recipe, seed=1) for _ in range(2))
    before, after = encoder.state_dict(), one.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(after[name], value) for name, value in two.state_dict().items())
    kept = [name for name in before if "running_" in name]
    assert all(torch.equal(before[name], after[name]) for name in kept)


def test_content_decides_and_not_the_place(folders, tmp_path):
    """A copy of the folder with a note beside has the same sum; another weight has another."""
    copy = shutil.copytree(folders["ast"], tmp_path / "copy")
    (copy / "README.md").write_text("a note")
    assert sha256_of(copy) == sha256_of(folders["ast"])
    assert load_encoder(f"hf:{copy}").weights_sha256 == sha256_of(copy)
    assert sha256_of(save_model("ast", tmp_path / "other", seed=1)) != sha256_of(copy)


def test_the_weights_folder_is_searched(folders, tmp_path, monkeypatch):
    """A name after hf: is looked for in ASDBENCH_WEIGHTS too."""
    shutil.copytree(folders["ast"], tmp_path / "my-ast")
    monkeypatch.setenv("ASDBENCH_WEIGHTS", str(tmp_path))
    assert load_encoder("hf:my-ast").dim == 16


def broken(folder, tmp_path, damage):
    copy = shutil.copytree(folder, tmp_path / "broken")
    damage(copy)
    return copy


def edit(copy, **values):
    path = copy / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def drop_tensor(copy):
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    del tensors[next(iter(tensors))]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})


def spoil_tensor(copy):
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})


DAMAGE = {
    "no extractor": (lambda copy: (copy / "preprocessor_config.json").unlink(), "could not be read"),
    "no weights": (lambda copy: (copy / "model.safetensors").unlink(), "holds no weights"),
    "cut off": (lambda copy: (copy / "model.safetensors").write_bytes(b"\x10" * 100), "cut short"),
    "no json": (lambda copy: (copy / "config.json").write_text("<html>"), "text file"),
    "a text model": (lambda copy: edit(copy, model_type="bert"), "'bert'"),
    "a tensor missing": (drop_tensor, "would be drawn at random"),
    "NaN": (spoil_tensor, "NaN"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_one_sentence(folders, tmp_path, name):
    """What is missing or broken is named; random weights never take its place."""
    damage, said = DAMAGE[name]
    with pytest.raises(BackboneError, match=said) as caught:
        load_encoder(f"hf:{broken(folders['ast'], tmp_path, damage)}")
    assert "\n" not in str(caught.value)


def test_no_folder_and_no_options():
    """A folder that is not there, none at all, and an option each have their sentence."""
    with pytest.raises(BackboneError, match="is no folder"):
        load_encoder("hf:nowhere")
    with pytest.raises(BackboneError, match="hf:FOLDER"):
        load_encoder("hf")
    with pytest.raises(BackboneError, match="no option size"):
        load_encoder("hf:nowhere", size=3)


def test_another_rate_is_refused_for_waveforms(folders, tmp_path):
    """A waveform model for 8 kHz is refused with both rates; a spectrogram model is resampled to."""

    def damage(copy):
        path = copy / "preprocessor_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "sampling_rate": 8000}))

    with pytest.raises(BackboneError, match="8000 Hz"):
        load_encoder(f"hf:{broken(folders['wav2vec2'], tmp_path, damage)}")


def test_without_transformers_the_way_out_is_said(folders, monkeypatch):
    """Where the extra is not installed, the sentence says how to install it."""
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "transformers.utils.logging", None)
    with pytest.raises(BackboneError, match=r"asdbench\[hf\]"):
        load_encoder(f"hf:{folders['ast']}")
