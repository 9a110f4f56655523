"""Attention with a gated position bias that learns, without ever holding all of its scores."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SCORES_AT_ONCE = 2**18  # numbers: what stays in a core's cache while several passes go over it


class GatedAttention(torch.autograd.Function):
    """softmax(query key' / sqrt(e) + gate * bias) value, a few heads of one clip at a time, in both directions.

    The backward pass makes the weights anew instead of keeping them (Dao et al., 2022, section 3.1, without the tiles),
    so that memory is that of the inputs, and adds the biases' gradient up over clips as it goes. Weights are float32
    whatever the inputs are.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 - torch passes them by position
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, gate: Tensor | None, hidden: Tensor | None
    ) -> Tensor:
        """Attend; shapes are those of `transformer.attend`."""
        ctx.save_for_backward(query, key, value, bias, gate, hidden)
        attended = torch.empty_like(value, memory_format=torch.contiguous_format)
        with torch.autocast(query.device.type, enabled=False):
            for clip, heads in _pieces(query):
                weights = _weights(query, key, bias=bias, gate=gate, hidden=hidden, clip=clip, heads=heads)
                torch.matmul(weights.to(value.dtype), value[clip, heads], out=attended[clip, heads])
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of query, key, value, bias and gate."""
        query, key, value, bias, gate, hidden = ctx.saved_tensors
        of_query, of_key, of_value = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (query, key, value))
        of_bias = torch.zeros(bias.shape, dtype=torch.float32, device=bias.device) if ctx.needs_input_grad[3] else None
        learns_gate = gate is not None and ctx.needs_input_grad[4]
        of_gate = torch.empty(gate.shape, dtype=torch.float32, device=gate.device) if learns_gate else None
        scale = query.shape[-1] ** -0.5
        with torch.autocast(query.device.type, enabled=False):
            for clip, heads in _pieces(query):
                weights = _weights(query, key, bias=bias, gate=gate, hidden=hidden, clip=clip, heads=heads)  # (h, n, n)
                above = gradients[0][clip, heads].to(value.dtype)
                of_value[clip, heads] = torch.matmul(weights.to(value.dtype).transpose(-2, -1), above)
                of_weights = torch.matmul(above, value[clip, heads].transpose(-2, -1)).float()
                of_scores = torch._softmax_backward_data(of_weights, weights, -1, torch.float32)
                if of_gate is not None:
                    of_gate[clip, heads] = torch.linalg.vecdot(of_scores, bias[heads].float()).unsqueeze(-1)
                if of_bias is not None and gate is None:
                    of_bias[heads] += of_scores
                elif of_bias is not None:
                    of_bias[heads].addcmul_(of_scores, gate[clip, heads].float())
                small = of_scores.to(query.dtype)
                of_query[clip, heads] = torch.matmul(small, key[clip, heads]) * scale
                of_key[clip, heads] = torch.matmul(small.transpose(-2, -1), query[clip, heads]) * scale
        return (
            of_query,
            of_key,
            of_value,
            None if of_bias is None else of_bias.to(bias.dtype),
            None if of_gate is None else of_gate.to(gate.dtype),
            None,
        )


def gated_attention(
    query: Tensor, key: Tensor, value: Tensor, *, bias: Tensor, gate: Tensor | None, hidden: Tensor | None
) -> Tensor:
    """Attend with a bias that learns; arguments and result are those of `transformer.attend`."""
    attended: Tensor = GatedAttention.apply(query, key, value, bias, gate, hidden)  # type: ignore[no-untyped-call]
    return attended


def _pieces(query: Tensor) -> Iterator[tuple[int, slice]]:
    """Cut (b, h, n, e) into clips and runs of heads whose scores stay in the cache."""
    clips, heads, n, _ = query.shape
    at_once = max(1, SCORES_AT_ONCE // (n * n))
    for clip in range(clips):
        for first in range(0, heads, at_once):
            yield clip, slice(first, min(first + at_once, heads))


def _weights(
    query: Tensor,
    key: Tensor,
    *,
    bias: Tensor,
    gate: Tensor | None,
    hidden: Tensor | None,
    clip: int,
    heads: slice,
) -> Tensor:
    """Return the attention weights of some heads of a clip: (h, n, n) float32."""
    scaled = query[clip, heads] * query.shape[-1] ** -0.5
    scores = torch.matmul(scaled, key[clip, heads].transpose(-2, -1)).float()
    if gate is None:
        scores += bias[heads]
    else:
        scores.addcmul_(gate[clip, heads].float(), bias[heads].float())
    if hidden is not None:
        scores.masked_fill_(hidden[clip], -math.inf)
    return torch.softmax(scores, dim=-1)
