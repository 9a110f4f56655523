"""Feature extractors of transformers: made from a folder's settings, and held to what sound can have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from backbones.contract import BackboneError
from backbones.features.log_mel import FRAME, HOP, SAMPLE_RATE

Form: TypeAlias = Literal["waveform", "ast", "clap", "whisper"]

CLASSES: dict[Form, str] = {
    "waveform": "Wav2Vec2FeatureExtractor",
    "ast": "ASTFeatureExtractor",
    "clap": "ClapFeatureExtractor",
    "whisper": "WhisperFeatureExtractor",
}
RATES = (4_000, 192_000)  # Hz
MOST_SECONDS = 120  # of a window; Whisper hears 30
BINS = {"ast": "num_mel_bins", "clap": "feature_size", "whisper": "feature_size"}
MOST_BINS = 1_024


@dataclass(frozen=True)
class Extractor:
    """What turns clips into a model's inputs, clip by clip.

    Attributes:
        call: the extractor of transformers.
        sample_rate: Hz that it takes.
        window: samples at that rate that the model hears at once; 0 is any length.
    """

    call: Callable[..., Any]
    sample_rate: int
    window: int


def make_extractor(transformers: Any, settings: dict[str, Any], folder: Path, form: Form) -> Extractor:
    """Make the feature extractor that a folder's settings describe.

    Args:
        transformers: the package, which not everybody has.
        settings: what the file of the extractor says.
        folder: where it lies, for what is said.
        form: of the model's inputs.

    Raises:
        BackboneError: it is of another class than the model's, or a setting is one that would make NaN, need memory
            without end, or fit no sound.
    """
    kind = settings.get("feature_extractor_type", CLASSES[form])
    if kind != CLASSES[form]:
        raise BackboneError(
            f"The feature extractor in {folder} must be a {CLASSES[form]}, as this model's is, but its file "
            f"says {kind!r}."
        )
    made = getattr(transformers, CLASSES[form]).from_dict(dict(settings))
    rate = _number(made, "sampling_rate", *RATES, folder=folder)
    if form == "waveform":
        _number(made, "feature_size", 1, 1, folder=folder)
        if rate != SAMPLE_RATE:
            raise BackboneError(
                f"The feature extractor in {folder} takes {rate:.0f} Hz, but recordings come at {SAMPLE_RATE} Hz and a "
                "waveform model must hear its own rate; take a model for 16 kHz."
            )
        return Extractor(made, SAMPLE_RATE, window=0)
    _number(made, BINS[form], 1, MOST_BINS, folder=folder)
    longest = MOST_SECONDS * int(rate)
    if form == "ast":
        if made.do_normalize:
            _number(made, "mean", -1e6, 1e6, folder=folder)
            _number(made, "std", 1e-6, 1e6, folder=folder)
        window = int(_number(made, "max_length", 1, longest // HOP, folder=folder) - 1) * HOP + FRAME
    else:
        _number(made, "hop_length", 1, longest, folder=folder)
        name = "nb_max_samples" if form == "clap" else "n_samples"
        window = int(_number(made, name, made.hop_length, longest, folder=folder))
    return Extractor(made, int(rate), window)


def _number(extractor: Any, name: str, low: float, high: float, *, folder: Path) -> float:
    value = getattr(extractor, name, None)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        allowed = f"{high:g}" if low == high else f"a number from {low:g} to {high:g}"
        raise BackboneError(f"{name} of the feature extractor in {folder} must be {allowed}, but is {value!r}.")
    return value
