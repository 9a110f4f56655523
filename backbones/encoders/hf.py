"""Any audio encoder saved by Hugging Face transformers: AST, wav2vec 2.0, HuBERT, WavLM, CLAP, Whisper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backbones.contract import Backbone, BackboneError, Encoder
from backbones.weights import find_model_folder


def build(*, weights: Path | None = None, seed: int = 0, **options: Any) -> Encoder:
    """Build the encoder that a folder made by `save_pretrained` holds.

    Args:
        weights: the folder, or ORG/NAME@REVISION of the hub; studies and the command line write it as `hf:FOLDER`.
        seed: unused, since every weight comes from the folder.
        options: there are none.

    Raises:
        BackboneError: when there is no folder, transformers is not installed, or the folder does not hold a whole
            model of a known kind with its feature extractor.
    """
    del seed
    if options:
        raise BackboneError(f"backbone hf has no option {next(iter(options))}; its folder says everything.")
    if weights is None:
        raise BackboneError(
            "backbone hf needs the folder of a model saved by transformers; name it as hf:FOLDER, or as weights."
        )
    from backbones.networks.hugging_face import load_model  # noqa: PLC0415  # an extra that not everybody has

    return load_model(weights)


BACKBONE = Backbone(
    name="hf",
    build=build,
    summary="a transformers audio encoder, hf:FOLDER or hf:ORG/NAME@REVISION of the hub (AST, wav2vec 2.0, CLAP, ...)",
    find_weights=find_model_folder,
)
