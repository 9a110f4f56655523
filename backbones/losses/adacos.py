"""AdaCos: softmax over scaled cosines, whose scale follows the angles, so that no scale or margin is tuned."""

from __future__ import annotations

from torch import Generator

from backbones.contract import Loss, LossHead
from backbones.losses.subcluster_adacos import SubclusterAdaCos


def build(*, dim: int, n_classes: int, generator: Generator, adaptive: bool = True) -> LossHead:
    """Build the loss: sub-cluster AdaCos with one direction a class.

    Source: Zhang et al., 2019, AdaCos; `backbones.networks.directions.AdaptiveScale` has the formulas.
    """
    return SubclusterAdaCos(dim, n_classes, subclusters=1, adaptive=adaptive, learned=True, generator=generator)


LOSS = Loss(
    name="adacos",
    build=build,
    summary="scaled cosines whose scale adapts itself (Zhang et al., 2019); adaptive=false keeps the first scale",
    options={"adaptive": True},
)
