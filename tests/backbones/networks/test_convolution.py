"""The wide convolution by way of its spectrum, beside the direct one."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from backbones.networks import convolution
from backbones.networks.convolution import by_spectrum, convolve


def inputs(clips, n, dim, groups, width):
    """Return tokens, weights and offsets that learn, and a direction for gradients."""
    chance = torch.Generator().manual_seed(0)
    x, weight, bias, above = (
        torch.randn(shape, generator=chance)
        for shape in ((clips, n, dim), (dim, dim // groups, width), (dim,), (clips, n, dim))
    )
    return x.requires_grad_(), (0.1 * weight).requires_grad_(), bias.requires_grad_(), above


def directly(x, weight, bias, *, groups):
    """The official way: convolve with a padding of half a width, drop what is too much at the end."""
    spread = functional.conv1d(x.transpose(1, 2), weight, bias, padding=weight.shape[2] // 2, groups=groups)
    return spread[:, :, : x.shape[1]].transpose(1, 2)


@pytest.mark.parametrize(
    ("clips", "n", "dim", "groups", "width"),
    [(2, 496, 96, 2, 128), (1, 256, 64, 2, 128), (3, 200, 96, 3, 65), (2, 129, 64, 1, 64)],
)
def test_equals_the_direct_one(clips, n, dim, groups, width):
    """Output and gradients equal the direct convolution's, for even and odd widths and any number of blocks."""
    *leaves, above = inputs(clips, n, dim, groups, width)
    assert convolution._pays(*leaves[:2])
    found = [convolve(*leaves, groups=groups)]
    expected = [directly(*leaves, groups=groups)]
    found += torch.autograd.grad((found[0] * above).sum(), leaves)
    expected += torch.autograd.grad((expected[0] * above).sum(), leaves)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).norm() < 2e-6 * theirs.norm()


@pytest.mark.parametrize(("n", "width"), [(64, 64), (496, 16)], ids=["few tokens", "narrow"])
def test_where_it_does_not_pay(n, width):
    """With few tokens or a narrow convolution it goes the direct way."""
    x, weight, bias, _ = inputs(1, n, 64, 2, width)
    assert torch.equal(convolve(x, weight, bias, groups=2), directly(x, weight, bias, groups=2))


def test_matrix_units_go_the_direct_way(monkeypatch):
    """Where autocast has matrix units to multiply in, the direct convolution is as fast, and takes them."""
    x, weight, _, _ = inputs(1, 200, 64, 2, 64)
    monkeypatch.setattr(convolution, "has_matrix_units", lambda _device: True)
    assert convolution._pays(x, weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not convolution._pays(x, weight)


def test_training_after_embedding():
    """What embedding in inference mode left behind serves training too."""
    convolution._waves.cache_clear()
    x, weight, _, above = inputs(1, 200, 64, 2, 64)
    with torch.inference_mode():
        by_spectrum(x, weight, groups=2)
    (by_spectrum(x, weight, groups=2) * above).sum().backward()
    assert torch.isfinite(weight.grad).all()
