"""What angular losses share: a direction a class (or several), cosines with them, and AdaCos's scale."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from backbones.contract import BackboneError, LossHead

WIDEST = math.pi / 4  # AdaCos: the median angle counts at most so much


class Directions(nn.Module):
    """Unit vectors, k a class, that embeddings are compared with.

    Attributes:
        weight: (c, k, d), normalised at every use.
    """

    def __init__(
        self, dim: int, n_classes: int, subclusters: int, *, generator: Generator, learned: bool = True
    ) -> None:
        super().__init__()
        drawn = functional.normalize(torch.empty(n_classes, subclusters, dim).normal_(generator=generator), dim=2)
        self.weight: Tensor
        if learned:
            self.weight = nn.Parameter(drawn)
        else:
            self.register_buffer("weight", drawn)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return cosines: (b, d) -> (b, c, k)."""
        embeddings = functional.normalize(embeddings, dim=1)
        return torch.einsum("bd,ckd->bck", embeddings, functional.normalize(self.weight, dim=2))


class AdaptiveScale(nn.Module):
    """The scale s of AdaCos, which follows the angles of the batches that have been seen.

    Source: Zhang et al., 2019, AdaCos: it starts at sqrt(2) log(n - 1) (equation 7, n directions), and then is
    log(B) / cos(min(pi / 4, theta)) (equation 15), where B is a clip's mean sum of exp(s cos) over the classes that are
    not its own, and theta the median angle to its own. Here a step uses the scale that the batches before it gave, so
    that the cut of a batch into micro-batches changes nothing. At two directions the first formula gives 0, and nothing
    would be learned; so the scale is at least 1.

    Attributes:
        value: () the scale.
    """

    def __init__(self, directions: int, *, adaptive: bool) -> None:
        super().__init__()
        self.adaptive = adaptive
        self.value: Tensor
        self.register_buffer("value", torch.tensor(max(1.0, math.sqrt(2.0) * math.log(max(2, directions - 1)))))
        self._others: list[Tensor] = []
        self._angles: list[Tensor] = []

    @torch.no_grad()
    def see(self, others: Tensor, own: Tensor) -> None:
        """Take note of a micro-batch.

        Args:
            others: (b,) logarithm of the sum of exp(s cos) over the classes that are not the clip's own.
            own: (b,) cosine with its own class.
        """
        if self.adaptive:
            self._others.append(others.double())
            self._angles.append(own.clamp(-1.0, 1.0).arccos().double())

    @torch.no_grad()
    def end_step(self) -> None:
        """Follow what has been seen since the last step."""
        if not self._others:
            return
        others, angles = torch.cat(self._others), torch.cat(self._angles)
        self._others, self._angles = [], []
        log_mean = torch.logsumexp(others, dim=0) - math.log(len(others))
        scale = log_mean / torch.cos(angles.median().clamp(max=WIDEST))
        # of a single class there are no others; decided on the device, which nobody waits for
        self.value.copy_(torch.where(torch.isfinite(scale), scale.clamp(min=1.0), self.value))

    def forget(self) -> None:
        """Forget what was seen of a step that is begun again."""
        self._others, self._angles = [], []


def weights_of(targets: Tensor, n_classes: int) -> Tensor:
    """Return targets as weights: (b,) or (b, c) -> (b, c)."""
    return targets if targets.ndim == 2 else functional.one_hot(targets, n_classes).to(torch.float32)


def check_at_least(loss: str, name: str, value: int, least: int) -> None:
    """Refuse a count below the least.

    Raises:
        BackboneError: it is.
    """
    if value < least:
        raise BackboneError(f"{name} of {loss} must be {least} or more, but got {value}.")


class ScaledHead(LossHead):
    """A loss whose scale follows its batches.

    Attributes:
        scale: of the cosines.
    """

    scale: AdaptiveScale

    def begin_step(self) -> None:
        """Forget what was seen of a batch that is begun again."""
        self.scale.forget()

    def end_step(self) -> None:
        """Let the scale follow the batch."""
        self.scale.end_step()
