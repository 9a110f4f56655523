"""Embeddings from a file, made elsewhere by an encoder that need not be here: `emb:FILE.npz`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbones.contract import Backbone, BackboneError, Encoder, ReadClips
from backbones.features.embedding_file import EmbeddingFile, read_embeddings
from backbones.weights import find_checkpoint


class EmbeddedClips(Encoder):
    """Knows clips by their ids and hears nothing: an embedding goes in where a waveform would, and comes out as it is.

    Nothing in it can learn; a projection of it can.

    Attributes:
        file: the embeddings.
    """

    bins_are_mel = False

    def __init__(self, file: EmbeddingFile) -> None:
        super().__init__()
        self.file = file
        self.dim = file.vectors.shape[1]
        self.weights_sha256 = file.sha256

    def read_named(self, ids: NDArray[np.str_]) -> ReadClips:
        """Return what gives the embeddings of clips by position."""
        rows = self.file.rows(ids)
        return lambda positions: torch.from_numpy(self.file.vectors[rows[positions]])

    def fbank(self, waveforms: Tensor) -> Tensor:
        """Take embeddings: (b, d) -> (b, 1, d).

        Raises:
            BackboneError: these are waveforms.
        """
        if waveforms.ndim != 2 or waveforms.shape[1] != self.dim:
            raise BackboneError(
                f"The backbone emb has embeddings of the clips that {self.file.path} names, {self.dim} numbers each, "
                f"and hears no other, but got an input of shape {tuple(waveforms.shape)}."
            )
        return waveforms[:, None]

    def tokens(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Hand embeddings on: (b, 1, d) -> (b, 1, d)."""
        del padding_mask
        return fbank

    def pool(self, tokens: Tensor) -> Tensor:
        """Hand embeddings on: (b, 1, d) -> (b, d)."""
        return tokens[:, 0]


def build(*, weights: Path | None = None, seed: int = 0, **options: Any) -> Encoder:
    """Read a file of embeddings.

    Args:
        weights: the file, an npz with `files` and `vectors`; studies and the command line write it as `emb:FILE`.
        seed: draws nothing.
        options: there are none.

    Raises:
        BackboneError: there is no file, or it does not hold such embeddings.
    """
    del seed
    if options:
        raise BackboneError(f"backbone emb has no option {next(iter(options))}; its file says everything.")
    if weights is None:
        raise BackboneError("backbone emb needs a file of embeddings; name it as emb:FILE.npz, or as the root.")
    return EmbeddedClips(read_embeddings(weights)).eval()


BACKBONE = Backbone(
    name="emb",
    build=build,
    summary="embeddings that were made elsewhere, named emb:FILE.npz (files and vectors, see `asdbench embed`)",
    learns=False,
    find_weights=find_checkpoint,
)
