"""How often training waits for its device: a GPU that somebody reads a number from idles until it has the next work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from backbones import load_encoder
from backbones.training.finetune import finetune
from backbones.training.pretrain import PretrainRecipe, load_masked_encoder, pretrain
from backbones.training.recipe import FinetuneRecipe
from tests.backbones.conftest import SMALL, reader, tones

CPU = torch.device("cpu")
CLIPS, BATCH = 8, 4
STEPS = CLIPS // BATCH
TUNING = FinetuneRecipe(epochs=1, batch_size=BATCH, learning_rate=1e-3, warmup_epochs=0.5, time_mask=8, mel_mask=16)
PRETRAINING = PretrainRecipe(epochs=1, batch_size=BATCH, base_learning_rate=0.1, warmup_epochs=0.5)
DECODER = {"decoder_dim": 16, "decoder_layers": 1, "decoder_heads": 2}
WAITING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero")  # what a GPU answers when all is done


def waits(monkeypatch, run):
    """Count the reads of single numbers, by operation, and of lists during a run, AdamW's of its own counters left out.

    The optimiser's counters lie on the CPU even where its parameters are on a GPU.
    """
    lists = []
    tolist = Tensor.tolist
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", lambda _self: None)
        patch.setattr(Tensor, "tolist", lambda self: lists.append(self.shape) or tolist(self))
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile:
            run()
    return sum(each.count for each in profile.key_averages() if each.key in WAITING), len(lists)


def tuned(name, micro_batch, *, loss="cross_entropy"):
    """Return what fine-tunes a small encoder."""
    encoder, clips, targets = load_encoder(name, **SMALL[name]), tones(CLIPS, seconds=0.3), np.arange(CLIPS) % 2
    if name == "beats":
        encoder = load_encoder(name, **SMALL[name], encoder_layerdrop=0.0)  # its draws are made and read on the CPU
    recipe = replace(TUNING, micro_batch=micro_batch, loss=loss)
    return lambda: finetune(encoder, reader(clips), targets, n_classes=2, recipe=recipe, device=CPU)


def pretrained(micro_batch):
    """Return what pre-trains a small AudioMAE."""
    model, clips = load_masked_encoder("audiomae", **SMALL["audiomae"], **DECODER), tones(CLIPS, seconds=0.3)
    recipe = replace(PRETRAINING, micro_batch=micro_batch)
    return lambda: pretrain(model, reader(clips), CLIPS, recipe=recipe, device=CPU)


@pytest.mark.parametrize("name", ["beats", "tiny"])
def test_fine_tuning_waits_once_a_step(monkeypatch, name):
    """However many micro-batches a step has, fine-tuning reads from its device once: three numbers in a list."""
    for micro_batch in (4, 2):
        assert waits(monkeypatch, tuned(name, micro_batch)) == (0, STEPS)


def test_pretraining_waits_once_a_step(monkeypatch):
    """However many micro-batches a step has, pre-training reads from its device once."""
    for micro_batch in (4, 2):
        assert waits(monkeypatch, pretrained(micro_batch)) == (0, STEPS)


def test_losses_with_a_scale_decide_on_the_device(monkeypatch):
    """AdaCos follows its batches without a look at them: the same reads whatever the cut into micro-batches.

    On a CPU torch checks the classes of one-hot targets by reading two numbers, which it leaves out on a GPU.
    """
    for micro_batch in (4, 2):
        numbers, lists = waits(monkeypatch, tuned("tiny", micro_batch, loss="adacos"))
        assert lists == STEPS
        assert numbers == 2 * STEPS * BATCH // micro_batch
