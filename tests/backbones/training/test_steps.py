"""What a step does beside learning: a loss whose scale follows its batches, and memory that runs out half-way."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator

from backbones.networks.directions import weights_of
from backbones.training.finetune import finetune
from backbones.training.pretrain import PretrainRecipe, pretrain
from backbones.training.recipe import FinetuneRecipe
from tests.backbones.conftest import reader
from tests.backbones.training.test_by_hand import PLAIN, Line
from tests.backbones.training.test_draws import Masking

CPU = torch.device("cpu")
SCALED = ["adacos", "subcluster_adacos:subclusters=2", "adaproj:subclusters=2"]


class Forgetful(Line):
    """Runs out of memory at the whole batch, and half-way when it is begun again in two parts."""

    def tokens(self, fbank, padding_mask=None):
        found = super().tokens(fbank)
        if len(self.seen) in (1, 3):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return found


def losses(recipe: FinetuneRecipe, encoder: Line | None = None) -> list[float]:
    """Fine-tune on ten clips of six classes, and return each epoch's loss."""
    waveforms, reports = torch.randn(10, 48, generator=Generator().manual_seed(1)), []
    encoder = Line() if encoder is None else encoder
    finetune(
        encoder, reader(waveforms), np.arange(10) % 6, n_classes=6, recipe=recipe, device=CPU, on_epoch=reports.append
    )
    return [report.loss for report in reports]


@pytest.mark.parametrize("loss", SCALED)
def test_scales_follow_the_batches(loss):
    """The first step has the first scale, and later ones another, unless the recipe says that it stays."""
    recipe = replace(PLAIN, loss=loss, batch_size=10, micro_batch=10)
    fixed = replace(recipe, loss=f"{loss}{',' if ':' in loss else ':'}adaptive=false")
    one, other = losses(recipe), losses(fixed)
    assert one[0] == other[0]
    assert all(abs(a - b) > 1e-3 for a, b in zip(one[1:], other[1:], strict=True))


@pytest.mark.parametrize("loss", SCALED)
def test_what_was_seen_before_memory_ran_out_is_forgotten(loss):
    """A batch that is begun again in smaller parts is seen once: as if they had been small from the start."""
    recipe = replace(PLAIN, loss=loss, batch_size=10, micro_batch=None)
    found = losses(recipe, Forgetful())
    small = losses(replace(recipe, micro_batch=2))
    assert found == pytest.approx(small, rel=1e-5)


def test_hard_targets_are_weights_of_one():
    """A class is a weight of 1 on it, of 32 bits; weights are taken as they are."""
    soft = weights_of(torch.tensor([2, 0]), 3)
    assert soft.dtype == torch.float32 and soft.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert weights_of(soft, 3) is soft


def test_single_precision_warns_of_nothing():
    """Where no bfloat16 is asked for nothing is cast, and torch does not say that it will not."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses(replace(PLAIN, epochs=1))
        pretrain(
            Masking(), reader(torch.ones(2, 24)), 2, device=CPU,
            recipe=PretrainRecipe(epochs=1, batch_size=2, precision="float32", clip_seconds=1.0),
        )  # fmt: skip


def test_the_device_that_is_named_is_taken(monkeypatch):
    """Nobody looks for a GPU where a device is named."""

    def nowhere():
        raise AssertionError

    for module in ("finetune", "pretrain"):
        monkeypatch.setattr(f"backbones.training.{module}.pick_device", nowhere)
    assert len(losses(replace(PLAIN, epochs=1))) == 1
    recipe = PretrainRecipe(epochs=1, batch_size=2, precision="float32", clip_seconds=1.0)
    assert len(pretrain(Masking(), reader(torch.ones(2, 24)), 2, device=CPU, recipe=recipe)[1]) == 1
