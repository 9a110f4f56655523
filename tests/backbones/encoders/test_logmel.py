"""The encoder without weights: what it computes and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backbones import find_backbone, load_encoder
from backbones.contract import BackboneError
from backbones.training.finetune import finetune
from backbones.training.recipe import FinetuneRecipe
from tests.backbones.conftest import reader, tones


def test_it_is_mean_and_deviation_of_each_bin():
    """An embedding holds the 128 means and the 128 deviations of the log-mel features over time."""
    encoder = load_encoder("logmel")
    clips = tones(3)
    fbank = encoder.fbank(clips).numpy()
    expected = np.concatenate([fbank.mean(axis=1), fbank.std(axis=1)], axis=1)
    np.testing.assert_allclose(encoder(clips).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_padding_does_not_count():
    """Padded features give the statistics of the frames before the padding; padding alone gives an error."""
    encoder = load_encoder("logmel")
    fbank = torch.randn(2, 40, 128)
    mask = torch.zeros(2, 40, dtype=torch.bool)
    mask[:, 25:] = True
    torch.testing.assert_close(encoder.tokens(fbank, mask), encoder.tokens(fbank[:, :25]))
    with pytest.raises(BackboneError, match="no padding, but one has none"):
        encoder.tokens(fbank, torch.ones_like(mask))


def test_it_cannot_be_fine_tuned():
    """There is nothing to learn, and the error says what to do instead."""
    assert not find_backbone("logmel").learns
    clips = tones(4)
    with pytest.raises(BackboneError, match=r"epochs must be 0, since LogMelStatistics has no weights .* frozen trial"):
        finetune(load_encoder("logmel"), reader(clips), np.arange(4) % 2, n_classes=2, recipe=FinetuneRecipe(epochs=2))


@pytest.mark.parametrize(("given", "said"), [({"weights": "x.pt"}, "has no weights"), ({"dim": 3}, "no options")])
def test_nothing_can_be_chosen(given, said, tmp_path):
    """Weights and options are refused."""
    given = {name: tmp_path / value if name == "weights" else value for name, value in given.items()}
    with pytest.raises(BackboneError, match=said):
        find_backbone("logmel").build(**{"weights": None, "seed": 0, **given})
