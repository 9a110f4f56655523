"""Layers that a scorer hears: what each encoder names, where frequency stands, and that one pass gives all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from backbones import load_encoder
from backbones.contract import BackboneError
from backbones.embed import embed, embed_layers
from backbones.encoders.logmel import LogMelStatistics
from backbones.layers import Heard, embed_and_hear
from backbones.networks.yamnet import YamNet, _padded, _patches, random_weights
from tests.backbones.conftest import SMALL
from tests.backbones.hugging_face_models import KINDS, save_model

BUILT = ("audiomae", "beats", "tiny", "yamnet")
SAMPLES = 24_000


def encoder_of(name: str, folder) -> nn.Module:
    """Build a small encoder by its name, or a saved model of a transformers kind."""
    if name == "yamnet":
        encoder = YamNet()
        random_weights(encoder, seed=0)
        return encoder.eval()
    if name in KINDS:
        return load_encoder("hf", weights=save_model(name, folder)).eval()
    return load_encoder(name, seed=0, **SMALL.get(name, {})).eval()


def noise(clips: int = 2) -> torch.Tensor:
    return 0.1 * torch.randn((clips, SAMPLES), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [*BUILT, "ast", "wav2vec2", "clap", "whisper"])
def test_all_layers_come_from_one_pass(name, tmp_path):
    """Asked together, each layer is what it is when asked alone, from the end too; the embedding is as ever."""
    encoder, clips = encoder_of(name, tmp_path), noise()
    count = len(encoder.layer_modules())
    passes = []
    first, *_ = encoder.layer_modules()
    hook = first.register_forward_hook(lambda *_: passes.append(1))
    heard = [Heard(number, kept) for number in range(1, count + 1) for kept in (False, True)]
    with torch.no_grad():
        plain = encoder(clips)
        once = len(passes)  # yamnet takes a clip at a time, the others all
        embedding, layers = embed_and_hear(encoder, clips, heard)
        hook.remove()
        assert torch.equal(embedding, plain)
        assert len(passes) == 2 * once
        for each, values in zip(heard, layers, strict=True):
            (alone,) = embed_and_hear(encoder, clips, [Heard(each.layer - count - 1, each.frequency)])[1]
            assert torch.equal(alone, values)
            assert torch.isfinite(values).all()
    for flat, kept in zip(layers[::2], layers[1::2], strict=True):
        assert flat.shape == (2, 1, kept.shape[2])
        torch.testing.assert_close(kept.mean(dim=1), flat[:, 0])


def test_layer_modules_are_the_transformers_layers(tmp_path):
    """A waveform model has its Transformer's layers, and neither its convolutions nor its position convolution."""
    for kind, count in (("wav2vec2", 2), ("hubert", 2), ("ast", 2), ("whisper", 2), ("clap", 4)):
        assert len(encoder_of(kind, tmp_path / kind).layer_modules()) == count


def test_the_last_layer_is_the_embeddings_source():
    """Of BEATs and tiny the last layer's mean is the embedding; of AudioMAE it is before the norm."""
    for name in ("beats", "tiny"):
        with torch.no_grad():
            embedding, (last,) = embed_and_hear(encoder_of(name, None), noise(), [Heard(-1)])
        torch.testing.assert_close(last[:, 0], embedding)
    encoder = encoder_of("audiomae", None)
    with torch.no_grad():
        tokens, (grid,) = encoder.tokens_and_layers(encoder.fbank(noise()), [len(encoder.blocks)])
        torch.testing.assert_close(encoder.norm(grid.flatten(1, 2)), tokens[:, 1:])


def test_yamnets_layers_are_its_activations():
    """Layer N is the N-th ReLU, a mean over time of each patch, computed here without the encoder's own loop."""
    encoder = encoder_of("yamnet", None)
    fbank = encoder.fbank(noise())
    x, found = _patches(fbank).flatten(0, 1).unsqueeze(1), []
    with torch.no_grad():
        for convolution in encoder.convolutions:
            x = functional.relu(convolution(_padded(x, convolution)))
            found.append(x.mean(dim=2).transpose(1, 2).unflatten(0, (2, -1)).mean(dim=1))
        layers = embed_and_hear(encoder, noise(), [Heard(number, True) for number in (5, 14, 27)])[1]
    for number, layer in zip((5, 14, 27), layers, strict=True):
        torch.testing.assert_close(layer, found[number - 1])
    assert [tuple(layer.shape[1:]) for layer in layers] == [(16, 128), (4, 512), (2, 1024)]


@pytest.mark.parametrize("name", ["audiomae", "beats", "ast"])
def test_a_patch_stands_where_its_frequency_is(name, tmp_path):
    """Features that differ in the mel bins of one patch alone differ in that band and time of the grid alone."""
    encoder = encoder_of(name, tmp_path)
    frames = encoder.fbank(noise(1)) if name != "ast" else torch.zeros(1, 512, 128)
    other = frames.clone()
    other[:, 33:40, 3 * 16 + 4 : 3 * 16 + 6] += 5.0  # the third time, the fourth band

    def embedded(x: torch.Tensor) -> torch.Tensor:
        if name == "audiomae":
            return functional.pad(encoder.patch_embed(encoder.normalised(x)), (0, 0, 1, 0))
        if name == "beats":
            return encoder.patch_embedding(x.unsqueeze(1)).flatten(2).transpose(1, 2)
        return encoder.model.embeddings(x)

    with torch.no_grad():
        apart = (encoder.grid(embedded(other)) - encoder.grid(embedded(frames))).abs().amax(dim=(0, 3))
    places = apart.nonzero().tolist()
    if name == "ast":  # patches of 16 every 10: several cover the place
        bands = {band for _, band in places}
        times = {time for time, _ in places}
        assert apart.shape == (50, 12)
        assert bands == {4, 5}
        assert times == {2, 3}
    else:
        assert places == [[2, 3]]


def test_a_layer_that_is_not_there_is_refused_with_the_range():
    """Zero, too high, too low, and an encoder of one piece: one sentence with what there is."""
    encoder = encoder_of("beats", None)
    count = len(encoder.layer_modules())
    for layer in (count + 1, -count - 1, 0):
        with pytest.raises(BackboneError, match=rf"between 1 and {count}, the layers of Beats, .* but got {layer}\."):
            embed_and_hear(encoder, noise(), [Heard(layer)])
    with pytest.raises(BackboneError, match="LogMelStatistics has no layers that can be named, but got layer=6"):
        embed_and_hear(LogMelStatistics(), noise(), [Heard(6)])
    with pytest.raises(BackboneError, match=r"layer=mean needs layers of one width, .* name layers by number"):
        embed_and_hear(encoder_of("tiny", None), noise(), [Heard("mean")])


def test_the_mean_over_layers():
    """It is the mean of what each layer gives, with or without frequency."""
    encoder = encoder_of("beats", None)
    numbers = range(1, len(encoder.layer_modules()) + 1)
    for kept in (False, True):
        heard = [Heard("mean", kept), *(Heard(number, kept) for number in numbers)]
        with torch.no_grad():
            mean, *layers = embed_and_hear(encoder, noise(), heard)[1]
        torch.testing.assert_close(mean, torch.stack(layers).mean(dim=0))


def test_clips_are_read_once_for_any_number_of_layers():
    """Embedding reads each clip once, and gives the same embeddings with layers as without."""
    encoder, clips, read = encoder_of("beats", None), noise(5), []

    def reader(positions):
        read.extend(positions.tolist())
        return clips[torch.from_numpy(positions)]

    heard = [Heard(1), Heard(2, True), Heard("mean")]
    vectors, layers = embed_layers(encoder, reader, 5, heard, batch_size=2)
    assert read == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(vectors, embed(encoder, reader, 5, batch_size=2))
    with torch.no_grad():
        for values, alone in zip(layers, embed_and_hear(encoder, clips, heard)[1], strict=True):
            np.testing.assert_allclose(values, alone.numpy(), rtol=1e-4, atol=1e-5)
    assert [len(values) for values in embed_layers(encoder, reader, 0, heard)[1]] == [0, 0, 0]
