"""Cross-entropy behind a linear map: the paper's loss (section 3.3)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from backbones.contract import Loss, LossHead

DEVIATION = 0.02  # of the new weights; AudioMAE's fine-tuning starts its head so (facebookresearch/AudioMAE)


class CrossEntropy(LossHead):
    """A linear map to one score a class, softmax, and the negative logarithm of the target's probability."""

    def __init__(self, dim: int, n_classes: int, *, generator: Generator) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.weight = nn.Parameter(torch.empty(n_classes, dim).normal_(0.0, DEVIATION, generator=generator))
        self.bias = nn.Parameter(torch.zeros(n_classes))

    def forward(self, embeddings: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Judge embeddings: (b, d), (b,) or (b, c) -> summed loss, (b, c) scores."""
        scores = functional.linear(embeddings, self.weight, self.bias)
        return functional.cross_entropy(scores, targets, reduction="sum"), scores


def build(*, dim: int, n_classes: int, generator: Generator) -> LossHead:
    """Build the loss."""
    return CrossEntropy(dim, n_classes, generator=generator)


LOSS = Loss(name="cross_entropy", build=build, summary="softmax cross-entropy behind a linear map: the paper's")
