"""How fast the front end and BEATs are, beside the reference implementations."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from openbeats.beats_encoder import BeatsEncoder
from torchaudio.compliance import kaldi

from backbones import load_encoder
from backbones.features.log_mel import BEATS_LOG_MEL, log_mel

CLIPS = 16
SAMPLES = 160_000  # 10 s
# Without matrix units (AMX), products in bfloat16 are at most twice as fast as in float32 (AVX-512 BF16), or emulated.
# They are most of a pass in either implementation and equally fast in both, so what differs cannot halve a step.
HAS_AMX = torch.cpu._is_amx_tile_supported()
HAS_BFLOAT16 = HAS_AMX or torch.cpu._is_avx512_bf16_supported()
UNITS = "AMX" if HAS_AMX else "AVX-512 BF16"
REQUIRED = {"forward float32": 1.0, "forward bfloat16": 2.0}
# Of a step two thirds are the same products in both; what is left moves with the machine's memory.
REQUIRED |= {"step float32": 0.9, "step bfloat16": 1.0 if HAS_AMX else 0.9}
BESIDE_FLOAT32 = 3.5 if HAS_AMX else 2.0
EMULATED = "this processor only emulates bfloat16, so the row would say nothing"
MOST_RELATIVE = 0.02  # error of bfloat16 outputs beside float32


def units(precision: str) -> str:
    """Say what the processor has for a precision."""
    return f"bfloat16 ({UNITS})" if precision == "bfloat16" else precision


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets torch's threads, and puts them back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def side_by_side(ours: Callable[[], object], reference: Callable[[], object], *, repeats: int) -> tuple[float, float]:
    """Time two calls in turns, so that a busy neighbour slows both; return each one's median seconds."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for run in range(repeats + 1):
        for call, kept in zip((ours, reference), seconds, strict=True):
            began = time.perf_counter()
            call()
            if run > 0:  # the first is a warm-up
                kept.append(time.perf_counter() - began)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def noise(clips: int) -> torch.Tensor:
    """Return (clips, samples) of noise."""
    return 0.1 * torch.randn(clips, SAMPLES, generator=torch.Generator().manual_seed(0))


def reference_beats(encoder: torch.nn.Module) -> BeatsEncoder:
    """Return openbeats' full-size encoder with the same weights."""
    config = {name: getattr(encoder.config, name) for name in vars(encoder.config)}
    reference = BeatsEncoder(input_size=0, beats_config=config).eval()
    reference.load_state_dict(encoder.state_dict(), strict=False)
    return reference


@pytest.mark.speed
def test_front_end(bench, threads):
    """Log-mel of 10 s clips on one thread is at least 1.5 times as fast as kaldi.fbank clip by clip, and equal."""
    threads(1)
    clips = noise(CLIPS)

    def clip_by_clip() -> torch.Tensor:
        return torch.stack([kaldi.fbank(clip[None] * 2**15, num_mel_bins=128) for clip in clips])

    torch.testing.assert_close(log_mel(clips, BEATS_LOG_MEL), clip_by_clip(), atol=1e-4, rtol=0)
    ours, theirs = side_by_side(lambda: log_mel(clips, BEATS_LOG_MEL), clip_by_clip, repeats=7)
    bench.row("log-mel of a 10 s clip, 1 thread", ours / CLIPS, "torchaudio kaldi.fbank", theirs / CLIPS, 1.5)


@pytest.mark.speed
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_beats_forward(bench, threads, precision):
    """Full-size BEATs encodes features of 10 s clips faster than openbeats with the same weights."""
    if precision == "bfloat16" and not HAS_BFLOAT16:
        bench.skip("BEATs forward of a 10 s clip, bfloat16", EMULATED)
    threads(2)
    encoder = load_encoder("beats")
    reference = reference_beats(encoder)
    fbank = encoder.fbank(noise(2))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        ours, theirs = side_by_side(
            lambda: encoder.tokens(fbank),
            lambda: reference.extract_features(fbank, skip_fbank_extraction=True),
            repeats=3,
        )
    required = REQUIRED[f"forward {precision}"]
    what = f"BEATs forward of a 10 s clip, {units(precision)}, 2 threads"
    bench.row(what, ours / 2, "openbeats", theirs / 2, required)


@pytest.mark.speed
def test_bfloat16_beside_float32(bench, threads):
    """Forward in bfloat16 is within 2 % of float32's outputs, and with AMX 3.5 times as fast as openbeats' float32."""
    threads(2)
    encoder = load_encoder("beats")
    fbank = encoder.fbank(noise(2))

    def ours() -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return encoder.tokens(fbank)

    with torch.inference_mode():
        exact = encoder.tokens(fbank)
        error = ((ours().float() - exact).norm() / exact.norm()).item()
        bench.limit("BEATs in bfloat16 beside float32, relative error", error, MOST_RELATIVE, "")
        if not HAS_BFLOAT16:
            bench.skip("BEATs forward of a 10 s clip, bfloat16 beside float32", EMULATED)
        reference = reference_beats(encoder)
        seconds, theirs = side_by_side(
            ours, lambda: reference.extract_features(fbank, skip_fbank_extraction=True), repeats=3
        )
    what = f"BEATs forward of a 10 s clip, {units('bfloat16')}, 2 threads"
    bench.row(what, seconds / 2, "openbeats in float32", theirs / 2, BESIDE_FLOAT32)


@pytest.mark.speed
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_beats_training_step(bench, threads, precision):
    """Forward and backward of full-size BEATs on 10 s clips is faster than openbeats' with the same weights."""
    if precision == "bfloat16" and not HAS_BFLOAT16:
        bench.skip("BEATs training step of a 10 s clip, bfloat16", EMULATED)
    threads(2)
    encoder = load_encoder("beats", encoder_layerdrop=0.0)
    reference = reference_beats(encoder).train()
    encoder.train()
    fbank = encoder.fbank(noise(2))

    def step(tokens: Callable[[], torch.Tensor]) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            loss = tokens().float().square().mean()
        loss.backward()

    ours, theirs = side_by_side(
        lambda: step(lambda: encoder.tokens(fbank)),
        lambda: step(lambda: reference.extract_features(fbank, skip_fbank_extraction=True)[0]),
        repeats=2,
    )
    required = REQUIRED[f"step {precision}"]
    bench.row(
        f"BEATs training step of a 10 s clip, {units(precision)}, 2 threads",
        ours / 2,
        "openbeats",
        theirs / 2,
        required,
    )
