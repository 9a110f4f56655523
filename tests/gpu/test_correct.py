"""On a GPU every encoder computes what it computes on the CPU, and training is as safe there as here."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones import load_encoder
from backbones.embed import embed
from backbones.networks.attention import can_compile
from backbones.networks.transformer import attending_by
from tests.backbones.conftest import reader, tones
from tests.backbones.hugging_face_models import save_model
from tests.gpu.agreement import (
    SECONDS,
    SIZES,
    Computed,
    cell,
    computed,
    cut_and_resumed,
    farthest,
    farthest_gradient,
    relative,
    tuned,
    whole_gradient,
)

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
FBANK = 2e-3  # on log energies, absolute: sums in another order, near the smallest energies
# Relative errors against the CPU's float32: of embeddings, of the whole gradient, and of a single weight's. The last is
# largest for biases, whose gradient is a sum over all tokens in which most cancels out.
FLOAT32 = (1e-4, 1e-3, 5e-3)
BFLOAT16 = (0.02, 0.1, 0.4)
LEARNED = 1e-3  # on weights after fine-tuning at a rate of 1e-3, two epochs


def check(found: Computed, expected: Computed, most: tuple[float, float, float]) -> None:
    """Assert that embeddings and all gradients are near enough."""
    assert relative(found.vectors, expected.vectors) < most[0]
    error, whose = farthest_gradient(found, expected)
    assert error < most[2], whose
    if expected.gradients:
        assert relative(whole_gradient(found), whole_gradient(expected)) < most[1]


@pytest.mark.parametrize("name", SIZES)
def test_front_end(gpu: torch.device, exact: None, name: str) -> None:
    """Log-mel features are those of the CPU within 0.002."""
    encoder = load_encoder(name, **SIZES[name])
    clips = tones(4, seconds=SECONDS)
    torch.testing.assert_close(
        encoder.to(gpu).fbank(clips.to(gpu)).cpu(), encoder.to(CPU).fbank(clips), atol=FBANK, rtol=0
    )


@pytest.mark.parametrize("name", SIZES)
def test_every_encoder_in_float32(gpu: torch.device, exact: None, name: str) -> None:
    """Embeddings agree within 1e-4, the gradient within 1e-3 and that of every weight within 5e-3 of their lengths."""
    encoder = load_encoder(name, **SIZES[name])
    expected = computed(encoder, CPU)
    check(computed(encoder, gpu), expected, FLOAT32)


@pytest.mark.parametrize("name", [name for name in SIZES if name != "logmel"])
def test_every_encoder_in_bfloat16(gpu: torch.device, name: str) -> None:
    """In bfloat16 embeddings are within 2 % of the CPU's float32, and the gradient within 10 %."""
    encoder = load_encoder(name, **SIZES[name])
    expected = computed(encoder, CPU)
    check(computed(encoder, gpu, precision="bfloat16"), expected, BFLOAT16)


@pytest.mark.parametrize("kind", ["ast", "wav2vec2"])
def test_models_of_transformers(gpu: torch.device, exact: None, kind: str, tmp_path: Path) -> None:
    """An encoder saved by transformers embeds on the GPU as on the CPU."""
    encoder = load_encoder("hf", weights=save_model(kind, tmp_path / kind))
    clips = tones(4, seconds=SECONDS)
    expected, found = (torch.from_numpy(embed(encoder, reader(clips), 4, device=device)) for device in (CPU, gpu))
    assert relative(found, expected) < FLOAT32[0]


@pytest.mark.parametrize("name", ["beats", "audiomae"])
def test_full_size(gpu: torch.device, exact: None, name: str) -> None:
    """The encoders at the paper's size embed 3 s clips as on the CPU."""
    encoder = load_encoder(name)
    clips = tones(2, seconds=SECONDS)
    expected, found = (torch.from_numpy(embed(encoder, reader(clips), 2, device=device)) for device in (CPU, gpu))
    assert relative(found, expected) < FLOAT32[0]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_ways_of_attention(gpu: torch.device, exact: None, precision: str) -> None:
    """FlexAttention, torch's kernel with a bias of all pairs and the written-out one agree, gradients included."""
    if not can_compile():
        pytest.skip("FlexAttention's kernels need Triton and a C compiler, and one of them is missing")
    encoder = load_encoder("beats", **SIZES["beats"])
    fused = computed(encoder, gpu, precision=precision, way="fused")
    for way in ("flex", "piecewise"):
        check(
            computed(encoder, gpu, precision=precision, way=way), fused, FLOAT32 if precision == "float32" else BFLOAT16
        )


def test_padding_by_flex_attention(gpu: torch.device, exact: None) -> None:
    """Padding is hidden from FlexAttention as it is on the CPU, for a batch of any size and length."""
    if not can_compile():
        pytest.skip("FlexAttention's kernels need Triton and a C compiler, and one of them is missing")
    encoder = load_encoder("beats", **SIZES["beats"])
    for clips, seconds in ((3, 3.0), (5, 4.0), (1, 3.0)):
        fbank = encoder.to(CPU).fbank(tones(clips, seconds=seconds))
        padding = torch.arange(fbank.shape[1])[None] >= torch.linspace(fbank.shape[1], 160, clips)[:, None]
        with torch.no_grad():
            expected = encoder.tokens(fbank, padding)
            with attending_by("flex"):
                found = encoder.to(gpu).tokens(fbank.to(gpu), padding.to(gpu)).cpu()
        shown = ~encoder.token_mask(padding, expected.shape[1])
        assert relative(found[shown], expected[shown]) < FLOAT32[0]


@pytest.mark.parametrize("name", ["beats", "audiomae", "tiny"])
def test_fine_tuning(gpu: torch.device, exact: None, name: str) -> None:
    """Two epochs in float32 end with the weights of the CPU within 0.001, which learned more than that."""
    expected = tuned(name, CPU)
    assert farthest(expected, load_encoder(name, **SIZES[name])) > LEARNED
    assert farthest(tuned(name, gpu), expected) < LEARNED


def test_micro_batch_found_by_memory(gpu: torch.device, exact: None, caplog: pytest.LogCaptureFixture) -> None:
    """Where memory does not suffice for a batch it is halved until it does, and the weights are those of small ones."""
    expected = tuned("beats", gpu, clips=64, batch_size=64, micro_batch=4, epochs=1)
    whole = torch.cuda.mem_get_info(gpu)[1]
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(gpu)
    tuned("beats", gpu, clips=64, batch_size=64, micro_batch=64, epochs=1)
    peak = torch.cuda.max_memory_reserved(gpu)
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction(0.5 * peak / whole)
        with caplog.at_level(logging.INFO, logger="backbones.memory"):
            found = tuned("beats", gpu, clips=64, batch_size=64, micro_batch=None, epochs=1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "memory does not suffice" in caplog.text
    assert farthest(found, expected) < LEARNED


def test_embedding_answers_memory_that_does_not_suffice(gpu: torch.device) -> None:
    """Embedding goes on with fewer clips at once where memory runs out, and gives what it gives with room."""
    encoder = load_encoder("audiomae", **SIZES["audiomae"])
    clips = tones(256, seconds=1.0)
    expected = embed(encoder, reader(clips), 256, device=gpu)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(gpu)
    embed(encoder, reader(clips), 256, device=gpu)
    peak, whole = torch.cuda.max_memory_reserved(gpu), torch.cuda.mem_get_info(gpu)[1]
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction(0.6 * peak / whole)
        found = embed(encoder, reader(clips), 256, device=gpu)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_resumed_from_a_checkpoint(gpu: torch.device, exact: None, tmp_path: Path) -> None:
    """A run that was stopped and goes on ends with the weights of one that was not, as near as two runs are."""
    assert farthest(cut_and_resumed("beats", gpu, tmp_path), tuned("beats", gpu, epochs=3)) < LEARNED


def test_determinism(gpu: torch.device, exact: None) -> None:
    """Two embeddings are the same bit for bit; two trainings nearly so, and how nearly is printed."""
    encoder = load_encoder("beats", **SIZES["beats"])
    one, two = (embed(encoder, reader(tones(4, seconds=SECONDS)), 4, device=gpu) for _ in range(2))
    assert np.array_equal(one, two)
    differs = farthest(tuned("beats", gpu), tuned("beats", gpu))
    print(f"\ntwo trainings of one seed on this GPU differ by at most {differs:.2g}")  # noqa: T201
    assert differs < LEARNED


def remote_cell(m: int) -> tuple[float, str, int]:
    """Run a cell in a worker; return its AUC, the GPUs that it may see, and how many it sees."""
    return cell(m, torch.device("cuda")), os.environ.get("CUDA_VISIBLE_DEVICES", ""), torch.cuda.device_count()


def test_a_study_on_shares_of_a_gpu(gpu: torch.device) -> None:
    """Cells of a study on halves of a GPU, two at a time under Ray, measure what they measure here."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    here = [cell(m, gpu) for m in (1, 2, 3)]
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        run = ray.remote(num_cpus=1, num_gpus=0.5, max_retries=0)(remote_cell)
        there = ray.get([run.remote(m) for m in (1, 2, 3)])
    finally:
        ray.shutdown()
    assert [seen for _, _, seen in there] == [1, 1, 1]
    assert all(visible for _, visible, _ in there)
    assert [found for found, _, _ in there] == pytest.approx(here, abs=0.02)
