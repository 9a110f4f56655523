"""Audio encoders of Hugging Face transformers behind the encoder contract, with their own feature extractors.

Features keep the contract's axes, clips by frames by bins. A spectrogram model's are those of its own extractor; a
waveform model's are its normalised samples, 10 ms a frame. Models of a fixed window (AST, CLAP, Whisper) see a longer
clip window by window, so that nothing of it is cut away.
"""

from __future__ import annotations

import copy
import importlib
import logging
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from backbones.contract import BackboneError, Encoder
from backbones.features.log_mel import HOP, SAMPLE_RATE, resample
from backbones.model_folder import ModelFolder, read_model_folder
from backbones.networks.extractors import Extractor, Form, make_extractor
from backbones.weights import check_hearing, check_values, find_model_folder

# a saved configuration's model_type -> the class that reads it, and what its inputs look like
KINDS: dict[str, tuple[str, Form]] = {
    "audio-spectrogram-transformer": ("ASTModel", "ast"),
    "clap": ("ClapModel", "clap"),
    "clap_audio_model": ("ClapAudioModel", "clap"),
    "data2vec-audio": ("Data2VecAudioModel", "waveform"),
    "hubert": ("HubertModel", "waveform"),
    "sew": ("SEWModel", "waveform"),
    "unispeech": ("UniSpeechModel", "waveform"),
    "unispeech-sat": ("UniSpeechSatModel", "waveform"),
    "wav2vec2": ("Wav2Vec2Model", "waveform"),
    "wavlm": ("WavLMModel", "waveform"),
    "whisper": ("WhisperModel", "whisper"),
}
UNUSED = re.compile(  # parameters that encoding clips of one window never reaches
    r"(^|\.)(masked_spec_embed|fusion_model|mel_conv2d)(\.|$)"
)
LAYER = re.compile(r"(?:^|\.)(?:layers?|blocks)\.(\d+)\.")
STEM = re.compile(r"(?:^|\.)(?:feature_extractor|feature_projection|embeddings|patch_embed|conv[12]|pos_conv_embed)\.")
WHISPER_RANGE = 2.0  # log10 power / 4: the extractor clamps a clip at 8 decades under its loudest place
CLAP_FLOOR = -100.0  # dB that CLAP's extractor gives to silence
FRAME_AT_LEAST = SAMPLE_RATE // 10  # samples: AST's Kaldi features need a frame, with some to spare
MOST_MISSING, SMALL = 2, 1_000_000  # times and numbers by which a model may exceed its weights: parts that are unused
HINT = "; install it with: pip install 'asdbench[hf]'"


class HuggingFaceEncoder(Encoder):
    """A transformers model as an encoder.

    Attributes:
        dim: the model's hidden size.
        bins_are_mel: False for waveform models, whose frames hold samples.
    """

    def __init__(self, model: nn.Module, extractor: Extractor, *, form: Form, dim: int) -> None:
        super().__init__()
        self.model = model
        self.extractor = extractor
        self.form = form
        self.dim = dim
        self.bins_are_mel = form != "waveform"
        numbers = [int(found.group(1)) for name, _ in model.named_parameters() if (found := LAYER.search(name))]
        self.n_layers = max(numbers, default=-1) + 2
        for name, parameter in model.named_parameters():
            if UNUSED.search(name):
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> HuggingFaceEncoder:
        """Set the mode; batch norms keep their statistics, so that no clip sees another."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def fbank(self, waveforms: Tensor) -> Tensor:
        """Return the model's own features.

        Args:
            waveforms: (b, samples) in -1..1 at 16 kHz; resampled where the model wants another rate.

        Returns:
            (b, frames, bins): log-mel, windows one after the other in time; or (b, frames, 160) samples.

        Raises:
            BackboneError: when a clip is empty.
        """
        if waveforms.ndim != 2 or waveforms.shape[1] < HOP:
            raise BackboneError(
                f"Waveforms must have shape (clips, samples) with at least {HOP} samples, but got "
                f"{tuple(waveforms.shape)}."
            )
        device = waveforms.device
        sound = resample(waveforms.float(), SAMPLE_RATE, self.extractor.sample_rate)
        if self.form == "waveform":
            values = self._extract(sound)
            whole = values.shape[1] // HOP * HOP
            return values[:, :whole].reshape(len(values), -1, HOP).to(device)
        window = self.extractor.window
        parts = [self._window(sound[:, start : start + window]) for start in range(0, sound.shape[1], window)]
        return torch.cat(parts, dim=1).to(device)

    def tokens(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Encode features: (b, frames, bins) [, (b, frames) True = padding] -> (b, n, d).

        A waveform model hears each clip without its masked tail, since some of them (wav2vec2-base) normalise over
        time and would hear it in spite of an attention mask; the tail's tokens are 0. Models of a fixed window take
        silence in masked frames.

        Raises:
            BackboneError: when the features have another shape, or a mask hides more than the tail.
        """
        if fbank.ndim != 3 or fbank.shape[1] < 1:
            raise BackboneError(f"Features must have shape (clips, frames, bins), but got {tuple(fbank.shape)}.")
        if self.form == "waveform":
            return self._waveform_tokens(fbank, padding_mask)
        frames = self._frames_of_window()
        tokens = [
            self._window_tokens(fbank[:, start : start + frames], padding_mask, start)
            for start in range(0, fbank.shape[1], frames)
        ]
        return torch.cat(tokens, dim=1)

    def layer_modules(self) -> Sequence[nn.Module]:
        """Return the Transformer's numbered layers (CLAP: its four stages)."""
        lists = {
            name: module
            for name, module in self.model.named_modules()
            if isinstance(module, nn.ModuleList) and LAYER.search(f"{name}.0.") and not STEM.search(f"{name}.")
        }
        outermost = [module for name, module in lists.items() if not any(name.startswith(f"{one}.") for one in lists)]
        return [layer for module in outermost for layer in module]

    def grid(self, output: Tensor) -> Tensor:
        """Arrange a layer: AST's tokens run through the times of a mel band; the others' keep no frequency."""
        if self.form != "ast":
            return output.unsqueeze(2)
        config: Any = self.model.config
        bands = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        patches = output[:, 2:]  # without the class and the distillation token
        return patches.reshape(len(patches), bands, -1, patches.shape[2]).transpose(1, 2)

    def tokens_and_layers(self, fbank: Tensor, numbers: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """Encode and keep layers; of Whisper's no more than the clip lasts, as of its tokens."""
        tokens, layers = super().tokens_and_layers(fbank, numbers)
        return tokens, [layer[:, : tokens.shape[1]] for layer in layers] if self.form == "whisper" else layers

    def layer_index(self, name: str) -> int:
        """Place a parameter: 0 the stem, then the numbered layers, then what stands above them."""
        found = LAYER.search(name)
        if STEM.search(name):
            return 0
        return int(found.group(1)) + 1 if found else self.n_layers

    def _extract(self, sound: Tensor) -> Tensor:
        clips = list(sound.detach().cpu().numpy().astype(np.float32))
        found = self.extractor.call(clips, sampling_rate=self.extractor.sample_rate, return_tensors="pt")
        values: Tensor = found["input_values" if "input_values" in found else "input_features"]
        return values.float()

    def _window(self, sound: Tensor) -> Tensor:
        """Return one window's features: (b, samples) -> (b, frames, bins)."""
        if self.form == "ast":
            return self._extract(functional.pad(sound, (0, max(0, FRAME_AT_LEAST - sound.shape[1]))))
        if self.form == "clap":
            return self._extract(sound)[:, 0]  # a clip within the window fills all four channels alike
        real = -(-sound.shape[1] // self.extractor.call.hop_length)  # type: ignore[attr-defined]  # Whisper's has it
        return self._extract(sound).transpose(1, 2)[:, :real]

    def _frames_of_window(self) -> int:
        extractor: Any = self.extractor.call
        if self.form == "ast":
            return int(extractor.max_length)
        if self.form == "clap":
            return int(extractor.nb_max_samples // extractor.hop_length + 1)
        return int(extractor.nb_max_frames)

    def _waveform_tokens(self, fbank: Tensor, padding_mask: Tensor | None) -> Tensor:
        if padding_mask is None:
            return self._heard(fbank)
        shown = (~padding_mask).sum(dim=1)
        if bool((padding_mask != (torch.arange(fbank.shape[1], device=fbank.device) >= shown[:, None])).any()):
            raise BackboneError("A padding mask must hide the end of a clip and nothing before it.")
        if bool((shown == 0).any()):
            raise BackboneError("Each clip must have at least one frame that is not padding; leave empty clips out.")
        clips = [self._heard(clip[None, :length]) for clip, length in zip(fbank, shown.tolist(), strict=True)]
        longest = self._token_count(fbank.shape[1] * fbank.shape[2])
        return torch.cat([functional.pad(clip, (0, 0, 0, longest - clip.shape[1])) for clip in clips])

    def _heard(self, fbank: Tensor) -> Tensor:
        tokens: Tensor = self.model(fbank.flatten(1)).last_hidden_state
        return tokens

    def _token_count(self, samples: int) -> int:
        count: Any = self.model._get_feat_extract_output_lengths  # every waveform model of transformers has it
        return int(count(samples))

    def _window_tokens(self, fbank: Tensor, padding_mask: Tensor | None, start: int) -> Tensor:
        if padding_mask is not None:
            hidden = padding_mask[:, start : start + fbank.shape[1], None]
            fbank = torch.where(hidden, self._silence(fbank, hidden), fbank)
        missing = self._frames_of_window() - fbank.shape[1]
        values = torch.cat([fbank, self._silence(fbank).expand(-1, missing, fbank.shape[2])], dim=1)
        if self.form == "clap":
            return self._clap_tokens(values)
        if self.form == "ast":
            tokens: Tensor = self.model(values).last_hidden_state
            return tokens[:, 2:]  # without the class and the distillation token
        tokens = self.model(values.transpose(1, 2)).last_hidden_state  # a token every second frame
        return tokens[:, : -(-fbank.shape[1] // 2)]

    def _silence(self, fbank: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return what the model's own extractor puts where there is no sound: (b, 1, 1)."""
        if self.form == "whisper":
            loud = fbank if hidden is None else fbank.masked_fill(hidden, -torch.inf)
            return loud.amax(dim=(1, 2), keepdim=True) - WHISPER_RANGE
        extractor: Any = self.extractor.call
        if self.form == "clap":
            zero = CLAP_FLOOR
        else:  # AST pads its log-mel with 0 before it normalises
            zero = -extractor.mean / (2 * extractor.std) if extractor.do_normalize else 0.0
        return fbank.new_full((len(fbank), 1, 1), zero)

    def _clap_tokens(self, fbank: Tensor) -> Tensor:
        fused = bool(self.model.config.enable_fusion)  # type: ignore[union-attr]  # every model has one
        values = fbank[:, None].expand(-1, 4 if fused else 1, -1, -1)
        longer = torch.zeros((len(fbank), 1), dtype=torch.bool, device=fbank.device)
        found: Tensor = self.model(input_features=values, is_longer=longer).last_hidden_state  # (b, d, h, w)
        return found.flatten(2).transpose(1, 2)


def load_model(weights: str | Path) -> HuggingFaceEncoder:
    """Load a folder made by `save_pretrained`, with nothing from the network and no code from the folder.

    transformers is handed what `backbones.model_folder` read, never the folder itself, so that the weights are those of
    the recorded sum and no file of the folder can choose what is run.

    Raises:
        BackboneError: when transformers is missing, or the folder does not hold a whole model of a known kind with
            its feature extractor.
    """
    folder = find_model_folder(weights)
    with _offline(folder):
        transformers = importlib.import_module("transformers")
        saved = read_model_folder(folder)
        kind = saved.config.get("model_type")
        if not isinstance(kind, str) or kind not in KINDS:
            raise BackboneError(
                f"{folder} must hold an audio encoder of one of the kinds {', '.join(sorted(KINDS))}, but its "
                f"config.json says {kind!r}."
            )
        class_name, form = KINDS[kind]
        model_class = getattr(transformers, class_name)
        config = model_class.config_class.from_dict(dict(saved.config))
        config.apply_spec_augment = False  # it draws from numpy's global generator; the recipe has its own masks
        extractor = make_extractor(transformers, saved.extractor, folder, form)
        _must_fit(model_class, config, saved)
        model, found = model_class.from_pretrained(
            None, config=config, state_dict=dict(saved.tensors), output_loading_info=True, dtype=torch.float32,
            local_files_only=True, use_safetensors=True, trust_remote_code=False, ignore_mismatched_sizes=True,
        )  # fmt: skip
        part, inner = _audio_part(model, form)
        _must_be_whole(found["missing_keys"], inner, folder)
        if other := sorted(str(name) for name, *_ in found["mismatched_keys"] if str(name).startswith(inner)):
            raise BackboneError(
                f"{folder} does not fit the model that its config.json describes: {len(other)} of its weights have "
                f"other shapes, {other[0]} first."
            )
        floats = {name: value for name, value in part.state_dict().items() if value.is_floating_point()}
        check_values(floats, path=folder)
        encoder = HuggingFaceEncoder(part, extractor, form=form, dim=part.config.hidden_size)
        check_hearing(encoder, path=folder)
    encoder.weights_sha256 = saved.sha256
    return encoder


def _must_fit(model_class: Any, config: Any, saved: ModelFolder) -> None:
    """Refuse a configuration of a far larger model than the weights beside it, before memory is taken for it."""
    with torch.device("meta"):
        empty = model_class(copy.deepcopy(config))
    wanted = sum(parameter.numel() for parameter in empty.parameters())
    held = sum(tensor.numel() for tensor in saved.tensors.values())
    if wanted > MOST_MISSING * held + SMALL:
        raise BackboneError(
            f"{saved.path} does not hold the whole model: its config.json speaks of {wanted:,} numbers, but its "
            f"weights hold {held:,}."
        )


def _must_be_whole(missing: Iterable[str], inner: str, folder: Path) -> None:
    lacks = sorted(name[len(inner) :] for name in missing if name.startswith(inner) and not UNUSED.search(name))
    if lacks:
        raise BackboneError(
            f"{folder} does not hold the whole model: it lacks {', '.join(lacks[:3])}"
            f"{f' and {len(lacks) - 3} more' if len(lacks) > 3 else ''}, which would be drawn at random."
        )


def _audio_part(model: Any, form: Form) -> tuple[Any, str]:
    """Return the part that hears, and how its parameters' names begin."""
    if form == "whisper":
        return model.get_encoder(), "encoder."
    if form == "clap" and hasattr(model, "audio_model"):
        return model.audio_model, "audio_model."
    return model, ""


@contextmanager
def _offline(folder: Path) -> Iterator[None]:
    """Keep transformers from the network and from talking; say what fails in one sentence."""
    constants = _hub_constants()
    forbidden = getattr(constants, "HF_HUB_OFFLINE", True)
    before = {name: os.environ.get(name) for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_VERBOSITY")}
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    try:
        if constants is not None:
            constants.HF_HUB_OFFLINE = True
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _quiet()
            yield
    except ModuleNotFoundError as error:
        raise BackboneError(f"backbone hf needs the package {error.name}, which is not installed{HINT}") from error
    except BackboneError:
        raise
    except Exception as error:  # transformers lets every kind of error through, from json to safetensors
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise BackboneError(f"{folder} could not be read as a model saved by transformers: {first}.") from error
    finally:
        if constants is not None:
            constants.HF_HUB_OFFLINE = forbidden
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _hub_constants() -> Any:
    """Import what the hub's library reads of the environment, once, at its import; None where it is not installed.

    It is imported before the environment is changed here, or later downloads of this process would be forbidden too.
    """
    try:
        return importlib.import_module("huggingface_hub.constants")
    except ModuleNotFoundError:
        return None


def _quiet() -> None:
    library = importlib.import_module("transformers.utils.logging")
    library.set_verbosity_error()
    library.disable_progress_bar()
