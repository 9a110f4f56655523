"""The bare reference of packing, in a file that imports no more than it needs, as its processes start with it."""

from __future__ import annotations

import soundfile
import soxr

SAMPLE_RATE = 16_000


def read_and_resample(path: str) -> int:
    """Read a file and bring it to 16 kHz."""
    samples, rate = soundfile.read(path, dtype="float32")
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")
    return int(samples.size)
