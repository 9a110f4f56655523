"""What holds for every backbone in the folder, and how backbones are found."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch

import backbones
from backbones import backbone_names, find_backbone, load_encoder, plugins
from backbones.contract import Backbone, BackboneError
from backbones.embed import embed
from backbones.networks.noise import Dropout, Noise, drawing_from
from tests.backbones.conftest import ALL, SMALL, reader, tones

CPU = torch.device("cpu")

BINS = {"yamnet": 64}  # mel bins of front ends that are not Kaldi's


def test_every_backbone_is_tested():
    """Every file in the folder has a small size here, so that the tests below enrol it by name."""
    # these two need a file: test_hugging_face.py, and tests/harness/trials/test_embeddings.py
    assert set(backbone_names()) == {*ALL, "hf", "emb"}


@pytest.mark.parametrize("name", ALL)
def test_declaration(name):
    """A backbone's name is its file's name, and its options are those that `build` takes."""
    backbone = find_backbone(name)
    assert backbone.name == name
    assert backbone.summary
    assert set(ALL[name]) <= set(backbone.options)


@pytest.mark.parametrize("name", ALL)
def test_shapes(name):
    """Features, tokens and embeddings have the shapes and the type of the contract."""
    encoder = load_encoder(name, **ALL[name])
    waveforms = tones(3)
    with torch.no_grad():
        fbank = encoder.fbank(waveforms)
        tokens = encoder.tokens(fbank)
        vectors = encoder(waveforms)
    assert fbank.shape == (3, 48, BINS.get(name, 128))
    assert tokens.ndim == 3 and tokens.shape[::2] == (3, encoder.dim)
    assert vectors.shape == (3, encoder.dim) and vectors.dtype == torch.float32
    torch.testing.assert_close(encoder.pool(tokens), vectors)
    assert not encoder.training


@pytest.mark.parametrize("name", SMALL)
def test_random_weights_come_from_the_seed(name):
    """The same seed gives the same weights, another seed others, and torch's generator is not touched."""
    before = torch.get_rng_state()
    one, same, other = (load_encoder(name, seed=seed, **SMALL[name]) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    vectors = [encoder(tones(1)) for encoder in (one, same, other)]
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])


@pytest.mark.parametrize("name", SMALL)
def test_gradient_reaches_every_trainable_weight(name):
    """In training, every trainable weight gets a gradient."""
    encoder = load_encoder(name, **SMALL[name]).train()
    if hasattr(encoder, "encoder"):
        encoder.encoder.layerdrop = 0.0
    (encoder(tones(2)) * torch.linspace(-1, 1, encoder.dim)).sum().backward()
    assert [key for key, value in encoder.named_parameters() if value.requires_grad and value.grad is None] == []


@pytest.mark.parametrize("name", ALL)
def test_padding_mask_is_taken(name):
    """Features marked as padding do not reach the tokens, whatever they hold."""
    encoder = load_encoder(name, **ALL[name])
    fbank = torch.randn(1, 96, BINS.get(name, 128))
    mask = torch.zeros(1, 96, dtype=torch.bool)
    mask[:, 64:] = True
    other = torch.where(mask[..., None], 9.0, fbank)
    with torch.no_grad():
        one, two = encoder.tokens(fbank, mask), encoder.tokens(other, mask)
    kept = 32 if name == "beats" else one.shape[1]
    torch.testing.assert_close(one[:, :kept], two[:, :kept])


@pytest.mark.parametrize("name", ALL)
def test_a_batch_equals_its_rows(name):
    """An embedding does not depend on the clips beside it or on the batch size."""
    encoder = load_encoder(name, **ALL[name])
    clips = tones(7)
    vectors = [embed(encoder, reader(clips), 7, batch_size=size, device=CPU) for size in (1, 3, None)]
    assert vectors[0].shape == (7, encoder.dim) and vectors[0].dtype == np.float32
    np.testing.assert_allclose(vectors[1], vectors[0], atol=1e-5)
    np.testing.assert_allclose(vectors[2], vectors[0], atol=1e-5)


def test_embed_restores_every_mode():
    """Embedding puts each part of the encoder back into its own mode, also when it fails."""
    encoder = load_encoder("beats", **SMALL["beats"], dropout=0.5).train()
    encoder.layer_norm.eval()
    modes = [module.training for module in encoder.modules()]
    embed(encoder, reader(tones(2)), 2, device=CPU)
    assert [module.training for module in encoder.modules()] == modes
    with pytest.raises(BackboneError):
        embed(encoder, reader(torch.full((2, 8_000), torch.nan)), 2, device=CPU)
    assert [module.training for module in encoder.modules()] == modes


def test_embed_not_finite():
    """An embedding that is not finite is refused, naming the clip."""
    clips = tones(5)
    clips[3] = torch.nan
    with pytest.raises(BackboneError, match="clip 3 has NaN"):
        embed(load_encoder("tiny", **SMALL["tiny"]), reader(clips), 5, device=CPU)


def test_embed_nothing():
    """No clips give no rows."""
    encoder = load_encoder("tiny", **SMALL["tiny"])
    assert embed(encoder, reader(tones(1)), 0, device=CPU).shape == (0, encoder.dim)


def test_embed_out_of_memory():
    """Memory that does not suffice for a batch halves it; for one clip, it is said."""
    encoder = load_encoder("tiny", **SMALL["tiny"])
    clips = tones(5)

    def read(positions, room):
        if len(positions) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return reader(clips)(positions)

    vectors = embed(encoder, lambda positions: read(positions, 2), 5, batch_size=5, device=CPU)
    np.testing.assert_allclose(vectors, embed(encoder, reader(clips), 5, device=CPU), atol=1e-5)
    with pytest.raises(BackboneError, match="one clip"):
        embed(encoder, lambda positions: read(positions, 0), 5, device=CPU)


def test_unknown_name():
    """An unknown name is answered with the nearest one and the list."""
    with pytest.raises(BackboneError, match=rf"{', '.join(backbone_names())}, but got 'beat'\. Did you mean 'beats'\?"):
        load_encoder("beat")


@pytest.mark.parametrize("name", ["beats", "audiomae", "tiny"])
def test_unknown_option(name):
    """An unknown option is answered with the nearest one and the list."""
    near = next(iter(SMALL[name]))
    with pytest.raises(BackboneError, match=f"no option {near}s. Did you mean '{near}'"):
        load_encoder(name, **{near + "s": 3})


def test_backbone_from_outside(monkeypatch):
    """A package outside the repository adds a backbone by entry point; one that declares none is refused."""
    points = [
        EntryPoint("outside", "backbones.encoders.tiny:BACKBONE", "asdbench.backbones"),
        EntryPoint("broken", "backbones.encoders.tiny:STRIDE", "asdbench.backbones"),
    ]
    by_name = {point.name: point for point in points}
    monkeypatch.setattr(plugins, "_installed", lambda group, _path: by_name if group == points[0].group else {})
    assert "outside" in backbone_names()
    assert load_encoder("outside", dim=8).dim == 8
    with pytest.raises(BackboneError, match="must declare BACKBONE, a Backbone, but got"):
        load_encoder("broken")


def test_memory_that_does_not_suffice_for_the_weights(monkeypatch):
    """An encoder that does not fit into the memory is refused in one sentence."""

    def build(**_options):
        raise RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1e12 bytes"
        )

    huge = Backbone(name="huge", build=build, summary="does not fit")
    monkeypatch.setattr(backbones, "find_backbone", lambda _name: huge)
    with pytest.raises(BackboneError, match="memory does not suffice to build the backbone huge"):
        load_encoder("huge")


def test_listing_imports_no_torch():
    """Importing the room and listing its backbones does not import torch."""
    code = "import sys, backbones; backbones.backbone_names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_tiny_has_no_weights(tmp_path):
    """The tiny backbone refuses a checkpoint, since there is none."""
    with pytest.raises(BackboneError, match="no checkpoints"):
        load_encoder("tiny", tmp_path / "weights.pt")


def test_dropout_is_each_clips_own():
    """A clip's dropout mask comes from its own seed, whatever stands beside it; kept numbers are scaled up."""
    dropout = Dropout(0.5).train()
    values = torch.ones(3, 1_000)
    with drawing_from(Noise((1, 2, 3), 0, CPU)):
        together = dropout(values)
    with drawing_from(Noise((2,), 0, CPU)):
        alone = dropout(values[:1])
    assert torch.equal(together[1:2], alone)
    assert set(together.unique().tolist()) == {0.0, 2.0}
    assert 0.4 < (together == 0).float().mean() < 0.6
    assert torch.equal(dropout.eval()(values), values)
