"""Which part of an encoder learns: frozen layers and low-rank adapters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from backbones import load_encoder
from backbones.contract import BackboneError, Encoder
from backbones.training.adapters import LowRankLinear, choose_what_learns, merge_adapters
from backbones.training.recipe import FinetuneRecipe
from tests.backbones.conftest import SMALL, tones
from tests.backbones.training.test_finetune import QUICK, changed, farthest, run

WITH_LAYERS = ("beats", "audiomae")


def weights_that_moved(before, after):
    """Return the names of the weights that differ."""
    pairs = zip(before.state_dict().items(), after.state_dict().values(), strict=True)
    return {name for (name, one), other in pairs if not torch.equal(one, other)}


@pytest.mark.parametrize("name", SMALL)
def test_lower_layers_stay(name):
    """freeze_layers = 1 leaves the stem and the lowest layer as they are, and every upper layer learns."""
    encoder = load_encoder(name, **SMALL[name])
    tuned = run(encoder, tones(8), np.arange(8) % 2, changed(QUICK, freeze_layers=1))
    moved = {encoder.layer_index(each) for each in weights_that_moved(encoder, tuned)}
    assert moved and min(moved) == 2
    assert all(parameter.requires_grad for parameter in tuned.parameters() if parameter is not tuned_position(tuned))


def tuned_position(encoder):
    """Return AudioMAE's position embedding, which never learns."""
    return getattr(encoder, "pos_embed", None)


@pytest.mark.parametrize("name", WITH_LAYERS)
def test_adapters_learn_and_are_merged(name):
    """With adapters the attention's weights learn and no others, by no more than their rank, under official names."""
    encoder = load_encoder(name, **SMALL[name])
    reports = []
    recipe = changed(QUICK, epochs=4, batch_size=8, micro_batch=4, learning_rate=1e-2, lora_rank=2)
    tuned = run(encoder, tones(16), np.arange(16) % 2, recipe, on_epoch=reports.append)
    moved = weights_that_moved(encoder, tuned)
    assert moved and all("attn" in each and each.endswith("weight") for each in moved)
    assert list(tuned.state_dict()) == list(encoder.state_dict())
    for each in moved:
        change = tuned.state_dict()[each] - encoder.state_dict()[each]
        assert torch.linalg.matrix_rank(change, rtol=1e-4) <= 2
    assert reports[-1].loss < reports[0].loss


def test_adapters_on_all_linear_maps():
    """lora_targets = "all" adapts the feed-forward parts too, but neither the stem nor a fine-tuned file's head."""
    encoder = load_encoder("beats", **SMALL["beats"], finetuned_model=True, predictor_class=40)
    recipe = changed(QUICK, lora_rank=2, lora_targets="all", epochs=3, learning_rate=1e-2)
    moved = weights_that_moved(encoder, run(encoder, tones(8), np.arange(8) % 2, recipe))
    assert any("fc1" in name for name in moved)
    assert all(name.startswith("encoder.layers") for name in moved)


def test_adapters_above_frozen_layers():
    """With both, adapters stand in the upper layers alone."""
    encoder = load_encoder("beats", **SMALL["beats"])
    recipe = changed(QUICK, lora_rank=2, freeze_layers=1, learning_rate=1e-2)
    moved = weights_that_moved(encoder, run(encoder, tones(8), np.arange(8) % 2, recipe))
    assert moved and all(name.startswith("encoder.layers.1") for name in moved)


def test_merging_changes_no_output():
    """An adapted encoder and the same one merged give the same embeddings."""
    encoder = load_encoder("audiomae", **SMALL["audiomae"])
    waveforms = tones(3)
    with torch.no_grad():
        before = encoder(waveforms)
        choose_what_learns(encoder, FinetuneRecipe(lora_rank=4), seed=0)
        torch.testing.assert_close(encoder(waveforms), before, atol=0, rtol=0)
        for module in encoder.modules():
            if isinstance(module, LowRankLinear):
                module.lora_up.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(0))
        adapted = encoder(waveforms)
        merge_adapters(encoder)
        assert (adapted - before).abs().max() > 1e-3
        torch.testing.assert_close(encoder(waveforms), adapted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", WITH_LAYERS)
def test_adapters_whatever_the_micro_batch(name):
    """With adapters, too, the cut into micro-batches does not matter."""
    encoder = load_encoder(name, **SMALL[name])
    recipe = changed(QUICK, lora_rank=2)
    tuned = [run(encoder, tones(9), np.arange(9) % 2, changed(recipe, micro_batch=size)) for size in (1, 16)]
    assert farthest(*tuned) < 1e-5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"freeze_layers": 3}, "freeze_layers must be 0 to 2"),
        ({"freeze_layers": -1}, "freeze_layers"),
        ({"lora_rank": -1}, "lora_rank"),
        ({"lora_rank": 2, "lora_alpha": 0.0}, "lora_alpha"),
        ({"lora_rank": 2, "lora_targets": "mlp"}, "lora_targets"),
        ({"lora_rank": 2, "train": "head"}, "train"),
        ({"freeze_layers": 1, "train": "head"}, "train"),
        ({"lora_rank": 64}, "wider than 64"),
    ],
)
def test_choices_that_cannot_be(values, message):
    """A recipe that asks for what the encoder has not is refused in one sentence."""
    with pytest.raises(BackboneError, match=message):
        run(load_encoder("beats", **SMALL["beats"]), tones(2), np.arange(2), changed(QUICK, **values))


def test_later_choices_leave_keys_alone():
    """A recipe that makes no use of freezing and adapters has the content that it had before they came."""
    assert not {"freeze_layers", "lora_rank", "lora_alpha", "lora_targets"} & set(FinetuneRecipe().content())
    assert FinetuneRecipe(lora_alpha=4.0).content() == FinetuneRecipe().content()
    assert FinetuneRecipe(freeze_layers=2).content()["freeze_layers"] == 2
    assert FinetuneRecipe(lora_rank=4).content()["lora_alpha"] == 16.0


class Narrowing(Encoder):
    """Two linear maps, sixteen numbers to four and back."""

    def __init__(self):
        super().__init__()
        self.dim = 16
        self.down, self.up = nn.Linear(16, 4), nn.Linear(4, 16, bias=False)


def test_only_maps_wider_than_the_rank_on_either_side_are_adapted():
    """An adapter as wide as its map would save nothing."""
    for rank, adapted in ((3, 2), (4, 0), (8, 0)):
        encoder, recipe = Narrowing(), FinetuneRecipe(lora_rank=rank, lora_targets="all")
        if adapted:
            choose_what_learns(encoder, recipe, seed=0)
        else:
            with pytest.raises(
                BackboneError, match=f"wider than {rank} in the layers that learn, but Narrowing has none"
            ):
                choose_what_learns(encoder, recipe, seed=0)
        assert sum(isinstance(module, LowRankLinear) for module in encoder.modules()) == adapted
        merge_adapters(encoder)
        assert [name for name, _ in encoder.named_parameters()] == ["down.weight", "down.bias", "up.weight"]
