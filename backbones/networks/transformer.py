"""What the Transformer encoders share: attention, activations, the vision Transformer's block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from backbones.contract import BackboneError
from backbones.memory import has_matrix_units
from backbones.networks.attention import PositionBias, can_flex, flex_attention, piecewise_attention
from backbones.networks.noise import Dropout

Activation = Callable[[Tensor], Tensor]
Way: TypeAlias = Literal["flex", "piecewise", "fused"]

_asked: ContextVar[Way | None] = ContextVar("backbones_attention", default=None)


def _same(values: Tensor) -> Tensor:
    return values


ACTIVATIONS: dict[str, Activation] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_accurate": partial(functional.gelu, approximate="tanh"),
    "gelu_fast": partial(functional.gelu, approximate="tanh"),  # microsoft/unilm:beats/modules.py, its older name
    "tanh": torch.tanh,
    "linear": _same,
    "glu": _same,  # the gate sits in the first linear map, see beats_layers.GatedLinear
}


def split_heads(values: Tensor, heads: int) -> Tensor:
    """Split channels into heads: (b, n, d) -> (b, heads, n, d / heads)."""
    b, n, d = values.shape
    return values.view(b, n, heads, d // heads).transpose(1, 2)


def join_heads(values: Tensor) -> Tensor:
    """Undo `split_heads`: (b, heads, n, e) -> (b, n, heads * e)."""
    return values.transpose(1, 2).flatten(2)


@contextmanager
def attending_by(way: Way) -> Iterator[None]:
    """Let attention without dropout be computed in a certain way within a `with` block, to compare ways.

    Args:
        way: "flex" is FlexAttention, which needs a bias; "piecewise" is written out for a few heads at a time; "fused"
            is torch's kernel, which is given the biases of all pairs of all clips.
    """
    token = _asked.set(way)
    try:
        yield
    finally:
        _asked.reset(token)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    dropout: Dropout,
    bias: PositionBias | None = None,
    gate: Tensor | None = None,
    hidden: Tensor | None = None,
) -> Tensor:
    """Attend: softmax(query key' / sqrt(e) + gate * bias) value.

    Args:
        query: (b, h, n, e).
        key: (b, h, n, e).
        value: (b, h, n, e).
        dropout: of the attention weights.
        bias: (h, n, n) added to the scaled scores.
        gate: (b, h, n, 1) factor on each query's biases; None is 1.
        hidden: (b, n) True where a key takes no part; some key of a clip must.

    Returns:
        (b, h, n, e).
    """
    keys = None if hidden is None else hidden[:, None, None, :]  # (b, 1, 1, n)
    dropping = dropout.training and dropout.probability > 0.0
    way = _way(query, bias, gate)
    if not dropping and way == "flex" and bias is not None:
        return flex_attention(query, key, value, bias=bias, gate=gate, hidden=hidden)
    if not dropping and way == "piecewise":
        return piecewise_attention(query, key, value, bias=bias, gate=gate, hidden=hidden)
    pairs = None if bias is None else bias.pairs
    if not dropping:
        mask = _additive_mask(pairs, gate, keys, dtype=query.dtype)
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-2, -1))
    if pairs is not None:
        pairs = pairs.to(scores.dtype)
        scores = scores + pairs if gate is None else torch.addcmul(scores, gate.to(scores.dtype), pairs)
    if keys is not None:
        scores = scores.masked_fill(keys, -math.inf)
    weights = torch.softmax(scores, dim=-1)
    return torch.matmul(dropout(weights).to(value.dtype), value)


def _way(query: Tensor, bias: PositionBias | None, gate: Tensor | None) -> Way:
    """Return the way that was asked for, else the one that takes the least on the device; always the same for equals.

    On a GPU with a bias that is FlexAttention wherever it can be had: torch's kernel would be given gate * bias of all
    clips, 360 MiB a layer for 64 clips of 10 s in bfloat16, and as much for its gradient.
    """
    asked = _asked.get()
    if asked is not None:
        return asked
    if can_flex(query, bias, gate):
        return "flex"
    return "piecewise" if _is_piecewise(query, bias, gate) else "fused"


def _is_piecewise(query: Tensor, bias: PositionBias | None, gate: Tensor | None) -> bool:
    """Tell whether attention that is written out beats torch's fused kernel, which on GPUs it never does.

    On a CPU, the fused kernel has no gradient of the bias, and its fallback is half as fast. In bfloat16 without matrix
    units it computes in float32 and takes twice as long.
    """
    if query.device.type != "cpu":
        return False
    if query.dtype == torch.bfloat16 and not has_matrix_units(query.device):
        return True
    learning = [] if bias is None else [bias.offsets, *([] if gate is None else [gate])]
    return torch.is_grad_enabled() and any(each.requires_grad for each in learning)


def _additive_mask(
    pairs: Tensor | None, gate: Tensor | None, keys: Tensor | None, *, dtype: torch.dtype
) -> Tensor | None:
    if pairs is None:
        return None if keys is None else ~keys
    mask = (pairs if gate is None else gate * pairs).to(dtype)
    return mask if keys is None else mask.masked_fill(keys, -math.inf)


class BlockMlp(nn.Module):
    """The two linear maps of a vision Transformer's block, with GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, n, d) -> (b, n, d)."""
        mapped: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return mapped


class BlockAttention(nn.Module):
    """Self-attention of a vision Transformer's block: one projection for query, key and value."""

    def __init__(self, dim: int, heads: int, *, qkv_bias: bool) -> None:
        super().__init__()
        if dim % heads:
            raise BackboneError(f"The embedding size must be a multiple of the heads, but got {dim} and {heads} heads.")
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.dropout = Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Attend among tokens: (b, n, d) -> (b, n, d)."""
        query, key, value = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        attended: Tensor = self.proj(join_heads(attend(query, key, value, dropout=self.dropout)))
        return attended


class Block(nn.Module):
    """A vision Transformer's pre-norm block (Dosovitskiy et al., 2021), with stochastic depth."""

    def __init__(self, dim: int, heads: int, *, hidden: int, qkv_bias: bool = True, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = BlockAttention(dim, heads, qkv_bias=qkv_bias)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = BlockMlp(dim, hidden)
        self.drop_path = Dropout(drop_path, whole=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, n, d) -> (b, n, d)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        mapped: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return mapped
