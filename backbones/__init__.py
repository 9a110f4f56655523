"""Audio encoders and their fine-tuning."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backbones.contract import Backbone, Encoder

__all__ = ["backbone_names", "find_backbone", "load_encoder"]

ENTRY_POINTS = "asdbench.backbones"  # the group by which a package outside the repository adds a backbone


def backbone_names() -> list[str]:
    """Return the names of all backbones, sorted: files in `backbones/encoders/` and entry points; imports none."""
    return sorted({*_file_names(), *_entry_points()})


def find_backbone(name: str) -> Backbone:
    """Return a backbone by its name.

    Raises:
        BackboneError: when there is none of that name, or its file or package declares none.
    """
    from backbones.contract import Backbone, BackboneError  # noqa: PLC0415  # brings torch
    from backbones.options import did_you_mean  # noqa: PLC0415

    if name in _file_names():
        declared = getattr(importlib.import_module(f"backbones.encoders.{name}"), "BACKBONE", None)
    elif (outside := _entry_points().get(name)) is not None:
        declared = outside.load()
    else:
        known = backbone_names()
        hint = did_you_mean(str(name), known)
        raise BackboneError(f"backbone must be one of {', '.join(known)}, but got {name}.{hint}")
    if not isinstance(declared, Backbone):
        raise BackboneError(f"The backbone {name} must be declared as a Backbone, but got {declared!r}.")
    return declared


def load_encoder(name: str, weights: str | Path | None = None, seed: int = 0, **options: Any) -> Encoder:
    """Build an encoder, in evaluation mode, on the CPU.

    Args:
        name: of the backbone.
        weights: a checkpoint's path, or its name in the folder ASDBENCH_WEIGHTS; None draws random weights.
        seed: of random weights.
        options: of the backbone; shapes come from the checkpoint where it has them and from here where it has not.

    Raises:
        BackboneError: when the name, an option or the checkpoint is wrong.
    """
    backbone = find_backbone(name)
    path = None if weights is None else Path(weights)
    return backbone.build(weights=path, seed=seed, **options).eval()


def _file_names() -> list[str]:
    folder = Path(__file__).parent / "encoders"
    return [module.name for module in pkgutil.iter_modules([str(folder)]) if not module.name.startswith("_")]


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}
