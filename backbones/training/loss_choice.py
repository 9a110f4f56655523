"""A loss with its options, as a recipe names it: `arcface:margin=0.3,scale=30`."""

from __future__ import annotations

import importlib
import math
import pkgutil
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from torch import Generator

import backbones.losses
from backbones.contract import BackboneError, Loss, LossHead
from backbones.options import did_you_mean

ENTRY_POINTS = "asdbench.losses"  # the group by which a package outside the repository adds a loss


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
        said = ",".join(f"{option}={_written(value)}" for option, value in self.options)
        return f"{self.loss.name}:{said}" if said else self.loss.name

    def build(self, *, dim: int, n_classes: int, generator: Generator) -> LossHead:
        """Build the loss for embeddings of size `dim`.

        Raises:
            BackboneError: an option is out of range.
        """
        return self.loss.build(dim=dim, n_classes=n_classes, generator=generator, **dict(self.options))


def loss_names() -> list[str]:
    """Return the names of all losses, sorted: files in `backbones/losses/` and entry points; imports none."""
    return sorted({*_file_names(), *(point.name for point in entry_points(group=ENTRY_POINTS))})


def find_loss(name: str) -> Loss:
    """Return a loss by its name.

    Raises:
        BackboneError: there is none of that name, or its file or package declares none.
    """
    if name in _file_names():
        declared = getattr(importlib.import_module(f"backbones.losses.{name}"), "LOSS", None)
    else:
        found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
        if name not in found:
            known = loss_names()
            raise BackboneError(f"loss must be one of {', '.join(known)}, but got {name}.{did_you_mean(name, known)}")
        try:
            declared = found[name].load()
        except (ImportError, AttributeError) as error:
            raise BackboneError(
                f"The loss {name} comes from {found[name].value}, which must be importable, but: {error}; install its "
                "package again."
            ) from error
    if not isinstance(declared, Loss):
        raise BackboneError(f"The loss {name} must be declared as a Loss, but got {declared!r}.")
    return declared


def parse_loss(text: str) -> LossChoice:
    """Read `NAME` or `NAME:option=value,option=value`.

    Raises:
        BackboneError: there is no such loss or option, or a value is not one that the option takes.
    """
    name, _, said = text.strip().partition(":")
    loss = find_loss(name)
    given: dict[str, Any] = {}
    for pair in said.split(",") if said else ():
        option, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise BackboneError(
                f"A loss's options must read option=value,option=value after its name, but got {pair!r} in {text!r}."
            )
        if option in given:
            raise BackboneError(f"Each option of a loss may be given once, but {option} stands twice in {text!r}.")
        given[option] = _value(loss, option, value)
    options = tuple(sorted((option, value) for option, value in given.items() if value != loss.options[option]))
    return LossChoice(loss, options)


def _value(loss: Loss, option: str, text: str) -> Any:
    if option not in loss.options:
        known = ", ".join(loss.options) or "none"
        hint = did_you_mean(option, list(loss.options))
        raise BackboneError(f"An option of the loss {loss.name} must be one of {known}, but got {option}.{hint}")
    default = loss.options[option]
    if isinstance(default, bool):
        if text.lower() not in {"true", "false"}:
            raise BackboneError(f"{loss.name}:{option} must be true or false, but got {text!r}.")
        return text.lower() == "true"
    try:
        value = type(default)(text)
    except ValueError:
        value = math.nan
    if isinstance(value, float) and not math.isfinite(value):
        what = "a whole number" if isinstance(default, int) else "a number"
        raise BackboneError(f"{loss.name}:{option} must be {what}, but got {text!r}.")
    return value


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _file_names() -> list[str]:
    folders = [str(Path(folder)) for folder in backbones.losses.__path__]
    return [module.name for module in pkgutil.iter_modules(folders) if not module.name.startswith("_")]
