"""Sub-cluster AdaCos: several directions a class, whose probabilities are added."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

from backbones.contract import Loss, LossHead
from backbones.networks.directions import AdaptiveScale, Directions, ScaledHead, check_at_least, weights_of

SUBCLUSTERS = 16  # Wilkinghoff, 2021, section 4, and the systems of 2026 that use it


class SubclusterAdaCos(ScaledHead):
    """Softmax over s cos(theta) of all directions; a class has the sum of its directions' probabilities.

    Source: Wilkinghoff, 2021, Sub-Cluster AdaCos, equation 3. With one direction a class it is AdaCos.
    """

    def __init__(
        self, dim: int, n_classes: int, *, subclusters: int, adaptive: bool, learned: bool, generator: Generator
    ) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.directions = Directions(dim, n_classes, subclusters, generator=generator, learned=learned)
        self.scale = AdaptiveScale(n_classes * subclusters, adaptive=adaptive)

    def forward(self, embeddings: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Judge embeddings: (b, d), (b,) or (b, c) -> summed loss, (b, c) scores."""
        cosines = self.directions(embeddings)  # (b, c, k)
        scores = torch.logsumexp(self.scale.value * cosines, dim=2)  # (b, c)
        if self.training:
            weights = weights_of(targets, self.n_classes)
            others = torch.logsumexp(scores.detach() + torch.log1p(-weights.clamp(max=1.0)), dim=1)
            self.scale.see(others, (weights * cosines.detach().amax(dim=2)).sum(dim=1))
        return functional.cross_entropy(scores, targets, reduction="sum"), scores


def build(
    *,
    dim: int,
    n_classes: int,
    generator: Generator,
    subclusters: int = SUBCLUSTERS,
    adaptive: bool = True,
    learned: bool = True,
) -> LossHead:
    """Build the loss.

    Raises:
        BackboneError: subclusters is below 1.
    """
    check_at_least("subcluster_adacos", "subclusters", subclusters, 1)
    return SubclusterAdaCos(
        dim, n_classes, subclusters=subclusters, adaptive=adaptive, learned=learned, generator=generator
    )


LOSS = Loss(
    name="subcluster_adacos",
    build=build,
    summary="AdaCos with several directions a class (Wilkinghoff, 2021); learned=false leaves them as drawn",
    options={"subclusters": SUBCLUSTERS, "adaptive": True, "learned": True},
)
