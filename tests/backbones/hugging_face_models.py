"""Tiny models of transformers, made and saved on the spot: the formats of the real ones, none of their weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

KINDS = ("ast", "wav2vec2", "hubert", "clap", "clap_fused", "clap_whole", "whisper")
LAYERS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
WAVES = {**LAYERS, "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}


def save_model(kind: str, folder: Path, *, seed: int = 0) -> Path:
    """Save a tiny model of a kind with its feature extractor into a folder, and return the folder."""
    transformers = pytest.importorskip("transformers", reason="the extra asdbench[hf] is not installed")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, extractor = _made(transformers, kind)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def _made(transformers, kind):
    if kind == "ast":
        config = transformers.ASTConfig(**LAYERS, max_length=512)
        return transformers.ASTModel(config), transformers.ASTFeatureExtractor(max_length=512)
    if kind == "wav2vec2":
        return transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**WAVES)), _waves(transformers)
    if kind == "hubert":
        config = transformers.HubertConfig(**WAVES, feat_extract_norm="layer", do_stable_layer_norm=True)
        return transformers.HubertModel(config), _waves(transformers)
    if kind.startswith("clap"):
        fused = kind == "clap_fused"
        audio = transformers.ClapAudioConfig(
            patch_embeds_hidden_size=16, hidden_size=128, depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 4, 8],
            enable_fusion=fused, projection_dim=16,
        )  # fmt: skip
        extractor = transformers.ClapFeatureExtractor(truncation="fusion" if fused else "rand_trunc")
        if kind != "clap_whole":
            return transformers.ClapAudioModel(audio), extractor
        text = transformers.ClapTextConfig(**LAYERS, vocab_size=50, projection_dim=16)
        config = transformers.ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=16)
        return transformers.ClapModel(config), extractor
    config = transformers.WhisperConfig(
        d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, vocab_size=60, pad_token_id=1, bos_token_id=2, eos_token_id=3,
        decoder_start_token_id=4,
    )  # fmt: skip
    return transformers.WhisperForConditionalGeneration(config), transformers.WhisperFeatureExtractor()


def _waves(transformers):
    return transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
