"""Attention with a gated bias: the piecewise one against the one written out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backbones import attention
from backbones.attention import gated_attention
from backbones.noise import Dropout
from backbones.transformer import attend


def written_out(query, key, value, *, bias, gate, hidden):
    """Attention as its definition says, all scores at once."""
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    scores = scores + (bias if gate is None else gate * bias)
    if hidden is not None:
        scores = scores.masked_fill(hidden[:, None, None, :], -torch.inf)
    return scores.softmax(dim=-1) @ value


def inputs(b, h, n, e, *, gated, hides, seed=0):
    """Leaves of a graph: query, key, value, bias and gate; and what is hidden."""
    chance = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(b, n, h, e, generator=chance).transpose(1, 2) for _ in range(3))
    bias, gate = torch.randn(h, n, n, generator=chance), torch.rand(b, h, n, 1, generator=chance) if gated else None
    hidden = torch.arange(n)[None] >= torch.randint(1, n + 1, (b, 1), generator=chance) if hides else None
    leaves = [None if t is None else t.requires_grad_() for t in (query, key, value, bias, gate)]
    return leaves, hidden


def gradients(function, leaves, hidden):
    """Return output and gradients of all leaves that are there."""
    query, key, value, bias, gate = leaves
    out = function(query, key, value, bias=bias, gate=gate, hidden=hidden)
    weights = torch.linspace(0.0, 1.0, out.numel()).view(out.shape)
    return [out, *torch.autograd.grad((out.square() * weights).sum(), [leaf for leaf in leaves if leaf is not None])]


@settings(max_examples=25, deadline=None)
@given(
    b=st.integers(1, 3), h=st.integers(1, 4), n=st.integers(2, 17), e=st.integers(1, 8), gated=st.booleans(),
    hides=st.booleans(), pieces=st.sampled_from([1, 200, 2**20]),
)  # fmt: skip
def test_equals_what_is_written_out(*, b, h, n, e, gated, hides, pieces):
    """Output and every gradient equal those of all scores at once, however many heads a piece has."""
    leaves, hidden = inputs(b, h, n, e, gated=gated, hides=hides)
    before, attention.SCORES_AT_ONCE = attention.SCORES_AT_ONCE, pieces
    try:
        found = gradients(gated_attention, leaves, hidden)
    finally:
        attention.SCORES_AT_ONCE = before
    for ours, expected in zip(found, gradients(written_out, leaves, hidden), strict=True):
        torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("frozen", ["bias", "gate", "neither", "both"])
def test_whatever_is_frozen(frozen):
    """The same comes out whichever of bias and gate learns, and what is frozen gets no gradient."""
    leaves, hidden = inputs(2, 2, 9, 4, gated=True, hides=True)
    query, key, value, bias, gate = leaves
    bias.requires_grad_(frozen in ("gate", "neither"))
    gate.requires_grad_(frozen in ("bias", "neither"))
    out = attend(query, key, value, bias=bias, gate=gate, hidden=hidden, dropout=Dropout(0.0))
    out.square().sum().backward()
    expected = written_out(query, key, value, bias=bias, gate=gate, hidden=hidden)
    torch.testing.assert_close(out, expected, atol=2e-5, rtol=1e-4)
    assert (bias.grad is None) != bias.requires_grad and (gate.grad is None) != gate.requires_grad
    assert torch.isfinite(query.grad).all()


def test_bfloat16():
    """In bfloat16 output and gradients keep their types and come within 2 % of float32's."""
    leaves, hidden = inputs(2, 3, 33, 16, gated=True, hides=False)
    exact = gradients(gated_attention, leaves, hidden)
    rough = [leaf.detach().to(torch.bfloat16).requires_grad_() for leaf in leaves[:3]]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(gated_attention, [*rough, *leaves[3:]], hidden)
    assert [each.dtype for each in found] == [torch.bfloat16] * 4 + [torch.float32] * 2
    for ours, expected in zip(found, exact, strict=True):
        assert (ours.float() - expected).norm() < 0.02 * expected.norm()
