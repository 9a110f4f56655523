"""A loss with its options, as a recipe names it: `arcface:margin=0.3,scale=30`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Generator

from backbones import LOSSES
from backbones.contract import BackboneError, Loss, LossHead
from backbones.plugins import join_options, split_options, typed, unknown


@dataclass(frozen=True)
class LossChoice:
    """A loss and the options that differ from its defaults.

    Attributes:
        loss: the plugin.
        options: (option, value) pairs, sorted; one that has its default is left out.
    """

    loss: Loss
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        """Return the canonical text: equal choices, equal text."""
        return join_options(self.loss.name, self.options)

    def build(self, *, dim: int, n_classes: int, generator: Generator) -> LossHead:
        """Build the loss for embeddings of size `dim`.

        Raises:
            BackboneError: an option is out of range.
        """
        return self.loss.build(dim=dim, n_classes=n_classes, generator=generator, **dict(self.options))


def parse_loss(text: str) -> LossChoice:
    """Read `NAME` or `NAME:option=value,option=value`.

    Raises:
        BackboneError: there is no such loss or option, or a value is not one that the option takes.
    """
    name, said = split_options("loss", text, refuse=BackboneError)
    loss: Loss = LOSSES.load(name)
    given = {option: _value(loss, option, value) for option, value in said.items()}
    options = tuple(sorted((option, value) for option, value in given.items() if value != loss.options[option]))
    return LossChoice(loss, options)


def _value(loss: Loss, option: str, text: str) -> Any:
    if option not in loss.options:
        if not loss.options:
            raise BackboneError(f"The loss {loss.name} takes no options, but got {option}={text}.")
        raise BackboneError(unknown(f"An option of the loss {loss.name}", option, loss.options))
    default = loss.options[option]
    value = typed(text, default)
    if value is None:
        kinds = {bool: "true or false", int: "a whole number", float: "a number"}
        raise BackboneError(f"{loss.name}:{option} must be {kinds[type(default)]}, but got {text!r}.")
    return value
