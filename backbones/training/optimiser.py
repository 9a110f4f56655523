"""What the optimiser of training does: which parameters decay, and how the learning rate runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from backbones.contract import BackboneError, Encoder
from backbones.training.recipe import FinetuneRecipe

if TYPE_CHECKING:
    from backbones.training.pretrain import PretrainRecipe  # which imports this file

ADAM_EPS = FinetuneRecipe.adam_eps  # of pre-training, which has no choice of it


def check_recipe(recipe: FinetuneRecipe, encoder: Encoder) -> None:
    """Refuse a recipe that cannot be carried out with this encoder.

    Raises:
        BackboneError: naming the first setting that is out of range.
    """
    layers = encoder.n_layers
    check_settings(
        recipe,
        ("epochs", recipe.epochs >= 0, "0 or more"),
        ("learning_rate", 0 < recipe.learning_rate < math.inf, "above 0"),
        ("gradient_clip", recipe.gradient_clip > 0, "above 0"),
        ("layer_decay", 0 < recipe.layer_decay <= 1, "above 0 and at most 1"),
        ("gradient_decay", 0 < recipe.gradient_decay <= 1, "above 0 and at most 1"),
        ("train", recipe.train in ("all", "head"), "all or head"),
        ("freeze_layers", 0 <= recipe.freeze_layers < max(1, layers), f"0 to {max(0, layers - 1)}, below all layers"),
        ("lora_rank", recipe.lora_rank >= 0, "0 or more"),
        ("lora_alpha", 0 < recipe.lora_alpha < math.inf, "above 0"),
        ("adam_eps", 0 < recipe.adam_eps < 1, "above 0 and below 1"),
        ("decays", recipe.decays in ("matrices", "all"), "matrices or all"),
        ("mixup", 0 <= recipe.mixup < math.inf, "0 or more"),
        ("lora_targets", recipe.lora_targets in ("attention", "all"), "attention or all"),
    )
    if recipe.epochs and not any(True for _ in encoder.parameters()):
        raise BackboneError(
            f"epochs must be 0, since {type(encoder).__name__} has no weights to learn, but got {recipe.epochs}; "
            'score it as a frozen trial, or let a projection learn (train = "projection").'
        )
    if recipe.train == "head" and (recipe.lora_rank or recipe.freeze_layers):
        raise BackboneError(
            'lora_rank and freeze_layers must be 0 with train="head", which leaves the whole encoder as it is, '
            f"but got {recipe.lora_rank} and {recipe.freeze_layers}."
        )
    if recipe.gradient_decay != 1.0 and encoder.gradient_decay is None:
        raise BackboneError(
            f"gradient_decay must be 1, since {type(encoder).__name__} has none, but got {recipe.gradient_decay}; "
            "layer_decay serves every backbone with layers."
        )


def check_settings(recipe: FinetuneRecipe | PretrainRecipe, *more: tuple[str, bool, str]) -> None:
    """Refuse a recipe of which a setting is out of range: of those that every training has, or of others.

    Args:
        recipe: of fine-tuning or pre-training.
        more: a setting's name, whether its rule holds, and the rule: ("epochs", recipe.epochs >= 1, "1 or more").

    Raises:
        BackboneError: naming the first that is.
    """
    rules = (
        ("batch_size", recipe.batch_size >= 1, "1 or more"),
        ("micro_batch", recipe.micro_batch is None or recipe.micro_batch >= 1, "1 or more, or None"),
        ("weight_decay", 0 <= recipe.weight_decay < math.inf, "0 or more"),
        ("warmup_epochs", 0 <= recipe.warmup_epochs < math.inf, "0 or more"),
        ("precision", recipe.precision in ("auto", "float32", "bfloat16"), "auto, float32 or bfloat16"),
    )
    for name, holds, rule in (*rules, *more):
        if not holds:
            raise BackboneError(f"{name} must be {rule}, but got {getattr(recipe, name)!r}.")


@dataclass(frozen=True)
class Schedule:
    """Learning rate by step: a linear rise, then half a cosine down to 0 (paper, section 4.2).

    Attributes:
        peak: learning rate after warm-up.
        warmup: steps of the rise, may be a fraction.
        total: steps in all.
    """

    peak: float
    warmup: float
    total: int

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.peak * min(1.0, (step + 1) / self.warmup)
        done = (step - self.warmup) / max(1.0, self.total - self.warmup)
        return self.peak * 0.5 * (1.0 + math.cos(math.pi * done))


def decays(parameter: nn.Parameter) -> bool:
    """Tell whether weight decay takes hold of a parameter: of a matrix or more, not of a vector."""
    return sum(side > 1 for side in parameter.shape) > 1


def make_optimiser(encoder: Encoder, head: nn.Module, recipe: FinetuneRecipe) -> torch.optim.AdamW:
    """Make AdamW over what learns; each group's "scale" is its factor on the learning rate.

    Unless the recipe says that all decay, vectors do not: biases, norms, class tokens, gates, and whatever else has one
    side longer than 1.
    """
    every = recipe.decays == "all"
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            scale = recipe.layer_decay ** (encoder.n_layers + 1 - encoder.layer_index(name))
            groups.setdefault((scale, every or decays(parameter)), []).append(parameter)
    for parameter in head.parameters():
        groups.setdefault((1.0, every or parameter.ndim > 1), []).append(parameter)
    settings: list[dict[str, Any]] = [
        {"params": parameters, "scale": scale, "weight_decay": recipe.weight_decay if decay else 0.0}
        for (scale, decay), parameters in groups.items()
    ]
    return torch.optim.AdamW(settings, lr=recipe.peak_rate, eps=recipe.adam_eps)


def make_pretraining_optimiser(
    model: nn.Module, *, weight_decay: float, betas: tuple[float, float]
) -> torch.optim.AdamW:
    """Make AdamW over all that learns in pre-training; vectors do not decay."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    settings: list[dict[str, Any]] = [
        {"params": [p for p in learning if decays(p)], "scale": 1.0, "weight_decay": weight_decay},
        {"params": [p for p in learning if not decays(p)], "scale": 1.0, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(settings, betas=betas, eps=ADAM_EPS)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group, each by its own scale."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["scale"]
