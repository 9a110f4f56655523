"""Losses: against formulas written out in numpy, and by what they must equal."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional

from backbones import LOSSES
from backbones.contract import BackboneError, LossHead
from backbones.training.finetune import finetune
from backbones.training.loss_choice import parse_loss
from backbones.training.recipe import FinetuneRecipe
from tests.backbones.conftest import reader, tones

DIM, CLASSES, CLIPS = 24, 5, 40
SOFT = [name for name in LOSSES.names() if LOSSES.load(name).soft]


def head_of(text: str, *, classes: int = CLASSES, seed: int = 0) -> LossHead:
    """Build a loss for small embeddings."""
    return parse_loss(text).build(dim=DIM, n_classes=classes, generator=Generator().manual_seed(seed))


def drawn(clips: int = CLIPS, *, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Draw embeddings and classes."""
    rng = np.random.default_rng(seed)
    embeddings = torch.from_numpy(rng.normal(size=(clips, DIM)).astype(np.float32))
    return embeddings, torch.from_numpy(rng.integers(0, CLASSES, clips))


def cosines_of(embeddings: Tensor, directions: Tensor) -> NDArray[np.float64]:
    """Return (b, c, k) cosines, in double precision."""
    x, w = embeddings.double().numpy(), directions.detach().double().numpy()
    return np.einsum(
        "bd,ckd->bck",
        x / np.linalg.norm(x, axis=1, keepdims=True),
        w / np.linalg.norm(w, axis=2, keepdims=True),
    )


def negative_log(scores: NDArray[np.float64], targets: Tensor) -> float:
    """Return the summed cross-entropy of (b, c) scores."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    probability = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    return float(-np.log(probability[np.arange(len(scores)), targets.numpy()]).sum())


def test_arcface_is_its_formula() -> None:
    """cos(theta + m) of the target, cos(theta) of the others, times s, through softmax."""
    embeddings, targets = drawn()
    head = head_of("arcface:scale=20,margin=0.4")
    angles = np.arccos(cosines_of(embeddings, head.directions.weight)[:, :, 0])
    own = np.zeros_like(angles, dtype=bool)
    own[np.arange(CLIPS), targets.numpy()] = True
    assert (angles[own] + 0.4 < math.pi).all()
    scores = 20 * np.cos(np.where(own, angles + 0.4, angles))
    assert head(embeddings, targets)[0].item() == pytest.approx(negative_log(scores, targets), rel=1e-5)


def test_arcface_goes_on_falling_beyond_a_straight_angle() -> None:
    """An embedding that points away from its class has a larger loss the further away it is, margin or not."""
    head = head_of("arcface:margin=0.5")
    direction = functional.normalize(head.directions.weight[0, 0].detach(), dim=0)
    side = torch.zeros(DIM)
    side[int(direction.abs().argmin())] = 1.0
    side = functional.normalize(side - (side @ direction) * direction, dim=0)
    angles = [2.4, 2.6, 2.64, 2.66, 2.8, 3.0, 3.1]  # pi - 0.5 is 2.642
    points = torch.stack([math.cos(angle) * direction + math.sin(angle) * side for angle in angles])
    cosines = torch.einsum("bd,d->b", points, direction)
    marked = [
        math.cos(angle + 0.5) if angle < math.pi - 0.5 else float(cosine) - 0.5 * math.sin(0.5)
        for angle, cosine in zip(angles, cosines, strict=True)
    ]
    assert all(later < earlier for earlier, later in itertools.pairwise(marked))
    others = head.scale * cosines_of(points, head.directions.weight)[:, :, 0]
    others[:, 0] = head.scale * np.array(marked)
    targets = torch.zeros(len(angles), dtype=torch.int64)
    assert head(points, targets)[0].item() == pytest.approx(negative_log(others, targets), rel=1e-4)


def test_arcface_without_a_margin_is_normalised_softmax() -> None:
    """With m = 0 the loss is cross-entropy of scaled cosines."""
    embeddings, targets = drawn()
    head = head_of("arcface:scale=16,margin=0")
    scores = 16 * cosines_of(embeddings, head.directions.weight)[:, :, 0]
    assert head(embeddings, targets)[0].item() == pytest.approx(negative_log(scores, targets), rel=1e-5)


def test_arcface_with_several_centers_takes_the_nearest() -> None:
    """With k directions a class the largest cosine counts."""
    embeddings, targets = drawn()
    head = head_of("arcface:scale=16,margin=0,subclusters=3")
    scores = 16 * cosines_of(embeddings, head.directions.weight).max(axis=2)
    assert head(embeddings, targets)[0].item() == pytest.approx(negative_log(scores, targets), rel=1e-5)


def test_adacos_begins_with_its_fixed_scale() -> None:
    """S = sqrt(2) log(classes - 1) at first, and always where it is not adaptive."""
    embeddings, targets = drawn()
    head = head_of("adacos:adaptive=false")
    scale = math.sqrt(2) * math.log(CLASSES - 1)
    scores = scale * cosines_of(embeddings, head.directions.weight)[:, :, 0]
    for _ in range(2):
        assert head(embeddings, targets)[0].item() == pytest.approx(negative_log(scores, targets), rel=1e-5)
        head.end_step()


def test_adacos_follows_the_angles() -> None:
    """After a step s = log(B) / cos(min(pi / 4, median angle)), written out in numpy."""
    embeddings, targets = drawn()
    head = head_of("adacos").train()
    before = math.sqrt(2) * math.log(CLASSES - 1)
    cosines = cosines_of(embeddings, head.directions.weight)[:, :, 0]
    own = np.zeros_like(cosines, dtype=bool)
    own[np.arange(CLIPS), targets.numpy()] = True
    b = np.where(own, 0.0, np.exp(before * cosines)).sum(axis=1).mean()
    median = np.sort(np.arccos(cosines[own]))[(CLIPS - 1) // 2]
    head(embeddings, targets)
    head.end_step()
    assert head.scale.value.item() == pytest.approx(math.log(b) / math.cos(min(math.pi / 4, median)), rel=1e-5)


@pytest.mark.parametrize("name", ["adacos", "subcluster_adacos:subclusters=3", "adaproj:subclusters=3"])
def test_the_cut_into_micro_batches_changes_no_scale(name: str) -> None:
    """A batch in one piece and in four gives the same loss and the same next scale; a batch begun again counts once."""
    embeddings, targets = drawn()
    whole, cut = head_of(name).train(), head_of(name).train()
    loss = whole(embeddings, targets)[0]
    cut.begin_step()
    cut(embeddings[:7], targets[:7])
    cut.begin_step()
    parts = [cut(embeddings[at : at + 10], targets[at : at + 10])[0] for at in range(0, CLIPS, 10)]
    assert sum(parts).item() == pytest.approx(loss.item(), rel=1e-6)
    whole.end_step()
    cut.end_step()
    assert cut.scale.value.item() == pytest.approx(whole.scale.value.item(), rel=1e-6)
    assert whole.scale.value.item() != pytest.approx(math.sqrt(2) * math.log(CLASSES - 1), rel=1e-3)


def test_one_subcluster_is_adacos() -> None:
    """Sub-cluster AdaCos with one direction a class is AdaCos, loss, gradient and next scale."""
    embeddings, targets = drawn()
    heads = [head_of(text).train() for text in ("adacos", "subcluster_adacos:subclusters=1")]
    losses = [head(embeddings, targets)[0] for head in heads]
    for head, loss in zip(heads, losses, strict=True):
        loss.backward()
        head.end_step()
    assert losses[0].item() == losses[1].item()
    assert torch.equal(heads[0].directions.weight.grad, heads[1].directions.weight.grad)
    assert heads[0].scale.value == heads[1].scale.value


def test_probabilities_of_subclusters_are_added() -> None:
    """A class has the sum of the softmax probabilities of its directions."""
    embeddings, targets = drawn()
    head = head_of("subcluster_adacos:subclusters=4,adaptive=false")
    scale = math.sqrt(2) * math.log(4 * CLASSES - 1)
    powers = np.exp(scale * cosines_of(embeddings, head.directions.weight))  # (b, c, k)
    probability = powers.sum(axis=2) / powers.sum(axis=(1, 2))[:, None]
    wanted = -np.log(probability[np.arange(CLIPS), targets.numpy()]).sum()
    assert head(embeddings, targets)[0].item() == pytest.approx(wanted, rel=1e-5)


def test_adaproj_is_the_distance_to_a_projection() -> None:
    """The score is minus s times the squared distance of a unit vector to its normalised projection."""
    embeddings, targets = drawn()
    head = head_of("adaproj:subclusters=3,adaptive=false")
    scale = math.sqrt(2) * math.log(3 * CLASSES - 1)
    x = embeddings.double().numpy()
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    scores = np.zeros((CLIPS, CLASSES))
    for place, basis in enumerate(head.bases.double().numpy()):  # (d, k)
        projected = x @ basis @ np.linalg.pinv(basis)
        projected /= np.linalg.norm(projected, axis=1, keepdims=True)
        scores[:, place] = -scale * ((x - projected) ** 2).sum(axis=1)
    assert head(embeddings, targets)[0].item() == pytest.approx(negative_log(scores, targets), rel=1e-4)


def test_an_embedding_in_its_subspace_has_the_best_score() -> None:
    """A vector that lies in a class's subspace scores 0 there, the most there is."""
    head = head_of("adaproj:subclusters=3")
    inside = head.bases[2] @ torch.tensor([0.3, -2.0, 0.9])
    scores = head(inside[None], torch.tensor([2]))[1]
    assert scores[0, 2].item() == pytest.approx(0.0, abs=1e-5)
    assert int(scores.argmax()) == 2


@pytest.mark.parametrize("name", SOFT)
def test_a_whole_weight_is_a_class(name: str) -> None:
    """Targets as weights of 1 and 0 give the loss of the class; a half of each lies between."""
    embeddings, targets = drawn()
    one_hot = functional.one_hot(targets, CLASSES).float()
    hard, soft = head_of(name)(embeddings, targets)[0], head_of(name)(embeddings, one_hot)[0]
    assert soft.item() == pytest.approx(hard.item(), rel=1e-6)
    other = one_hot.roll(1, dims=1)
    ends = [head_of(name)(embeddings, each)[0].item() for each in (one_hot, other)]
    assert head_of(name)(embeddings, (one_hot + other) / 2)[0].item() == pytest.approx(sum(ends) / 2, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES.names())
def test_gradients_are_finite(name: str) -> None:
    """Also of embeddings that are equal to a direction, opposite to one, or zero."""
    head = head_of(name).train()
    embeddings, targets = drawn(8)
    if hasattr(head, "directions"):
        embeddings[0] = head.directions.weight[targets[0], 0].detach()
        embeddings[1] = -head.directions.weight[targets[1], 0].detach()
    embeddings[2] = 0.0
    embeddings.requires_grad_(True)
    head(embeddings, targets)[0].backward()
    assert torch.isfinite(embeddings.grad).all()


@pytest.mark.parametrize("name", LOSSES.names())
def test_one_and_two_classes(name: str) -> None:
    """A loss of one class, which has nothing to tell apart, and of two are finite, and so is the next scale."""
    for classes in (1, 2):
        head = head_of(name, classes=classes).train()
        embeddings, _ = drawn(6)
        loss, scores = head(embeddings, torch.arange(6) % classes)
        head.end_step()
        assert torch.isfinite(loss)
        assert scores.shape == (6, classes)
        assert all(torch.isfinite(value).all() for value in head.state_dict().values())


@pytest.mark.parametrize("name", LOSSES.names())
def test_the_seed_decides(name: str) -> None:
    """The same seed gives the same weights, another one others."""
    first, again, other = (head_of(name, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", LOSSES.names())
@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_every_loss_learns(name: str, mixup: float) -> None:
    """A small encoder learns to tell tones apart under every loss, with mixup where weights are taken."""
    from backbones import load_encoder

    if mixup and not LOSSES.load(name).soft:
        pytest.skip("takes no mixture of classes")
    waveforms = tones(24, classes=3)
    targets = np.arange(24) % 3
    reports = []
    recipe = FinetuneRecipe(
        epochs=40, batch_size=8, learning_rate=1e-2, warmup_epochs=1, clip_seconds=None, masks=0, loss=name, mixup=mixup
    )
    finetune(
        load_encoder("tiny", dim=32, width=4), reader(waveforms), targets, n_classes=3, recipe=recipe,
        on_epoch=reports.append,
    )  # fmt: skip
    assert reports[-1].accuracy > 0.8 > reports[0].accuracy or reports[-1].loss < 0.5 * reports[0].loss


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arcfase", "Did you mean 'arcface'?"),
        ("arcface:margine=0.3", "margin"),
        ("arcface:margin", "option=value"),
        ("arcface:margin=nan", "a number"),
        ("arcface:margin=0.1,margin=0.2", "stands twice"),
        ("adaproj:subclusters=2.5", "a whole number"),
        ("adacos:adaptive=perhaps", "true or false"),
        ("cross_entropy:scale=3", "takes no options"),
    ],
)
def test_mistakes_are_one_sentence(text: str, said: str) -> None:
    """A wrong name, option or value is answered with the rule."""
    with pytest.raises(BackboneError, match=said.replace("?", r"\?")):
        parse_loss(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arcface:scale=0", "scale above 0"),
        ("arcface:margin=2", "margin"),
        ("subcluster_adacos:subclusters=0", "1 or more"),
        (f"adaproj:subclusters={DIM}", "whole space"),
    ],
)
def test_values_out_of_range(text: str, said: str) -> None:
    """An option out of range is refused when the loss is built."""
    with pytest.raises(BackboneError, match=said):
        head_of(text)


def test_what_is_said_is_canonical() -> None:
    """Options in any order, defaults left out, give one text."""
    assert str(parse_loss("arcface: margin=0.50 , scale=16")) == "arcface:scale=16"
    assert str(parse_loss("arcface:scale=30")) == "arcface"
    assert str(parse_loss("subcluster_adacos:learned=False")) == "subcluster_adacos:learned=false"


def test_a_margin_takes_no_mixture() -> None:
    """ArcFace refuses soft targets and mixup in words."""
    from backbones import load_encoder

    encoder, soft = load_encoder("tiny", dim=8, width=2), np.full((4, 2), 0.5, dtype=np.float32)
    for targets, mixup, why in (
        (soft, 0.0, "soft fusion makes them"), (np.array([0, 1, 0, 1]), 0.3, r"mixup = 0\.3 makes them"),
    ):  # fmt: skip
        recipe = FinetuneRecipe(epochs=1, loss="arcface", mixup=mixup)
        with pytest.raises(
            BackboneError, match=f"must have one class a clip, but targets are weights over several \\({why}"
        ):
            finetune(encoder, reader(tones(4)), targets, n_classes=2, recipe=recipe)
