"""Training, written a second time in plain torch: every number of the recipe must act as its name says."""

from __future__ import annotations

import copy
import math
import time

import numpy as np
import pytest
import torch
from torch import Generator, nn
from torch.nn import functional

from backbones import load_encoder
from backbones.contract import BackboneError, Encoder
from backbones.features.masks import apply_masks, draw_masks
from backbones.networks.audiomae import AudioMaeConfig
from backbones.training.finetune import finetune
from backbones.training.optimiser import make_optimiser, make_pretraining_optimiser
from backbones.training.pretrain import PretrainRecipe, load_masked_encoder, pretrain
from backbones.training.projection import learn_projection
from backbones.training.recipe import FinetuneRecipe
from tests.backbones.conftest import SMALL, reader, tones

CPU = torch.device("cpu")
SEEDS = 2**62  # how seeds of one thing are drawn from a generator of another


def test_defaults_are_the_paper_s():
    """Whoever changes a default changes every study that does not name it: section 4.2, and what the paper leaves."""
    assert vars(FinetuneRecipe()) == {
        "epochs": 40, "batch_size": 512, "micro_batch": None, "learning_rate": 2e-4, "weight_decay": 1e-2,
        "warmup_epochs": 4.0, "clip_seconds": 10.0, "fit": "repeat", "time_mask": 192, "mel_mask": 48, "masks": 1,
        "gradient_clip": 1.0, "precision": "auto", "layer_decay": 1.0, "gradient_decay": 1.0, "train": "all",
        "freeze_layers": 0, "lora_rank": 0, "lora_alpha": 16.0, "lora_targets": "attention", "loss": "cross_entropy",
        "mixup": 0.0, "embed": "crop", "projection_dim": 128, "projection_hidden": 0,
        "scale_rate": False, "adam_eps": 1e-6, "decays": "matrices",
    }  # fmt: skip
    assert vars(PretrainRecipe()) == {
        "epochs": 40, "batch_size": 512, "micro_batch": None, "base_learning_rate": 2e-4, "weight_decay": 1e-2,
        "warmup_epochs": 4.0, "beta1": 0.9, "beta2": 0.95, "mask_ratio": 0.8, "clip_seconds": 10.0, "fit": "repeat",
        "gradient_clip": None, "precision": "auto",
    }  # fmt: skip
    assert PretrainRecipe().learning_rate == pytest.approx(4e-4)
    decoder = {name: value for name, value in vars(AudioMaeConfig()).items() if name.startswith("decoder_")}
    assert decoder == {"decoder_dim": 512, "decoder_layers": 16, "decoder_heads": 16, "decoder_mlp_dim": None}


def rate_at(step: int, *, peak: float, warmup: float, total: int) -> float:
    """A linear rise, then half a cosine."""
    if step < warmup:
        return peak * min(1.0, (step + 1) / warmup)
    return peak * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2


def stepped(weights, moments, step, *, rate, decay, betas, eps, all_decay=False):
    """One step of AdamW (Loshchilov and Hutter, 2019, algorithm 2) on weights that have a gradient."""
    with torch.no_grad():
        for weight, moment in zip(weights, moments, strict=True):
            weight.sub_(rate * (decay if all_decay or sum(side > 1 for side in weight.shape) > 1 else 0.0) * weight)
            moment[0] = betas[0] * moment[0] + (1 - betas[0]) * weight.grad
            moment[1] = betas[1] * moment[1] + (1 - betas[1]) * weight.grad**2
            first, second = (moment[i] / (1 - betas[i] ** step) for i in (0, 1))
            weight.sub_(rate * first / (second.sqrt() + eps))


def clipped(weights, largest):
    """Scale all gradients so that their common norm is at most the largest."""
    norm = torch.sqrt(sum((weight.grad**2).sum() for weight in weights))
    for weight in weights:
        weight.grad *= min(1.0, largest / float(norm))


class Line(Encoder):
    """Learns a linear map of features that are handed through; a matrix and a vector."""

    bins_are_mel = True

    def __init__(self):
        super().__init__()
        self.dim = 3
        self.linear = nn.Linear(6, 3)
        self.seen = []
        with torch.no_grad():
            self.linear.weight.copy_(torch.linspace(-1, 1, 18).view(3, 6))
            self.linear.bias.fill_(0.5)

    def fbank(self, waveforms):
        return waveforms.view(len(waveforms), -1, 6)

    def tokens(self, fbank, padding_mask=None):
        self.seen.append(fbank.clone())
        return self.linear(fbank)


def taught(recipe, waveforms, targets, *, seed):
    """Fine-tune `Line` as the paper says it, in plain torch; return the weights and each epoch's loss and accuracy."""
    line, n = Line(), len(waveforms)
    head_seed = int(np.random.default_rng([seed, 0]).integers(SEEDS))
    head = torch.empty(2, 3).normal_(0.0, 0.02, generator=Generator().manual_seed(head_seed)).requires_grad_()
    bias = torch.zeros(2, requires_grad=True)
    weights = [line.linear.weight, line.linear.bias, head, bias]
    moments = [[torch.zeros_like(weight), torch.zeros_like(weight)] for weight in weights]
    features, classes = line.fbank(waveforms), torch.eye(2)[torch.from_numpy(targets)]
    steps, told, done = -(-n // recipe.batch_size), [], 0
    for epoch in range(1, recipe.epochs + 1):
        chance = np.random.default_rng([seed, epoch])
        order = chance.permutation(n)
        chance.integers(SEEDS, size=n), chance.integers(SEEDS, size=steps)  # of dropout
        masks = draw_masks(
            n, (features.shape[1], 6), time_mask=recipe.time_mask, mel_mask=recipe.mel_mask, masks=recipe.masks,
            generator=Generator().manual_seed(int(chance.integers(SEEDS))),
        )  # fmt: skip
        partners, shares = order, np.ones(n)
        if recipe.mixup:
            mixing = np.random.default_rng([seed, epoch, 1])
            partners, shares = mixing.permutation(n), mixing.beta(recipe.mixup, recipe.mixup, size=n)
        own = torch.from_numpy(shares.astype(np.float32))
        mixed = own[:, None, None] * features + (1 - own)[:, None, None] * features[partners]
        soft = own[:, None] * classes + (1 - own)[:, None] * classes[partners]
        summed, right = 0.0, 0
        for step in range(steps):
            batch = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            for weight in weights:
                weight.grad = None
            tokens = line.tokens(apply_masks(mixed[batch], masks[batch]))
            scores = functional.linear(line.pool(tokens), head, bias)
            loss = functional.cross_entropy(scores, soft[batch], reduction="sum")
            (loss / len(batch)).backward()
            clipped(weights, recipe.gradient_clip)
            rate = rate_at(
                done, peak=recipe.peak_rate, warmup=recipe.warmup_epochs * steps, total=recipe.epochs * steps
            )
            done += 1
            stepped(weights, moments, done, rate=rate, decay=recipe.weight_decay, betas=(0.9, 0.999),
                    eps=recipe.adam_eps, all_decay=recipe.decays == "all")  # fmt: skip
            summed += float(loss.detach())
            right += int((scores.argmax(dim=1) == soft[batch].argmax(dim=1)).sum())
        told.append((summed / n, right / n))
    return line, told


PLAIN = FinetuneRecipe(
    epochs=4, batch_size=4, micro_batch=3, learning_rate=0.05, weight_decay=0.3, warmup_epochs=1.5, time_mask=0,
    mel_mask=0, masks=0, gradient_clip=1e9, precision="float32",
)  # fmt: skip
VARIED = {
    "plain": {},
    "clipped": {"gradient_clip": 0.05},
    "masked": {"time_mask": 3, "mel_mask": 4, "masks": 2},
    "mixed": {"mixup": 0.6},
    "scaled": {"scale_rate": True, "learning_rate": 3.2},
    "other AdamW": {"adam_eps": 0.01, "decays": "all"},
    "all": {"gradient_clip": 0.2, "time_mask": 2, "mel_mask": 2, "masks": 1, "mixup": 1.5, "weight_decay": 0.0},
}


@pytest.mark.parametrize("varied", VARIED)
def test_finetuning_is_what_the_recipe_says(varied):
    """Order, masks, mixup, schedule, clipping, AdamW and decay give the weights and losses of a loop in plain torch."""
    recipe = FinetuneRecipe(**{**vars(PLAIN), **VARIED[varied]})
    waveforms = torch.randn(10, 48, generator=Generator().manual_seed(1))
    targets, reports, began = np.arange(10) % 2, [], time.perf_counter()
    found = finetune(
        Line(), reader(waveforms), targets, n_classes=2, recipe=recipe, seed=3, device=CPU, on_epoch=reports.append
    )
    took = time.perf_counter() - began
    wanted, told = taught(recipe, waveforms, targets, seed=3)
    torch.testing.assert_close(found.linear.weight, wanted.linear.weight, rtol=2e-4, atol=2e-5)
    torch.testing.assert_close(found.linear.bias, wanted.linear.bias, rtol=2e-4, atol=2e-5)
    assert [report.loss for report in reports] == pytest.approx([loss for loss, _ in told], rel=1e-4)
    assert [report.accuracy for report in reports] == [right for _, right in told]
    assert [(one.epoch, one.classes, one.precision) for one in reports] == [(i, 2, "float32") for i in range(1, 5)]
    assert all(report.seconds > 0 for report in reports) and sum(report.seconds for report in reports) <= took
    rates = [rate_at(3 * epoch - 1, peak=0.05, warmup=4.5, total=12) for epoch in range(1, 5)]
    assert [report.learning_rate for report in reports] == pytest.approx(rates)


def test_losses_of_many_sizes_are_summed_in_64_bits():
    """Beside a clip whose loss is a million times as large the others still count, to the last digit."""
    waveforms = torch.randn(6, 12, generator=Generator().manual_seed(1)) * 10.0 ** torch.arange(6)[:, None]
    recipe, reports = FinetuneRecipe(**{**vars(PLAIN), "epochs": 1, "batch_size": 6, "micro_batch": 1}), []
    finetune(Line(), reader(waveforms), np.arange(6) % 2, n_classes=2, recipe=recipe, device=CPU,
             on_epoch=reports.append)  # fmt: skip
    line = Line()
    head_seed = int(np.random.default_rng([0, 0]).integers(SEEDS))
    head = torch.empty(2, 3).normal_(0.0, 0.02, generator=Generator().manual_seed(head_seed))
    summed = 0.0
    for clip in np.random.default_rng([0, 1]).permutation(6):
        with torch.no_grad():
            scores = functional.linear(line.pool(line.tokens(line.fbank(waveforms[clip : clip + 1]))), head)
            summed += float(functional.cross_entropy(scores, torch.tensor([clip % 2]), reduction="sum"))
    assert reports[0].loss == pytest.approx(summed / 6, rel=1e-13)
    assert float(np.float32(summed)) != pytest.approx(summed, rel=1e-13)  # so that 32 bits would be seen


def test_masks_hide_what_the_encoder_sees():
    """With SpecAugment the encoder sees features of which bands are the clip's mean; without it, the clips as read."""
    waveforms = torch.randn(6, 48, generator=Generator().manual_seed(2))
    for masks in (0, 1):
        recipe = FinetuneRecipe(**{**vars(PLAIN), "epochs": 1, "time_mask": 8, "mel_mask": 6, "masks": masks})
        seen = finetune(
            Line(), reader(waveforms), np.arange(6) % 2, n_classes=2, recipe=recipe, device=CPU
        ).seen  # of the copy that learned
        whole = {tuple(clip.flatten().tolist()) for clip in waveforms.view(6, 8, 6)}
        kept = [tuple(clip.flatten().tolist()) in whole for batch in seen for clip in batch]
        assert all(kept) if masks == 0 else not all(kept)


def test_widths_of_masks():
    """Widths are uniform in 0 to the widest, the widest included; places are uniform where the mask fits."""
    drawn = draw_masks(4000, (20, 10), time_mask=6, mel_mask=99, masks=2, generator=Generator().manual_seed(0)).numpy()
    assert drawn.shape == (4000, 2, 2, 2)
    for axis, (size, widest) in enumerate(((20, 6), (10, 10))):
        first, width = drawn[:, :, axis, 0], drawn[:, :, axis, 1] - drawn[:, :, axis, 0]
        shares = np.bincount(width.ravel(), minlength=widest + 1) / width.size
        assert len(shares) == widest + 1 and np.abs(shares - 1 / (widest + 1)).max() < 0.02
        chosen = first[width == 3]
        places = np.bincount(chosen, minlength=size - 2) / chosen.size
        assert len(places) == size - 2 and np.abs(places - 1 / (size - 2)).max() < 0.03
    assert not np.array_equal(drawn[:, 0], drawn[:, 1])


def test_masks_lie_where_the_generator_says():
    """Of each mask two numbers are drawn for time and two for mel bins, of 64 bits: for its width, then its place."""
    drawn = draw_masks(7, (50, 12), time_mask=20, mel_mask=99, masks=3, generator=Generator().manual_seed(4))
    chance = torch.rand((7, 3, 2, 2), generator=Generator().manual_seed(4), dtype=torch.float64).numpy()
    for axis, (size, widest) in enumerate(((50, 20), (12, 12))):
        width = np.floor(chance[:, :, axis, 0] * (widest + 1))
        first = np.floor(chance[:, :, axis, 1] * (size - width + 1))
        assert np.array_equal(drawn[:, :, axis, 0].numpy(), first)
        assert np.array_equal(drawn[:, :, axis, 1].numpy(), first + width)
    for name in ("time_mask", "mel_mask", "masks"):
        none = {"time_mask": 0, "mel_mask": 0, "masks": 0}
        assert not draw_masks(2, (5, 5), **{**none, "masks": 1}, generator=Generator()).diff(dim=3).any()
        with pytest.raises(BackboneError, match=f"{name} of SpecAugment must be 0 or more, but got -1"):
            draw_masks(2, (5, 5), **{**none, name: -1}, generator=Generator())


def test_masks_fill_with_the_clip_s_own_mean():
    """Frames 2 and 3 of the first clip and bin 1 of the second become their clip's mean, and nothing else changes."""
    fbank = torch.arange(2 * 5 * 4, dtype=torch.float32).view(2, 5, 4)
    masks = torch.tensor([[[[2, 4], [0, 0]]], [[[0, 0], [1, 2]]]])
    wanted = fbank.clone()
    wanted[0, 2:4] = fbank[0].mean()
    wanted[1, :, 1] = fbank[1].mean()
    assert torch.equal(apply_masks(fbank, masks), wanted)


@pytest.mark.parametrize("name", SMALL)
def test_layers_further_from_the_head_learn_slower(name):
    """A parameter of layer i of L has the learning rate times decay to the power of L + 1 - i; the head has all."""
    encoder = load_encoder(name, **SMALL[name])
    head = nn.Linear(encoder.dim, 2)
    recipe = FinetuneRecipe(layer_decay=0.5, learning_rate=0.25, weight_decay=0.125)
    optimiser = make_optimiser(encoder, head, recipe)
    groups = {id(one): group for group in optimiser.param_groups for one in group["params"]}
    for parameter_name, parameter in encoder.named_parameters():
        if not parameter.requires_grad:
            continue
        distance = encoder.n_layers + 1 - encoder.layer_index(parameter_name)
        assert groups[id(parameter)]["scale"] == pytest.approx(0.5**distance), parameter_name
        assert groups[id(parameter)]["eps"] == 1e-6 and groups[id(parameter)]["betas"] == (0.9, 0.999)
    assert groups[id(head.weight)]["scale"] == groups[id(head.bias)]["scale"] == 1.0
    assert (groups[id(head.weight)]["weight_decay"], groups[id(head.bias)]["weight_decay"]) == (0.125, 0.0)
    frozen = copy.deepcopy(encoder)
    next(each for each in frozen.parameters() if each.requires_grad).requires_grad_(False)
    count = sum(len(group["params"]) for group in make_optimiser(frozen, head, recipe).param_groups)
    assert count == len(groups) - 1


def test_pretraining_is_what_the_recipe_says():
    """Order, masks, peak rate, schedule, clipping, AdamW and decay give the weights and losses of a loop by hand."""
    options = {**SMALL["audiomae"], "decoder_dim": 16, "decoder_layers": 1, "decoder_heads": 2}
    model = load_masked_encoder("audiomae", **options)
    recipe = PretrainRecipe(
        epochs=2, batch_size=4, micro_batch=3, base_learning_rate=0.5, weight_decay=0.3, warmup_epochs=0.5, beta1=0.8,
        beta2=0.9, mask_ratio=0.5, gradient_clip=0.5, precision="float32",
    )  # fmt: skip
    waveforms = tones(6, seconds=1.0)
    found, reports = pretrain(model, reader(waveforms), 6, recipe=recipe, seed=5, device=CPU)
    mine = copy.deepcopy(model).train()
    weights = [parameter for parameter in mine.parameters() if parameter.requires_grad]
    moments = [[torch.zeros_like(weight), torch.zeros_like(weight)] for weight in weights]
    features, losses, done = mine.fbank(waveforms), [], 0
    for epoch in (1, 2):
        order, summed = np.random.default_rng([5, epoch]).permutation(6), 0.0
        for step in (0, 1):
            batch = order[4 * step : 4 * step + 4]
            chance = np.random.default_rng([5, epoch, step + 1])
            noise = torch.from_numpy(chance.random((len(batch), mine.n_patches), dtype=np.float32))
            for weight in weights:
                weight.grad = None
            loss = mine.forward_masked(features[batch], noise, mask_ratio=0.5).loss
            loss.backward()
            clipped(weights, 0.5)
            done += 1
            rate = rate_at(done - 1, peak=0.5 * 4 / 256, warmup=1.0, total=4)
            stepped(weights, moments, done, rate=rate, decay=0.3, betas=(0.8, 0.9), eps=1e-6)
            summed += float(loss.detach()) * len(batch)
        losses.append(summed / 6)
    assert [report.loss for report in reports] == pytest.approx(losses, rel=1e-3)
    for one, two in zip(found.parameters(), mine.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-2, atol=2e-4)


def test_pretraining_decays_matrices_alone():
    """Weight decay takes hold of matrices and not of vectors, with the betas that were asked for."""
    model = load_masked_encoder("audiomae", **SMALL["audiomae"], decoder_dim=16, decoder_layers=1, decoder_heads=2)
    optimiser = make_pretraining_optimiser(model, weight_decay=0.2, betas=(0.7, 0.8))
    for group in optimiser.param_groups:
        assert (group["betas"], group["eps"], group["scale"]) == ((0.7, 0.8), 1e-6, 1.0)
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.2 if sum(side > 1 for side in parameter.shape) > 1 else 0.0)


def test_projection_starts_from_what_it_reads():
    """It standardises by its clips' mean and deviation; a constant column stays; new maps keep the size of numbers."""
    vectors = np.random.default_rng(0).normal(3.0, 5.0, size=(40, 200)).astype(np.float32)
    vectors[:, 7] = 1.5
    recipe = FinetuneRecipe(epochs=0, projection_dim=300, projection_hidden=400)
    made = learn_projection(vectors, np.arange(40) % 2, n_classes=2, recipe=recipe, seed=1)
    np.testing.assert_allclose(made.mean, vectors.mean(axis=0), rtol=1e-5)
    scale = vectors.std(axis=0)
    scale[7] = 1.0
    np.testing.assert_allclose(made.scale, scale, rtol=1e-5)
    first, second = made.maps
    assert first.weight.std().item() == pytest.approx((1 / 200) ** 0.5, rel=0.02)
    assert second.weight.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert not first.bias.any() and not second.bias.any()
    hidden = torch.relu((torch.from_numpy(vectors) - made.mean) / made.scale @ first.weight.T)
    with torch.no_grad():
        torch.testing.assert_close(made(torch.from_numpy(vectors)), hidden @ second.weight.T, rtol=1e-4, atol=1e-4)
