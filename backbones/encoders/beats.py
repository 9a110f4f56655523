"""BEATs: audio pre-training with acoustic tokenizers (Chen et al., 2023), as in microsoft/unilm:beats."""

from __future__ import annotations

import logging
import math
import reprlib
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from backbones.contract import MEL_BINS, Backbone, BackboneError, Encoder
from backbones.features.log_mel import BEATS_LOG_MEL, log_mel
from backbones.networks.beats import RELEASED, BeatsConfig, BeatsTransformer, PositionConv, SelfAttention
from backbones.networks.noise import Dropout
from backbones.networks.transformer import ACTIVATIONS
from backbones.options import LARGEST, must_agree, must_be_positive, updated
from backbones.plugins import did_you_mean
from backbones.weights import Checkpoint, check_hearing, check_values, count_layers, fill, read_checkpoint, require

logger = logging.getLogger(__name__)

TRAINING_ONLY = (  # options that shape no weight, so that a caller may set them beside a checkpoint
    "layer_wise_gradient_decay_ratio",
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "encoder_layerdrop",
    "dropout_input",
    "predictor_dropout",
)
SIZES = (
    "input_patch_size",
    "embed_dim",
    "encoder_layers",
    "encoder_embed_dim",
    "encoder_ffn_embed_dim",
    "encoder_attention_heads",
    "conv_pos",
    "conv_pos_groups",
    "max_distance",
    "predictor_class",
)


class Beats(Encoder):
    """BEATs as an encoder; its state dict has the official names.

    Attributes:
        config: what it was built from.
    """

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.encoder_embed_dim
        self.n_layers = config.encoder_layers + 1
        self.gradient_decay = 1.0  # the files' own 0.6 is a choice of the recipe, see FinetuneRecipe
        size = config.input_patch_size
        self.patch_embedding = nn.Conv2d(1, config.embed_dim, size, stride=size, bias=config.conv_bias)
        self.layer_norm = nn.LayerNorm(config.embed_dim)
        self.post_extract_proj = nn.Linear(config.embed_dim, self.dim) if config.embed_dim != self.dim else None
        self.dropout_input = Dropout(config.dropout_input)
        self.encoder = BeatsTransformer(config)
        self.predictor_dropout = Dropout(config.predictor_dropout)
        self.predictor: nn.Linear | None = None
        if config.finetuned_model:
            # It knows the classes of its file alone, so fine-tuning here neither uses nor changes it.
            self.predictor = nn.Linear(self.dim, config.predictor_class).requires_grad_(False)

    def fbank(self, waveforms: Tensor) -> Tensor:
        """Return raw log-mel features: (b, samples) in -1..1 -> (b, frames, 128)."""
        return log_mel(waveforms, BEATS_LOG_MEL)

    def tokens(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Encode log-mel features.

        Args:
            fbank: (b, frames, 128) raw log-mel features; frames beyond a multiple of the patch are dropped.
            padding_mask: (b, frames) True = padding.

        Returns:
            (b, n, d), patches in the order of time, within a time of mel bins.

        Raises:
            BackboneError: when there are fewer frames than a patch has, or a clip is all padding.
        """
        size = self.config.input_patch_size
        if fbank.ndim != 3 or fbank.shape[1] < size or fbank.shape[2] < size:
            raise BackboneError(
                f"Features must have shape (clips, frames, {MEL_BINS}) with at least {size} frames, one patch, "
                f"but got {tuple(fbank.shape)}; give longer clips."
            )
        normalised = (fbank - self.config.fbank_mean) / (2 * self.config.fbank_std)
        x = self.patch_embedding(normalised.unsqueeze(1)).flatten(2).transpose(1, 2)  # (b, n, embed_dim)
        hidden = None if padding_mask is None else self.token_mask(padding_mask, x.shape[1])
        x = self.layer_norm(x)
        if self.post_extract_proj is not None:
            x = self.post_extract_proj(x)
        self.encoder.gradient_decay = 1.0 if self.gradient_decay is None else self.gradient_decay
        encoded: Tensor = self.encoder(self.dropout_input(x), hidden)
        return encoded

    def token_mask(self, padding_mask: Tensor, length: int) -> Tensor:
        """Bring a padding mask from frames to tokens, the official way: (b, frames) -> (b, n) True = padding.

        The official code cuts the mask to a multiple of n and calls token k padding where all of the k-th stretch is
        (microsoft/unilm:beats/BEATs.py, forward_padding_mask), although tokens k // 8 share their time. With patches so
        small that there are more tokens than frames it stops; then a token is padding where all of its frames are.

        Raises:
            BackboneError: when a clip is all padding.
        """
        clips, frames = padding_mask.shape
        if frames >= length:
            hidden = padding_mask[:, : frames - frames % length].reshape(clips, length, -1).all(dim=-1)
        else:
            size = self.config.input_patch_size
            times = padding_mask[:, : frames - frames % size].reshape(clips, -1, size).all(dim=-1)
            hidden = times.repeat_interleave(length // times.shape[1], dim=1)
        if bool(hidden.all(dim=1).any()):
            raise BackboneError("Each clip must have at least one token that is not padding; leave empty clips out.")
        return hidden

    def predict(self, waveforms: Tensor) -> Tensor:
        """Return the probability of each class of a fine-tuned checkpoint: (b, samples) -> (b, classes).

        Raises:
            BackboneError: when the checkpoint has no classification head.
        """
        return self.classify(self.fbank(waveforms))

    def classify(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Return class probabilities of log-mel features: (b, frames, 128) [, (b, frames)] -> (b, classes).

        Raises:
            BackboneError: when the checkpoint has no classification head.
        """
        if self.predictor is None:
            raise BackboneError("predict needs a fine-tuned checkpoint, but this one has no classification head.")
        logits = self.predictor(self.predictor_dropout(self.tokens(fbank, padding_mask)))
        if padding_mask is None:
            return torch.sigmoid(logits.mean(dim=1))
        kept = ~self.token_mask(padding_mask, logits.shape[1])[..., None]
        return torch.sigmoid((logits * kept).sum(dim=1) / kept.sum(dim=1))

    def layer_modules(self) -> Sequence[nn.Module]:
        """Return the Transformer's layers."""
        return tuple(self.encoder.layers)

    def grid(self, output: Tensor) -> Tensor:
        """Arrange a layer's tokens, which run through the mel bins of a time: (b, n, d) -> (b, time, frequency, d)."""
        clips, tokens, dim = output.shape
        bands = MEL_BINS // self.config.input_patch_size
        return output.reshape(clips, tokens // bands, bands, dim)

    def layer_index(self, name: str) -> int:
        """Place a parameter: 0 is the stem, i + 1 the i-th layer."""
        parts = name.split(".")
        if parts[:2] == ["encoder", "layers"] and "relative_attention_bias" not in parts:
            return int(parts[2]) + 1
        return self.n_layers if parts[0] == "predictor" else 0


def build(*, weights: Path | None = None, seed: int = 0, **options: Any) -> Encoder:
    """Build BEATs from an official checkpoint, or with random weights at the size that the options say.

    Args:
        weights: path, or name in the folder ASDBENCH_WEIGHTS.
        seed: of random weights.
        options: fields of `BeatsConfig`; beside a checkpoint only those that shape no weight may differ from its own.

    Raises:
        BackboneError: when an option or the checkpoint is wrong.
    """
    if weights is None:
        config = updated(BeatsConfig(**RELEASED), options, what="backbone beats")  # type: ignore[arg-type]  # checked
        model = _shape(config, what="backbone beats").to_empty(device="cpu")
        initialise(model, Generator().manual_seed(seed))
        return model
    checkpoint = read_checkpoint(weights)
    config = _read_config(checkpoint)
    shaping = {name: value for name, value in options.items() if name not in TRAINING_ONLY}
    updated(config, shaping, what="backbone beats")
    must_agree(shaping, asdict(config), path=checkpoint.path)
    training = {name: value for name, value in options.items() if name in TRAINING_ONLY}
    model = _shape(updated(config, training, what="backbone beats"), what=str(checkpoint.path))
    fill(model, _official_names(checkpoint), path=checkpoint.path)
    check_hearing(model, path=checkpoint.path)
    model.weights_sha256 = checkpoint.sha256
    return model


def _shape(config: BeatsConfig, *, what: str) -> Beats:
    """Build a model without data, on torch's meta device."""
    must_be_positive(config, SIZES, what=what)
    if config.activation_fn not in ACTIVATIONS:
        hint = did_you_mean(config.activation_fn, list(ACTIVATIONS))
        raise BackboneError(
            f"activation_fn must be one of {', '.join(ACTIVATIONS)}, but got {config.activation_fn}.{hint}"
        )
    if config.deep_norm and config.layer_norm_first:
        raise BackboneError(f"deep_norm and layer_norm_first exclude each other, but both are set in {what}.")
    if config.encoder_embed_dim % config.conv_pos_groups:
        raise BackboneError(
            f"encoder_embed_dim must be a multiple of conv_pos_groups, but {what} has {config.encoder_embed_dim} and "
            f"{config.conv_pos_groups}."
        )
    narrow = config.num_buckets < 4 or config.max_distance <= config.num_buckets // 4
    if config.relative_position_embedding and narrow:
        raise BackboneError(
            f"num_buckets must be at least 4 and max_distance above a quarter of it, but {what} has "
            f"{config.num_buckets} and {config.max_distance}."
        )
    if config.relative_position_embedding and max(config.num_buckets, config.max_distance) > LARGEST:
        raise BackboneError(f"num_buckets and max_distance of {what} must be at most {LARGEST:,}.")
    if config.fbank_std <= 0.0:
        raise BackboneError(
            f"fbank_std must be above 0, since features are divided by it, but {what} has {config.fbank_std}."
        )
    if not 0.0 <= config.encoder_layerdrop < 1.0:
        raise BackboneError(
            f"encoder_layerdrop must be at least 0 and below 1, but {what} has {config.encoder_layerdrop}."
        )
    with torch.device("meta"):
        return Beats(config)


def _read_config(checkpoint: Checkpoint) -> BeatsConfig:
    require(checkpoint, ("patch_embedding.weight", "encoder.layers.0.fc2.weight"), backbone="beats", top=("cfg",))
    cfg = checkpoint.content["cfg"]
    if isinstance(cfg, Namespace):
        cfg = vars(cfg)
    if not isinstance(cfg, Mapping):
        raise BackboneError(f'In {checkpoint.path}, "cfg" must be a mapping, but is a {type(cfg).__name__}.')
    known = {field.name for field in fields(BeatsConfig)}
    if unknown := sorted(key for key in cfg if isinstance(key, str) and key not in known):
        logger.warning("%s: these keys of its cfg say nothing to this encoder: %.200r", checkpoint.path, unknown)
    values = {key: value for key, value in cfg.items() if key in known}
    there = count_layers(checkpoint, "encoder.layers.")
    said = values.get("encoder_layers")
    if isinstance(said, int) and said > there:  # a million layers would take an hour to say so
        raise BackboneError(
            f"{checkpoint.path} does not fit the Beats it describes: it lacks encoder.layers.{there} of the "
            f"{reprlib.repr(said)} layers of its cfg."
        )
    head = checkpoint.tensors.get("predictor.weight")
    if head is not None and head.ndim == 2:
        values |= {"finetuned_model": True, "predictor_class": len(head)}
    return updated(BeatsConfig(), values, what=f"the cfg of {checkpoint.path}")


def _official_names(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the tensors, with the names that newer torch gives to weight_norm put back."""
    renamed = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    tensors = dict(checkpoint.tensors)
    for new, old in renamed.items():
        if f"encoder.pos_conv.0.{new}" in tensors:
            tensors[f"encoder.pos_conv.0.{old}"] = tensors.pop(f"encoder.pos_conv.0.{new}")
    tables = {name: tensor for name, tensor in tensors.items() if name.endswith("relative_attention_bias.weight")}
    check_values(tables, path=checkpoint.path)  # before they are compared: NaN differs from itself
    first, *others = [table.float() for table in tables.values()] or [torch.empty(0)]
    if any(not torch.equal(table, first) for table in others):
        raise BackboneError(
            f"In {checkpoint.path} all layers must share one relative_attention_bias.weight, but theirs differ."
        )
    return tensors


@torch.no_grad()
def initialise(model: Beats, generator: Generator) -> None:
    """Draw new weights the official way: BERT's, and deep norm's gains where it is used.

    Source: microsoft/unilm:beats/backbone.py, init_bert_params and TransformerEncoder.
    """
    config = model.config
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
            module.bias.zero_()
        elif isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.normal_(0.0, 0.02, generator=generator)
            if isinstance(module, nn.Linear):
                module.bias.zero_()
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, PositionConv):
            module.weight_v.normal_(0.0, math.sqrt(4.0 / (config.conv_pos * model.dim)), generator=generator)
            module.weight_g.copy_(module.weight_v.norm(dim=(0, 1), keepdim=True))
            module.bias.zero_()
        elif isinstance(module, SelfAttention) and module.gated:
            module.grep_a.fill_(1.0)
    if config.deep_norm:
        _draw_deep_norm(model, generator)


def _draw_deep_norm(model: Beats, generator: Generator) -> None:
    beta = (8 * model.config.encoder_layers) ** -0.25
    gains = {"k_proj": 1.0, "q_proj": 1.0, "v_proj": beta, "out_proj": beta, "fc1": beta, "fc2": beta}
    for name, module in model.encoder.layers.named_modules():
        gain = gains.get(name.rsplit(".", 1)[-1])
        if gain is not None and isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight, gain=gain, generator=generator)


BACKBONE = Backbone(
    name="beats",
    build=build,
    summary="BEATs (Chen et al., 2023), 90 M parameters, 12 layers; official checkpoints or random weights",
    options=asdict(BeatsConfig(**RELEASED)),  # type: ignore[arg-type]  # values of several types
)
