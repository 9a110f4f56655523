"""Batched Kaldi-compatible log-mel features, and SpecAugment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from backbones.contract import MEL_BINS, BackboneError

SAMPLE_RATE = 16_000  # Hz, paper, section 4.2
FRAME = 400  # samples: 25 ms, paper, section 4.2
HOP = 160  # samples: 10 ms, paper, section 4.2
FFT = 512  # Kaldi rounds the frame up to a power of two
PREEMPHASIS = 0.97  # Kaldi's default
LOW_HZ = 20.0  # Kaldi's default
POVEY_POWER = 0.85  # Kaldi's default window is a Hann window to this power
CPU_CLIPS = 1  # clips at once on a CPU: larger temporaries spend their time in page faults
CUDA_CLIPS = 64


@dataclass(frozen=True)
class LogMel:
    """How a waveform becomes log-mel features.

    Attributes:
        window: Kaldi's "povey", or "hanning".
        gain: factor on samples in -1..1; 2**15 gives the range of 16-bit integers.
        centre: whether each clip's mean is removed first.
    """

    window: Literal["povey", "hanning"] = "povey"
    gain: float = 1.0
    centre: bool = False


BEATS_LOG_MEL = LogMel(window="povey", gain=2.0**15)  # microsoft/unilm:beats/BEATs.py, preprocess
AUDIOMAE_LOG_MEL = LogMel(window="hanning", centre=True)  # facebookresearch/AudioMAE:dataset.py, _wav2fbank


def frame_count(samples: int) -> int:
    """Count the whole frames in a clip of so many samples; what is left at the end is dropped (snip_edges)."""
    return 0 if samples < FRAME else 1 + (samples - FRAME) // HOP


def log_mel(waveforms: Tensor, settings: LogMel) -> Tensor:
    """Return the features that `torchaudio.compliance.kaldi.fbank` gives clip by clip, as float32.

    Args:
        waveforms: (b, samples) float in -1..1 at 16 kHz, on any device; each clip is treated by itself.
        settings: window, gain and centring.

    Returns:
        (b, frames, 128) natural logarithm of the mel energies, on the waveforms' device.

    Raises:
        BackboneError: when the waveforms have another shape or type, or are shorter than one frame.
    """
    if waveforms.ndim != 2 or not waveforms.is_floating_point():
        raise BackboneError(
            f"waveforms must be a float tensor of shape (clips, samples), but got {waveforms.dtype} "
            f"of shape {tuple(waveforms.shape)}."
        )
    clips, samples = waveforms.shape
    frames = frame_count(samples)
    if frames == 0:
        raise BackboneError(
            f"A clip must have at least {FRAME} samples, one frame of 25 ms, but got {samples}; "
            "give longer clips, or let the recipe repeat or pad them."
        )
    at_once = CPU_CLIPS if waveforms.device.type == "cpu" else CUDA_CLIPS
    features = waveforms.new_empty((clips, frames, MEL_BINS), dtype=torch.float32)
    # Autocast would do the mel product in bfloat16, too coarse for energies over ten decades.
    with torch.no_grad(), torch.autocast(waveforms.device.type, enabled=False):
        window, bank = _window_and_bank(settings.window, waveforms.device)
        for start in range(0, clips, at_once):
            part = waveforms[start : start + at_once].float()
            features[start : start + at_once] = _log_mel_of(part, settings, window, bank)
    return features


def _log_mel_of(waveforms: Tensor, settings: LogMel, window: Tensor, bank: Tensor) -> Tensor:
    if settings.centre:
        waveforms = waveforms - waveforms.mean(dim=1, keepdim=True)
    if settings.gain != 1.0:
        waveforms = waveforms * settings.gain
    frames = waveforms.unfold(1, FRAME, HOP)  # (b, samples) -> (b, frames, 400)
    padded = frames.new_zeros((*frames.shape[:2], FFT))
    body = padded[..., :FRAME]
    torch.sub(frames, frames.mean(dim=2, keepdim=True), out=body)
    # Multiplied and subtracted apart, as Kaldi does: fused, near-empty bins at low frequency differ by 0.007.
    before = body[..., :-1] * PREEMPHASIS
    body[..., 1:].sub_(before)
    body[..., :1].mul_(1 - PREEMPHASIS)  # Kaldi repeats the first sample
    body.mul_(window)
    spectrum = torch.view_as_real(torch.fft.rfft(padded))  # (b, frames, 257, 2)
    power = spectrum[..., 0].square()
    power.addcmul_(spectrum[..., 1], spectrum[..., 1])
    energies = torch.matmul(power, bank)  # (b, frames, 257) @ (257, 128)
    return energies.clamp_(min=torch.finfo(torch.float32).eps).log_()


@lru_cache(maxsize=8)
def _window_and_bank(name: str, device: torch.device) -> tuple[Tensor, Tensor]:
    from torchaudio.compliance.kaldi import get_mel_banks  # noqa: PLC0415  # heavy, and only features need it

    window = torch.hann_window(FRAME, periodic=False)
    if name == "povey":
        window = window.pow(POVEY_POWER)
    high = 0.0  # Hz below Nyquist
    bank, _ = get_mel_banks(MEL_BINS, FFT, float(SAMPLE_RATE), LOW_HZ, high, 100.0, -500.0, 1.0)  # (128, 256)
    bank = functional.pad(bank, (0, 1)).t().contiguous()  # Kaldi leaves the Nyquist bin out
    return window.to(device), bank.to(device)


def resample(waveforms: Tensor, rate: int, wanted: int) -> Tensor:
    """Bring waveforms to another sample rate by windowed sinc interpolation: (b, samples) -> (b, samples').

    Args:
        waveforms: at `rate`.
        rate: Hz.
        wanted: Hz; the same rate gives the waveforms back.
    """
    if rate == wanted:
        return waveforms
    from torchaudio.functional import resample as sinc  # noqa: PLC0415  # heavy, and only other rates need it

    resampled: Tensor = sinc(waveforms, rate, wanted)
    return resampled
