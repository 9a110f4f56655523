"""BEATs against its oracles and against another implementation."""

from __future__ import annotations

import random

import pytest
import torch
from openbeats.beats_encoder import BeatsEncoder

from backbones import load_encoder
from backbones.contract import BackboneError
from backbones.networks.beats import relative_bias, relative_buckets
from tests.backbones.conftest import ORACLES, SMALL

VARIANTS = {
    "released": {},
    "norm first": {"layer_norm_first": True, "deep_norm": False},
    "plain post-norm": {"deep_norm": False},
    "ungated": {"gru_rel_pos": False},
    "no positions": {"relative_position_embedding": False},
    "neither": {"relative_position_embedding": False, "gru_rel_pos": False},
    "buckets": {"num_buckets": 32, "max_distance": 40},
    "no projection": {"embed_dim": 32},
    "conv bias": {"conv_bias": True},
    "odd conv": {"conv_pos": 15},
    "relu": {"activation_fn": "relu"},
    "gelu_accurate": {"activation_fn": "gelu_accurate"},
    "tanh": {"activation_fn": "tanh"},
    "linear": {"activation_fn": "linear"},
    "glu": {"activation_fn": "glu", "deep_norm": False},  # with deep norm, the official code cannot draw its weights
    "patches of 8": {"input_patch_size": 8},
}


def openbeats(encoder):
    """Build the pip package's encoder with the same weights."""
    config = {name: getattr(encoder.config, name) for name in vars(encoder.config)}
    reference = BeatsEncoder(input_size=0, beats_config=config).eval()
    result = reference.load_state_dict(encoder.state_dict(), strict=False)
    assert [key for key in result.missing_keys if "_pad." not in key] == []
    assert result.unexpected_keys == []
    return reference


def shaken(encoder):
    """Move every weight a little, so that biases, gates and norms show when they are wrong."""
    chance = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=chance))
    return encoder


@torch.no_grad()
def test_oracle_tokens(oracle):
    """Tokens of the small checkpoint equal the official code's, from features and from waveforms."""
    numbers = oracle("beats_small")
    encoder = load_encoder("beats", ORACLES / "beats_small.pt")
    torch.testing.assert_close(encoder.tokens(numbers["fbank"]), numbers["output"], atol=1e-4, rtol=0)
    tokens = encoder.tokens(encoder.fbank(numbers["waveform"]))
    torch.testing.assert_close(tokens, numbers["output"], atol=1e-4, rtol=0)


@torch.no_grad()
def test_oracle_padding(oracle):
    """With a padding mask, the tokens that are not padding equal the official code's."""
    numbers = oracle("beats_small")
    encoder = load_encoder("beats", ORACLES / "beats_small.pt")
    mask, padding = numbers["frame_padding_mask"], numbers["output_padding_mask"]
    assert torch.equal(encoder.token_mask(mask, padding.shape[1]), padding)
    tokens = encoder.tokens(numbers["fbank"], mask)
    torch.testing.assert_close(tokens[~padding], numbers["output_padded"][~padding], atol=1e-4, rtol=0)


@torch.no_grad()
def test_oracle_head(oracle):
    """A fine-tuned checkpoint's head gives the official class probabilities."""
    numbers = oracle("beats_small_finetuned")
    encoder = load_encoder("beats", ORACLES / "beats_small_finetuned.pt")
    torch.testing.assert_close(encoder.predict(numbers["waveform"]), numbers["output"], atol=1e-4, rtol=0)
    with pytest.raises(BackboneError, match="no classification head"):
        load_encoder("beats", ORACLES / "beats_small.pt").predict(numbers["waveform"])


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_openbeats(variant):
    """With the same random weights the tokens equal the pip package openbeats', for every option of a cfg."""
    encoder = shaken(load_encoder("beats", seed=1, **{**SMALL["beats"], **VARIANTS[variant]}))
    fbank = 15 + 6 * torch.randn(2, 198, 128, generator=torch.Generator().manual_seed(0))
    expected = openbeats(encoder).extract_features(fbank, skip_fbank_extraction=True)[0]
    torch.testing.assert_close(encoder.tokens(fbank), expected, atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("draw", range(8))
def test_random_checkpoints_equal_openbeats(draw, tmp_path):
    """Official files of random sizes and options load by their `cfg` alone and equal another implementation."""
    chance = random.Random(draw)
    heads, groups = chance.choice([1, 2, 4]), chance.choice([1, 2, 4])
    options = {
        **SMALL["beats"],
        "encoder_embed_dim": 16 * heads,
        "embed_dim": chance.choice([8, 16 * heads]),
        "encoder_ffn_embed_dim": chance.choice([24, 40]),
        "encoder_layers": chance.choice([1, 3]),
        "encoder_attention_heads": heads,
        "conv_pos": chance.choice([3, 8, 17]),
        "conv_pos_groups": groups,
        "max_distance": chance.choice([60, 800]),
        "num_buckets": chance.choice([32, 320]),
        "input_patch_size": chance.choice([8, 16]),
        **{name: chance.random() < 0.5 for name in ("conv_bias", "gru_rel_pos", "relative_position_embedding")},
        **chance.choice([{"deep_norm": True}, {"deep_norm": False}, {"deep_norm": False, "layer_norm_first": True}]),
    }
    if options["num_buckets"] == 320:
        options["max_distance"] = 800
    made = shaken(load_encoder("beats", seed=draw, **options))
    config = {name: getattr(made.config, name) for name in vars(made.config) if not name.startswith("fbank")}
    torch.save({"cfg": config, "model": made.state_dict()}, tmp_path / "some.pt")
    encoder = load_encoder("beats", tmp_path / "some.pt")
    assert encoder.config == made.config
    fbank = 15 + 6 * torch.randn(2, 198, 128, generator=torch.Generator().manual_seed(0))
    expected = openbeats(encoder).extract_features(fbank, skip_fbank_extraction=True)[0]
    torch.testing.assert_close(encoder.tokens(fbank), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.slow
def test_full_size_equals_openbeats():
    """The full-size model has 90,311,792 parameters and equals openbeats within 1e-4 on 10 s of noise."""
    encoder = load_encoder("beats", seed=1)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 90_311_792
    waveform = 0.1 * torch.randn(1, 160_000, generator=torch.Generator().manual_seed(0))
    expected = openbeats(encoder)(waveform, torch.tensor([160_000]))[0]
    torch.testing.assert_close(encoder.tokens(encoder.fbank(waveform)), expected, atol=1e-4, rtol=0)


def test_state_dict_is_official():
    """The state dict has the names of an official file, the shared table once for each layer."""
    official = torch.load(ORACLES / "beats_small.pt", weights_only=True)["model"]
    encoder = load_encoder("beats", ORACLES / "beats_small.pt")
    assert set(encoder.state_dict()) == set(official)
    tables = {layer.self_attn.relative_attention_bias for layer in encoder.encoder.layers}
    assert len(tables) == 1


def test_names_of_newer_weight_norm(tmp_path):
    """A checkpoint saved with torch's newer weight_norm names loads to the same weights."""
    checkpoint = torch.load(ORACLES / "beats_small.pt", weights_only=True)
    model = checkpoint["model"]
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        model[f"encoder.pos_conv.0.parametrizations.weight.{new}"] = model.pop(f"encoder.pos_conv.0.{old}")
    torch.save(checkpoint, tmp_path / "newer.pt")
    newer, older = load_encoder("beats", tmp_path / "newer.pt"), load_encoder("beats", ORACLES / "beats_small.pt")
    assert all(torch.equal(value, older.state_dict()[name]) for name, value in newer.state_dict().items())


def test_relative_bias_is_a_lookup_per_pair():
    """The windowed biases equal the table looked up for every pair of tokens, in value and gradient."""
    table = torch.randn(32, 3, requires_grad=True)
    numbers = relative_buckets(50, buckets=32, max_distance=40, device=table.device)
    place = torch.arange(50)
    pairs = table[numbers[place[None] - place[:, None] + 49]].permute(2, 0, 1)
    windows = relative_bias(table, 50, max_distance=40).pairs
    assert torch.equal(windows, pairs)
    weight = torch.randn(3, 50, 50)
    (wanted,) = torch.autograd.grad((pairs * weight).sum(), table)
    (found,) = torch.autograd.grad((windows * weight).sum(), table)
    torch.testing.assert_close(found, wanted)


def test_buckets_of_the_released_table():
    """Of 320 buckets, offsets below 80 have one each, later keys lie 160 higher, and 800 and beyond share the last."""
    numbers = relative_buckets(2_000, buckets=320, max_distance=800, device=torch.device("cpu"))
    middle = 1_999
    assert numbers[middle].item() == 0
    assert numbers[middle - 79].item() == 79 and numbers[middle + 79].item() == 239
    assert numbers[middle - 799].item() < 160 and numbers[middle - 1_500].item() == 159
    assert numbers[middle + 1_500].item() == 319


def test_training_paths_agree():
    """Attention gives the same tokens whether the biases learn or not."""
    encoder = shaken(load_encoder("beats", **SMALL["beats"]))
    fbank = 15 + 6 * torch.randn(2, 100, 128)
    learning = encoder.tokens(fbank)
    with torch.no_grad():
        torch.testing.assert_close(encoder.tokens(fbank), learning, atol=1e-5, rtol=0)


def test_gradient_decay_scales_below_each_layer():
    """A gradient decay of 0.5 halves the gradient below each layer and changes no token."""
    fbank = 15 + 6 * torch.randn(1, 64, 128)
    gradients, tokens = [], []
    for decay in (1.0, 0.5):
        encoder = load_encoder("beats", **SMALL["beats"], encoder_layerdrop=0.0)
        encoder.gradient_decay = decay
        tokens.append(encoder.tokens(fbank))
        tokens[-1].square().sum().backward()
        gradients.append((encoder.post_extract_proj.bias.grad, encoder.encoder.layers[1].fc2.bias.grad))
    assert torch.equal(tokens[0], tokens[1])
    torch.testing.assert_close(gradients[1][0], gradients[0][0] * 0.25)
    torch.testing.assert_close(gradients[1][1], gradients[0][1])


def test_padding_changes_nothing():
    """Padding behind a clip leaves the tokens of the clip as they were."""
    encoder = shaken(load_encoder("beats", **SMALL["beats"]))
    fbank = 15 + 6 * torch.randn(1, 128, 128)
    padded = torch.cat([fbank, torch.full((1, 64, 128), 7.0)], dim=1)
    mask = torch.zeros(1, 192, dtype=torch.bool)
    mask[:, 128:] = True
    with torch.no_grad():
        torch.testing.assert_close(encoder.tokens(padded, mask)[:, :64], encoder.tokens(fbank), atol=1e-5, rtol=0)


def test_padding_of_small_patches():
    """Where patches are so small that there are more tokens than frames, padding changes nothing either."""
    encoder = shaken(load_encoder("beats", **{**SMALL["beats"], "input_patch_size": 8}))
    fbank = 15 + 6 * torch.randn(1, 40, 128)
    padded = torch.cat([fbank, torch.full((1, 24, 128), 7.0)], dim=1)
    mask = torch.zeros(1, 64, dtype=torch.bool)
    mask[:, 40:] = True
    with torch.no_grad():
        torch.testing.assert_close(encoder.tokens(padded, mask)[:, :80], encoder.tokens(fbank), atol=1e-5, rtol=0)


def test_buckets_that_are_not_used_may_be_anything():
    """A file without relative positions loads whatever it says about their buckets."""
    options = {"relative_position_embedding": False, "num_buckets": 320, "max_distance": 40}
    assert load_encoder("beats", **{**SMALL["beats"], **options}).config.max_distance == 40


def test_clip_of_padding_alone():
    """A clip that is all padding is refused instead of becoming NaN."""
    encoder = load_encoder("beats", **SMALL["beats"])
    with pytest.raises(BackboneError, match="not padding"):
        encoder.tokens(torch.zeros(1, 32, 128), torch.ones(1, 32, dtype=torch.bool))


@pytest.mark.parametrize(
    "options",
    [
        {"encoder_attention_heads": 5},
        {"deep_norm": True, "layer_norm_first": True},
        {"activation_fn": "swish"},
        {"conv_pos_groups": 5},
        {"encoder_layers": 0},
        {"max_distance": 3},
        {"dropout": 1.5},
        {"encoder_layers": "2"},
        {"encoder_layer": 2},
    ],
)
def test_wrong_options(options):
    """Options that no model can have are refused in one sentence."""
    with pytest.raises(BackboneError):
        load_encoder("beats", **{**SMALL["beats"], **options})


def test_options_beside_a_checkpoint():
    """What a checkpoint says must not be contradicted; dropouts may be set."""
    with pytest.raises(BackboneError, match="encoder_layers must be 3"):
        load_encoder("beats", ORACLES / "beats_small.pt", encoder_layers=2)
    encoder = load_encoder("beats", ORACLES / "beats_small.pt", dropout=0.3, encoder_layers=3)
    assert encoder.config.dropout == 0.3
