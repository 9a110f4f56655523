"""Log-mel features that are kept from one use to the next change no number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from backbones import load_encoder
from backbones.contract import BackboneError, FinetuneRecipe
from backbones.embed import embed
from backbones.encoders.tiny import Tiny, TinyConfig
from backbones.features.prepared import FeatureStore
from backbones.training.finetune import finetune
from tests.backbones.conftest import ALL, SMALL, reader, tones
from tests.backbones.hugging_face_models import KINDS, save_model

RECIPE = FinetuneRecipe(epochs=2, batch_size=8, learning_rate=1e-3, time_mask=8, mel_mask=16)
PLENTY = 2**30  # bytes
EVERY = np.arange(10)


def weights(encoder):
    """Return an encoder's weights as one row."""
    return torch.cat([each.flatten() for each in encoder.state_dict().values()])


@pytest.mark.parametrize("name", SMALL)
def test_kept_features_change_no_weight_and_no_embedding(name):
    """Embedding, learning and embedding again from one store gives the bits that reading every time gives."""
    encoder, waveforms, targets = load_encoder(name, **SMALL[name]), tones(10), np.arange(10) % 2
    store = FeatureStore(10, PLENTY)

    def features(model):
        return store.features(model, reader(waveforms), EVERY)

    before = embed(encoder, reader(waveforms), 10, features=features(encoder))
    np.testing.assert_array_equal(before, embed(encoder, reader(waveforms), 10))
    tuned = finetune(encoder, reader(waveforms), targets, n_classes=2, recipe=RECIPE, features=features(encoder))
    plain = finetune(encoder, reader(waveforms), targets, n_classes=2, recipe=RECIPE)
    assert torch.equal(weights(tuned), weights(plain))
    after = embed(tuned, reader(waveforms), 10, features=features(tuned))
    np.testing.assert_array_equal(after, embed(plain, reader(waveforms), 10))
    assert not np.array_equal(after, before)


@pytest.mark.parametrize("kind", KINDS)
def test_features_of_transformers_are_kept_alike(kind, tmp_path):
    """Feature extractors that work on whole batches, windows or samples give the embeddings of reading every time."""
    encoder = load_encoder(f"hf:{save_model(kind, tmp_path / kind)}")
    waveforms = tones(5, seconds=1.0)
    features = FeatureStore(5, PLENTY).features(encoder, reader(waveforms), EVERY[:5])
    assert features is not None
    kept = embed(encoder, reader(waveforms), 5, features=features)
    np.testing.assert_allclose(kept, embed(encoder, reader(waveforms), 5), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_each_clip_is_read_once(name):
    """Whoever asks for a clip, in whatever order, finds what was made when it was first asked for."""
    encoder, waveforms, read = load_encoder(name, **ALL[name]), tones(10), []

    def told(positions):
        read.extend(positions.tolist())
        return waveforms[positions]

    store = FeatureStore(10, PLENTY)
    some = store.features(encoder, lambda at: told(EVERY[2:8][at]), EVERY[2:8])
    some(np.array([5, 0, 0, 3]))
    everything = store.features(encoder, told, EVERY)
    found = everything(EVERY)
    assert torch.equal(found, torch.cat([encoder.fbank(waveforms[at : at + 1]) for at in EVERY]))
    first = {0, 2}  # of each call; they are compared with what is kept
    assert sorted(each for each in read if each not in first) == sorted(set(EVERY.tolist()) - first)
    assert store.size == found.numel() * found.element_size()


def test_what_another_encoder_makes_is_not_given():
    """Features of another front end, of another length, or of one that rolls dice are made anew by whoever asks."""
    beats, audiomae = (load_encoder(name, **SMALL[name]) for name in ("beats", "audiomae"))
    waveforms, store = tones(10), FeatureStore(10, PLENTY)
    assert store.features(beats, reader(waveforms), EVERY) is not None
    assert store.features(audiomae, reader(waveforms), EVERY) is None
    assert store.features(beats, reader(waveforms[:, :4000]), EVERY) is None
    assert store.features(beats, reader(waveforms + 0.01), EVERY) is None
    beats.fbank = lambda clips: torch.rand(len(clips), 48, 128)
    assert FeatureStore(10, PLENTY).features(beats, reader(waveforms), EVERY) is None


class Moody(Tiny):
    """A front end that adds noise in training, or learns from what it sees."""

    def __init__(self, mood: str) -> None:
        super().__init__(TinyConfig())
        self.mood, self.norm = mood, nn.BatchNorm1d(128)

    def fbank(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Make features by mood."""
        features = super().fbank(waveforms)
        if self.mood == "learns":
            return self.norm(features.transpose(1, 2)).transpose(1, 2)
        return features + torch.randn(features.shape) if self.training else features


@pytest.mark.parametrize("mood", ["learns", "rolls dice"])
@pytest.mark.parametrize("training", [True, False])
def test_front_ends_that_differ_in_training_are_left_alone(mood, training):
    """Nothing is kept of a front end that makes other features in training; asking changes neither it nor the dice."""
    encoder = Moody(mood).train(training)
    before, dice = encoder.norm.running_mean.clone(), torch.random.get_rng_state()
    waveforms = torch.zeros(10, 16_000)  # of which every front end may make the same
    assert FeatureStore(10, PLENTY).features(encoder, reader(waveforms), EVERY) is None
    assert torch.equal(encoder.norm.running_mean, before)
    assert torch.equal(torch.random.get_rng_state(), dice)
    assert {each.training for each in encoder.modules()} == {training}


def test_what_does_not_fit_is_not_kept():
    """The features of all clips must fit, not those that are asked for first."""
    encoder, waveforms = load_encoder("tiny", **SMALL["tiny"]), tones(10)
    one = encoder.fbank(waveforms[:1])
    size = one.numel() * one.element_size()
    assert FeatureStore(10, 10 * size).features(encoder, reader(waveforms), EVERY[:1]) is not None
    store = FeatureStore(10, 10 * size - 1)
    assert store.features(encoder, reader(waveforms), EVERY[:1]) is None
    assert store.size == 0


def test_no_clips_need_no_features():
    """An empty set of clips is embedded by reading nothing."""
    encoder = load_encoder("tiny", **SMALL["tiny"])
    assert FeatureStore(3, PLENTY).features(encoder, reader(tones(3)), EVERY[:0]) is None


def test_clips_of_several_lengths():
    """A clip of another length is named."""
    encoder, waveforms = load_encoder("tiny", **SMALL["tiny"]), tones(10)
    features = FeatureStore(10, PLENTY).features(
        encoder, lambda at: waveforms[at, : 4000 if at[0] == 7 else None], EVERY
    )
    with pytest.raises(BackboneError, match="one length, but clip 0 has 48 frames and clip 7 23"):
        finetune(encoder, reader(waveforms), EVERY % 2, n_classes=2, recipe=RECIPE, features=features)
