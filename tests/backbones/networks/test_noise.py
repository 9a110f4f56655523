"""Chance inside encoders: each clip has a generator of its own, and what all share is the step's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator

from backbones.contract import BackboneError
from backbones.networks.noise import Dropout, Noise, drawing_from, drops_layer, uniform

CPU = torch.device("cpu")


def noise(*clip_seeds: int, step: int = 0) -> Noise:
    """Return a pass over clips of these seeds."""
    return Noise(clip_seeds=clip_seeds, step_seed=step, device=CPU)


def drawn(seed: int, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    """Draw one after the other from a generator of a seed."""
    generator = Generator().manual_seed(seed)
    return [torch.rand(shape, generator=generator) for shape in shapes]


def test_rows_are_drawn_from_the_clips_own_generators() -> None:
    """Row after row, whoever stands beside a clip, and the next draw goes on where the last one ended."""
    with drawing_from(noise(5, 6, 7)):
        first, second = uniform((3, 4), CPU), uniform((3, 2, 2), CPU)
    for row, seed in enumerate((5, 6, 7)):
        wanted = drawn(seed, (4,), (2, 2))
        assert torch.equal(first[row], wanted[0]) and torch.equal(second[row], wanted[1])
    with drawing_from(noise(7, 5)):
        assert torch.equal(uniform((2, 4), CPU), first[[2, 0]])


def test_a_draw_has_a_row_a_clip() -> None:
    """Fewer or more rows would give clips each other's chance."""
    with drawing_from(noise(5, 6)), pytest.raises(BackboneError, match="one row a clip, 2, but got 3 rows"):
        uniform((3, 4), CPU)


def test_outside_a_pass_torch_draws() -> None:
    """From its own generator, on the device that is asked for, and again after a pass has ended."""
    with drawing_from(noise(1)):
        uniform((1, 2), CPU)
    torch.manual_seed(3)
    found, left_out = uniform((2, 3), CPU), drops_layer(0.5, training=True)
    torch.manual_seed(3)
    assert torch.equal(found, torch.rand(2, 3))
    assert left_out == (torch.rand(()).item() < 0.5)
    assert uniform((2, 3), torch.device("meta")).device.type == "meta"


def test_a_layer_is_left_out_by_the_step_s_chance() -> None:
    """All clips of a step agree: where the step's draw is below the probability, and only in training."""
    draws = [float(each) for each in drawn(9, *[()] * 20)]
    with drawing_from(noise(1, 2, step=9)):
        assert [drops_layer(0.4, training=True) for _ in draws] == [each < 0.4 for each in draws]
    for border, dropped in ((draws[0], False), (math.nextafter(draws[0], 1.0), True)):
        with drawing_from(noise(1, step=9)):
            assert drops_layer(border, training=True) == dropped
    with drawing_from(noise(1, step=9)):
        assert not any(drops_layer(1.0, training=False) for _ in draws)
        assert not any(drops_layer(0.0, training=True) for _ in draws)
        assert drops_layer(draws[0] + 0.01, training=True), "what is not asked of chance draws nothing"


@pytest.mark.parametrize("whole", [False, True])
def test_what_stays_is_scaled_up(whole: bool) -> None:
    """A number stays where its draw is not below the probability, times 1 / (1 - p); or a clip as a whole does."""
    dropout, values = Dropout(0.25, whole=whole).train(), torch.full((2, 3, 4), 3.0)
    with drawing_from(noise(1, 2)):
        found = dropout(values)
    for row, seed in enumerate((1, 2)):
        (draw,) = drawn(seed, (1, 1) if whole else (3, 4))
        assert torch.equal(found[row], torch.where(draw >= 0.25, 4.0, 0.0).expand(3, 4))
    assert dropout.eval()(values) is values
    assert not Dropout(0.25).whole, "number by number, unless it is said"
    border = float(drawn(1, (1, 1) if whole else (3, 4))[0].max())
    with drawing_from(noise(1)):
        stays = Dropout(border, whole=whole).train()(values[:1])
    assert int((stays != 0).sum()) == (12 if whole else 1), "the largest draw is not below itself"
    assert Dropout(0.0).train()(values) is values


@pytest.mark.parametrize("probability", [-0.01, 1.0, 1.05, math.nan])
def test_a_probability_of_dropout_is_below_one(probability: float) -> None:
    """With 1 nothing would be left, and what is left be divided by 0."""
    with pytest.raises(BackboneError, match="at least 0 and below 1"):
        Dropout(probability)
