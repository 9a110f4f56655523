"""AdaProj: a class is a subspace, and an embedding is near it when it lies in it."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

from backbones.contract import BackboneError, Loss, LossHead
from backbones.networks.directions import AdaptiveScale, ScaledHead, check_at_least, weights_of

SUBCLUSTERS = 16


class AdaProj(ScaledHead):
    """Softmax over minus s times the squared distance between a unit embedding and its normalised projection.

    Source: Wilkinghoff, 2024, AdaProj, equation 5. Each class has a subspace of k random directions, which stay as they
    are drawn. The cosine of a unit vector x with its projection P x is the length of P x, and two unit vectors at
    cosine c are 2 - 2 c apart, squared. The scale is AdaCos's.

    Attributes:
        bases: (c, d, k) an orthonormal basis a class.
    """

    def __init__(self, dim: int, n_classes: int, *, subclusters: int, adaptive: bool, generator: Generator) -> None:
        super().__init__()
        self.n_classes = n_classes
        drawn = torch.empty(n_classes, dim, subclusters).normal_(generator=generator)
        self.bases: Tensor
        self.register_buffer("bases", torch.linalg.qr(drawn).Q)
        self.scale = AdaptiveScale(n_classes * subclusters, adaptive=adaptive)

    def forward(self, embeddings: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Judge embeddings: (b, d), (b,) or (b, c) -> summed loss, (b, c) scores."""
        inside = torch.einsum("bd,cdk->bck", functional.normalize(embeddings, dim=1), self.bases)
        cosines = inside.square().sum(dim=2).clamp(min=1e-12).sqrt()  # (b, c); its slope at 0 is infinite
        scores = self.scale.value * (2.0 * cosines - 2.0)
        if self.training:
            weights = weights_of(targets, self.n_classes)
            others = torch.logsumexp(self.scale.value * cosines.detach() + torch.log1p(-weights.clamp(max=1.0)), dim=1)
            self.scale.see(others, (weights * cosines.detach()).sum(dim=1))
        return functional.cross_entropy(scores, targets, reduction="sum"), scores


def build(
    *, dim: int, n_classes: int, generator: Generator, subclusters: int = SUBCLUSTERS, adaptive: bool = True
) -> LossHead:
    """Build the loss.

    Raises:
        BackboneError: subclusters is below 1, or so large that a subspace is the whole space.
    """
    check_at_least("adaproj", "subclusters", subclusters, 1)
    if subclusters >= dim:
        raise BackboneError(
            f"subclusters of adaproj must be below {dim}, the size of an embedding, since a subspace that is the whole "
            f"space tells no class from another, but got {subclusters}."
        )
    return AdaProj(dim, n_classes, subclusters=subclusters, adaptive=adaptive, generator=generator)


LOSS = Loss(
    name="adaproj",
    build=build,
    summary="distance to a random subspace a class (Wilkinghoff, 2024), scaled as in AdaCos",
    options={"subclusters": SUBCLUSTERS, "adaptive": True},
)
