"""The layers of BEATs: gated relative positions, deep norm, the position convolution; and their configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from backbones.contract import BackboneError
from backbones.networks.attention import PositionBias, spread_offsets
from backbones.networks.convolution import convolve
from backbones.networks.noise import Dropout, drops_layer
from backbones.networks.transformer import ACTIVATIONS, attend, join_heads, split_heads


@dataclass(frozen=True)
class BeatsConfig:
    """What a checkpoint's `cfg` can say; names and meanings are the official ones.

    The defaults are those of the official configuration class and hold where a file leaves a key out. A new model
    takes the values that the released files agree on, `RELEASED`.
    """

    input_patch_size: int = 16  # frames and mel bins
    embed_dim: int = 512  # channels of the patch embedding
    conv_bias: bool = False
    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    activation_fn: str = "gelu"
    layer_wise_gradient_decay_ratio: float = 1.0
    layer_norm_first: bool = False
    deep_norm: bool = False
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0
    encoder_layerdrop: float = 0.0
    dropout_input: float = 0.0
    conv_pos: int = 128  # width of the position convolution in tokens
    conv_pos_groups: int = 16
    relative_position_embedding: bool = False
    num_buckets: int = 320
    max_distance: int = 1280  # tokens
    gru_rel_pos: bool = False
    finetuned_model: bool = False
    predictor_dropout: float = 0.1
    predictor_class: int = 527
    fbank_mean: float = 15.41663  # of log-mel features; microsoft/unilm:beats/BEATs.py, preprocess
    fbank_std: float = 6.55582


RELEASED = {  # the configuration in the released checkpoints, see BEATs_iter3_plus_AS2M.pt
    "deep_norm": True,
    "relative_position_embedding": True,
    "max_distance": 800,
    "gru_rel_pos": True,
    "encoder_layerdrop": 0.05,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}


def relative_buckets(length: int, *, buckets: int, max_distance: int, device: torch.device) -> Tensor:
    """Number the buckets of all offsets from key to query, T5's way (Raffel et al., 2020), both directions.

    Half of the buckets are for keys after the query; of each half, the first half is one bucket an offset and the
    rest grows with the logarithm up to `max_distance`.

    Args:
        length: tokens n.
        buckets: in all.
        max_distance: offset from which on all share the last bucket.
        device: of the result.

    Returns:
        (2 n - 1,) bucket of offset key - query = -(n - 1) .. n - 1.
    """
    offsets = torch.arange(-(length - 1), length, device=device)
    a_side = buckets // 2
    exact = a_side // 2
    distance = offsets.abs()
    # In float32, as the official code does it, so that offsets on a border fall on the same side.
    octaves = torch.log(distance.float().clamp(min=1.0) / exact) / math.log(max_distance / exact)
    far = (exact + (octaves * (a_side - exact)).long()).clamp(max=a_side - 1)
    return torch.where(distance < exact, distance, far) + (offsets > 0) * a_side


def relative_bias(table: Tensor, length: int, *, max_distance: int) -> PositionBias:
    """Look a table of biases up for all offsets between so many tokens: (buckets, h) -> (h, n, n), [query, key]."""
    numbers = relative_buckets(length, buckets=len(table), max_distance=max_distance, device=table.device)
    return spread_offsets(functional.embedding(numbers, table).t(), dtype=product_type(table))


def product_type(values: Tensor) -> torch.dtype:
    """Return the type in which autocast, where it is on, would multiply these values."""
    device = values.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else values.dtype


class SelfAttention(nn.Module):
    """Self-attention with separate projections and, if asked for, a gated relative position bias.

    Attributes:
        heads: number of heads h.
        gated: whether every query scales its biases (gated relative position bias, Chi et al., 2022).
        relative_attention_bias: the table of biases, shared between layers; None without relative positions.
    """

    def __init__(self, dim: int, heads: int, *, dropout: float, gated: bool, table: nn.Embedding | None) -> None:
        super().__init__()
        if dim % heads:
            raise BackboneError(f"The embedding size must be a multiple of the heads, but got {dim} and {heads} heads.")
        self.heads = heads
        self.gated = gated
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)
        self.relative_attention_bias = table
        if gated:
            self.grep_linear = nn.Linear(dim // heads, 8)
            self.grep_a = nn.Parameter(torch.empty(1, heads, 1, 1))

    def forward(self, x: Tensor, *, bias: PositionBias | None, hidden: Tensor | None) -> Tensor:
        """Attend among tokens: x (b, n, d), bias (h, n, n), hidden (b, n) True = no key -> (b, n, d)."""
        x = x.to(product_type(x))  # once; autocast would do it for each of the three, and back in the backward pass
        query, key, value = (split_heads(map_(x), self.heads) for map_ in (self.q_proj, self.k_proj, self.v_proj))
        gate = self.gate(query) if bias is not None and self.gated else None
        attended = attend(query, key, value, bias=bias, gate=gate, hidden=hidden, dropout=self.dropout)
        mapped: Tensor = self.out_proj(join_heads(attended))
        return mapped

    def gate(self, query: Tensor) -> Tensor:
        """Return the factor on each query's biases: (b, h, n, e) -> (b, h, n, 1)."""
        # The official code adds up groups of 4 of the 8 outputs; adding up the weights first gives the same sums.
        weight = self.grep_linear.weight.view(2, 4, -1).sum(1)
        offset = self.grep_linear.bias.view(2, 4).sum(1)
        reset, update = torch.sigmoid(functional.linear(query, weight, offset)).chunk(2, dim=-1)
        factor: Tensor = reset * (update * self.grep_a - 1.0) + 2.0
        return factor


class GatedLinear(nn.Module):
    """Linear map gated by a second one, y * swish(z); the official `fc1` when the activation is "glu"."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, n, d) -> (b, n, out)."""
        value, gate = self.linear(x).chunk(2, dim=-1)
        gated: Tensor = value * functional.silu(gate)
        return gated


class PositionConv(nn.Module):
    """Grouped convolution along the tokens, its weight normalised per tap (weight_norm with dim=2)."""

    def __init__(self, dim: int, width: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.bias = nn.Parameter(torch.empty(dim))
        self.weight_g = nn.Parameter(torch.empty(1, 1, width))
        self.weight_v = nn.Parameter(torch.empty(dim, dim // groups, width))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, same length: (b, n, d) -> (b, n, d)."""
        norms = self.weight_v.square().sum(dim=(0, 1), keepdim=True).sqrt()  # torch.norm takes five times as long
        weight = self.weight_v * (self.weight_g / norms)
        return convolve(x, weight, self.bias, groups=self.groups)


class BeatsLayer(nn.Module):
    """One encoder layer: norms first or last, deep norm (Wang et al., 2022) or not."""

    def __init__(self, config: BeatsConfig, table: nn.Embedding | None) -> None:
        super().__init__()
        dim, hidden = config.encoder_embed_dim, config.encoder_ffn_embed_dim
        self.norm_first = config.layer_norm_first
        self.alpha = (2 * config.encoder_layers) ** 0.25 if config.deep_norm else 1.0
        self.activation = ACTIVATIONS[config.activation_fn]
        self.self_attn = SelfAttention(
            dim,
            config.encoder_attention_heads,
            dropout=config.attention_dropout,
            gated=config.gru_rel_pos,
            table=table,
        )
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.fc1 = GatedLinear(dim, hidden) if config.activation_fn == "glu" else nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.final_layer_norm = nn.LayerNorm(dim)
        self.dropout = Dropout(config.dropout)
        self.activation_dropout = Dropout(config.activation_dropout)

    def forward(self, x: Tensor, *, bias: PositionBias | None, hidden: Tensor | None) -> Tensor:
        """Map tokens: x (b, n, d), bias (h, n, n), hidden (b, n) True = padding -> (b, n, d)."""
        if self.norm_first:
            x = x + self.dropout(self.self_attn(self.self_attn_layer_norm(x), bias=bias, hidden=hidden))
            return x + self.feed_forward(self.final_layer_norm(x))
        attended = self.dropout(self.self_attn(x, bias=bias, hidden=hidden))
        x = self.self_attn_layer_norm(torch.add(attended, x, alpha=self.alpha))
        mapped: Tensor = self.final_layer_norm(torch.add(self.feed_forward(x), x, alpha=self.alpha))
        return mapped

    def feed_forward(self, x: Tensor) -> Tensor:
        """Map each token by itself: (b, n, d) -> (b, n, d)."""
        mapped: Tensor = self.dropout(self.fc2(self.activation_dropout(self.activation(self.fc1(x)))))
        return mapped


class ScaledGradient(torch.autograd.Function):
    """The identity, whose gradient is scaled on its way back."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: float) -> Tensor:
        """Return the values."""
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Scale the gradient of the values; the factor has none."""
        return gradients[0] * ctx.factor, None


def scale_gradient(values: Tensor, factor: float) -> Tensor:
    """Return the values, and scale their gradient on its way back."""
    same: Tensor = ScaledGradient.apply(values, factor)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return same


class BeatsTransformer(nn.Module):
    """Position convolution and the layers, which share one table of relative positions."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        dim = config.encoder_embed_dim
        self.norm_first = config.layer_norm_first
        self.max_distance = config.max_distance
        self.layerdrop = config.encoder_layerdrop
        self.gradient_decay = 1.0
        self.pos_conv = nn.Sequential(PositionConv(dim, config.conv_pos, config.conv_pos_groups), nn.GELU())
        self.layer_norm = nn.LayerNorm(dim)
        self.dropout = Dropout(config.dropout)
        table = None
        if config.relative_position_embedding:
            table = nn.Embedding(config.num_buckets, config.encoder_attention_heads)
        self.layers = nn.ModuleList(BeatsLayer(config, table) for _ in range(config.encoder_layers))

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Encode: x (b, n, d), hidden (b, n) True = padding -> (b, n, d)."""
        if hidden is not None:
            x = x.masked_fill(hidden[..., None], 0.0)
        x = x + self.pos_conv(x)
        if not self.norm_first:
            x = self.layer_norm(x)
        x = self.dropout(x)
        bias = self.position_bias(x.shape[1])
        for layer in self.layers:
            if self.gradient_decay != 1.0:
                x = scale_gradient(x, self.gradient_decay)
            if not drops_layer(self.layerdrop, training=self.training):
                x = layer(x, bias=bias, hidden=hidden)
        return self.layer_norm(x) if self.norm_first else x

    def position_bias(self, length: int) -> PositionBias | None:
        """Return the biases of all pairs of tokens, the same for every layer: (h, n, n)."""
        attention = self.layers[0].self_attn
        assert isinstance(attention, SelfAttention)
        table = attention.relative_attention_bias
        return None if table is None else relative_bias(table.weight, length, max_distance=self.max_distance)
