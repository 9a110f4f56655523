"""AudioMAE as a model: the encoder, and the decoder of masked reconstruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from backbones.contract import MEL_BINS, BackboneError, Encoder, MaskedEncoder, MaskedPass
from backbones.features.log_mel import AUDIOMAE_LOG_MEL, log_mel
from backbones.networks.transformer import Block

FBANK_MEAN = -4.2677393  # AudioSet, natural logarithm; facebookresearch/AudioMAE:dataset.py
FBANK_STD = 4.5689974


def _mean_and_spread(patches: Tensor) -> tuple[Tensor, Tensor]:
    mean, variance = patches.mean(dim=2, keepdim=True), patches.var(dim=2, keepdim=True)
    return mean, (variance + 1e-6).sqrt()  # facebookresearch/AudioMAE:models_mae.py, forward_loss


@dataclass(frozen=True)
class AudioMaeConfig:
    """The size of a model; the defaults are the released ViT-B/16 and the paper's decoder.

    Attributes:
        frames: that a clip is padded or cut to, a multiple of the patch; 1024 is 10.24 s.
        patch: frames and mel bins of a patch.
        embed_dim: channels.
        layers: of the encoder.
        heads: of the encoder; no file says how many, so they must be given where they are not 12.
        mlp_dim: hidden channels of a block, None for 4 times `embed_dim`.
        qkv_bias: whether query, key and value have a bias.
        drop_path: stochastic depth of the last block; the others' grows up to it.
        pos_embed_order: of a new model's position embedding; a checkpoint brings its own.
        pooling: "tokens" averages them after the final norm; "fc_norm" averages before and then normalises, as the
            official fine-tuning does.
        decoder: whether the decoder of masked reconstruction is built.
        decoder_dim: channels of the decoder.
        decoder_layers: of the decoder.
        decoder_heads: of the decoder.
        decoder_mlp_dim: hidden channels of its blocks, None for 4 times `decoder_dim`.
    """

    frames: int = 1024
    patch: int = 16
    embed_dim: int = 768
    layers: int = 12
    heads: int = 12
    mlp_dim: int | None = None
    qkv_bias: bool = True
    drop_path: float = 0.0
    pos_embed_order: str = "official"
    pooling: str = "tokens"
    decoder: bool = False
    decoder_dim: int = 512
    decoder_layers: int = 16  # paper, section 4.2
    decoder_heads: int = 16
    decoder_mlp_dim: int | None = None


class PatchEmbedding(nn.Module):
    """Patches to channels; its own module for the sake of the official names."""

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, dim, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """Embed: (b, frames, mel bins) -> (b, n, dim), time first."""
        embedded: Tensor = self.proj(x.unsqueeze(1))
        return embedded.flatten(2).transpose(1, 2)


class AudioMae(Encoder):
    """AudioMAE's encoder; its state dict has the official names.

    Attributes:
        config: what it was built from.
    """

    def __init__(self, config: AudioMaeConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = dim = config.embed_dim
        self.n_layers = config.layers + 1
        times, mels = config.frames // config.patch, MEL_BINS // config.patch
        hidden = config.mlp_dim or 4 * dim
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + times * mels, dim), requires_grad=False)
        self.patch_embed = PatchEmbedding(config.patch, dim)
        drops = [config.drop_path * i / max(1, config.layers - 1) for i in range(config.layers)]
        self.blocks = nn.ModuleList(
            Block(dim, config.heads, hidden=hidden, qkv_bias=config.qkv_bias, drop_path=drop) for drop in drops
        )
        averages_first = config.pooling == "fc_norm"
        self.norm = nn.Identity() if averages_first else nn.LayerNorm(dim, eps=1e-6)
        self.fc_norm = nn.LayerNorm(dim, eps=1e-6) if averages_first else nn.Identity()

    def fbank(self, waveforms: Tensor) -> Tensor:
        """Return raw log-mel features: (b, samples) in -1..1 -> (b, frames, 128)."""
        return log_mel(waveforms, AUDIOMAE_LOG_MEL)

    def tokens(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Encode log-mel features, padded or cut to the model's frames.

        Args:
            fbank: (b, frames, 128) raw log-mel features, any number of frames.
            padding_mask: (b, frames) True = padding, which is silence to this model: it takes the value 0 that the
                official code pads with.

        Returns:
            (b, 1 + n, d) after the final norm, class token first; with "fc_norm" pooling there is no final norm.

        Raises:
            BackboneError: when the features have another shape.
        """
        patches = self.patch_embed(self.normalised(fbank, padding_mask)) + self.pos_embed[:, 1:]
        return self.encode(patches)

    def encode(self, patches: Tensor) -> Tensor:
        """Run the blocks: (b, n, d) embedded patches with positions -> (b, 1 + n, d), class token first."""
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(patches), -1, -1)
        x = torch.cat((first, patches), dim=1)
        for block in self.blocks:
            x = block(x)
        encoded: Tensor = self.norm(x)
        return encoded

    def normalised(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Pad with zeros or cut, then normalise: (b, frames, 128) -> (b, `frames` of the model, 128).

        Raises:
            BackboneError: when the features have another shape.
        """
        if fbank.ndim != 3 or fbank.shape[1] < 1 or fbank.shape[2] != MEL_BINS:
            raise BackboneError(f"Features must have shape (clips, frames, {MEL_BINS}), but got {tuple(fbank.shape)}.")
        if padding_mask is not None:
            fbank = fbank.masked_fill(padding_mask[..., None], 0.0)
        missing = self.config.frames - fbank.shape[1]  # a negative number of frames to pad cuts
        return (functional.pad(fbank, (0, 0, 0, missing)) - FBANK_MEAN) / (2 * FBANK_STD)

    def pool(self, tokens: Tensor) -> Tensor:
        """Average the tokens but the class token's: (b, 1 + n, d) -> (b, d)."""
        pooled: Tensor = self.fc_norm(tokens[:, 1:].mean(dim=1))
        return pooled

    def layer_modules(self) -> Sequence[nn.Module]:
        """Return the blocks; the last one's output is not normalised yet."""
        return tuple(self.blocks)

    def grid(self, output: Tensor) -> Tensor:
        """Arrange a block's patches without the class token: (b, 1 + n, d) -> (b, time, frequency, d)."""
        clips, tokens, dim = output.shape
        bands = MEL_BINS // self.config.patch
        return output[:, 1:].reshape(clips, (tokens - 1) // bands, bands, dim)

    def layer_index(self, name: str) -> int:
        """Place a parameter: 0 is the stem, i + 1 the i-th block, then the norms."""
        parts = name.split(".")
        if parts[0] == "blocks":
            return int(parts[1]) + 1
        return 0 if parts[0] in ("cls_token", "pos_embed", "patch_embed") else self.n_layers


class MaskedAudioMae(AudioMae, MaskedEncoder):
    """AudioMAE with the paper's decoder, a plain Transformer over all patches, for masked reconstruction."""

    def __init__(self, config: AudioMaeConfig) -> None:
        super().__init__(config)
        self.n_patches, self.n_frames = self.pos_embed.shape[1] - 1, config.frames
        dim = config.decoder_dim
        hidden = config.decoder_mlp_dim or 4 * dim
        self.decoder_embed = nn.Linear(config.embed_dim, dim)
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim))
        self.decoder_pos_embed = nn.Parameter(torch.empty(1, self.pos_embed.shape[1], dim), requires_grad=False)
        self.decoder_blocks = nn.ModuleList(
            Block(dim, config.decoder_heads, hidden=hidden, qkv_bias=config.qkv_bias)
            for _ in range(config.decoder_layers)
        )
        self.decoder_norm = nn.LayerNorm(dim, eps=1e-6)
        self.decoder_pred = nn.Linear(dim, config.patch**2)

    def forward_masked(self, fbank: Tensor, noise: Tensor, *, mask_ratio: float = 0.8) -> MaskedPass:
        """Reconstruct masked patches from the visible ones (He et al., 2022; per-patch normalised targets).

        Args:
            fbank: (b, frames, 128) raw log-mel features.
            noise: (b, n) numbers that say which patches stay: those with the smallest.
            mask_ratio: share of masked patches; 0.8 is the official pre-training's.

        Returns:
            Loss, predicted patches and mask.

        Raises:
            BackboneError: when the noise has another shape, or no patch would stay or be masked.
        """
        shown = self.normalised(fbank)
        embedded = self.patch_embed(shown) + self.pos_embed[:, 1:]
        n = embedded.shape[1]
        kept = int(n * (1 - mask_ratio))
        if tuple(noise.shape) != tuple(embedded.shape[:2]) or not 0 < kept < n:
            raise BackboneError(
                f"noise must have shape {tuple(embedded.shape[:2])} and mask_ratio must leave 1 to {n - 1} patches, "
                f"but got noise of shape {tuple(noise.shape)} and mask_ratio {mask_ratio}."
            )
        order = noise.argsort(dim=1, stable=True)
        back = order.argsort(dim=1)
        visible = order[:, :kept, None].expand(-1, -1, embedded.shape[2])
        pred = self.decode(self.encode(embedded.gather(1, visible)), back)
        mask = (back >= kept).to(shown.dtype)  # bfloat16 could not count them
        error = (pred - self.targets(shown)).square().mean(dim=2)
        return MaskedPass(loss=(error * mask).sum() / mask.sum(), pred=pred, mask=mask)

    def decode(self, tokens: Tensor, back: Tensor) -> Tensor:
        """Predict all patches: visible tokens (b, 1 + kept, d), each patch's place in them (b, n) -> (b, n, p * p)."""
        x = self.decoder_embed(tokens)
        masked = self.mask_token.expand(len(x), back.shape[1] + 1 - x.shape[1], -1)
        patches = torch.cat((x[:, 1:], masked), dim=1).gather(1, back[..., None].expand(-1, -1, x.shape[2]))
        x = torch.cat((x[:, :1], patches), dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        pred: Tensor = self.decoder_pred(self.decoder_norm(x))[:, 1:]
        return pred

    def targets(self, shown: Tensor) -> Tensor:
        """Cut features into patches, each with mean 0 and variance 1: (b, frames, 128) -> (b, n, p * p)."""
        patches = self.cut(shown)
        mean, spread = _mean_and_spread(patches)
        return (patches - mean) / spread

    def cut(self, shown: Tensor) -> Tensor:
        """Cut features into patches: (b, frames, 128) -> (b, n, p * p), rows of frames."""
        p = self.config.patch
        b, frames, mels = shown.shape
        return shown.view(b, frames // p, p, mels // p, p).transpose(2, 3).reshape(b, -1, p * p)

    def join(self, patches: Tensor) -> Tensor:
        """Undo `cut`: (b, n, p * p) -> (b, frames, 128)."""
        p = self.config.patch
        return patches.view(len(patches), -1, MEL_BINS // p, p, p).transpose(2, 3).reshape(len(patches), -1, MEL_BINS)

    def panels(self, fbank: Tensor, masked: MaskedPass) -> tuple[Tensor, Tensor, Tensor]:
        """Return input, masked input and reconstruction, normalised log-mel: (b, frames, 128) each.

        The prediction has each patch's own mean and spread put back, which the model is not asked for
        (He et al., 2022, normalise the targets); visible patches are the input's.
        """
        shown = self.normalised(fbank)
        patches = self.cut(shown)
        mean, spread = _mean_and_spread(patches)
        gone = masked.mask.bool()[..., None]
        filled = torch.where(gone, masked.pred * spread + mean, patches)
        return shown, self.join(patches.masked_fill(gone, torch.nan)), self.join(filled)

    def checkpoint(self) -> dict[str, Any]:
        """Return the official file's content, and beside it the configuration, since shapes do not tell the heads."""
        model = {name: tensor.detach().cpu() for name, tensor in self.state_dict().items()}
        return {"model": model, "config": asdict(self.config)}

    def layer_index(self, name: str) -> int:
        """Place a parameter: the decoder stands next to the head."""
        return self.n_layers if name.startswith(("decoder", "mask_token")) else super().layer_index(name)
