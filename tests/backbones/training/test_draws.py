"""What chance decides in training, drawn a second time by hand: of clips, steps, adapters, projections and masks."""

from __future__ import annotations

import math
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Generator, nn
from torch.nn import functional

from backbones.contract import Encoder, MaskedEncoder, MaskedPass
from backbones.networks.noise import drops_layer, uniform
from backbones.training.adapters import LowRankLinear
from backbones.training.finetune import finetune
from backbones.training.pretrain import PretrainRecipe, pretrain, reconstruct
from backbones.training.projection import learn_projection
from backbones.training.recipe import FinetuneRecipe
from tests.backbones.conftest import reader
from tests.backbones.training.test_by_hand import clipped, rate_at, stepped

CPU = torch.device("cpu")
SEEDS = 2**62  # below which a seed of one thing is drawn from a generator of another
PLAIN = FinetuneRecipe(
    epochs=2, batch_size=4, micro_batch=2, learning_rate=0.01, warmup_epochs=0.5, masks=0, precision="float32"
)


def seeded(seed: object) -> Generator:
    """Return torch's generator of a drawn seed."""
    return Generator().manual_seed(int(seed))  # type: ignore[call-overload]


def tossed() -> list[bool]:
    """Toss eight coins as layers do that are dropped as a whole."""
    return [drops_layer(0.5, training=True) for _ in range(8)]


class Watched(Encoder):
    """Keeps what it sees and draws: a map of features that are handed through, in two linear steps."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 3
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)
        self.seen: list[dict] = []
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view(parameter.shape))

    def fbank(self, waveforms):
        return waveforms.view(len(waveforms), -1, 6)

    def tokens(self, fbank, padding_mask=None):
        kept = {"fbank": fbank.clone(), "training": self.training, "gradient": torch.is_grad_enabled(),
                "decay": self.gradient_decay, "own": torch.rand(3), "clips": uniform((len(fbank), 2), CPU),
                "step": tossed()}  # fmt: skip
        if isinstance(self.first, LowRankLinear):
            kept["down"] = [linear.lora_down.detach().clone() for linear in (self.first, self.second)]
            kept["scale"] = [linear.scale for linear in (self.first, self.second)]
        self.seen.append(kept)
        return self.second(torch.tanh(self.first(fbank)))


def seen(recipe, *, n=5, seed=3, encoder=None):
    """Fine-tune and return what the copy that learned has seen, and the clips."""
    waveforms = torch.randn(n, 24, generator=seeded(1))
    encoder = Watched() if encoder is None else encoder
    tuned = finetune(encoder, reader(waveforms), np.arange(n) % 2, n_classes=2, recipe=recipe, seed=seed, device=CPU)
    return tuned, tuned.seen, encoder.fbank(waveforms)


def test_every_clip_and_every_step_draws_from_a_seed_of_its_own():
    """Order, clips' seeds and steps' seeds come from (seed, epoch) in turn; torch's own draws follow the first clip."""
    _, found, features = seen(PLAIN)
    at = 0
    for epoch in (1, 2):
        chance = np.random.default_rng([3, epoch])
        order, clips, steps = chance.permutation(5), chance.integers(SEEDS, size=5), chance.integers(SEEDS, size=2)
        for step, batch in enumerate((order[:4], order[4:])):
            for part in (batch[:2], batch[2:]):
                if not len(part):
                    continue
                one, at = found[at], at + 1
                assert torch.equal(one["fbank"], features[part])
                assert torch.equal(one["own"], torch.rand(3, generator=seeded(clips[part[0]])))
                wanted = torch.stack([torch.rand(2, generator=seeded(clips[clip])) for clip in part])
                assert torch.equal(one["clips"], wanted)
                coins = seeded(steps[step])
                assert one["step"] == [torch.rand((), generator=coins).item() < 0.5 for _ in range(8)]
    assert at == len(found) == 6


def test_without_a_seed_it_is_0():
    """A call that names no seed draws what seed 0 draws."""
    waveforms, targets = torch.randn(4, 24, generator=seeded(1)), np.arange(4) % 2
    options = {"n_classes": 2, "recipe": PLAIN, "device": CPU}
    said = [finetune(Watched(), reader(waveforms), targets, **options, **seed) for seed in ({}, {"seed": 0})]
    assert torch.equal(said[0].second.weight, said[1].second.weight)
    vectors = waveforms.numpy()
    made = [learn_projection(vectors, targets, n_classes=2, recipe=PLAIN, **seed) for seed in ({}, {"seed": 0})]
    assert torch.equal(made[0].maps[0].weight, made[1].maps[0].weight)


class Skipping(Watched):
    """Uses its second map in the first step alone."""

    def tokens(self, fbank, padding_mask=None):
        self.seen.append({"second": self.second.weight.detach().clone()})
        found = self.first(fbank)
        return self.second(found) if len(self.seen) == 1 else found[..., :3]


def test_what_a_step_does_not_use_it_does_not_move():
    """A layer that is dropped has no gradient in that step: neither decay nor what earlier steps left moves it."""
    recipe = FinetuneRecipe(**{**vars(PLAIN), "epochs": 4, "micro_batch": 4, "weight_decay": 0.5})
    _, found, _ = seen(recipe, n=4, encoder=Skipping())
    weights = [one["second"] for one in found]
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(weights[1], weights[2]) and torch.equal(weights[2], weights[3])


def test_without_a_recipe_it_is_the_paper_s():
    """Forty epochs of at most 512 clips a step, up to the peak in four."""
    waveforms, reports, others = torch.randn(4, 24, generator=seeded(1)), [], []
    finetune(Watched(), reader(waveforms), np.arange(4) % 2, n_classes=2, device=CPU, on_epoch=reports.append)
    pretrain(Masking(), reader(waveforms), 4, device=CPU, on_epoch=others.append)
    for told, peak in ((reports, 2e-4), (others, 4e-4)):
        wanted = [rate_at(step, peak=peak, warmup=4.0, total=40) for step in range(40)]
        assert [report.learning_rate for report in told] == pytest.approx(wanted)


def test_what_does_not_learn_is_in_evaluation_mode():
    """With train="head" the encoder neither drops out nor keeps gradients; with "all" it does both."""
    for train in ("all", "head"):
        _, found, _ = seen(FinetuneRecipe(**{**vars(PLAIN), "train": train}))
        assert {(one["training"], one["gradient"]) for one in found} == {(train == "all", train == "all")}


def test_the_decay_of_gradients_is_the_recipe_s_while_it_learns():
    """An encoder with one has the recipe's in training and its own again behind it."""
    encoder = Watched()
    encoder.gradient_decay = 0.9
    tuned, found, _ = seen(FinetuneRecipe(**{**vars(PLAIN), "gradient_decay": 0.6}), encoder=encoder)
    assert {one["decay"] for one in found} == {0.6}
    assert tuned.gradient_decay == encoder.gradient_decay == 0.9


@pytest.mark.parametrize("mel", [True, False])
def test_bins_that_are_no_frequencies_are_not_masked(mel):
    """Of features whose last axis is not frequency, SpecAugment hides bands of time alone."""
    encoder = Watched()
    encoder.bins_are_mel = mel
    _, found, features = seen(
        FinetuneRecipe(**{**vars(PLAIN), "masks": 2, "time_mask": 0, "mel_mask": 6}), encoder=encoder
    )
    whole = {tuple(clip.flatten().tolist()) for clip in features}
    assert all(tuple(clip.flatten().tolist()) in whole for one in found for clip in one["fbank"]) == (not mel)


def test_adapters_are_drawn_one_after_the_other_from_one_seed():
    """Of (seed, 0, 1): uniform within 1 / sqrt(inputs), by the order of the linear maps; scaled by alpha over rank."""
    recipe = FinetuneRecipe(**{**vars(PLAIN), "lora_rank": 2, "lora_targets": "all", "lora_alpha": 5.0})
    _, found, _ = seen(recipe)
    drawing = seeded(np.random.default_rng([3, 0, 1]).integers(SEEDS))
    for down, inputs in zip(found[0]["down"], (6, 5), strict=True):
        bound = 1 / math.sqrt(inputs)
        torch.testing.assert_close(down, torch.empty(2, inputs).uniform_(-bound, bound, generator=drawing))
    assert found[0]["scale"] == [2.5, 2.5]


def test_a_low_rank_map_is_its_formula():
    """W x + b + alpha / r up down x, before and after it is merged, with a bias and without."""
    for bias in (True, False):
        linear = nn.Linear(6, 5, bias=bias)
        plain = [each.detach().clone() for each in linear.parameters()]
        low = LowRankLinear(linear, rank=3, alpha=0.5, generator=seeded(0))
        x = torch.randn(4, 6, generator=seeded(2))
        with torch.no_grad():
            torch.testing.assert_close(low(x), functional.linear(x, *plain))  # nothing is added at first
            low.lora_up.normal_(generator=seeded(1))
            wanted = functional.linear(x, *plain) + 0.5 / 3 * (x @ low.lora_down.T @ low.lora_up.T)
            torch.testing.assert_close(low(x), wanted)
            merged = low.merged()
            torch.testing.assert_close(merged(x), wanted)
        assert type(merged) is nn.Linear and (merged.bias is not None) == bias


@pytest.mark.parametrize("hidden", [0, 4])
def test_a_projection_learns_as_a_loop_by_hand_does(hidden):
    """Its maps are drawn of (seed, 0, 2), and learn by the schedule, AdamW and mean cross-entropy, at one rate."""
    recipe = FinetuneRecipe(
        epochs=3, batch_size=4, learning_rate=0.05, weight_decay=0.2, warmup_epochs=1.0, train="projection",
        projection_dim=3, projection_hidden=hidden, layer_decay=0.5, gradient_clip=0.3,
    )  # fmt: skip
    vectors = np.random.default_rng(0).normal(2.0, 3.0, size=(7, 5)).astype(np.float32)
    targets, reports = np.arange(7) % 2, []
    found = learn_projection(vectors, targets, n_classes=2, recipe=recipe, seed=2, on_epoch=reports.append)
    drawing, weights, sizes = (
        seeded(np.random.default_rng([2, 0, 2]).integers(SEEDS)),
        [],
        [5, 4, 3] if hidden else [5, 3],
    )
    for place, (inputs, outputs) in enumerate(pairwise(sizes)):
        deviation = math.sqrt((2 if place else 1) / inputs)
        weights.append(torch.empty(outputs, inputs).normal_(0.0, deviation, generator=drawing).requires_grad_())
        weights.append(torch.zeros(outputs, requires_grad=True))
    head = torch.empty(2, 3).normal_(0.0, 0.02, generator=seeded(np.random.default_rng([2, 0]).integers(SEEDS)))
    weights += [head.requires_grad_(), torch.zeros(2, requires_grad=True)]
    moments = [[torch.zeros_like(weight), torch.zeros_like(weight)] for weight in weights]
    scaled = torch.from_numpy(((vectors - vectors.mean(axis=0)) / vectors.std(axis=0)).astype(np.float32))
    done = 0
    for epoch in (1, 2, 3):
        order, summed = np.random.default_rng([2, epoch]).permutation(7), 0.0
        for batch in (order[:4], order[4:]):
            for weight in weights:
                weight.grad = None
            x = functional.linear(scaled[batch], *weights[:2])
            x = functional.linear(torch.relu(x), *weights[2:4]) if hidden else x
            scores = functional.linear(x, *weights[-2:])
            loss = functional.cross_entropy(scores, torch.from_numpy(targets[batch]), reduction="sum")
            (loss / len(batch)).backward()
            clipped(weights, 0.3)
            rate, done = rate_at(done, peak=0.05, warmup=2, total=6), done + 1
            stepped(weights, moments, done, rate=rate, decay=0.2, betas=(0.9, 0.999), eps=1e-6)
            summed += float(loss.detach())
        assert reports[epoch - 1].loss == pytest.approx(summed / 7, rel=1e-4)
    learned = [parameter for linear in found.maps for parameter in (linear.weight, linear.bias)]
    for one, two in zip(learned, weights, strict=False):
        torch.testing.assert_close(one.detach(), two.detach(), rtol=2e-4, atol=2e-5)


class Masking(MaskedEncoder):
    """Keeps the noise and the draws of its passes; its loss is the mean square of what a linear map gives."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.n_patches, self.n_frames = 2, 8, 4
        self.linear = nn.Linear(6, 2)
        self.seen: list[dict] = []

    def fbank(self, waveforms):
        return waveforms.view(len(waveforms), -1, 6)

    def forward_masked(self, fbank, noise, *, mask_ratio):
        self.seen.append({"fbank": fbank.clone(), "noise": noise.clone(), "ratio": mask_ratio})
        if self.training:
            self.seen[-1] |= {"clips": uniform((len(fbank), 2), CPU), "step": tossed()}
        pred = self.linear(fbank)
        return MaskedPass(pred.square().mean(), pred, noise)

    def panels(self, fbank, masked):
        return fbank, masked.mask, masked.pred


def test_pretraining_draws_by_epoch_and_step():
    """Noise and clips' seeds of a step come from (seed, epoch, step from 1); layers drop by the first clip's seed."""
    waveforms = torch.randn(5, 24, generator=seeded(1))
    recipe = PretrainRecipe(
        epochs=2, batch_size=4, micro_batch=3, base_learning_rate=0.64, warmup_epochs=0.5, mask_ratio=0.5,
        precision="float32", clip_seconds=1.0,
    )  # fmt: skip
    told, reports, began = [], [], time.perf_counter()
    trained, returned = pretrain(
        Masking(), reader(waveforms), 5, recipe=recipe, seed=7, device=CPU,
        on_epoch=reports.append, on_step=lambda *both: told.append(both),
    )  # fmt: skip
    assert sum(report.seconds for report in reports) <= time.perf_counter() - began
    assert all(report.seconds > 0 for report in reports)
    features, at = waveforms.view(5, -1, 6), 0
    for epoch in (1, 2):
        order = np.random.default_rng([7, epoch]).permutation(5)
        for step, batch in enumerate((order[:4], order[4:]), start=1):
            chance = np.random.default_rng([7, epoch, step])
            noise = torch.from_numpy(chance.random((len(batch), 8), dtype=np.float32))
            clips = chance.integers(SEEDS, size=len(batch))
            for start in range(0, len(batch), 3):
                one, at = trained.seen[at], at + 1
                part = slice(start, start + 3)
                assert torch.equal(one["fbank"], features[batch[part]]) and one["ratio"] == 0.5
                assert torch.equal(one["noise"], noise[part])
                wanted = torch.stack([torch.rand(2, generator=seeded(seed)) for seed in clips[part]])
                assert torch.equal(one["clips"], wanted)
                coins = seeded(clips[0])
                assert one["step"] == [torch.rand((), generator=coins).item() < 0.5 for _ in range(8)]
    assert at == len(trained.seen) == 6
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)] and reports == returned
    rates = [rate_at(2 * epoch - 1, peak=0.01, warmup=1.0, total=4) for epoch in (1, 2)]
    assert [report.learning_rate for report in reports] == pytest.approx(rates)
    assert [(report.epoch, report.precision) for report in reports] == [(1, "float32"), (2, "float32")]


def test_losses_of_pretraining_are_summed_in_64_bits():
    """Micro-batches of very different losses add up to the last digit, each by its share of the batch."""
    waveforms = torch.randn(6, 24, generator=seeded(1)) * 10.0 ** (torch.arange(6)[:, None] / 2)
    recipe = PretrainRecipe(epochs=1, batch_size=6, micro_batch=1, precision="float32", clip_seconds=1.0)
    model = Masking()
    _, (report,) = pretrain(model, reader(waveforms), 6, recipe=recipe, device=CPU)
    summed = 0.0
    for clip in np.random.default_rng([0, 1]).permutation(6):
        with torch.no_grad():
            summed += float(model.linear(model.fbank(waveforms[clip : clip + 1])).square().mean() * (1 / 6))
    assert report.loss == pytest.approx(summed, rel=1e-13)
    assert float(np.float32(summed)) != pytest.approx(summed, rel=1e-13)


class Leaving(Masking):
    """Uses a second map in the first step alone."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(6, 2)

    def forward_masked(self, fbank, noise, *, mask_ratio):
        weight = self.other.weight.detach().clone()
        found = super().forward_masked(fbank, noise, mask_ratio=mask_ratio)
        self.seen[-1]["other"] = weight
        if len(self.seen) > 1:
            return found
        return MaskedPass(found.loss + self.other(fbank).square().mean(), found.pred, found.mask)


def test_what_a_step_of_pretraining_does_not_use_it_does_not_move():
    """As in fine-tuning: without a gradient neither decay nor earlier steps move a layer."""
    recipe = PretrainRecipe(epochs=4, batch_size=4, weight_decay=0.5, precision="float32", clip_seconds=1.0)
    trained, _ = pretrain(Leaving(), reader(torch.randn(4, 24, generator=seeded(1))), 4, recipe=recipe, device=CPU)
    weights = [one["other"] for one in trained.seen]
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(weights[1], weights[2]) and torch.equal(weights[2], weights[3])


def test_a_picture_masks_by_its_own_seed():
    """`reconstruct` draws the noise of its masks from its seed, 0 where none is named, and asks for the share said."""
    model, waveforms = Masking().eval(), torch.randn(2, 24, generator=seeded(1))
    for options in ({}, {"seed": 0}, {"seed": 4}):
        masked, panels = reconstruct(model, waveforms, mask_ratio=0.25, **options)
        noise = torch.rand((2, 8), generator=seeded(options.get("seed", 0)))
        assert torch.equal(masked.mask, noise) and torch.equal(panels[1], noise)
        assert torch.equal(panels[0], waveforms.view(2, -1, 6)) and model.seen[-1]["ratio"] == 0.25
