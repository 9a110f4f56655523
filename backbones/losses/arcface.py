"""ArcFace: the angle between an embedding and its class is made larger by a margin before softmax."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

from backbones.contract import BackboneError, Loss, LossHead
from backbones.networks.directions import Directions, check_at_least

SMALLEST_SINE = 1e-6  # squared; the slope of the sine is infinite at 0


class ArcFace(LossHead):
    """Softmax over s cos(theta), where the target's theta has a margin m added.

    Source: Deng et al., 2019, ArcFace, equation 3; several directions a class, of which the nearest counts, are their
    sub-center ArcFace (2020, equation 4). Beyond theta = pi - m, where cos(theta + m) would rise again, the tangent's
    linear continuation cos(theta) - m sin(m) stands, as in the authors' code. With m = 0 it is normalised softmax.
    """

    def __init__(
        self, dim: int, n_classes: int, *, scale: float, margin: float, subclusters: int, generator: Generator
    ) -> None:
        super().__init__()
        self.n_classes, self.scale, self.margin = n_classes, scale, margin
        self.directions = Directions(dim, n_classes, subclusters, generator=generator)

    def forward(self, embeddings: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Judge embeddings: (b, d), (b,) -> summed loss, (b, c) scores without the margin."""
        cosines = self.directions(embeddings).amax(dim=2)  # (b, c, k) -> (b, c)
        own = cosines.gather(1, targets[:, None])  # (b, 1)
        sines = (1.0 - own.square()).clamp(min=SMALLEST_SINE).sqrt()
        wider = own * math.cos(self.margin) - sines * math.sin(self.margin)
        beyond = own - self.margin * math.sin(self.margin)
        marked = torch.where(own > math.cos(math.pi - self.margin), wider, beyond)
        scores = self.scale * cosines.scatter(1, targets[:, None], marked)
        return functional.cross_entropy(scores, targets, reduction="sum"), (self.scale * cosines).detach()


def build(
    *, dim: int, n_classes: int, generator: Generator, scale: float = 30.0, margin: float = 0.5, subclusters: int = 1
) -> LossHead:
    """Build the loss.

    Raises:
        BackboneError: scale is not above 0, margin not in 0..pi/2, or subclusters below 1.
    """
    if not (0 < scale < math.inf and 0 <= margin <= math.pi / 2):
        raise BackboneError(
            f"arcface needs a scale above 0 and a margin between 0 and {math.pi / 2:.3f} radians, but got "
            f"{scale:g} and {margin:g}."
        )
    check_at_least("arcface", "subclusters", subclusters, 1)
    return ArcFace(dim, n_classes, scale=scale, margin=margin, subclusters=subclusters, generator=generator)


LOSS = Loss(
    name="arcface",
    build=build,
    summary="additive angular margin (Deng et al., 2019); hard targets alone, since the margin is the target's",
    options={"scale": 30.0, "margin": 0.5, "subclusters": 1},
    soft=False,
)
