"""Audio encoders and their fine-tuning."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backbones.contract import Backbone, Encoder

__all__ = ["backbone_names", "find_backbone", "load_encoder", "named_weights"]

HUGGING_FACE, EMBEDDINGS = "hf", "emb"
NAMES_WEIGHTS = (HUGGING_FACE, EMBEDDINGS)  # the backbones whose weights are written behind their name
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
        try:
            declared = outside.load()
        except (ImportError, AttributeError) as error:
            raise BackboneError(
                f"The backbone {name} comes from {outside.value}, which must be importable, but: {error}; install its "
                "package again."
            ) from error
    else:
        known = backbone_names()
        hint = did_you_mean(str(name), known)
        raise BackboneError(f"backbone must be one of {', '.join(known)}, but got {name}.{hint}")
    if not isinstance(declared, Backbone):
        raise BackboneError(f"The backbone {name} must be declared as a Backbone, but got {declared!r}.")
    return declared


def named_weights(name: str) -> tuple[str, str]:
    """Split `hf:FOLDER` or `emb:FILE` into the backbone's name and its weights; any other name has none in it."""
    front, mark, place = name.partition(":")
    return (front, place) if mark and front in NAMES_WEIGHTS else (name, "")


def load_encoder(name: str, weights: str | Path | None = None, seed: int = 0, **options: Any) -> Encoder:
    """Build an encoder, in evaluation mode, on the CPU.

    Args:
        name: of the backbone; `hf:FOLDER` is any audio encoder saved by transformers, `emb:FILE` embeddings.
        weights: a checkpoint's path, or its name in the folder ASDBENCH_WEIGHTS; None draws random weights.
        seed: of random weights.
        options: of the backbone; shapes come from the checkpoint where it has them and from here where it has not.

    Raises:
        BackboneError: when the name, an option or the checkpoint is wrong, or memory does not suffice.
    """
    from backbones.memory import enough_memory  # noqa: PLC0415  # brings torch

    name, named = named_weights(name)
    backbone = find_backbone(name)
    path = Path(weights) if weights is not None else Path(named) if named else None
    with enough_memory(f"to build the backbone {name}", way_out="take a smaller one"):
        return backbone.build(weights=path, seed=seed, **options).eval()


def _file_names() -> list[str]:
    folder = Path(__file__).parent / "encoders"
    return [module.name for module in pkgutil.iter_modules([str(folder)]) if not module.name.startswith("_")]


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}
