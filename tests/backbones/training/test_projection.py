"""A small network on embeddings learns what an encoder would, in seconds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from backbones.contract import BackboneError, EpochReport
from backbones.training import projection
from backbones.training.projection import Projection, learn_projection, project
from backbones.training.recipe import FinetuneRecipe

RECIPE = FinetuneRecipe(
    epochs=20, batch_size=16, learning_rate=1e-2, warmup_epochs=1, train="projection", projection_dim=8
)


@pytest.fixture
def clips() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Embeddings of 3 classes that differ in 2 of 30 numbers, which are small beside the others: (60, 30), (60,)."""
    chance = np.random.default_rng(0)
    targets = np.arange(60, dtype=np.int64) % 3
    vectors = chance.normal(scale=100.0, size=(60, 30))
    vectors[:, :2] = 0.01 * (np.array([[0, 0], [5, 0], [0, 5]])[targets] + chance.normal(size=(60, 2)))
    return vectors.astype(np.float32), targets


def nearest(vectors: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """Return how often a clip's nearest other clip has its class."""
    apart = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    return float((targets[apart.argmin(axis=1)] == targets).mean())


@pytest.mark.parametrize("loss", ["cross_entropy", "arcface", "adaproj:subclusters=4"])
@pytest.mark.parametrize("hidden", [0, 16])
def test_classes_come_together(clips: tuple[NDArray[np.float32], NDArray[np.int64]], loss: str, hidden: int) -> None:
    """Whatever the loss and the depth, clips of a class lie closer together than they did."""
    vectors, targets = clips
    told: list[EpochReport] = []
    recipe = replace(RECIPE, loss=loss, projection_hidden=hidden)
    learned = learn_projection(vectors, targets, n_classes=3, recipe=recipe, on_epoch=told.append)
    projected = project(learned, vectors)
    assert projected.shape == (60, 8)
    assert projected.dtype == np.float32
    assert nearest(projected, targets) > nearest(vectors, targets) + 0.3
    assert [report.epoch for report in told] == list(range(1, 21))
    assert told[-1].loss < told[0].loss


def test_the_same_seed_gives_the_same_numbers(clips: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    """A projection is its seed's, to the last bit; another seed gives another, and torch's own draws stay untouched."""
    vectors, targets = clips
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    made = [
        project(learn_projection(vectors, targets, n_classes=3, recipe=RECIPE, seed=seed), vectors)
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(made[0], made[1])
    assert not np.allclose(made[0], made[2])


def test_a_clips_projection_is_its_own(clips: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    """What a clip becomes does not depend on which others are projected with it."""
    vectors, targets = clips
    learned = learn_projection(vectors, targets, n_classes=3, recipe=RECIPE)
    np.testing.assert_allclose(project(learned, vectors[7:9]), project(learned, vectors)[7:9], rtol=1e-5, atol=1e-6)


def test_numbers_that_never_differ_do_no_harm(clips: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    """A part of the embeddings that is the same for every clip, as of a dead ReLU, is left alone."""
    vectors, targets = clips
    vectors[:, 5] = 3.0
    learned = learn_projection(vectors, targets, n_classes=3, recipe=RECIPE)
    assert np.isfinite(project(learned, vectors)).all()


def test_a_new_projection_takes_numbers_as_they_are() -> None:
    """Before it has seen any clip, nothing is taken off and nothing divided; numbers of embeddings are no mel bins."""
    new = Projection(3, dim=2)
    assert not new.bins_are_mel
    with torch.no_grad():
        wanted = new.maps[0](torch.tensor([[1.0, 2.0, 3.0]]))
        assert torch.equal(new.pool(new.tokens(new.fbank(torch.tensor([[1.0, 2.0, 3.0]])))), wanted)


def test_what_concerns_the_encoder_changes_nothing(clips: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    """Masks, layers, adapters and micro-batches of a recipe have nothing to act on: same numbers, same key."""
    vectors, targets = clips
    other = replace(
        RECIPE, freeze_layers=20, lora_rank=4, layer_decay=0.5, gradient_decay=0.5, time_mask=3, mel_mask=8, masks=4,
        micro_batch=2,
    )  # fmt: skip
    made = [project(learn_projection(vectors, targets, n_classes=3, recipe=r), vectors) for r in (RECIPE, other)]
    np.testing.assert_array_equal(*made)
    assert other.content() == RECIPE.content()


def test_mixup_and_soft_targets(clips: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    """Embeddings may be mixed, and targets may be weights; a loss that knows neither says so."""
    vectors, targets = clips
    soft = np.eye(3, dtype=np.float32)[targets]
    learned = learn_projection(vectors, soft, n_classes=3, recipe=replace(RECIPE, mixup=0.4))
    assert nearest(project(learned, vectors), targets) > nearest(vectors, targets)


@pytest.mark.filterwarnings("error")
def test_no_clip_is_refused_in_a_sentence() -> None:
    """There is no mean of nothing, and nobody warns of one."""
    nothing = np.zeros((0, 30), dtype=np.float32)
    with pytest.raises(BackboneError, match="at least one clip"):
        learn_projection(nothing, np.zeros(0, dtype=np.int64), n_classes=3, recipe=RECIPE)


@pytest.mark.parametrize(("asked", "taken"), [("auto", "float32"), ("float32", "float32"), ("bfloat16", "bfloat16")])
def test_what_is_handed_on(
    clips: tuple[NDArray[np.float32], NDArray[np.int64]], monkeypatch: pytest.MonkeyPatch, asked: str, taken: str
) -> None:
    """A processor's own choice is float32, the same digits everywhere; what a recipe names is taken. A run goes on."""
    handed: list[Any] = []

    def told(fresh: Projection, *_: object, **options: Any) -> Projection:
        handed.append((options["recipe"].precision, options["checkpoint"]))
        return fresh

    monkeypatch.setattr(projection, "finetune", told)
    kept: Any = object()
    learn_projection(*clips, n_classes=3, recipe=replace(RECIPE, precision=asked), checkpoint=kept)
    assert handed == [(taken, kept)]


def test_one_number_is_a_projection(clips: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    """The smallest has one dimension."""
    vectors, targets = clips
    recipe = replace(RECIPE, epochs=1, projection_dim=1)
    assert project(learn_projection(vectors, targets, n_classes=3, recipe=recipe), vectors).shape == (60, 1)


@pytest.mark.parametrize("wrong", [{"projection_dim": 0}, {"projection_hidden": -1}])
def test_a_projection_has_a_size(clips: tuple[NDArray[np.float32], NDArray[np.int64]], wrong: dict[str, int]) -> None:
    """No size, no projection."""
    vectors, targets = clips
    with pytest.raises(BackboneError, match="projection_dim must be"):
        learn_projection(vectors, targets, n_classes=3, recipe=replace(RECIPE, **wrong))  # type: ignore[arg-type]


def test_keys_of_other_trials_know_nothing_of_it() -> None:
    """What a projection alone reads is no part of another recipe's key, and its size is part of its own."""
    assert FinetuneRecipe(projection_dim=9, projection_hidden=3).content() == FinetuneRecipe().content()
    assert "projection_dim" not in FinetuneRecipe(train="head").content()
    assert replace(RECIPE, projection_dim=9).content() != RECIPE.content()
    assert replace(RECIPE, projection_hidden=3).content() != RECIPE.content()
