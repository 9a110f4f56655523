"""Where generated machines are recorded: room, background, microphone; the domains differ in all three."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from benchmarks.contract import Domain
from benchmarks.synthetic.sounds import SAMPLE_RATE, Signal, seed_of, white

# Low enough that blows do not clip, or clipping would give some faults away by their level.
LEVELS_DB = (-42.0, -32.0)  # re full scale; a clip's level is drawn and says nothing about its condition


@dataclass(frozen=True)
class Place:
    """One way of recording a machine type.

    Attributes:
        snr_db: the machine against the background.
        response: (f,) complex, of room and microphone together.
        colour: (f,) amplitudes of the background.
        hum_hz: of a neighbouring machine in the background.
    """

    snr_db: float
    response: NDArray[np.complex64]
    colour: NDArray[np.float32]
    hum_hz: float


@lru_cache(maxsize=256)
def make_place(machine: str, domain: Domain, size: int) -> Place:
    """Design the place where a machine type is recorded in a domain; the year plays no part.

    Args:
        machine: machine type.
        domain: target is a little noisier and further from the machine.
        size: samples of the Fourier transform that the responses are for.
    """
    rng = np.random.default_rng(seed_of("place", machine, domain))
    target = domain == "target"
    frequencies = fft.rfftfreq(size, 1 / SAMPLE_RATE).astype(np.float32)
    octaves = np.log2(np.maximum(frequencies, 60) / 1000).astype(np.float32)
    tilt = rng.uniform(-0.5, 0.5) + (-1.2 if target else 0.0)  # dB an octave
    decibels = tilt * octaves
    for _ in range(3):
        decibels += rng.uniform(-4, 4) * np.exp(-((octaves - rng.uniform(-3, 2.5)) ** 2) / 0.5)
    taps = int(SAMPLE_RATE * (0.12 if target else 0.05))
    decay = np.exp(-6.9 * np.arange(taps) / taps)  # 60 dB over the taps
    room = (0.06 if target else 0.03) * rng.standard_normal(taps) * decay
    room[0] = 1.0
    return Place(
        snr_db=rng.uniform(4, 7) if target else rng.uniform(7, 10),
        response=(fft.rfft(room.astype(np.float32), size) * 10 ** (decibels / 20)).astype(np.complex64),
        colour=(10 ** (rng.uniform(-6, -3) * octaves / 20)).astype(np.float32),
        hum_hz=rng.uniform(40, 120),
    )


def record(sound: Signal, machine: str, domain: Domain, rng: np.random.Generator) -> NDArray[np.int16]:
    """Record a machine: (samples,) of any level -> (samples,) int16 at 16 kHz.

    The level of the recording is drawn from `LEVELS_DB`, whatever the machine does.
    """
    size = fft.next_fast_len(sound.size, real=True)
    place = make_place(machine, domain, size)
    background = white(size, rng, place.colour)
    beat = np.arange(size, dtype=np.float32) * np.float32(2 * np.pi / SAMPLE_RATE)
    hum = place.hum_hz * (1 + 0.05 * rng.standard_normal())
    background *= 1 + 0.3 * np.sin(beat * np.float32(rng.uniform(0.2, 1.0)) + np.float32(rng.uniform(0, 6.28)))
    background += 0.5 * np.sin(beat * np.float32(hum)) + 0.25 * np.sin(beat * np.float32(2 * hum))
    gain = rms(sound) / rms(background) * 10 ** (-(place.snr_db + 1.5 * rng.standard_normal()) / 20)
    padded = np.zeros(size, dtype=np.float32)
    padded[: sound.size] = sound
    mixed = fft.irfft(fft.rfft(padded + gain * background) * place.response, size)[: sound.size]
    mixed *= 10 ** (rng.uniform(*LEVELS_DB) / 20) / rms(mixed)
    samples: NDArray[np.int16] = np.rint(np.clip(mixed, -1.0, 1.0) * 32767).astype(np.int16)
    return samples


def rms(signal: Signal) -> float:
    """Return the root mean square of a signal."""
    return float(np.sqrt(np.mean(np.square(signal)))) or 1.0
