"""Every number of a recipe at the borders of what it may be, and the schedule and the decay at theirs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from backbones.contract import BackboneError, Encoder, MaskedEncoder
from backbones.training.adapters import choose_what_learns
from backbones.training.finetune import finetune
from backbones.training.optimiser import Schedule, check_recipe, decays, make_optimiser, make_pretraining_optimiser
from backbones.training.pretrain import PretrainRecipe, check_pretrain_recipe, pretrain
from backbones.training.recipe import FinetuneRecipe
from tests.backbones.conftest import reader


class Layered(Encoder):
    """Three layers and a stem, with attention and a gate in each."""

    gradient_decay = 1.0

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.dim, self.n_layers = 4, layers
        self.stem = nn.Linear(6, 4)
        self.attn = nn.ModuleList(nn.Linear(4, 4) for _ in range(layers))
        self.wide = nn.ModuleList(nn.Linear(4, 9) for _ in range(layers))
        self.predictor = nn.Linear(9, 4)

    def layer_index(self, name):
        parts = name.split(".")
        return int(parts[1]) + 1 if parts[0] in ("attn", "wide") else self.n_layers if "predictor" in name else 0

    def fbank(self, waveforms):
        return waveforms.view(len(waveforms), -1, 6)

    def tokens(self, fbank, padding_mask=None):
        x = self.stem(fbank)
        for linear, wide in zip(self.attn, self.wide, strict=True):
            x = linear(x) + wide(x)[..., :4]
        return x


def recipe_of(**values):
    return FinetuneRecipe(**{"epochs": 1, **values})


HAIR = 1e-9
TUNING = [
    ("epochs", [0, 1], [-1]),
    ("batch_size", [1], [0]),
    ("micro_batch", [None, 1], [0]),
    ("learning_rate", [HAIR, 0.7], [0.0, -HAIR, math.inf, math.nan]),
    ("weight_decay", [0.0, 2.5], [-HAIR, math.inf]),
    ("warmup_epochs", [0.0, 2.5], [-HAIR, math.inf]),
    ("precision", ["auto", "float32", "bfloat16"], ["float16"]),
    ("gradient_clip", [HAIR, 7.0], [0.0, -HAIR]),
    ("layer_decay", [HAIR, 1.0], [0.0, 1 + HAIR]),
    ("gradient_decay", [HAIR, 1.0], [0.0, 1 + HAIR]),
    ("train", ["all", "head"], ["none"]),
    ("freeze_layers", [0, 2], [-1, 3]),
    ("lora_rank", [0, 1], [-1]),
    ("lora_alpha", [HAIR, 0.7], [0.0, math.inf]),
    ("lora_targets", ["attention", "all"], ["none"]),
    ("adam_eps", [HAIR, 1 - HAIR], [0.0, 1.0]),
    ("decays", ["matrices", "all"], ["none"]),
    ("mixup", [0.0, 0.3], [-HAIR, math.inf]),
]


@pytest.mark.parametrize(("name", "good", "bad"), TUNING)
def test_borders_of_fine_tuning(name, good, bad):
    """What lies on the right side of a border is taken, on it where it belongs to it; the rest is refused by name."""
    for value in good:
        check_recipe(recipe_of(**{name: value}), Layered())
    for value in bad:
        with pytest.raises(BackboneError, match=f"^{name} must be .*, but got"):
            check_recipe(recipe_of(**{name: value}), Layered())


class Masked(MaskedEncoder):
    n_patches, n_frames = 8, 4


PRETRAINING = [
    ("epochs", [1, 2], [0]),
    ("batch_size", [1], [0]),
    ("base_learning_rate", [HAIR, 0.7], [0.0, math.inf]),
    ("weight_decay", [0.0, 2.5], [-HAIR, math.inf]),
    ("beta1", [0.0, 1 - HAIR], [-HAIR, 1.0]),
    ("beta2", [0.0, 1 - HAIR], [-HAIR, 1.0]),
    ("clip_seconds", [0.025, 7.0], [0.02499]),
    ("fit", ["repeat", "pad"], ["cut"]),
    ("gradient_clip", [None, HAIR, 7.0], [0.0, -HAIR]),
    ("mask_ratio", [0.125, 0.875], [0.0, 0.9]),  # of 8 patches 7 and 1 stay visible, or all and none
]


@pytest.mark.parametrize(("name", "good", "bad"), PRETRAINING)
def test_borders_of_pretraining(name, good, bad):
    """The same for pre-training, whose masks must leave a patch to see and a patch to fill in."""
    for value in good:
        check_pretrain_recipe(PretrainRecipe(**{name: value}), Masked())
    for value in bad:
        with pytest.raises(BackboneError, match=f"^{name} must .*, but"):
            check_pretrain_recipe(PretrainRecipe(**{name: value}), Masked())


def test_what_an_encoder_has_not_cannot_be_asked_for():
    """No layers, none to freeze; no weights, none to learn; the head alone leaves nothing to freeze or adapt."""
    check_recipe(recipe_of(freeze_layers=0), Layered(0))
    with pytest.raises(BackboneError, match="freeze_layers must be 0 to 0"):
        check_recipe(recipe_of(freeze_layers=1), Layered(0))
    check_recipe(recipe_of(epochs=0), Encoder())
    with pytest.raises(BackboneError, match="epochs must be 0, since Encoder has no weights"):
        check_recipe(recipe_of(), Encoder())
    for asked in ({"lora_rank": 1}, {"freeze_layers": 1}):
        with pytest.raises(BackboneError, match='must be 0 with train="head"'):
            check_recipe(recipe_of(train="head", **asked), Layered())
    without = Layered()
    without.gradient_decay = None
    check_recipe(recipe_of(), without)
    with pytest.raises(BackboneError, match="gradient_decay must be 1, since Layered has none"):
        check_recipe(recipe_of(gradient_decay=0.5), without)


def test_borders_of_what_is_trained_on():
    """Seeds are 0 or more, classes and clips 1 or more, and weights sum to 1 within a thousandth, either way."""
    waveforms, hard = torch.zeros(2, 12), np.arange(2)

    def taught(targets, *, n_classes=2, seed=0):
        finetune(Layered(), reader(waveforms), targets, n_classes=n_classes, recipe=recipe_of(epochs=0), seed=seed)

    taught(hard)
    for off in (9.5e-4, -9.5e-4):
        taught(np.array([[0.5, 0.5 + off], [1.0, 0.0]]))
    for off in (1.05e-3, -1.05e-3):
        with pytest.raises(BackboneError, match="must sum to 1"):
            taught(np.array([[0.5, 0.5 + off], [1.0, 0.0]]))
    with pytest.raises(BackboneError, match="n_classes must be 1 or more, but got 0"):
        taught(hard, n_classes=0)
    with pytest.raises(BackboneError, match="seed must be 0 or more, but got -1"):
        taught(hard, seed=-1)
    for n, seed in ((0, 0), (1, -1)):
        with pytest.raises(BackboneError, match=f"at least one clip and a seed of 0 or more, but got {n} and {seed}"):
            pretrain(Masked(), reader(waveforms), n, recipe=PretrainRecipe(), seed=seed)


def test_a_gradient_that_is_not_finite_stops():
    """The loss of a square root at 0 is finite and its slope is not: the gradient's norm is named with its epoch."""

    class Rooted(Layered):
        def tokens(self, fbank, padding_mask=None):
            return super().tokens(fbank).mul(0.0).abs().sqrt()

    with pytest.raises(BackboneError, match=r"gradient's norm became (nan|inf) in epoch 1 of 1.*lower learning_rate"):
        finetune(Rooted(), reader(torch.ones(2, 12)), np.arange(2), n_classes=2, recipe=recipe_of())


def test_the_schedule_at_its_borders():
    """A warm-up of a fraction of a step is cut off at the peak; the cosine runs over what is left, a step at least."""
    rates = [Schedule(2.0, 1.5, 4).rate(step) for step in range(4)]
    left = [(1 + math.cos(math.pi * (step - 1.5) / 2.5)) for step in (2, 3)]
    assert rates == pytest.approx([2.0 / 1.5, 2.0, *left])
    assert Schedule(2.0, 0.0, 2).rate(0) == 2.0 and Schedule(2.0, 0.0, 2).rate(1) == pytest.approx(1.0)
    assert Schedule(1.0, 0.95, 2).rate(1) == pytest.approx((1 + math.cos(math.pi * 0.05 / 1.05)) / 2)
    assert [Schedule(1.0, 9.0, 3).rate(step) for step in range(3)] == pytest.approx([1 / 9, 2 / 9, 3 / 9])


def test_what_decays():
    """A matrix decays from two sides longer than 1 on; scalars, vectors and vectors with sides of 1 do not."""
    sizes = [(2, 2), (2, 1, 3), (5, 4, 3), (5,), (1, 5), (1, 1, 5), (), (1,), (1, 1)]
    assert [decays(nn.Parameter(torch.zeros(size))) for size in sizes] == [True] * 3 + [False] * 6
    model, head = Layered(), nn.Linear(4, 2)
    for every in ("matrices", "all"):
        recipe = recipe_of(weight_decay=0.25, learning_rate=0.5, batch_size=64, scale_rate=True, decays=every)
        for group in make_optimiser(model, head, recipe).param_groups:
            assert group["lr"] == 0.5 * 64 / 256
            for parameter in group["params"]:
                assert group["weight_decay"] == (0.25 if every == "all" or parameter.ndim > 1 else 0.0)
    head.weight.requires_grad_(False)
    both = make_pretraining_optimiser(head, weight_decay=0.25, betas=(0.5, 0.75)).param_groups
    assert [len(group["params"]) for group in both] == [0, 1]


@pytest.mark.parametrize(
    ("values", "learning", "adapted"),
    [
        ({}, {"stem", "attn.0", "attn.1", "attn.2", "wide.0", "wide.1", "wide.2", "predictor"}, set()),
        ({"train": "head"}, set(), set()),
        ({"freeze_layers": 1}, {"attn.1", "attn.2", "wide.1", "wide.2", "predictor"}, set()),
        ({"freeze_layers": 2}, {"attn.2", "wide.2", "predictor"}, set()),
        ({"lora_rank": 3}, set(), {"attn.0", "attn.1", "attn.2"}),
        ({"lora_rank": 3, "lora_targets": "all"}, set(), {f"{one}.{i}" for one in ("attn", "wide") for i in range(3)}),
        ({"lora_rank": 3, "freeze_layers": 2}, set(), {"attn.2"}),
        ({"lora_rank": 3, "freeze_layers": 2, "lora_targets": "all"}, set(), {"attn.2", "wide.2"}),
    ],
)  # fmt: skip
def test_what_learns(values, learning, adapted):
    """Frozen are the stem and the lowest layers; adapters stand where both sides are wider than their rank."""
    encoder = Layered()
    choose_what_learns(encoder, recipe_of(**values), seed=0)
    found = {name.rpartition(".")[0] for name, one in encoder.named_parameters() if one.requires_grad}
    assert found == learning | adapted
    names = {name for name, _ in encoder.named_parameters() if "lora" in name}
    assert names == {f"{each}.lora_{part}" for each in adapted for part in ("down", "up")}


def test_an_adapter_is_narrower_than_its_map():
    """A rank of 4 fits no map of 4 inputs, and an encoder in one piece is adapted in every linear map."""
    with pytest.raises(BackboneError, match="wider than 4"):
        choose_what_learns(Layered(), recipe_of(lora_rank=4, lora_targets="all"), seed=0)
    piece = Layered(0)
    choose_what_learns(piece, recipe_of(lora_rank=3, lora_targets="all"), seed=0)
    assert {name for name, _ in piece.named_parameters() if "lora" in name} == {"stem.lora_down", "stem.lora_up"}
