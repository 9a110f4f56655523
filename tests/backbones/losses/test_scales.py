"""Scales, margins and defaults of the losses, worked out in numpy: soft targets, borders, first and next scales."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from torch import Generator, nn

from backbones import LOSSES
from backbones.contract import BackboneError
from backbones.losses import adacos, adaproj, arcface, cross_entropy, subcluster_adacos
from backbones.networks.directions import AdaptiveScale, Directions
from tests.backbones.losses.test_losses import CLASSES, CLIPS, DIM, cosines_of, drawn, head_of

DEFAULTS = {
    adacos: {"adaptive": True},
    adaproj: {"subclusters": 16, "adaptive": True},
    arcface: {"scale": 30.0, "margin": 0.5, "subclusters": 1},
    cross_entropy: {},
    subcluster_adacos: {"subclusters": 16, "adaptive": True, "learned": True},
}


@pytest.mark.parametrize("module", DEFAULTS)
def test_defaults_are_those_of_recorded_trials(module) -> None:
    """A loss without options is recorded by its name alone, so its defaults may not move, nor whether it is soft."""
    arguments = {name: one.default for name, one in inspect.signature(module.build).parameters.items()}
    for name in ("dim", "n_classes", "generator"):
        del arguments[name]
    assert arguments == dict(module.LOSS.options) == DEFAULTS[module]
    assert module.LOSS.soft == (module is not arcface)
    assert set(LOSSES.names()) >= {each.LOSS.name for each in DEFAULTS}


@pytest.mark.parametrize(("directions", "first"), [(1, 1.0), (2, 1.0), (3, 1.0), (4, 3.0), (41, 40.0)])
def test_the_first_scale(directions: int, first: float) -> None:
    """sqrt(2) log(n - 1), and 1 where that is less: for one, two or three directions."""
    wanted = max(1.0, math.sqrt(2) * math.log(first))
    assert AdaptiveScale(directions, adaptive=True).value.item() == pytest.approx(wanted, rel=1e-6)


def test_the_next_scale() -> None:
    """Log of the mean of exp(others) over the cosine of the median angle, 45 degrees at most, and never under 1."""
    wide, narrow = torch.tensor([0.1, -0.2, -0.5]), torch.tensor([0.9, 0.95, 1.5])  # a cosine of 1.5 is rounding: 1
    for own, angle in ((wide, math.pi / 4), (narrow, math.acos(0.95))):
        scale = AdaptiveScale(9, adaptive=True)
        others = torch.tensor([1.0, 2.0, 4.0])
        scale.see(others, own)
        scale.end_step()
        mean = np.log(np.exp([1.0, 2.0, 4.0]).mean())
        assert scale.value.item() == pytest.approx(mean / math.cos(angle), rel=1e-5)
        scale.end_step()  # nothing was seen: it stays
        assert scale.value.item() == pytest.approx(mean / math.cos(angle), rel=1e-5)
        scale.see(torch.tensor([-math.inf]), torch.tensor([1.0]))  # of a single class there are no others
        scale.end_step()
        assert scale.value.item() == pytest.approx(mean / math.cos(angle), rel=1e-5)
        scale.see(torch.tensor([9.0]), torch.tensor([1.0]))
        scale.forget()
        scale.see(torch.tensor([-3.0]), torch.tensor([1.0]))
        scale.end_step()
        assert scale.value.item() == 1.0
    fixed = AdaptiveScale(9, adaptive=False)
    fixed.see(torch.tensor([9.0]), torch.tensor([1.0]))
    fixed.end_step()
    assert fixed.value.item() == pytest.approx(math.sqrt(2) * math.log(8), rel=1e-6)


def test_directions_are_unit_vectors_of_the_seed() -> None:
    """Drawn from a normal distribution and normalised, as are embeddings; learned ones are parameters."""
    for learned in (True, False):
        made = Directions(4, 3, 2, generator=Generator().manual_seed(5), learned=learned)
        wanted = torch.empty(3, 2, 4).normal_(generator=Generator().manual_seed(5))
        wanted /= wanted.norm(dim=2, keepdim=True)
        torch.testing.assert_close(made.weight.detach(), wanted)
        assert [name for name, _ in made.named_parameters()] == (["weight"] if learned else [])
    with torch.no_grad():
        torch.testing.assert_close(made(7 * wanted[1]), torch.einsum("bd,ckd->bck", wanted[1], wanted))


@pytest.mark.parametrize("name", ["adacos", "subcluster_adacos:subclusters=3", "adaproj:subclusters=3"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("near_its_class", [False, True])
def test_scales_follow_what_is_seen(name: str, soft: bool, near_its_class: bool) -> None:
    """B sums over the classes by what of a clip is not theirs; the angle is that to the clip's own classes."""
    embeddings, classes = drawn()
    head = head_of(name).train()
    scale = head.scale.value.item()
    if near_its_class:  # so that the median angle counts as it is, and not as pi / 4
        own = head.bases[classes, :, 0] if name.startswith("adaproj") else head.directions.weight.detach()[classes, 0]
        embeddings = own + 0.04 * embeddings
    if name.startswith("adaproj"):
        x = embeddings.double().numpy()
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        near = np.linalg.norm(np.einsum("bd,cdk->bck", x, head.bases.double().numpy()), axis=2)
        powers = np.exp(scale * near)
    else:
        cosines = cosines_of(embeddings, head.directions.weight)
        near, powers = cosines.max(axis=2), np.exp(scale * cosines).sum(axis=2)
    weights = np.eye(CLASSES)[classes.numpy()]
    if soft:
        weights = 0.7 * weights + 0.3 * np.roll(weights, 1, axis=1)
    targets = torch.from_numpy(weights.astype(np.float32)) if soft else classes
    b = (powers * (1 - weights)).sum(axis=1).mean()
    median = np.sort(np.arccos((weights * near).sum(axis=1)))[(CLIPS - 1) // 2]
    head.eval()
    head(embeddings, targets)
    head.end_step()
    assert head.scale.value.item() == scale  # outside training nothing is taken note of
    head.train()
    head(embeddings, targets)
    head.end_step()
    wanted = max(1.0, math.log(b) / math.cos(min(math.pi / 4, median)))
    assert head.scale.value.item() == pytest.approx(wanted, rel=1e-5)
    assert wanted > 1.0
    assert (median < math.pi / 4) == (near_its_class and not soft) or name.startswith("adaproj")


@pytest.mark.parametrize("name", ["adacos", "subcluster_adacos:subclusters=3", "adaproj:subclusters=3"])
def test_rounding_above_one_is_one(name: str) -> None:
    """A weight that sums to a little more than 1 in single precision is a whole one, and the scale follows."""
    embeddings, classes = drawn()
    whole, above = head_of(name).train(), head_of(name).train()
    weights = nn.functional.one_hot(classes, CLASSES).float()
    whole(embeddings, weights)
    above(embeddings, weights * (1 + 2**-22))
    for head in (whole, above):
        head.end_step()
    assert above.scale.value.item() == pytest.approx(whole.scale.value.item(), rel=1e-5)
    assert above.scale.value.item() != head_of(name).scale.value.item()


@pytest.mark.parametrize("cosine", [1 + 2**-22, -1 - 2**-22])
def test_a_cosine_beyond_one_has_an_angle(cosine: float) -> None:
    """Rounding may make a cosine larger than 1: the angle is 0, or a straight one."""
    scale = AdaptiveScale(10, adaptive=True)
    scale.see(torch.full((3,), 2.0), torch.full((3,), cosine))
    scale.end_step()
    assert scale.value.item() == pytest.approx(2.0 / math.cos(0.0 if cosine > 0 else math.pi / 4))


@pytest.mark.parametrize("name", ["adacos", "arcface", "subcluster_adacos:subclusters=3"])
def test_the_length_of_a_direction_does_not_matter(name: str) -> None:
    """Directions are normalised at every use, however long learning has made them."""
    embeddings, classes = drawn()
    head = head_of(name)
    before = head(embeddings, classes)[0].item()
    with torch.no_grad():
        head.directions.weight.mul_(torch.linspace(0.5, 3.0, CLASSES)[:, None, None])
    assert head(embeddings, classes)[0].item() == pytest.approx(before, rel=1e-5)


def test_what_a_loss_learns() -> None:
    """Directions learn unless the choice says that they stay as they are drawn."""
    for learns in ("subcluster_adacos", "adacos", "arcface"):
        assert [name for name, _ in head_of(learns).named_parameters()] == ["directions.weight"]
    assert not list(head_of("subcluster_adacos:learned=false").parameters())
    assert not list(head_of("adaproj").parameters())


def test_a_scale_is_finite() -> None:
    """An infinite one would leave no number of the loss."""
    with pytest.raises(BackboneError, match="arcface needs a scale above 0"):
        arcface.build(dim=4, n_classes=2, generator=Generator(), scale=math.inf)


class Given(nn.Module):
    """Gives the cosines that it was made with."""

    def __init__(self, *cosines: list[float]) -> None:
        super().__init__()
        self.cosines = torch.tensor(cosines)[:, :, None]

    def forward(self, embeddings):
        del embeddings
        return self.cosines


def test_the_margin_at_its_borders() -> None:
    """At pi - m the line stands already; near 0 the sine counts as a thousandth; scores are without the margin."""
    margin, scale = math.acos(0.6), 2.0
    head = head_of(f"arcface:margin={margin!r},scale={scale}", classes=2)
    for own, marked in (
        (math.cos(math.pi - margin), math.cos(math.pi - margin) - margin * math.sin(margin)),
        (1.0, math.cos(margin) - 1e-3 * math.sin(margin)),
        (0.5, math.cos(math.acos(0.5) + margin)),
        (-0.9, -0.9 - margin * math.sin(margin)),
    ):
        head.directions = Given([0.25, own])
        loss, scores = head(torch.ones(1, DIM), torch.tensor([1]))
        wanted = math.log(math.exp(scale * 0.25) + math.exp(scale * marked)) - scale * marked
        assert loss.item() == pytest.approx(wanted, rel=2e-6)
        assert scores.tolist() == [[0.5, pytest.approx(scale * own)]]


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (("margin=0", f"margin={math.pi / 2!r}"), ("margin=-0.001", "margin=1.5709")),
        (("scale=0.5",), ("scale=0", "scale=-1")),
        (("subclusters=1",), ("subclusters=0",)),
    ],
)  # fmt: skip
def test_borders_of_a_margin(good: tuple[str, ...], bad: tuple[str, ...]) -> None:
    """Margins from none to a right angle, scales above 0, at least one direction a class."""
    for options in good:
        head_of(f"arcface:{options}")
    for options in bad:
        with pytest.raises(BackboneError, match="arcface"):
            head_of(f"arcface:{options}")


def test_borders_of_a_subspace() -> None:
    """A subspace has a dimension at least and one fewer than an embedding at most; its basis is orthonormal."""
    for size in (1, DIM - 1):
        bases = head_of(f"adaproj:subclusters={size}").bases
        torch.testing.assert_close(
            torch.einsum("cdk,cdl->ckl", bases, bases), torch.eye(size).expand(CLASSES, size, size), atol=1e-5, rtol=0
        )
    drawing = torch.empty(CLASSES, DIM, 2).normal_(generator=Generator().manual_seed(0))
    assert torch.equal(head_of("adaproj:subclusters=2").bases, torch.linalg.qr(drawing).Q)
    for size in (0, DIM):
        with pytest.raises(BackboneError, match="subclusters of adaproj"):
            head_of(f"adaproj:subclusters={size}")


def test_an_embedding_across_its_subspace_has_a_slope() -> None:
    """At a right angle to a subspace the projection's length counts as a millionth, of slope 0 and not infinite."""
    head = head_of("adaproj:subclusters=1,adaptive=false", classes=2)
    basis = head.bases[1, :, 0]
    across = torch.zeros(DIM)
    across[0], across[1] = basis[1], -basis[0]  # in 32 bits not exactly, but far nearer than a millionth
    embedding = (across / across.norm()).requires_grad_(True)
    loss, scores = head(embedding[None], torch.tensor([1]))
    loss.backward()
    assert torch.isfinite(embedding.grad).all()
    assert scores[0, 1].item() == pytest.approx(head.scale.value.item() * (2e-6 - 2.0), abs=2e-7)
