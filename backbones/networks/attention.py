"""Attention with a gated position bias, in two ways that never hold the biases of all clips at once.

On a CPU it is written out for a few heads at a time, in both directions. On a GPU torch's FlexAttention makes one
kernel of it, in which the bias of a pair of tokens is looked up where its score is.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PIECE_BYTES = 2**20  # of scores, for each thread: what stays in a core's cache while several passes go over it
FLEX_TOKENS = 128  # below it torch takes another kernel, and the biases of all pairs are few
FLEX_HEAD = 16  # numbers of a head, the fewest that FlexAttention's kernels take


@dataclass(frozen=True)
class PositionBias:
    """What is added to the scores of all pairs of tokens, by their offset.

    Attributes:
        offsets: (h, 2 n - 1) for offsets key - query = -(n - 1) .. n - 1.
        pairs: (h, n, n) the same for each pair, [query, key]; its gradient reaches the offsets too.
    """

    offsets: Tensor
    pairs: Tensor


def spread_offsets(offsets: Tensor, *, dtype: torch.dtype | None = None) -> PositionBias:
    """Spread biases over all pairs of tokens: (h, 2 n - 1) -> (h, n, n).

    The n windows of n values are taken, which in the backward pass adds up along diagonals instead of scattering n * n
    numbers.

    Args:
        offsets: from the farthest key before a query to the farthest after it.
        dtype: of the pairs; None is the offsets' own.
    """
    length = (offsets.shape[1] + 1) // 2
    return PositionBias(offsets, offsets.to(dtype or offsets.dtype).unfold(1, length, 1).flip(1).contiguous())


class PiecewiseAttention(torch.autograd.Function):
    """softmax(query key' / sqrt(e) + gate * bias) value, written out for a few heads of one clip at a time.

    All is computed in the type of the inputs; products and sums are rounded once, at their end. Of the scores nothing
    is kept but the weights, and these only for a backward pass.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 - torch passes them by position
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        offsets: Tensor | None,
        pairs: Tensor | None,
        gate: Tensor | None,
        hidden: Tensor | None,
        keep: bool,
    ) -> Tensor:
        """Attend; shapes are those of `transformer.attend`, `keep` says whether a backward pass follows."""
        del offsets  # the pairs say the same; only the gradient goes to them
        shape, dtype = query.shape, query.dtype
        n, e = shape[2:]
        gate_dtype = None if gate is None else gate.dtype
        query, key, value = _flat(query * e**-0.5), _flat(key), _flat(value)  # (b * h, n, e)
        pairs = None if pairs is None else pairs.detach().to(dtype).contiguous()  # else bfloat16 products crawl
        gate = None if gate is None else _flat(gate.to(dtype))  # (b * h, n, 1)
        attended = torch.empty_like(value)
        kept = value.new_empty((len(query), n, n)) if keep else None
        with torch.autocast(query.device.type, enabled=False):
            for clip, heads, rows in _pieces(shape, dtype):
                scores = _scores(query[rows], key[rows], pairs, gate, heads=heads, rows=rows)
                if hidden is not None:
                    scores.masked_fill_(hidden[clip], -math.inf)
                weights = torch.softmax(scores, dim=-1, out=None if kept is None else kept[rows])
                torch.bmm(weights, value[rows], out=attended[rows])
        ctx.save_for_backward(query, key, value, pairs, gate, kept)
        ctx.shape, ctx.gate_dtype = shape, gate_dtype
        return attended.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of query, key, value, the biases by offset, and gate."""
        query, key, value, pairs, gate, kept = ctx.saved_tensors
        n, e = query.shape[1:]
        above = _flat(gradients[0].to(value.dtype))
        of_query, of_key, of_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        of_offsets = of_gate = None
        if ctx.needs_input_grad[3]:
            of_offsets = torch.zeros((ctx.shape[1], 2 * n - 1), dtype=torch.float32, device=query.device)
        if gate is not None and ctx.needs_input_grad[5]:
            of_gate = torch.empty_like(gate)
        diagonals = _Diagonals(query) if of_offsets is not None else None
        with torch.autocast(query.device.type, enabled=False):
            for _, heads, rows in _pieces(ctx.shape, query.dtype):
                weights = kept[rows]  # (p, n, n)
                torch.bmm(weights.transpose(1, 2), above[rows], out=of_value[rows])
                of_weights = torch.bmm(above[rows], value[rows].transpose(1, 2))
                of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
                if diagonals is not None and of_offsets is not None:
                    of_offsets[heads] += diagonals.sums(of_scores, None if gate is None else gate[rows])
                if of_gate is not None:
                    torch.mul(of_scores, pairs[heads], out=of_weights)  # it is not needed any more
                    torch.sum(of_weights, dim=-1, keepdim=True, out=of_gate[rows])
                torch.bmm(of_scores, key[rows], out=of_query[rows])
                torch.bmm(of_scores.transpose(1, 2), query[rows], out=of_key[rows])
        of_query *= e**-0.5
        return (
            of_query.view(ctx.shape),
            of_key.view(ctx.shape),
            of_value.view(ctx.shape),
            of_offsets,
            None,
            None if of_gate is None else of_gate.view(*ctx.shape[:3], 1).to(ctx.gate_dtype),
            None,
            None,
        )


class _Diagonals:
    """Sums along the diagonals of (p, n, n) scores, by writing them into a sheet where diagonals are columns."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._sheet = like.new_zeros(0)

    def sums(self, scores: Tensor, gate: Tensor | None) -> Tensor:
        """Add up scores times gate by offset: (p, n, n) [, (p, n, 1)] -> (p, 2 n - 1) float32."""
        p, n, _ = scores.shape
        if len(self._sheet) != p:  # what lies beside the scores is never written and stays 0
            self._sheet = self._like.new_zeros((p, n, 2 * n - 1))
        # In row i of the sheet, key j stands in column j - i + n - 1.
        place = self._sheet.as_strided((p, n, n), (n * (2 * n - 1), 2 * n - 2, 1), n - 1)
        if gate is None:
            place.copy_(scores)
        else:
            torch.mul(scores, gate, out=place)
        return self._sheet.sum(dim=1).float()


def piecewise_attention(
    query: Tensor, key: Tensor, value: Tensor, *, bias: PositionBias | None, gate: Tensor | None, hidden: Tensor | None
) -> Tensor:
    """Attend, piece by piece; arguments and result are those of `transformer.attend`."""
    offsets, pairs = (None, None) if bias is None else (bias.offsets, bias.pairs)
    inputs = (query, key, value, offsets, gate)
    keep = torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in inputs)
    attended: Tensor = PiecewiseAttention.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
        query, key, value, offsets, pairs, gate if bias is not None else None, hidden, keep
    )
    return attended


def _flat(values: Tensor) -> Tensor:
    """Put clips and heads on one axis: (b, h, n, x) -> (b * h, n, x), contiguous."""
    return values.contiguous().flatten(0, 1)


def _pieces(shape: torch.Size, dtype: torch.dtype) -> Iterator[tuple[int, slice, slice]]:
    """Cut (b, h, n, e) into runs of heads of one clip whose scores stay in the cache: clip, heads, rows of (b * h)."""
    clips, heads, n, _ = shape
    at_once = max(1, torch.get_num_threads() * PIECE_BYTES // (n * n * dtype.itemsize))
    for clip in range(clips):
        for first in range(0, heads, at_once):
            end = min(first + at_once, heads)
            yield clip, slice(first, end), slice(clip * heads + first, clip * heads + end)


def _scores(
    query: Tensor, key: Tensor, pairs: Tensor | None, gate: Tensor | None, *, heads: slice, rows: slice
) -> Tensor:
    """Return the scores of some heads of a clip: (p, n, e), (p, n, e) -> (p, n, n)."""
    if pairs is None:
        return torch.bmm(query, key.transpose(1, 2))
    if gate is None:
        return torch.baddbmm(pairs[heads], query, key.transpose(1, 2))
    return (pairs[heads] * gate[rows]).baddbmm_(query, key.transpose(1, 2))


def flex_attention(
    query: Tensor, key: Tensor, value: Tensor, *, bias: PositionBias, gate: Tensor | None, hidden: Tensor | None
) -> Tensor:
    """Attend by FlexAttention; arguments and result are those of `transformer.attend`.

    On a GPU it is compiled at its first use, which takes some seconds, and anew for other types and for a batch of one;
    batch and length are free. There the gradients of bias and gate are added up by many threads in an order that
    differs from run to run, so their last digits do. On a CPU torch computes it uncompiled and without gradients of
    query, key and value: that is for tests.
    """
    run = _compiled() if query.device.type == "cuda" else _flex
    key, value = key.to(query.dtype), value.to(query.dtype)
    gates = None if gate is None else gate.squeeze(3).contiguous()
    with torch.autocast(query.device.type, enabled=False):
        return run(query, key, value, offsets=bias.offsets.contiguous(), gate=gates, hidden=hidden)


def can_flex(query: Tensor, bias: PositionBias | None, gate: Tensor | None) -> bool:
    """Tell whether FlexAttention has a kernel for these: on a GPU, with a bias, and a compiler to make it with.

    Where torch is told to be deterministic, it does not serve biases that learn.
    """
    if bias is None or query.device.type != "cuda" or query.shape[2] < FLEX_TOKENS or query.shape[3] < FLEX_HEAD:
        return False
    learns = bias.offsets.requires_grad or (gate is not None and gate.requires_grad)
    if learns and torch.is_grad_enabled() and torch.are_deterministic_algorithms_enabled():
        return False
    return can_compile()


@lru_cache(maxsize=1)
def can_compile() -> bool:
    """Tell whether kernels can be made here: with Triton, which builds their launchers with a C compiler."""
    compilers = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    return find_spec("triton") is not None and any(name and shutil.which(name) for name in compilers)


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., Tensor]:
    compiled: Callable[..., Tensor] = torch.compile(_flex, dynamic=True, fullgraph=True)
    return compiled


def _flex(
    query: Tensor, key: Tensor, value: Tensor, *, offsets: Tensor, gate: Tensor | None, hidden: Tensor | None
) -> Tensor:
    """Attend: (b, h, n, e) three times, biases (h, 2 n - 1), gate (b, h, n), hidden (b, n) -> (b, h, n, e)."""
    from torch.nn.attention.flex_attention import flex_attention as torch_flex  # noqa: PLC0415  # heavy, GPUs alone

    last = query.shape[2] - 1

    def biased(score: Tensor, clip: Tensor, head: Tensor, at: Tensor, other: Tensor) -> Tensor:
        added = offsets[head, other - at + last]
        if gate is not None:
            added = gate[clip, head, at] * added
        score = score + added
        return score if hidden is None else torch.where(hidden[clip, other], -math.inf, score)

    attended = torch_flex(query, key, value, score_mod=biased)
    assert isinstance(attended, Tensor)
    return attended
