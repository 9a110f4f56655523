"""AudioMAE: masked autoencoders that listen (Huang et al., 2022), as in facebookresearch/AudioMAE.

Most people have its weights in timm's layout, `model.safetensors` of gaunernst/vit_base_patch16_1024_128.audiomae_as2m:
the official names without the decoder, in a file that holds nothing else. Input, order of the patches and position
embedding are the official ones, so the same weights give the same tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from backbones.contract import MEL_BINS, Backbone, BackboneError, Encoder, MaskedEncoder
from backbones.networks.audiomae import AudioMae, AudioMaeConfig, MaskedAudioMae
from backbones.networks.positions import ORDERS, PositionOrder, position_embedding
from backbones.options import must_agree, must_be_positive, updated
from backbones.plugins import did_you_mean
from backbones.weights import (
    Checkpoint,
    check_hearing,
    count_layers,
    fill,
    find_checkpoint_or_model,
    read_checkpoint,
    require,
)

logger = logging.getLogger(__name__)

WHAT = "backbone audiomae"
POOLINGS = ("tokens", "fc_norm")
DECODER_PARTS = ("decoder_", "mask_token")  # what only pre-training uses
HEAD_PARTS = ("head.",)  # of a fine-tuned file: it knows that file's classes alone
SIZES = ("frames", "patch", "embed_dim", "layers", "heads", "mlp_dim")
DECODER_SIZES = ("decoder_dim", "decoder_layers", "decoder_heads", "decoder_mlp_dim")


def build(*, weights: Path | None = None, seed: int = 0, **options: Any) -> Encoder:
    """Build AudioMAE from an official checkpoint or timm's, or with random weights at the size that the options say.

    Args:
        weights: a file's path, a name in the folders of weights, a folder that holds model.safetensors, or
            ORG/NAME@REVISION of the hub.
        seed: of random weights.
        options: fields of `AudioMaeConfig`; what a checkpoint's shapes say must not be contradicted.

    Raises:
        BackboneError: when an option or the checkpoint is wrong.
    """
    asked = updated(AudioMaeConfig(), options, what=WHAT)
    if weights is None:
        model = _shape(asked).to_empty(device="cpu")
        initialise(model, Generator().manual_seed(seed))
        return model
    checkpoint = read_checkpoint(find_checkpoint_or_model(weights))
    found = _read_shapes(checkpoint, decoder=asked.decoder)
    must_agree(options, found, path=checkpoint.path)
    if "fc_norm.weight" in checkpoint.tensors:  # a fine-tuned file, which has no final norm
        found["pooling"] = "fc_norm"
    model = _shape(updated(AudioMaeConfig(), {**found, **options}, what=WHAT))
    fill(model, _used(checkpoint, model), path=checkpoint.path)
    check_hearing(model, path=checkpoint.path)
    model.weights_sha256 = checkpoint.sha256
    return model


def build_masked(*, weights: Path | None = None, seed: int = 0, **options: Any) -> MaskedEncoder:
    """Build AudioMAE with its decoder, for pre-training.

    A checkpoint with the paper's plain decoder brings all weights; one with none, or with the released files' decoder
    of shifted windows, brings the encoder's, and the decoder is new.

    Args:
        weights: where to start from.
        seed: of weights that no checkpoint brings.
        options: fields of `AudioMaeConfig`, `decoder` left out.

    Raises:
        BackboneError: when an option or the checkpoint is wrong.
    """
    if options.get("pooling", "tokens") != "tokens" or options.get("decoder", True) is not True:
        raise BackboneError(
            "Pre-training needs the decoder and the final norm, so decoder and pooling must be left out, but got "
            f"{ {name: options[name] for name in ('decoder', 'pooling') if name in options} }."
        )
    if weights is None:
        made = build(seed=seed, **options, decoder=True)
    else:
        made = _with_decoder(weights, seed, {name: value for name, value in options.items() if name != "decoder"})
    assert isinstance(made, MaskedEncoder)
    return made


def _with_decoder(weights: Path, seed: int, options: dict[str, Any]) -> Encoder:
    weights = find_checkpoint_or_model(weights)
    tensors = read_checkpoint(weights).tensors
    if "decoder_embed.weight" in tensors and "decoder_blocks.0.attn.tau" not in tensors:
        return build(weights=weights, **options, decoder=True)
    of_decoder = {name: value for name, value in options.items() if name.startswith("decoder_")}
    of_encoder = {name: value for name, value in options.items() if name not in of_decoder}
    encoder = build(weights=weights, **of_encoder)
    assert isinstance(encoder, AudioMae)
    if encoder.config.pooling != "tokens":
        raise BackboneError(
            f"{weights} is a fine-tuned file without a final norm, which pre-training needs; name a pre-trained one."
        )
    made = build(seed=seed, **{**asdict(encoder.config), **of_decoder, "decoder": True})
    made.load_state_dict({**made.state_dict(), **encoder.state_dict()})
    made.weights_sha256 = encoder.weights_sha256
    return made


def _shape(config: AudioMaeConfig) -> AudioMae:
    """Build a model without data, on torch's meta device."""
    must_be_positive(config, SIZES + (DECODER_SIZES if config.decoder else ()), what=WHAT)
    if MEL_BINS % config.patch or config.frames % config.patch:
        raise BackboneError(
            f"patch must divide the {MEL_BINS} mel bins and the frames, but got a patch of {config.patch} "
            f"and {config.frames} frames."
        )
    for name, value, known in (
        ("pos_embed_order", config.pos_embed_order, ORDERS),
        ("pooling", config.pooling, POOLINGS),
    ):
        if value not in known:
            hint = did_you_mean(value, list(known))
            raise BackboneError(f"{name} must be one of {', '.join(known)}, but got {value}.{hint}")
    for name, dim in (("embed_dim", config.embed_dim), ("decoder_dim", config.decoder_dim)):
        if dim % 4:
            raise BackboneError(f"{name} must be a multiple of 4, sines and cosines of two places, but got {dim}.")
    with torch.device("meta"):
        return MaskedAudioMae(config) if config.decoder else AudioMae(config)


def _read_shapes(checkpoint: Checkpoint, *, decoder: bool) -> dict[str, Any]:
    """Read a model's size from its tensors."""
    first = ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight")
    require(checkpoint, first, backbone="audiomae")
    tensors = checkpoint.tensors
    kernel, places = tensors["patch_embed.proj.weight"], tensors["pos_embed"]
    _must_have_sides(checkpoint, {"patch_embed.proj.weight": 4, "pos_embed": 3, "blocks.0.mlp.fc1.weight": 2})
    patch = kernel.shape[-1]
    if not 0 < patch <= MEL_BINS:
        raise BackboneError(
            f"{checkpoint.path} does not fit audiomae: the patches of patch_embed.proj.weight, "
            f"{tuple(kernel.shape)}, must be 1 to {MEL_BINS} mel bins wide."
        )
    found: dict[str, Any] = {
        "patch": patch,
        "frames": (places.shape[1] - 1) // (MEL_BINS // patch) * patch,
        "embed_dim": kernel.shape[0],
        "layers": count_layers(checkpoint, "blocks."),
        "mlp_dim": len(tensors["blocks.0.mlp.fc1.weight"]),
        "qkv_bias": "blocks.0.attn.qkv.bias" in tensors,
    }
    found |= _said_heads(checkpoint, ("heads", "decoder_heads") if decoder else ("heads",))
    if decoder:
        _refuse_other_decoders(checkpoint)
        found |= {
            "decoder_dim": len(tensors["decoder_embed.weight"]),
            "decoder_layers": count_layers(checkpoint, "decoder_blocks."),
            "decoder_mlp_dim": len(tensors["decoder_blocks.0.mlp.fc1.weight"]),
        }
    return found


def _said_heads(checkpoint: Checkpoint, names: tuple[str, ...]) -> dict[str, int]:
    """Read how many heads a file says; those that pre-training here wrote do, official ones do not."""
    config = checkpoint.content.get("config")
    said = {name: config[name] for name in names if name in config} if isinstance(config, Mapping) else {}
    updated(AudioMaeConfig(), said, what=f"the config of {checkpoint.path}")
    return said


def _refuse_other_decoders(checkpoint: Checkpoint) -> None:
    if "decoder_blocks.0.attn.tau" in checkpoint.tensors:
        raise BackboneError(
            f"{checkpoint.path} has a decoder of shifted windows (decoder_mode 1), and this one is the paper's plain "
            "Transformer; leave out decoder=True to load the encoder alone."
        )
    parts = ("decoder_embed.weight", "decoder_blocks.0.mlp.fc1.weight")
    require(checkpoint, parts, backbone="audiomae with a decoder")
    _must_have_sides(checkpoint, dict.fromkeys(parts, 2))


def _must_have_sides(checkpoint: Checkpoint, sides: Mapping[str, int]) -> None:
    for name, wanted in sides.items():
        shape = tuple(checkpoint.tensors[name].shape)
        if len(shape) != wanted:
            raise BackboneError(
                f"{checkpoint.path} does not fit audiomae: {name} has shape {shape}, where {wanted} sides are expected."
            )


def _used(checkpoint: Checkpoint, model: AudioMae) -> dict[str, Tensor]:
    """Return the tensors that the model takes; what belongs to other stages is dropped, anything else is kept."""
    config = model.config
    unused: tuple[str, ...] = HEAD_PARTS
    if not config.decoder:
        unused += DECODER_PARTS
    if config.pooling == "fc_norm":
        unused += ("norm.",)
    dropped = [name for name in checkpoint.tensors if name.startswith(unused)]
    if dropped:
        logger.info("%s: %d tensors of other stages are not used", checkpoint.path, len(dropped))
    used = {name: tensor for name, tensor in checkpoint.tensors.items() if not name.startswith(unused)}
    if config.pooling == "fc_norm" and "fc_norm.weight" not in used:
        # Official fine-tuning starts it as the identity (facebookresearch/AudioMAE:models_vit.py).
        used |= {"fc_norm.weight": torch.ones(config.embed_dim), "fc_norm.bias": torch.zeros(config.embed_dim)}
    return used


@torch.no_grad()
def initialise(model: AudioMae, generator: Generator) -> None:
    """Draw new weights the official way (facebookresearch/AudioMAE:models_mae.py, initialize_weights)."""
    config = model.config
    times, mels = config.frames // config.patch, MEL_BINS // config.patch
    order: PositionOrder = "official" if config.pos_embed_order == "official" else "time_mel"
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
            module.bias.zero_()
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1), generator=generator)
            assert module.bias is not None
            module.bias.zero_()
    model.cls_token.normal_(0.0, 0.02, generator=generator)
    model.pos_embed.copy_(position_embedding(times, mels, dim=config.embed_dim, order=order))
    if isinstance(model, MaskedAudioMae):
        model.mask_token.normal_(0.0, 0.02, generator=generator)
        model.decoder_pos_embed.copy_(position_embedding(times, mels, dim=config.decoder_dim, order=order))


BACKBONE = Backbone(
    name="audiomae",
    build=build,
    build_masked=build_masked,
    summary="AudioMAE (Huang et al., 2022), ViT-B/16, 86 M parameters; official or timm's weights, or random ones",
    options=asdict(AudioMaeConfig()),
    find_weights=find_checkpoint_or_model,
)
