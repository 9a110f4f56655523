"""Attention with a gated bias: the piecewise one against all scores at once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backbones.networks import attention, transformer
from backbones.networks.attention import can_flex, piecewise_attention, spread_offsets
from backbones.networks.noise import Dropout
from backbones.networks.transformer import attend, attending_by


def written_out(query, key, value, *, bias, gate, hidden):
    """Attention as its definition says, all scores at once."""
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + (bias.pairs if gate is None else gate * bias.pairs)
    if hidden is not None:
        scores = scores.masked_fill(hidden[:, None, None, :], -torch.inf)
    return scores.softmax(dim=-1) @ value


def inputs(b, h, n, e, *, gated, hides, seed=0):
    """Leaves of a graph: query, key, value, biases by offset and gate; and what is hidden."""
    chance = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(b, n, h, e, generator=chance).transpose(1, 2) for _ in range(3))
    offsets = torch.randn(h, 2 * n - 1, generator=chance)
    gate = torch.rand(b, h, n, 1, generator=chance) if gated else None
    hidden = torch.arange(n)[None] >= torch.randint(1, n + 1, (b, 1), generator=chance) if hides else None
    leaves = [None if t is None else t.requires_grad_() for t in (query, key, value, offsets, gate)]
    return leaves, hidden


def gradients(function, leaves, hidden):
    """Return output and gradients of all leaves that are there."""
    query, key, value, offsets, gate = leaves
    bias = None if offsets is None else spread_offsets(offsets)
    out = function(query, key, value, bias=bias, gate=gate, hidden=hidden)
    weights = torch.linspace(0.0, 1.0, out.numel()).view(out.shape)
    return [out, *torch.autograd.grad((out.square() * weights).sum(), [leaf for leaf in leaves if leaf is not None])]


@settings(max_examples=25, deadline=None)
@given(
    b=st.integers(1, 3), h=st.integers(1, 4), n=st.integers(2, 17), e=st.integers(1, 8), gated=st.booleans(),
    hides=st.booleans(), pieces=st.sampled_from([1, 800, 2**20]),
)  # fmt: skip
def test_equals_what_is_written_out(*, b, h, n, e, gated, hides, pieces):
    """Output and every gradient equal those of all scores at once, however many heads a piece has."""
    leaves, hidden = inputs(b, h, n, e, gated=gated, hides=hides)
    before, attention.PIECE_BYTES = attention.PIECE_BYTES, pieces
    try:
        found = gradients(piecewise_attention, leaves, hidden)
    finally:
        attention.PIECE_BYTES = before
    for ours, expected in zip(found, gradients(written_out, leaves, hidden), strict=True):
        torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("hides", [True, False])
def test_without_a_bias(hides):
    """Without a bias, output and gradients equal those of all scores at once too."""
    leaves, hidden = inputs(2, 3, 9, 4, gated=False, hides=hides)
    leaves[3] = None
    for ours, expected in zip(
        gradients(piecewise_attention, leaves, hidden), gradients(written_out, leaves, hidden), strict=True
    ):
        torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("frozen", ["bias", "gate", "neither", "both"])
def test_whatever_is_frozen(frozen):
    """The same comes out whichever of bias and gate learns, and what is frozen gets no gradient."""
    leaves, hidden = inputs(2, 2, 9, 4, gated=True, hides=True)
    query, key, value, offsets, gate = leaves
    offsets.requires_grad_(frozen in ("gate", "neither"))
    gate.requires_grad_(frozen in ("bias", "neither"))
    bias = spread_offsets(offsets)
    out = attend(query, key, value, bias=bias, gate=gate, hidden=hidden, dropout=Dropout(0.0))
    out.square().sum().backward()
    expected = written_out(query, key, value, bias=bias, gate=gate, hidden=hidden)
    torch.testing.assert_close(out, expected, atol=2e-5, rtol=1e-4)
    assert (offsets.grad is None) != offsets.requires_grad and (gate.grad is None) != gate.requires_grad
    assert torch.isfinite(query.grad).all()


@pytest.mark.parametrize("units", [True, False], ids=["matrix units", "none"])
@pytest.mark.parametrize("biased", [True, False], ids=["biased", "plain"])
def test_either_way_in_bfloat16(monkeypatch, units, biased):
    """Whatever the processor has, attention that only reads its bias comes within 2 % of float32's, in bfloat16."""
    monkeypatch.setattr(transformer, "has_matrix_units", lambda _device: units)
    (query, key, value, offsets, gate), hidden = inputs(2, 3, 33, 16, gated=True, hides=True)
    with torch.no_grad():
        bias = spread_offsets(offsets) if biased else None
        exact = written_out(query, key, value, bias=bias, gate=gate, hidden=hidden)
        query, key, value = (each.to(torch.bfloat16) for each in (query, key, value))
        found = attend(query, key, value, bias=bias, gate=gate, hidden=hidden, dropout=Dropout(0.0))
    assert found.dtype == torch.bfloat16
    assert (found.float() - exact).norm() < 0.02 * exact.norm()


def test_bfloat16():
    """In bfloat16 output and gradients keep their types and come within 2 % of float32's."""
    leaves, hidden = inputs(2, 3, 33, 16, gated=True, hides=False)
    exact = gradients(piecewise_attention, leaves, hidden)
    rough = [leaf.detach().to(torch.bfloat16).requires_grad_() for leaf in leaves[:3]]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(piecewise_attention, [*rough, *leaves[3:]], hidden)
    assert [each.dtype for each in found] == [torch.bfloat16] * 4 + [torch.float32] * 2
    for ours, expected in zip(found, exact, strict=True):
        assert (ours.float() - expected).norm() < 0.02 * expected.norm()


uncompiled = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def by_flex(leaves, hidden, function):
    """Output, and gradients of offsets and gate; on a CPU torch gives those of query, key and value to nobody."""
    query, key, value, offsets, gate = leaves
    query, key, value = (each.detach() for each in (query, key, value))
    out = function(query, key, value, bias=spread_offsets(offsets), gate=gate, hidden=hidden)
    weights = torch.linspace(0.0, 1.0, out.numel()).view(out.shape)
    learned = [offsets] if gate is None else [offsets, gate]
    return [out, *torch.autograd.grad((out.square() * weights).mean(), learned)]


@uncompiled
@pytest.mark.parametrize(
    ("shape", "gated", "hides"),
    [((2, 3, 33, 16), True, True), ((1, 4, 17, 8), False, True), ((3, 2, 8, 5), True, False)],
)
def test_flex_attention_equals_what_is_written_out(shape, gated, hides):
    """FlexAttention's output and its gradients of biases and gate are those of all scores at once, within 1e-5."""
    leaves, hidden = inputs(*shape, gated=gated, hides=hides)

    def flex(*tensors, **others):
        with attending_by("flex"):
            return attend(*tensors, **others, dropout=Dropout(0.0))

    found, expected = (by_flex(leaves, hidden, function) for function in (flex, written_out))
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs.abs().max() > 1e-4  # else nothing was compared
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@uncompiled
def test_flex_attention_in_bfloat16():
    """In bfloat16 under autocast FlexAttention keeps the type, and all comes within 2 % of float32's."""
    leaves, hidden = inputs(2, 3, 33, 16, gated=True, hides=True)
    exact = by_flex(leaves, hidden, written_out)
    rough = [leaf.detach().to(torch.bfloat16) for leaf in leaves[:3]]

    def flex(*tensors, **others):
        with attending_by("flex"), torch.autocast("cpu", dtype=torch.bfloat16):
            return attend(*tensors, **others, dropout=Dropout(0.0))

    found = by_flex([*rough, *leaves[3:]], hidden, flex)
    assert [each.dtype for each in found] == [torch.bfloat16, torch.float32, torch.float32]
    for ours, expected in zip(found, exact, strict=True):
        assert (ours.float() - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize(
    ("device", "n", "e", "biased", "compiler", "expected"),
    [
        ("cuda", 496, 64, True, True, True),
        ("cuda", 496, 64, True, False, False),  # kernels cannot be made
        ("cuda", 496, 64, False, True, False),  # torch's own kernel needs no bias of all pairs
        ("cuda", 496, 8, True, True, False),
        ("cuda", 62, 64, True, True, False),
        ("cpu", 496, 64, True, True, False),
    ],
)
def test_when_flex_attention_is_taken(*, monkeypatch, device, n, e, biased, compiler, expected):
    """FlexAttention is for GPUs, for a bias, for heads and lengths that its kernel takes, where one can be made."""
    monkeypatch.setattr(attention, "can_compile", lambda: compiler)
    query = SimpleNamespace(device=torch.device(device), shape=(2, 3, n, e))
    bias = SimpleNamespace(offsets=torch.zeros(3, 2 * n - 1)) if biased else None
    assert can_flex(query, bias, None) is expected


def test_determinism_is_kept(monkeypatch):
    """Where torch is told to be deterministic, biases that learn do not go through FlexAttention, others still do."""
    monkeypatch.setattr(attention, "can_compile", lambda: True)
    query = SimpleNamespace(device=torch.device("cuda"), shape=(2, 3, 496, 64))
    offsets = torch.zeros(3, 991)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert can_flex(query, SimpleNamespace(offsets=offsets), None)
    assert not can_flex(query, SimpleNamespace(offsets=offsets), torch.ones(2, 3, 496, 1).requires_grad_())
    assert not can_flex(query, SimpleNamespace(offsets=offsets.requires_grad_()), None)
    with torch.no_grad():
        assert can_flex(query, SimpleNamespace(offsets=offsets), None)
