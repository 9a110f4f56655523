"""Log-mel features and SpecAugment."""

from __future__ import annotations

import pytest
import torch
from torchaudio.compliance import kaldi

from backbones.contract import BackboneError
from backbones.features.log_mel import AUDIOMAE_LOG_MEL, BEATS_LOG_MEL, frame_count, log_mel
from backbones.features.masks import apply_masks, draw_masks

NOISE = 0.1 * torch.randn(3, 24_000, generator=torch.Generator().manual_seed(0))


def kaldi_beats(waveform):
    """Return BEATs' features of one clip by torchaudio."""
    return kaldi.fbank(
        waveform[None] * 2**15, num_mel_bins=128, sample_frequency=16_000, frame_length=25, frame_shift=10
    )


def kaldi_audiomae(waveform):
    """Return AudioMAE's features of one clip by torchaudio."""
    return kaldi.fbank(
        (waveform - waveform.mean())[None],
        num_mel_bins=128,
        sample_frequency=16_000,
        htk_compat=True,
        use_energy=False,
        window_type="hanning",
        dither=0.0,
        frame_shift=10,
    )


@pytest.mark.parametrize(("settings", "reference"), [(BEATS_LOG_MEL, kaldi_beats), (AUDIOMAE_LOG_MEL, kaldi_audiomae)])
def test_equals_kaldi(settings, reference):
    """Batched features equal torchaudio's Kaldi features of each clip within 1e-4, silence and offset included."""
    clips = torch.cat([NOISE, 0.3 + 0.01 * NOISE[:1], torch.zeros(1, 24_000), torch.full((1, 24_000), 0.5)])
    expected = torch.stack([reference(clip) for clip in clips])
    torch.testing.assert_close(log_mel(clips, settings), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "settings", "reference"),
    [
        ("beats_small", BEATS_LOG_MEL, kaldi_beats),
        ("beats_small_finetuned", BEATS_LOG_MEL, kaldi_beats),
        ("audiomae_small", AUDIOMAE_LOG_MEL, kaldi_audiomae),
    ],
)
def test_equals_oracle(oracle, name, settings, reference):
    """Features are as close to the oracle's as Kaldi's on this processor are, and within 1e-3 but for 1 in 10,000."""
    numbers = oracle(name)
    difference = (log_mel(numbers["waveform"], settings) - numbers["fbank"]).abs()
    kaldis = torch.stack([reference(clip) for clip in numbers["waveform"]])
    assert difference.max() <= (kaldis - numbers["fbank"]).abs().max() + 1e-5
    assert (difference > 1e-3).float().mean() < 1e-4
    assert difference.max() < 2e-3


def test_no_clip_sees_another():
    """A quiet clip's features are the same beside a loud one, and alone."""
    pair = torch.stack([1e-4 * NOISE[0], NOISE[1]])
    for settings in (BEATS_LOG_MEL, AUDIOMAE_LOG_MEL):
        torch.testing.assert_close(log_mel(pair, settings)[:1], log_mel(pair[:1], settings), atol=1e-6, rtol=0)


def test_autocast_leaves_features_alone():
    """Features are computed in float32 under autocast too."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = log_mel(NOISE, BEATS_LOG_MEL)
    assert torch.equal(features, log_mel(NOISE, BEATS_LOG_MEL))


@pytest.mark.parametrize(("samples", "frames"), [(399, 0), (400, 1), (559, 1), (560, 2), (160_000, 998)])
def test_frame_count(samples, frames):
    """A clip of 10 s has 998 whole frames; what is left over is dropped."""
    assert frame_count(samples) == frames


@pytest.mark.parametrize("waveforms", [torch.zeros(2, 399), torch.zeros(400), torch.zeros(2, 400, dtype=torch.int16)])
def test_wrong_waveforms(waveforms):
    """Clips that are too short, without a batch, or of integers are refused in one sentence."""
    with pytest.raises(BackboneError):
        log_mel(waveforms, BEATS_LOG_MEL)


def masked(fbank, *, time_mask, mel_mask, masks=1, seed=2):
    """Return features with masks that were drawn for them."""
    chance = torch.Generator().manual_seed(seed)
    clips, frames, bins = fbank.shape
    drawn = draw_masks(clips, (frames, bins), time_mask=time_mask, mel_mask=mel_mask, masks=masks, generator=chance)
    return apply_masks(fbank, drawn)


def test_spec_augment_masks_with_the_clips_own_mean():
    """Masked places hold the clip's mean, all others what they held, and each clip has masks of its own."""
    fbank = torch.randn(20, 50, 128, generator=torch.Generator().manual_seed(1))
    shown = masked(fbank, time_mask=20, mel_mask=40, masks=2)
    changed = shown != fbank
    means = fbank.mean(dim=(1, 2), keepdim=True).expand_as(fbank)
    assert torch.equal(shown[changed], means[changed])
    assert changed.any(dim=(1, 2)).all()
    assert not torch.equal(changed[0], changed[1])


def test_spec_augment_off():
    """Without masks, or with masks of no width, features stay as they are."""
    fbank = torch.randn(2, 30, 128)
    assert torch.equal(masked(fbank, time_mask=10, mel_mask=10, masks=0), fbank)
    assert torch.equal(masked(fbank, time_mask=0, mel_mask=0, masks=1), fbank)


def test_masks_fit_short_clips():
    """A mask is never wider than the clip, and every width up to the widest occurs."""
    masks = draw_masks(500, (6, 128), time_mask=192, mel_mask=3, masks=1, generator=torch.Generator().manual_seed(0))
    width = masks[..., 1] - masks[..., 0]
    assert set(width[..., 0].flatten().tolist()) == set(range(7))
    assert set(width[..., 1].flatten().tolist()) == set(range(4))
    assert (masks >= 0).all() and (masks[..., 0, 1] <= 6).all() and (masks[..., 1, 1] <= 128).all()


def test_negative_mask():
    """A negative width is refused."""
    with pytest.raises(BackboneError, match="time_mask"):
        masked(torch.zeros(1, 5, 128), time_mask=-1, mel_mask=0)
