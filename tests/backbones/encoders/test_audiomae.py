"""AudioMAE against its oracle."""

from __future__ import annotations

import hashlib

import pytest
import torch

from backbones import find_backbone, load_encoder
from backbones.contract import BackboneError
from backbones.networks.positions import position_embedding
from tests.backbones.conftest import ORACLES, SMALL, tones

FILE = ORACLES / "audiomae_small.pt"


@torch.no_grad()
def test_oracle_tokens(oracle):
    """Input and tokens after the final norm equal the official code's, from features and from the waveform."""
    numbers = oracle("audiomae_small")
    encoder = load_encoder("audiomae", FILE, heads=6)
    torch.testing.assert_close(encoder.normalised(numbers["fbank"]), numbers["normalised_input"], atol=1e-6, rtol=0)
    torch.testing.assert_close(encoder.tokens(numbers["fbank"]), numbers["tokens_final_norm"], atol=1e-4, rtol=0)
    tokens = encoder.tokens(encoder.fbank(numbers["waveform"]))
    torch.testing.assert_close(tokens, numbers["tokens_final_norm"], atol=1e-4, rtol=0)


@torch.no_grad()
def test_oracle_mean_before_the_norm(oracle):
    """Pooling for fine-tuning normalises the official mean of the patches before the final norm."""
    numbers = oracle("audiomae_small")
    encoder = load_encoder("audiomae", FILE, heads=6, pooling="fc_norm")
    mean = numbers["mean_pool_before_norm"]
    expected = torch.nn.functional.layer_norm(mean, mean.shape[1:], eps=1e-6)
    torch.testing.assert_close(encoder(numbers["waveform"]), expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_oracle_masked_pass(oracle):
    """One masked pass gives the official mask, predicted patches and loss."""
    numbers = oracle("audiomae_small")
    encoder = load_encoder("audiomae", FILE, heads=6, decoder=True, decoder_heads=6)
    masked = encoder.forward_masked(numbers["fbank"], numbers["noise"])
    assert torch.equal(masked.mask, numbers["mask"])
    torch.testing.assert_close(masked.pred, numbers["pred"], atol=1e-4, rtol=0)
    assert masked.loss.item() == pytest.approx(numbers["loss"].item(), abs=1e-5)


def test_state_dict_is_official():
    """With the decoder the state dict has exactly the file's names; without, those of the encoder."""
    official = set(torch.load(ORACLES / "audiomae_small.pt", weights_only=False)["model"])
    with_decoder = load_encoder("audiomae", FILE, heads=6, decoder=True, decoder_heads=6)
    assert set(with_decoder.state_dict()) == official
    decoder = {name for name in official if name.startswith(("decoder_", "mask_token"))}
    assert set(load_encoder("audiomae", FILE, heads=6).state_dict()) == official - decoder


def test_full_size():
    """The full encoder has the 85,659,407 trainable parameters of the official log once a 527-way head is added."""
    encoder = load_encoder("audiomae", pooling="fc_norm")
    trainable = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
    assert trainable + 768 * 527 + 527 == 85_659_407


def test_official_position_embedding():
    """The position embedding made in the official order equals the file's, encoder and decoder."""
    encoder = load_encoder("audiomae", FILE, heads=6, decoder=True, decoder_heads=6)
    made = position_embedding(64, 8, dim=96, order="official")
    torch.testing.assert_close(made, encoder.pos_embed.data, atol=1e-6, rtol=0)
    made = position_embedding(64, 8, dim=48, order="official")
    torch.testing.assert_close(made, encoder.decoder_pos_embed.data, atol=1e-6, rtol=0)


def test_time_mel_order():
    """In the other order patches of one time share the first half of their embedding, of one mel the second."""
    patches = position_embedding(6, 8, dim=16, order="time_mel")[0, 1:].view(6, 8, 16)
    assert (patches[:, :, :8] == patches[:, :1, :8]).all()
    assert (patches[:, :, 8:] == patches[:1, :, 8:]).all()
    assert not torch.equal(patches[0], patches[1])


def test_any_number_of_frames():
    """Features are padded with zeros or cut to the model's frames."""
    encoder = load_encoder("audiomae", **SMALL["audiomae"])
    fbank = torch.randn(2, 120, 128) - 4
    with torch.no_grad():
        assert encoder.tokens(fbank).shape == (2, 1 + 6 * 8, 32)
        assert torch.equal(encoder.tokens(fbank), encoder.tokens(fbank[:, :96]))
        zeros = torch.cat([fbank[:, :40], torch.zeros(2, 56, 128)], dim=1)
        assert torch.equal(encoder.tokens(fbank[:, :40]), encoder.tokens(zeros))


def test_finetuned_file(tmp_path):
    """A fine-tuned file, with fc_norm and a head and without a final norm, loads and pools its own way."""
    checkpoint = torch.load(FILE, weights_only=False)
    model = {name: value for name, value in checkpoint["model"].items() if not name.startswith(("decoder", "mask"))}
    model["fc_norm.weight"], model["fc_norm.bias"] = model.pop("norm.weight"), model.pop("norm.bias")
    model |= {"head.weight": torch.zeros(5, 96), "head.bias": torch.zeros(5)}
    torch.save({"model": model}, tmp_path / "finetuned.pth")
    assert load_encoder("audiomae", tmp_path / "finetuned.pth", heads=6).config.pooling == "fc_norm"


def test_decoder_of_shifted_windows(tmp_path):
    """A file with the released Swin decoder loads as an encoder, and refuses to fill the plain decoder."""
    checkpoint = torch.load(FILE, weights_only=False)
    checkpoint["model"]["decoder_blocks.0.attn.tau"] = torch.ones(1, 6, 16, 16)
    torch.save(checkpoint, tmp_path / "swin.pth")
    load_encoder("audiomae", tmp_path / "swin.pth", heads=6)
    with pytest.raises(BackboneError, match="shifted windows"):
        load_encoder("audiomae", tmp_path / "swin.pth", heads=6, decoder=True)


@pytest.mark.parametrize(
    "options",
    [
        {"frames": 100},
        {"heads": 5},
        {"pos_embed_order": "offical"},
        {"pooling": "mean"},
        {"embed_dim": 30, "heads": 2},
        {"layers": 0},
        {"depth": 3},
    ],
)
def test_wrong_options(options):
    """Options that no model can have are refused in one sentence."""
    with pytest.raises(BackboneError):
        load_encoder("audiomae", **{**SMALL["audiomae"], **options})


def test_frames_beside_a_checkpoint():
    """A checkpoint's own number of frames must not be contradicted."""
    with pytest.raises(BackboneError, match="frames must be 1024"):
        load_encoder("audiomae", FILE, heads=6, frames=512)


def test_noise_of_another_shape():
    """Noise that does not fit the patches is refused."""
    encoder = load_encoder("audiomae", **SMALL["audiomae"], decoder=True, decoder_dim=32, decoder_layers=1)
    with pytest.raises(BackboneError, match="noise"):
        encoder.forward_masked(torch.zeros(1, 96, 128), torch.zeros(1, 47))


def test_masked_loss_falls():
    """A few steps of masked reconstruction lower the loss, with gradients for every weight of the decoder."""
    encoder = load_encoder("audiomae", **SMALL["audiomae"], decoder=True, decoder_dim=32, decoder_layers=2)
    fbank = torch.randn(4, 96, 128, generator=torch.Generator().manual_seed(0)).cumsum(1) - 4
    noise = torch.rand(4, 48, generator=torch.Generator().manual_seed(1))
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = encoder.forward_masked(fbank, noise, mask_ratio=0.5).loss
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for parameter in encoder.decoder_blocks.parameters())


def timms(folder, *, seed=0, head=False, **changes):
    """Save small random weights in the official layout and in timm's, and return both files."""
    save_file = pytest.importorskip("safetensors.torch", reason="comes with the extra asdbench[hf]").save_file
    official = load_encoder("audiomae", seed=seed, **SMALL["audiomae"], decoder=True, decoder_dim=16, decoder_layers=1,
                            decoder_heads=2).state_dict()  # fmt: skip
    chance = torch.Generator().manual_seed(seed)
    official = {name: value + 0.02 * torch.randn(value.shape, generator=chance) for name, value in official.items()}
    if head:  # as both fine-tunings leave it
        official["fc_norm.weight"], official["fc_norm.bias"] = official.pop("norm.weight"), official.pop("norm.bias")
        official |= {"head.weight": torch.ones(527, 32), "head.bias": torch.ones(527)}
    torch.save({"model": official}, folder / "pretrained.pth")
    timm = {name: value for name, value in official.items() if not name.startswith(("decoder", "mask_token"))}
    save_file({**timm, **changes}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder / "pretrained.pth", folder / "model.safetensors"


@pytest.mark.parametrize("head", [False, True])
@torch.no_grad()
def test_timms_layout_gives_the_same_tokens(tmp_path, head):
    """The same weights, pre-trained or fine-tuned, are the same encoder in the official file and in timm's."""
    official, timm = (load_encoder("audiomae", path, heads=4) for path in timms(tmp_path, head=head))
    clips = tones(2, seconds=1.5)
    fbank = official.fbank(clips)
    assert torch.equal(official.tokens(fbank), timm.tokens(timm.fbank(clips)))
    assert torch.equal(official(clips), timm(clips))
    assert timm.config.pooling == ("fc_norm" if head else "tokens")
    assert timm.weights_sha256 == hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()


@torch.no_grad()
def test_timms_folder_is_named_too(tmp_path):
    """A folder as the hub has it, config.json beside, is found; the backbone hf says who takes it."""
    _, timm = timms(tmp_path)
    (tmp_path / "config.json").write_text('{"architecture": "vit_base_patch16_224", "num_classes": 0}')
    clips = tones(1)
    assert torch.equal(
        load_encoder("audiomae", tmp_path, heads=4)(clips), load_encoder("audiomae", timm, heads=4)(clips)
    )
    with pytest.raises(BackboneError, match=r"of timm.*encoder = .audiomae., weights = .*model\.safetensors"):
        load_encoder(f"hf:{tmp_path}")


def test_pre_training_starts_from_timms_file(tmp_path):
    """Its encoder is taken, and the decoder that it has not is new."""
    official, timm = timms(tmp_path)
    wanted = load_encoder("audiomae", official, heads=4).state_dict()
    made = find_backbone("audiomae").build_masked(weights=timm, heads=4, decoder_dim=16, decoder_layers=1).state_dict()
    assert all(torch.equal(made[name], value) for name, value in wanted.items())
    assert "decoder_embed.weight" in made


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"blocks.7.norm1.weight": torch.ones(32)}, "has the unknown blocks.7.norm1.weight"),
        ({"cls_token": torch.full((1, 1, 32), torch.nan)}, "must be finite"),
        ({"pos_embed": torch.ones(1, 7, 32)}, "has other shapes|must divide|at least 1"),
        ({"patch_embed.proj.weight": torch.ones(32, 3, 16, 16)}, "has other shapes: patch_embed.proj.weight"),
    ],
)
def test_a_file_of_timm_that_is_another_model_is_refused(tmp_path, changes, said):
    """Another ViT under the same names, of three channels, more layers or odd numbers, is one sentence."""
    _, timm = timms(tmp_path, **changes)
    with pytest.raises(BackboneError, match=said):
        load_encoder("audiomae", timm, heads=4)
