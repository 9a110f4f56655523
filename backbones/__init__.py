"""Audio encoders and their fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.plugins import OpenFolder

if TYPE_CHECKING:
    from backbones.contract import Backbone, Encoder

__all__ = ["BACKBONES", "LOSSES", "backbone_names", "find_backbone", "load_encoder", "named_weights"]

HUGGING_FACE, EMBEDDINGS = "hf", "emb"
NAMES_WEIGHTS = (HUGGING_FACE, EMBEDDINGS)  # the backbones whose weights are written behind their name


def _refuse(sentence: str) -> Exception:
    from backbones.contract import BackboneError  # noqa: PLC0415  # brings torch, which listing names does without

    return BackboneError(sentence)


BACKBONES = OpenFolder(
    "backbone", "backbones.encoders", "BACKBONE", "backbones.contract:Backbone", "asdbench.backbones", _refuse
)
LOSSES = OpenFolder("loss", "backbones.losses", "LOSS", "backbones.contract:Loss", "asdbench.losses", _refuse)


def backbone_names() -> list[str]:
    """Return the names of all backbones, sorted: files in `backbones/encoders/` and entry points; imports none."""
    return BACKBONES.names()


def find_backbone(name: str) -> Backbone:
    """Return a backbone by its name.

    Raises:
        BackboneError: when there is none of that name, or its file or package declares none.
    """
    backbone: Backbone = BACKBONES.load(name)
    return backbone


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
