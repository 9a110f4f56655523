"""Clip-level MFCC statistics."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from labeling.contract import LabelingError
from labeling.mfcc import DIMENSIONS, clip_mfcc, mel_bank, mfcc, mfcc_statistics


def noise(seed: int, *, seconds: float = 1.0, level: float = 0.1) -> np.ndarray:
    """Make noise of a level."""
    return (level * np.random.default_rng(seed).normal(size=int(16_000 * seconds))).astype(np.float32)


@pytest.mark.parametrize("sample_rate", [16_000, 44_100])
def test_mfcc_equal_librosa(sample_rate):
    """The coefficients are librosa's at the same settings; its own filters are made in another order of rounding."""
    waveform = noise(0) * np.linspace(0, 1, 16_000, dtype=np.float32) ** 4
    expected = librosa.feature.mfcc(y=waveform, sr=sample_rate, n_mfcc=20, n_fft=2048, hop_length=512, n_mels=128)
    np.testing.assert_allclose(mfcc(waveform, sample_rate=sample_rate), expected, atol=2e-3)


@pytest.mark.parametrize("samples", [2048, 5000, 48_000, 160_000])
def test_mfcc_have_librosa_s_bits(samples):
    """Made of librosa's transform and decibels step by step, they are the same numbers to the last bit."""
    waveform = noise(samples, seconds=samples / 16_000) * np.linspace(0, 1, samples, dtype=np.float32) ** 4
    with threadpool_limits(1):
        spectrum = librosa.stft(waveform, n_fft=2048, hop_length=512)
        filters = librosa.filters.mel(sr=16_000, n_fft=2048, n_mels=128)
        decibels = librosa.power_to_db(filters @ (spectrum.real**2 + spectrum.imag**2), top_db=80.0)
        expected = librosa.feature.mfcc(S=decibels, n_mfcc=20)
    assert (mfcc(waveform) == expected).all()


@pytest.mark.parametrize("sample_rate", [1_600, 8_000, 16_000, 44_100])
def test_mel_filters_are_librosa_s(sample_rate):
    """The filter bank is librosa's own at every rate, below and above the knee of the mel scale."""
    expected = librosa.filters.mel(sr=sample_rate, n_fft=2048, n_mels=128)
    assert (mel_bank(sample_rate) == expected).all()


def test_statistics_are_mean_and_deviation_over_time():
    """The first twenty numbers are means over time, the other twenty standard deviations."""
    coefficients = mfcc(noise(1))  # (20, frames)
    statistics = clip_mfcc(noise(1))
    np.testing.assert_allclose(statistics[:20], coefficients.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(statistics[20:], coefficients.std(axis=1), rtol=1e-6)
    assert statistics.shape == (DIMENSIONS,) and statistics.dtype == np.float32


def test_no_clip_sees_another():
    """A quiet clip has the same features beside a loud one as alone: the 80 dB are below its own maximum."""
    clips = [noise(1, level=1e-4), noise(2, level=1.0)]
    together = mfcc_statistics(lambda i: clips[i], 2)
    assert (together[0] == clip_mfcc(clips[0])).all()
    assert (together[1] == clip_mfcc(clips[1])).all()


def test_workers_change_nothing():
    """One worker or three give the same numbers in the same order."""
    one = mfcc_statistics(lambda i: noise(i, seconds=0.3), 9)
    assert (mfcc_statistics(lambda i: noise(i, seconds=0.3), 9, workers=3) == one).all()


def test_threads_change_nothing():
    """BLAS with one thread or four gives the same numbers, though its sums over mel bins alone would not."""
    with threadpool_limits(1):
        one = clip_mfcc(noise(1, seconds=10.0))
    with threadpool_limits(4):
        four = clip_mfcc(noise(1, seconds=10.0))
    assert (one == four).all()


@pytest.mark.parametrize("waveform", [np.zeros(16_000), np.ones(1), np.ones(2047)])
def test_silent_and_short_clips_are_finite(waveform):
    """Silence, a single sample and a clip shorter than a window have finite features."""
    assert np.isfinite(clip_mfcc(waveform.astype(np.float32))).all()


def test_refuses_what_is_no_waveform():
    """Channels, an empty clip and NaN are refused; among many clips the message says which."""
    for waveform in (np.zeros((2, 100), np.float32), np.zeros(0, np.float32)):
        with pytest.raises(LabelingError, match="must be a row of samples"):
            clip_mfcc(waveform)
    clips = [noise(0), np.full(16_000, np.nan, np.float32)]
    with pytest.raises(LabelingError, match="clip 1 of 2 cannot be summarised: a waveform must be finite"):
        mfcc_statistics(lambda i: clips[i], 2)
    with pytest.raises(LabelingError, match="workers must be at least 1, but got 0"):
        mfcc_statistics(lambda i: clips[i], 2, workers=0)
