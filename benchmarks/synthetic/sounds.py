"""How generated machines sound: rotating, reciprocating, motor-driven and flow sources, sound and faulty."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from benchmarks.synthetic.names import State

SAMPLE_RATE = 16_000  # Hz, as all official recordings
TABLE = 4096  # samples of one cycle
PARTIALS = 40  # of a shaft

Signal: TypeAlias = NDArray[np.float32]
Mode: TypeAlias = tuple[float, float, float]

FAMILIES = {
    "rotating": (
        "bearing",
        "gearbox",
        "bandsaw",
        "grinder",
        "BandSealer",
        "CoffeeGrinder",
        "Polisher",
        "BrushlessMotor",
    ),
    "reciprocating": (
        *("slider", "valve", "shaker", "3DPrinter", "AirCompressor", "RoboticArm", "Scanner"),
        *("AutoTrash", "HomeCamera", "ScrewFeeder"),
    ),
    "flow": ("fan", "pump", "Vacuum", "HairDryer", "HoveringDrone"),
    "motor": (
        *("ToyCar", "ToyTrain", "ToyConveyor", "ToyDrone", "ToyNscale", "ToyTank", "ToothBrush", "ToyCircuit"),
        *("ToyPet", "ToyRCCar"),
    ),
}
FAMILY_OF = {machine: family for family, machines in FAMILIES.items() for machine in machines}
# Ranges that a machine type's constants are drawn from: shaft in Hz, cycles of knocks a shaft turn, gains of tone,
# noise and knocks, depth of the noise's modulation, its tilt in dB an octave, and modes' quality factors.
DESIGNS: dict[str, dict[str, tuple[float, float]]] = {
    "rotating": {
        "shaft": (18, 32), "cycles": (1, 1), "tone": (0.8, 1.2), "noise": (0.5, 0.8), "knock": (0.05, 0.15),
        "depth": (0.3, 0.6), "tilt": (-5, -3), "quality": (6, 18),
    },
    "reciprocating": {
        "shaft": (14, 24), "cycles": (0.08, 0.14), "tone": (0.15, 0.35), "noise": (0.5, 0.8), "knock": (1.0, 1.6),
        "depth": (0.7, 0.95), "tilt": (-4, -2), "quality": (15, 40),
    },
    "flow": {
        "shaft": (20, 36), "cycles": (1, 1), "tone": (0.35, 0.6), "noise": (1.0, 1.3), "knock": (0.0, 0.0),
        "depth": (0.05, 0.2), "tilt": (-7, -5), "quality": (3, 8),
    },
    "motor": {
        "shaft": (35, 60), "cycles": (0.15, 0.25), "tone": (0.8, 1.2), "noise": (0.4, 0.7), "knock": (0.3, 0.6),
        "depth": (0.3, 0.6), "tilt": (-4, -2), "quality": (8, 25),
    },
}  # fmt: skip


@dataclass(frozen=True)
class Voice:
    """A machine at work, as numbers.

    Attributes:
        shaft_hz: turns a second.
        partials: (PARTIALS,) amplitudes of the shaft's harmonics.
        noise_gain: of broadband noise from friction or flow.
        tilt: of that noise, dB an octave.
        cycle_hz: strokes, or modulation periods, a second.
        depth: of the noise's modulation within a cycle, 0..1.
        knock_gain: of the impacts in a cycle.
        knocks: where in a cycle they fall, 0..1.
        modes: resonances of the body, (Hz, quality factor, gain).
        wobble: standard deviation of the speed within a clip, relative.
        missing: share of impacts that do not happen.
        rattle_hz: loose parts' impacts a second, at random times.
        rattle_gain: of those.
        whine_gain: of one partial that has no place in the harmonic series.
        whine_ratio: its frequency in turns.
    """

    shaft_hz: float
    partials: NDArray[np.float64]
    noise_gain: float
    tilt: float
    cycle_hz: float
    depth: float
    knock_gain: float
    knocks: tuple[float, ...]
    modes: tuple[Mode, ...]
    wobble: float = 0.004
    missing: float = 0.0
    rattle_hz: float = 0.0
    rattle_gain: float = 0.0
    whine_gain: float = 0.0
    whine_ratio: float = 1.0


def seed_of(*words: object) -> int:
    """Turn words into a seed that is the same on every machine and in every process."""
    return int.from_bytes(blake2b("|".join(map(str, words)).encode(), digest_size=8).digest(), "little")


@lru_cache(maxsize=4096)
def make_voice(state: State, section: str) -> Voice:
    """Design the voice of a machine in one of its states.

    Numeric axes set its speed, the others its partials and resonances. The year plays no part; another section is
    another unit of the same type.
    """
    rng = np.random.default_rng(seed_of("machine", state.machine))
    family = FAMILY_OF.get(state.machine) or sorted(FAMILIES)[seed_of(state.machine) % len(FAMILIES)]
    draw = {name: rng.uniform(*limits) for name, limits in DESIGNS[family].items()}
    order = np.arange(1, PARTIALS + 1)
    partials = rng.gamma(1.5, 1.0, PARTIALS) / order ** rng.uniform(0.6, 1.0)
    hertz = np.sort(rng.uniform(300, 6000, 4))
    gains = rng.uniform(0.4, 1.0, 4)
    knocks = tuple(rng.uniform(0, 1, 2))

    speed, tilt = 1.0, draw["tilt"]
    for position, (level, number) in enumerate(zip(state.levels, state.speeds, strict=True)):
        own = np.random.default_rng(seed_of("level", state.machine, position, level if number is None else "number"))
        if number is None:
            partials = partials * np.exp(0.8 * own.standard_normal(PARTIALS))
            hertz = hertz * np.exp(0.18 * own.standard_normal(4))
            gains = gains * np.exp(0.5 * own.standard_normal(4))
            tilt += own.uniform(-2.5, 2.5)
            draw["noise"] *= float(np.exp(0.35 * own.standard_normal()))
            knocks = tuple(own.uniform(0, 1, 2 + position))
        elif position == 0 or all(other is None for other in state.speeds[:position]):
            speed *= 0.7 + 0.8 * number
        else:  # a second number is a load: more of the upper partials, a rougher run
            partials = partials * (1 + 1.5 * number * own.uniform(0, 1, PARTIALS) * order / 10)
            draw["noise"] *= 1 + 1.2 * number
            draw["knock"] *= 1 + 0.8 * number
            tilt += 3 * number
    unit = np.random.default_rng(seed_of("unit", state.machine, section))
    body = 1.0 if section == "00" else float(np.exp(0.06 * unit.standard_normal()))
    shaft = draw["shaft"] * speed
    return Voice(
        shaft_hz=shaft,
        partials=draw["tone"] * partials / np.linalg.norm(partials),
        noise_gain=draw["noise"],
        tilt=tilt,
        cycle_hz=shaft * draw["cycles"],
        depth=draw["depth"],
        knock_gain=draw["knock"],
        knocks=knocks,
        modes=tuple((float(h) * body, draw["quality"], float(g)) for h, g in zip(hertz, gains, strict=True)),
    )


def vary(voice: Voice, rng: np.random.Generator) -> Voice:
    """Return the voice as one clip has it: no two runs of a machine are quite the same."""
    speed = 1 + 0.012 * rng.standard_normal()
    return replace(
        voice,
        shaft_hz=voice.shaft_hz * speed,
        cycle_hz=voice.cycle_hz * speed,
        partials=voice.partials * np.exp(0.14 * rng.standard_normal(PARTIALS)),
        noise_gain=voice.noise_gain * float(np.exp(0.1 * rng.standard_normal())),
        knock_gain=voice.knock_gain * float(np.exp(0.1 * rng.standard_normal())),
        tilt=voice.tilt + 0.25 * rng.standard_normal(),
    )


def damage(voice: Voice, severity: float, rng: np.random.Generator) -> Voice:
    """Return the voice of a machine with a fault of its kind.

    Args:
        voice: of the sound machine.
        severity: 0 is none, 1 is plain to hear.
        rng: chooses the fault.
    """
    faults = ["whine", "rattle", "friction", "resonance", "instability"]
    if voice.knock_gain >= 0.3:  # an impact that does not happen is heard only where impacts are
        faults += ["missing", "missing"]
    fault = faults[rng.integers(len(faults))]
    if fault == "whine":
        return replace(voice, whine_gain=0.9 * severity, whine_ratio=rng.uniform(8, 90))
    if fault == "rattle":
        return replace(voice, rattle_hz=rng.uniform(4, 14), rattle_gain=0.9 * severity)
    if fault == "friction":
        return replace(voice, noise_gain=voice.noise_gain * (1 + 1.2 * severity), tilt=voice.tilt + 2.5 * severity)
    if fault == "resonance":
        shift = 1 + rng.choice([-1, 1]) * 0.12 * severity
        return replace(
            voice, modes=tuple((hz * shift, quality, gain * (1 + 0.25 * severity)) for hz, quality, gain in voice.modes)
        )
    if fault == "instability":
        return replace(voice, wobble=voice.wobble + 0.08 * severity, shaft_hz=voice.shaft_hz * (1 - 0.1 * severity))
    return replace(voice, missing=0.75 * severity)


def render(voice: Voice, samples: int, rng: np.random.Generator) -> Signal:
    """Sound a voice: (samples,) float32 at 16 kHz, of no set level."""
    size = fft.next_fast_len(samples, real=True)
    frequencies = fft.rfftfreq(size, 1 / SAMPLE_RATE).astype(np.float32)
    turns = _turns(voice, size, rng)
    place = (turns * TABLE).astype(np.int64) % TABLE
    steady = _cycle(voice.partials, rng)[place]
    if voice.whine_gain:
        steady += voice.whine_gain * np.sin(2 * np.pi * voice.whine_ratio * turns, dtype=np.float32)
    cycles = turns * (voice.cycle_hz / voice.shaft_hz) + rng.uniform()
    envelope = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(TABLE) / TABLE)).astype(np.float32) ** 2
    swell = (1 - voice.depth) + 1.6 * voice.depth * envelope[(cycles * TABLE).astype(np.int64) % TABLE]
    steady += voice.noise_gain * swell * white(size, rng, (np.maximum(frequencies, 60) / 1000) ** (voice.tilt / 6.02))
    body, ring = _responses(voice.modes, size)
    spectrum = fft.rfft(steady) * body
    blows = _blows(voice, cycles, size, rng)
    if blows.any():
        spectrum += fft.rfft(blows) * ring
    sound: Signal = fft.irfft(spectrum, size)[:samples]
    return sound


def white(size: int, rng: np.random.Generator, shape: NDArray[np.float32]) -> Signal:
    """Return noise of unit power, coloured by an amplitude a frequency: (size // 2 + 1,) -> (size,)."""
    parts = rng.standard_normal((2, shape.size), dtype=np.float32)
    noise: Signal = fft.irfft((parts[0] + 1j * parts[1]) * shape, size)
    noise /= np.sqrt(np.mean(np.square(noise)))
    return noise


def _turns(voice: Voice, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return how often the shaft has turned at each sample, its speed wandering a few times a second: (size,)."""
    points = max(4, int(4 * size / SAMPLE_RATE))
    wander = np.interp(np.linspace(0, points - 1, size), np.arange(points), rng.standard_normal(points))
    return np.cumsum(voice.shaft_hz * (1 + voice.wobble * wander)) / SAMPLE_RATE + rng.uniform()


def _cycle(partials: NDArray[np.float64], rng: np.random.Generator) -> Signal:
    """Return one turn's waveform, partials at random phases: (TABLE,)."""
    spectrum = np.zeros(TABLE // 2 + 1, dtype=np.complex64)
    spectrum[1 : partials.size + 1] = (
        partials * np.exp(2j * np.pi * rng.uniform(size=partials.size)) * TABLE / np.sqrt(2)
    )
    cycle: Signal = fft.irfft(spectrum, TABLE)
    return cycle


def _responses(modes: tuple[Mode, ...], size: int) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Return the body's response to steady forces, and how it rings after a blow: (size // 2 + 1,) each."""
    frequencies = fft.rfftfreq(size, 1 / SAMPLE_RATE).astype(np.float32)
    ring = np.zeros(frequencies.size, dtype=np.complex64)
    for hertz, quality, gain in modes:
        ratio = frequencies / np.float32(hertz)
        ring += np.float32(gain) * (1j * ratio) / (1 - ratio**2 + 1j * ratio / np.float32(quality))
    body = (1 + 0.5 * ring / modes[0][1] ** 0.5).astype(np.complex64)
    return body, ring.astype(np.complex64)


def _blows(voice: Voice, cycles: NDArray[np.float64], size: int, rng: np.random.Generator) -> Signal:
    """Return the impacts of a clip as pulses: (size,), mostly zeros."""
    blows = np.zeros(size, dtype=np.float32)
    if voice.knock_gain:
        first, last = int(np.floor(cycles[0])), int(np.ceil(cycles[-1]))
        due = (np.arange(first, last)[:, None] + np.array(voice.knocks)).ravel()
        at = np.searchsorted(cycles, due + 0.004 * rng.standard_normal(due.size))
        force = np.exp(0.15 * rng.standard_normal(due.size)) * (rng.uniform(size=due.size) >= voice.missing)
        inside = (at > 0) & (at < size)
        # a blow carries the energy of its share of the cycle, so that slow and fast machines are as loud
        np.add.at(blows, at[inside], voice.knock_gain * force[inside] * (SAMPLE_RATE / voice.cycle_hz / 8) ** 0.5)
    if voice.rattle_gain:
        count = rng.poisson(voice.rattle_hz * size / SAMPLE_RATE)
        at = rng.integers(0, size, count)
        np.add.at(
            blows, at, voice.rattle_gain * rng.exponential(1.0, count) * (SAMPLE_RATE / voice.rattle_hz / 32) ** 0.5
        )
    return blows
