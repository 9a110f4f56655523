"""What scoring hears of an encoder beside its embedding: the outputs of layers, all of them from one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from backbones.contract import BackboneError, Encoder

Layer: TypeAlias = int | Literal["mean"]
"""1 is the lowest layer, -1 the highest; "mean" is the mean over all layers."""


@dataclass(frozen=True)
class Heard:
    """A layer, and what of its output is kept.

    Attributes:
        layer: by number, or the mean over all layers, where all are of one width.
        frequency: whether frequency bands stay apart; else the mean over them is taken. Time is always averaged.
    """

    layer: Layer
    frequency: bool = False


def layer_numbers(encoder: Encoder, layer: Layer) -> tuple[int, ...]:
    """Return the layers that are meant, counted from 1.

    Raises:
        BackboneError: the encoder has no such layer, or none at all.
    """
    count, name = len(encoder.layer_modules()), type(encoder).__name__
    if not count:
        raise BackboneError(f"{name} has no layers that can be named, but got layer={layer}; leave layer out.")
    if layer == "mean":
        return tuple(range(1, count + 1))
    if not 1 <= abs(layer) <= count:
        raise BackboneError(
            f"layer must be between 1 and {count}, the layers of {name}, or from -{count} to -1 counted from the last, "
            f"but got {layer}."
        )
    return (layer if layer > 0 else count + 1 + layer,)


def embed_and_hear(encoder: Encoder, waveforms: Tensor, heard: Sequence[Heard]) -> tuple[Tensor, list[Tensor]]:
    """Embed clips and keep what is heard of layers, in one pass.

    Args:
        encoder: in evaluation mode.
        waveforms: (b, samples) in -1..1.
        heard: what to keep.

    Returns:
        (b, d) embeddings, and (b, bands, width) of each of `heard`; one band where frequency is not kept.

    Raises:
        BackboneError: a layer is none of the encoder's, or layers of several widths have no mean.
    """
    numbers = {each: layer_numbers(encoder, each.layer) for each in heard}
    wanted = sorted({number for several in numbers.values() for number in several})
    if not wanted:
        return encoder(waveforms), []
    tokens, layers = encoder.tokens_and_layers(encoder.fbank(waveforms), wanted)
    bands = {number: layer.mean(dim=1) for number, layer in zip(wanted, layers, strict=True)}  # (b, bands, width)
    found = []
    for each in heard:
        several = [
            bands[number] if each.frequency else bands[number].mean(dim=1, keepdim=True) for number in numbers[each]
        ]
        if len(shapes := {tuple(one.shape[1:]) for one in several}) > 1:
            raise BackboneError(
                f"layer=mean needs layers of one width, but those of {type(encoder).__name__} have "
                f"{', '.join(f'{rows} x {width}' for rows, width in sorted(shapes))} numbers; name layers by number."
            )
        found.append(several[0] if len(several) == 1 else torch.stack(several).mean(dim=0))
    return encoder.pool(tokens), found


def describe_layers(encoder: Encoder, waveforms: Tensor) -> str:
    """Check the layers of an encoder on some clips, and say what they are.

    Args:
        encoder: in evaluation mode.
        waveforms: (b, samples) in -1..1.

    Raises:
        BackboneError: a layer has another shape than (b, time, frequency, width), depends on what else is kept, or is
            not finite.
    """
    count = len(encoder.layer_modules())
    numbers = range(1, count + 1)
    fbank = encoder.fbank(waveforms)
    tokens, layers = encoder.tokens_and_layers(fbank, numbers)
    for number, layer in zip(numbers, layers, strict=True):
        if layer.ndim != 4 or len(layer) != len(waveforms):
            raise BackboneError(f"layer {number} gave {tuple(layer.shape)}, not ({len(waveforms)}, time, bands, width)")
        if not torch.isfinite(layer).all():
            raise BackboneError(f"layer {number} has NaN or infinite numbers")
    (again,) = encoder.tokens_and_layers(fbank, (count,))[1]
    if not torch.equal(again, layers[-1]):
        raise BackboneError(f"layer {count} differs when it is asked for alone")
    if not torch.equal(tokens, encoder.tokens(fbank)):
        raise BackboneError("the tokens differ when layers are kept")
    widths = [f"{layer.shape[2]} x {layer.shape[3]}" for layer in (layers[0], layers[-1])]
    embedding, last = encoder.pool(tokens), layers[-1].mean(dim=(1, 2))
    same = embedding.shape == last.shape and torch.allclose(embedding, last, rtol=1e-4, atol=1e-5)
    is_it = "is" if same else "comes before"
    return f"{count} layers, bands x width {widths[0]} to {widths[1]}; the last {is_it} the embedding"
