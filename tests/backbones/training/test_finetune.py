"""Fine-tuning: what it learns, and what must not change its result."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from backbones import load_encoder
from backbones.contract import BackboneError, Encoder
from backbones.training.finetune import finetune
from backbones.training.optimiser import Schedule, make_optimiser, set_learning_rate
from backbones.training.recipe import FinetuneRecipe
from tests.backbones.conftest import SMALL, reader, tones

CPU = torch.device("cpu")
QUICK = FinetuneRecipe(
    epochs=2, batch_size=16, learning_rate=1e-3, warmup_epochs=0.5, time_mask=8, mel_mask=16, micro_batch=4
)
NOISY = {
    "beats": {"dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1, "encoder_layerdrop": 0.3},
    "audiomae": {"drop_path": 0.3},
    "tiny": {},
}


def run(encoder, waveforms, targets, recipe=QUICK, **options):
    """Fine-tune on waveforms in memory."""
    options = {"n_classes": 2, "device": CPU, **options}
    return finetune(encoder, reader(waveforms), targets, recipe=recipe, **options)


def changed(recipe, **values):
    """Return the recipe with other values."""
    return FinetuneRecipe(**{**vars(recipe), **values})


def farthest(one, other):
    """Return the largest difference between two encoders' weights."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


@pytest.mark.parametrize("name", SMALL)
def test_micro_batches_do_not_matter(name):
    """Micro-batches of 1, 4 and 16 end within 1e-5 of one another, dropout, dropped layers and masks included."""
    encoder = load_encoder(name, **SMALL[name], **NOISY[name])
    waveforms, targets = tones(21), np.arange(21) % 2
    tuned = [run(encoder, waveforms, targets, changed(QUICK, micro_batch=size)) for size in (1, 4, 16)]
    assert farthest(tuned[0], encoder) > 1e-4
    assert farthest(tuned[0], tuned[1]) < 1e-5
    assert farthest(tuned[0], tuned[2]) < 1e-5


@pytest.mark.parametrize("name", SMALL)
def test_deterministic_and_seeded(name):
    """The same seed gives the same weights bit for bit, another seed others; torch's generator plays no part."""
    encoder = load_encoder(name, **SMALL[name], **NOISY[name])
    waveforms, targets = tones(12), np.arange(12) % 2
    torch.manual_seed(1)
    one = run(encoder, waveforms, targets)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    two = run(encoder, waveforms, targets)
    assert torch.equal(torch.get_rng_state(), before)
    assert farthest(one, two) == 0
    assert farthest(one, run(encoder, waveforms, targets, seed=1)) > 0


def test_input_is_untouched():
    """The encoder that is given keeps its weights, mode and gradients; the copy comes back in evaluation mode."""
    encoder = load_encoder("beats", **SMALL["beats"]).train()
    weights = {name: value.clone() for name, value in encoder.state_dict().items()}
    tuned = run(encoder, tones(8), np.arange(8) % 2)
    assert all(torch.equal(value, weights[name]) for name, value in encoder.state_dict().items())
    assert encoder.training and not tuned.training
    assert all(parameter.grad is None for parameter in [*encoder.parameters(), *tuned.parameters()])


@pytest.mark.parametrize("name", SMALL)
def test_learns(name):
    """Every backbone learns to tell two tones apart."""
    reports = []
    recipe = changed(QUICK, epochs=10, batch_size=8, micro_batch=8, learning_rate=3e-3)
    run(load_encoder(name, **SMALL[name]), tones(32), np.arange(32) % 2, recipe, on_epoch=reports.append)
    assert [report.epoch for report in reports] == list(range(1, 11))
    assert reports[-1].accuracy > 0.9
    assert reports[-1].loss < 0.6 * reports[0].loss


def test_no_epochs():
    """With 0 epochs a plain copy comes back, and nobody listens to a clip."""
    encoder = load_encoder("tiny", **SMALL["tiny"])

    def silent(positions):
        raise AssertionError(positions)

    recipe = changed(QUICK, epochs=0)
    tuned = finetune(encoder, silent, np.arange(4) % 2, n_classes=2, recipe=recipe, device=CPU)
    assert tuned is not encoder
    assert farthest(tuned, encoder) == 0


def test_head_alone():
    """train="head" leaves the encoder's weights as they are, learns all the same, and freezes nothing for good."""
    encoder = load_encoder("tiny", **SMALL["tiny"])
    reports = []
    recipe = changed(QUICK, epochs=20, batch_size=4, learning_rate=3e-2, train="head", masks=0)
    tuned = run(encoder, tones(16), np.arange(16) % 2, recipe, on_epoch=reports.append)
    assert farthest(tuned, encoder) == 0
    assert reports[-1].loss < 0.7 * reports[0].loss
    assert all(parameter.requires_grad for parameter in tuned.parameters())


def test_soft_targets_of_one_class_are_hard_targets():
    """Soft targets with all their weight on one class teach the same as that class."""
    encoder = load_encoder("tiny", **SMALL["tiny"])
    hard = np.arange(12) % 2
    soft = np.eye(2, dtype=np.float32)[hard]
    assert farthest(run(encoder, tones(12), hard), run(encoder, tones(12), soft)) < 1e-6


@pytest.mark.parametrize(
    ("targets", "n_classes"),
    [(np.zeros(5, dtype=np.int64), 1), (np.arange(5), 5), (np.array([0, 0, 0, 0, 2]), 4), (np.zeros(1, dtype=int), 2)],
)
def test_few_clips_and_classes(targets, n_classes):
    """One class, classes of one clip, classes of none, and fewer clips than a batch are all fine."""
    reports = []
    tuned = run(
        load_encoder("tiny", **SMALL["tiny"]),
        tones(len(targets)),
        targets,
        n_classes=n_classes,
        on_epoch=reports.append,
    )
    assert all(np.isfinite(report.loss) for report in reports)
    assert all(torch.isfinite(value).all() for value in tuned.state_dict().values())


def test_features_per_batch_equal_kept_features():
    """The result is the same whether log-mel features are kept in memory or made for each batch."""
    encoder = load_encoder("tiny", **SMALL["tiny"])
    targets = np.arange(10) % 2
    assert farthest(run(encoder, tones(10), targets), run(encoder, tones(10), targets, features_gb=0.0)) < 1e-6


def test_loss_that_is_not_finite():
    """A loss that becomes NaN stops the run, saying in which epoch and what to do."""
    waveforms = tones(8)
    waveforms[3, 100] = torch.nan
    with pytest.raises(BackboneError, match=r"Loss became nan in epoch 1 .*lower learning_rate"):
        run(load_encoder("tiny", **SMALL["tiny"]), waveforms, np.arange(8) % 2)


class Hungry(Encoder):
    """Has memory for so many clips at once."""

    def __init__(self, room):
        super().__init__()
        self.dim = 4
        self.room = room
        self.linear = nn.Linear(8, 4)

    def fbank(self, waveforms):
        return waveforms.view(len(waveforms), -1, 8)

    def tokens(self, fbank, padding_mask=None):
        if len(fbank) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.linear(fbank)


def test_out_of_memory_halves_the_micro_batch():
    """Without a given micro-batch, memory that does not suffice halves it, and the result is that of small ones."""
    torch.manual_seed(0)
    encoder = Hungry(room=3)
    waveforms, targets = torch.randn(12, 32), np.arange(12) % 2
    found = run(encoder, waveforms, targets, changed(QUICK, micro_batch=None))
    given = run(encoder, waveforms, targets, changed(QUICK, micro_batch=2))
    assert farthest(found, given) == 0
    with pytest.raises(BackboneError, match="does not suffice to train on one clip"):
        run(Hungry(room=0), waveforms, targets, changed(QUICK, micro_batch=None))
    with pytest.raises(BackboneError, match="does not suffice to fine-tune"):
        run(Hungry(room=3), waveforms, targets, changed(QUICK, micro_batch=4))


def test_bfloat16():
    """Fine-tuning in bfloat16 gives finite float32 weights near those of float32, and says so in its reports."""
    encoder, reports = load_encoder("beats", **SMALL["beats"]), []
    recipe = changed(QUICK, precision="bfloat16")
    tuned = run(encoder, tones(8), np.arange(8) % 2, recipe, on_epoch=reports.append)
    assert {report.precision for report in reports} == {"bfloat16"}
    assert {value.dtype for value in tuned.state_dict().values()} == {torch.float32}
    assert 0 < farthest(tuned, run(encoder, tones(8), np.arange(8) % 2)) < 0.02


def test_schedule():
    """The learning rate rises linearly over the warm-up and falls by half a cosine to nearly 0."""
    schedule = Schedule(peak=1.0, warmup=4, total=14)
    rates = [schedule.rate(step) for step in range(14)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[9] == pytest.approx(0.5)
    assert all(a >= b for a, b in pairwise(rates[4:])) and rates[-1] < 0.05


@pytest.mark.parametrize("name", SMALL)
def test_layer_decay_and_weight_decay(name):
    """The learning rate falls by a factor a layer away from the head; vectors do not decay, matrices do."""
    encoder = load_encoder(name, **SMALL[name])
    optimiser = make_optimiser(encoder, nn.Linear(encoder.dim, 2), changed(QUICK, layer_decay=0.5))
    scales = sorted({group["scale"] for group in optimiser.param_groups}, reverse=True)
    assert scales[0] == 1.0 and len(scales) >= 3
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            assert (group["weight_decay"] > 0) == (sum(side > 1 for side in parameter.shape) > 1)
    set_learning_rate(optimiser, 0.1)
    assert sorted({group["lr"] for group in optimiser.param_groups}, reverse=True) == [0.1 * each for each in scales]


def test_gradient_decay_needs_an_encoder_that_has_it():
    """BEATs takes the recipe's gradient decay; another encoder refuses it."""
    recipe = changed(QUICK, gradient_decay=0.6)
    encoder = load_encoder("beats", **SMALL["beats"])
    slowed = run(encoder, tones(8), np.arange(8) % 2, recipe)
    assert farthest(slowed, run(encoder, tones(8), np.arange(8) % 2)) > 0
    with pytest.raises(BackboneError, match="gradient_decay"):
        run(load_encoder("tiny", **SMALL["tiny"]), tones(8), np.arange(8) % 2, recipe)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.zeros(0, dtype=np.int64), "at least one clip"),
        (np.array([0, 2]), "between 0 and 1"),
        (np.array([-1, 0]), "between 0 and 1"),
        (np.array([[0.5, 0.5, 0.0]] * 2), "shape"),
        (np.array([0.0, 1.0]), "shape"),
        (np.array([[0.5, 0.4]] * 2), "sum to 1"),
        (np.array([[1.5, -0.5]] * 2), "0 or more"),
        (np.array([[np.nan, 1.0]] * 2), "finite"),
        (np.array([[np.inf, 0.0], [0.5, 0.5]]), "finite"),
        (np.array([[1, 0], [0, 1]]), "weights of shape .n, 2., but are int64"),
    ],
)
def test_wrong_targets(targets, message):
    """Targets that are no classes are refused in one sentence."""
    with pytest.raises(BackboneError, match=message):
        run(load_encoder("tiny", **SMALL["tiny"]), tones(2), targets)


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": -1},
        {"batch_size": 0},
        {"micro_batch": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"gradient_clip": 0.0},
        {"layer_decay": 0.0},
        {"precision": "float16"},
        {"train": "none"},
        {"time_mask": -1},
    ],
)
def test_wrong_recipes(values):
    """A recipe out of range is refused, naming the setting."""
    with pytest.raises(BackboneError, match=next(iter(values))):
        run(load_encoder("tiny", **SMALL["tiny"]), tones(2), np.arange(2), changed(QUICK, **values))


def test_clips_of_several_lengths():
    """Clips that are not of one length are refused instead of failing inside torch."""
    long, short = tones(32), tones(8, seconds=0.25)

    def read(positions):
        return long if positions[0] == 0 and len(positions) > 1 else short if positions[0] else long[:1]

    with pytest.raises(BackboneError, match="one length"):
        finetune(load_encoder("tiny", **SMALL["tiny"]), read, np.arange(40) % 2, n_classes=2, recipe=QUICK, device=CPU)
