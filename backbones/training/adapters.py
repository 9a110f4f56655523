"""Which part of an encoder learns: all of it, its upper layers, its head alone, or low-rank adapters.

The adapters are our own, since the `peft` library brings transformers and accelerate, and puts its own names in front
of the official ones, by which layers are placed and checkpoints kept.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from backbones.contract import BackboneError, Encoder
from backbones.training.recipe import FinetuneRecipe

ATTENTION = ("attn", "attention")  # one of them is in the name of every attention module
# Its weights are read and not called, see beats_layers.SelfAttention.gate; 8 outputs are of low rank already.
LEFT_OUT = ("grep_linear",)


class LowRankLinear(nn.Linear):
    """A linear map that stays as it is, and a learned map of low rank added to it: W + (alpha / r) up down.

    Source: Hu et al., 2021, LoRA, section 4.1: `up` starts at zero, so that nothing changes at first.

    Attributes:
        lora_down: (r, inputs).
        lora_up: (outputs, r).
    """

    def __init__(self, linear: nn.Linear, *, rank: int, alpha: float, generator: Generator) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.scale = alpha / rank
        down = torch.empty(rank, self.in_features)
        # the authors' own code: uniform, as torch starts a linear map (microsoft/LoRA:loralib/layers.py)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=generator)
        self.lora_down = nn.Parameter(down.to(linear.weight.device))
        self.lora_up = nn.Parameter(torch.zeros(self.out_features, rank, device=linear.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) -> (..., outputs)."""
        added = functional.linear(functional.linear(x, self.lora_down), self.lora_up)
        return functional.linear(x, self.weight, self.bias) + self.scale * added

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return the plain linear map that computes the same."""
        with torch.device("meta"):
            linear = nn.Linear(self.in_features, self.out_features)
        self.weight += self.scale * (self.lora_up @ self.lora_down)
        linear.weight, linear.bias = self.weight, self.bias
        return linear


def choose_what_learns(encoder: Encoder, recipe: FinetuneRecipe, *, seed: int) -> None:
    """Let those parameters learn that the recipe names, adding adapters where it asks for them.

    Args:
        encoder: is changed.
        recipe: its `train`, `freeze_layers`, `lora_rank`, `lora_alpha` and `lora_targets`.
        seed: of the adapters.

    Raises:
        BackboneError: there is no linear map to adapt.
    """
    if recipe.train == "head" or recipe.lora_rank:
        encoder.requires_grad_(False)
    if recipe.lora_rank:
        _add_adapters(encoder, recipe, Generator().manual_seed(seed))
    else:
        for name, parameter in encoder.named_parameters():
            if _is_frozen(encoder, name, recipe):
                parameter.requires_grad_(False)


def merge_adapters(encoder: Encoder) -> None:
    """Put every adapter into the weights that it adapts, so that it costs nothing and every name is official again."""
    for name, module in list(encoder.named_modules()):
        if isinstance(module, LowRankLinear):
            _replace(encoder, name, module.merged())


def _add_adapters(encoder: Encoder, recipe: FinetuneRecipe, generator: Generator) -> None:
    linears = [
        (name, module)
        for name, module in encoder.named_modules()
        # a subclass may be read by fused kernels that never call it
        if type(module) is nn.Linear and _is_adapted(encoder, name, module, recipe)
    ]
    if not linears:
        raise BackboneError(
            f"lora_rank needs linear maps that are wider than {recipe.lora_rank} in the layers that learn, but "
            f'{type(encoder).__name__} has none there; lower it, or take lora_targets="all" or lora_rank 0.'
        )
    for name, module in linears:
        adapted = LowRankLinear(module, rank=recipe.lora_rank, alpha=recipe.lora_alpha, generator=generator)
        _replace(encoder, name, adapted)


def _is_adapted(encoder: Encoder, name: str, module: nn.Linear, recipe: FinetuneRecipe) -> bool:
    wide = min(module.in_features, module.out_features) > recipe.lora_rank
    place = encoder.layer_index(f"{name}.weight")
    in_a_layer = place > 0 or encoder.n_layers == 0
    meant = recipe.lora_targets == "all" or any(part in name for part in ATTENTION)
    fixed = name.startswith("predictor") or name.endswith(LEFT_OUT)
    return wide and in_a_layer and meant and not fixed and not _is_frozen(encoder, f"{name}.weight", recipe)


def _is_frozen(encoder: Encoder, name: str, recipe: FinetuneRecipe) -> bool:
    return recipe.freeze_layers > 0 and encoder.layer_index(name) <= recipe.freeze_layers


def _replace(encoder: Encoder, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(encoder.get_submodule(parent), last, module)
