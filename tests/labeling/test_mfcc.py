"""Clip-level MFCC statistics."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from labeling import mfcc
from labeling.contract import LabelingError
from labeling.mfcc import DIMENSIONS, mfcc_statistics


def noise(seed: int, *, seconds: float = 1.0, level: float = 0.1) -> np.ndarray:
    """Make noise of a level."""
    return (level * np.random.default_rng(seed).normal(size=int(16_000 * seconds))).astype(np.float32)


def of_one(waveform: np.ndarray, **options: int) -> np.ndarray:
    """Summarise one clip alone: (40,)."""
    return mfcc_statistics(lambda _: waveform, 1, **options)[0]


@pytest.mark.parametrize("sample_rate", [16_000, 44_100])
@pytest.mark.parametrize("samples", [2048, 5000, 160_000])
def test_statistics_are_mean_and_deviation_of_librosa_s_mfcc(samples, sample_rate):
    """Twenty means over time, then twenty deviations, of what one call of librosa gives at the same settings."""
    waveform = noise(samples, seconds=samples / 16_000) * np.linspace(0, 1, samples, dtype=np.float32) ** 4
    expected = librosa.feature.mfcc(y=waveform, sr=sample_rate, n_mfcc=20, n_fft=2048, hop_length=512, n_mels=128)
    found = of_one(waveform, sample_rate=sample_rate)
    np.testing.assert_allclose(found[:20], expected.mean(axis=1), atol=1e-4)
    np.testing.assert_allclose(found[20:], expected.std(axis=1), atol=1e-4)
    assert found.shape == (DIMENSIONS,) and found.dtype == np.float32


def test_no_bit_of_recorded_numbers_moves():
    """What decided about recorded labels stands: a filter bank over real^2 + imag^2, cut 80 dB below the loudest bin.

    librosa's one call squares the absolute value instead, whose root changes last bits; a release of librosa that
    changes one of its steps fails here, and `METHOD` of the harness has to rise.
    """
    waveform = noise(3, seconds=3.0) * np.linspace(0, 1, 48_000, dtype=np.float32) ** 4
    with threadpool_limits(1):
        spectrum = librosa.stft(waveform, n_fft=2048, hop_length=512)
        power = librosa.filters.mel(sr=16_000, n_fft=2048, n_mels=128) @ (spectrum.real**2 + spectrum.imag**2)
        decibels = 10.0 * np.log10(np.maximum(1e-10, power))
        expected = librosa.feature.mfcc(S=np.maximum(decibels, decibels.max() - 80.0), n_mfcc=20)
    assert (of_one(waveform) == np.concatenate([expected.mean(axis=1), expected.std(axis=1)])).all()


def test_every_constant_acts(monkeypatch):
    """Window, step, mel bins, floor and coefficients are those of the module, whatever librosa's own defaults are."""
    constants = {"FFT_SAMPLES": 1024, "HOP_SAMPLES": 300, "MEL_BINS": 40, "TOP_DB": 25.0, "COEFFICIENTS": 13}
    for name, value in {**constants, "DIMENSIONS": 26}.items():
        monkeypatch.setattr(mfcc, name, value)
    waveform = noise(1, seconds=0.4) * np.linspace(0, 1, 6400, dtype=np.float32) ** 4
    spectrum = librosa.stft(waveform, n_fft=1024, hop_length=300)
    power = librosa.filters.mel(sr=16_000, n_fft=1024, n_mels=40) @ (spectrum.real**2 + spectrum.imag**2)
    decibels = 10.0 * np.log10(np.maximum(1e-10, power))
    expected = librosa.feature.mfcc(S=np.maximum(decibels, decibels.max() - 25.0), n_mfcc=13)
    np.testing.assert_allclose(of_one(waveform), [*expected.mean(axis=1), *expected.std(axis=1)], atol=1e-4)
    frames = []
    plain = librosa.stft
    monkeypatch.setattr(librosa, "stft", lambda samples, **how: frames.append(len(samples)) or plain(samples, **how))
    for seconds in (1023, 1024, 1025, 3000):
        of_one(noise(3, seconds=seconds / 16_000))
    assert frames[1::2] == [1024, 1024, 1025, 3000]  # the first of two is of nothing, and imports librosa's parts
    short = noise(2, seconds=700 / 16_000)
    assert (of_one(short) == of_one(np.append(short, np.zeros(324, np.float32)))).all()


def test_no_clip_sees_another():
    """A quiet clip has the same features beside a loud one as alone: the 80 dB are below its own maximum."""
    clips = [noise(1, level=1e-4), noise(2, level=1.0)]
    together = mfcc_statistics(lambda i: clips[i], 2)
    assert (together[0] == of_one(clips[0])).all()
    assert (together[1] == of_one(clips[1])).all()


def test_workers_change_nothing():
    """One worker or three give the same numbers in the same order."""
    one = mfcc_statistics(lambda i: noise(i, seconds=0.3), 9)
    assert (mfcc_statistics(lambda i: noise(i, seconds=0.3), 9, workers=3) == one).all()


def test_threads_change_nothing():
    """BLAS with one thread or four gives the same numbers, though its sums over mel bins alone would not."""
    with threadpool_limits(1):
        one = of_one(noise(1, seconds=10.0))
    with threadpool_limits(4):
        four = of_one(noise(1, seconds=10.0))
    assert (one == four).all()


@pytest.mark.parametrize("waveform", [np.zeros(16_000), np.ones(1), np.ones(2047), np.full(3000, -1e15)])
def test_silent_short_and_loud_clips_are_finite(waveform):
    """Silence, a single sample, a clip shorter than a window and the loudest that is taken have finite features."""
    assert np.isfinite(of_one(waveform.astype(np.float32))).all()


def test_no_clip_has_no_rows():
    """Nothing to summarise gives an empty table of the usual width."""
    assert mfcc_statistics(lambda _: noise(0), 0).shape == (0, 40)


@pytest.mark.parametrize(
    ("waveform", "said"),
    [
        (np.zeros((2, 100), np.float32), "must be a row of samples"),
        (np.zeros(0, np.float32), "must be a row of samples"),
        (np.full(16_000, np.nan, np.float32), "must be finite"),
        (np.array([0.0, -np.inf], np.float32), "must be finite"),
        (np.full(3000, 1e30, np.float32), "must lie in -1..1, but got a sample of 1e"),
        (np.full(3000, -1e300), "must lie in -1..1, but got a sample of 1e"),
    ],
)
def test_refuses_what_is_no_waveform(waveform, said):
    """Channels, an empty clip, NaN and samples beyond float32's squares are refused, and the message says which."""
    clips = [noise(0), waveform]
    with pytest.raises(LabelingError, match=f"clip 1 of 2 cannot be summarised: a waveform {said}"):
        mfcc_statistics(lambda i: clips[i], 2)


@pytest.mark.parametrize("option", ["workers", "sample_rate"])
def test_refuses_less_than_one_worker_or_hertz(option):
    """Zero threads or zero Hz are refused."""
    with pytest.raises(LabelingError, match=f"{option} must be at least 1.*, but got 0"):
        of_one(noise(0), **{option: 0})


def test_a_short_clip_is_padded_at_its_end():
    """A clip of 700 samples is that clip with silence behind it, up to one window; doubles are rounded first."""
    short = noise(0, seconds=700 / 16_000)
    padded = np.concatenate([short, np.zeros(2048 - 700, np.float32)])
    assert (of_one(short) == of_one(padded)).all()
    assert (of_one(short.astype(np.float64)) == of_one(short)).all()


def test_the_rate_is_16_khz_unless_said_and_the_loudest_sample_1e15():
    """The default rate is that of the challenge; exactly 1e15 is taken on either side, more is not."""
    assert (of_one(noise(0)) == of_one(noise(0), sample_rate=16_000)).all()
    assert not (of_one(noise(0)) == of_one(noise(0), sample_rate=8_000)).all()
    assert of_one(noise(0, seconds=0.2), workers=1, sample_rate=1).shape == (40,)
    for sign in (1, -1):
        assert np.isfinite(of_one(np.full(3000, sign * 1e15))).all()
        with pytest.raises(LabelingError, match=r"must lie in -1\.\.1"):
            of_one(np.append(np.zeros(3000), sign * 1.01e15))
