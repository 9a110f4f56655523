"""YAMNet: the MobileNet v1 that Google trained on AudioSet, with its own log-mel front end.

Source: tensorflow/models, research/audioset/yamnet (features.py, yamnet.py, params.py) and Howard et al., 2017. Batch
norms are folded into the convolutions before them, as in every file that is made for inference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from backbones.contract import BackboneError, Encoder

FRAME, HOP, FFT = 400, 160, 512  # samples: 25 ms and 10 ms at 16 kHz
MEL_BINS, LOW_HZ, HIGH_HZ = 64, 125.0, 7500.0
LOG_OFFSET = 0.001  # added to the mel magnitudes before the logarithm
PATCH_FRAMES, PATCH_HOP = 96, 48  # 0.96 s, every 0.48 s
FIRST_WIDTH = 32
# (stride, width) of each depthwise separable convolution
SEPARABLE = (
    (1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), (1, 512), (1, 512), (1, 512), (1, 512), (1, 512),
    (2, 1024), (1, 1024),
)  # fmt: skip
LAYERS = 1 + 2 * len(SEPARABLE)  # one after each activation
CLASSES = 521  # of AudioSet, for the head that files have


class YamNet(Encoder):
    """Patches of 0.96 s through 27 convolutions; a token is a patch's mean over time and frequency.

    Attributes:
        convolutions: the first one, then depthwise and pointwise in turn, each followed by a ReLU.
    """

    def __init__(self, layer: int = LAYERS) -> None:
        """Make it up to a layer.

        Args:
            layer: the last one, whose activations the tokens are; what stands above is left out.
        """
        super().__init__()
        self.n_layers = layer
        widths = [1, FIRST_WIDTH]
        made = [nn.Conv2d(1, FIRST_WIDTH, kernel_size=3, stride=2)]
        for stride, width in SEPARABLE:
            made.append(nn.Conv2d(widths[-1], widths[-1], kernel_size=3, stride=stride, groups=widths[-1]))
            made.append(nn.Conv2d(widths[-1], width, kernel_size=1))
            widths.append(width)
        self.convolutions = nn.ModuleList(made[:layer])
        self.dim = made[layer - 1].out_channels

    def fbank(self, waveforms: Tensor) -> Tensor:
        """Return log-mel features: (b, samples) in -1..1 at 16 kHz -> (b, frames, 64), no clip seeing another.

        Magnitudes (not powers) of a periodic Hann window's spectrum, 64 HTK mel bands from 125 to 7500 Hz, and the
        natural logarithm of 0.001 more than that.

        Raises:
            BackboneError: a clip is shorter than one frame of 25 ms.
        """
        if waveforms.ndim != 2 or waveforms.shape[1] < FRAME:
            raise BackboneError(
                f"Waveforms must have shape (clips, samples) with at least {FRAME} samples, 25 ms, but got "
                f"{tuple(waveforms.shape)}."
            )
        window, bank = _window_and_bank(str(waveforms.device))
        made = []
        for clip in waveforms:  # one by one: larger temporaries spend their time in page faults
            frames = clip.float().unfold(0, FRAME, HOP) * window  # (frames, 400)
            magnitude = torch.fft.rfft(frames, n=FFT).abs()  # (frames, 257)
            made.append(torch.log(magnitude @ bank + LOG_OFFSET))
        return torch.stack(made)

    def tokens(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Encode log-mel features: (b, frames, 64) [, (b, frames) True = padding] -> (b, patches, d)."""
        (last,) = self.layer_outputs(fbank, (self.n_layers,), padding_mask)
        return _tokens_of(last)

    def layer_modules(self) -> Sequence[nn.Module]:
        """Return the convolutions: a layer is what the activation behind each of them gives."""
        return tuple(self.convolutions)

    def tokens_and_layers(self, fbank: Tensor, numbers: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """Encode and keep layers, (b, patches, bands, width) each; activations stand between the modules."""
        *layers, last = self.layer_outputs(fbank, (*numbers, self.n_layers))
        return _tokens_of(last), layers

    def layer_outputs(self, fbank: Tensor, layers: Sequence[int], padding_mask: Tensor | None = None) -> list[Tensor]:
        """Return what the N-th activation gives, N = 1..27, frequency kept.

        Args:
            fbank: (b, frames, 64).
            layers: which activations.
            padding_mask: (b, frames) True = padding, which is heard as silence.

        Returns:
            (b, patches, bands, width) each, the mean over a patch's time.
        """
        if fbank.ndim != 3 or fbank.shape[1] < 1 or fbank.shape[2] != MEL_BINS:
            raise BackboneError(f"Features must have shape (clips, frames, {MEL_BINS}), but got {tuple(fbank.shape)}.")
        if padding_mask is not None:
            fbank = fbank.masked_fill(padding_mask[:, :, None], math.log(LOG_OFFSET))
        clips = len(fbank)
        x = _patches(fbank).flatten(0, 1).unsqueeze(1)  # (b * patches, 1, 96, 64)
        found: dict[int, Tensor] = {}
        for number, convolution in enumerate(self.convolutions, start=1):
            x = functional.relu(convolution(_padded(x, convolution)))
            if number in layers:
                bands = x.mean(dim=2).transpose(1, 2)  # (b * patches, bands, width)
                found[number] = bands.reshape(clips, -1, *bands.shape[1:])
            if number >= max(layers):
                break
        return [found[number] for number in layers]

    def layer_index(self, name: str) -> int:
        """Place a parameter: one layer a convolution."""
        return int(name.split(".")[1]) + 1


def _tokens_of(last: Tensor) -> Tensor:
    """Take the mean over the bands of the last layer: (b, patches, bands, 1024) -> (b, patches, 1024)."""
    return last.flatten(2, 3) if last.shape[2] == 1 else last.mean(dim=2)


def random_weights(model: YamNet, *, seed: int) -> None:
    """Draw weights as He et al., 2015, for networks of ReLUs."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for convolution in model.convolutions:
            assert isinstance(convolution, nn.Conv2d)
            assert convolution.bias is not None
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu", generator=generator)
            convolution.bias.zero_()


def _patches(fbank: Tensor) -> Tensor:
    """Cut features into patches, silence behind the end, so that all is heard: (b, frames, 64) -> (b, p, 96, 64)."""
    frames = fbank.shape[1]
    wanted = PATCH_FRAMES + PATCH_HOP * max(0, math.ceil((frames - PATCH_FRAMES) / PATCH_HOP))
    fbank = functional.pad(fbank, (0, 0, 0, wanted - frames), value=math.log(LOG_OFFSET))
    return fbank.unfold(1, PATCH_FRAMES, PATCH_HOP).transpose(2, 3)  # (b, p, 64, 96) -> (b, p, 96, 64)


def _padded(x: Tensor, convolution: nn.Module) -> Tensor:
    """Pad as TensorFlow's "same": one row and column on each side; behind alone where the stride is 2."""
    assert isinstance(convolution, nn.Conv2d)
    if convolution.kernel_size == (1, 1):
        return x
    return functional.pad(x, (0, 1, 0, 1) if convolution.stride == (2, 2) else (1, 1, 1, 1))


@lru_cache(maxsize=8)
def _window_and_bank(device: str) -> tuple[Tensor, Tensor]:
    """Return the periodic Hann window (400,) and the mel bank (257, 64) of triangles on the HTK mel scale."""
    window = torch.hann_window(FRAME, periodic=True, dtype=torch.float64)

    low, high = (1127.0 * math.log1p(hz / 700.0) for hz in (LOW_HZ, HIGH_HZ))
    edges = torch.linspace(low, high, MEL_BINS + 2, dtype=torch.float64)
    hz = torch.arange(FFT // 2 + 1, dtype=torch.float64) * 16_000 / FFT
    at = (1127.0 * torch.log1p(hz / 700.0))[:, None]  # (257, 1)
    rising = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    bank = torch.minimum(rising, falling).clamp(min=0.0)
    bank[0] = 0.0  # TensorFlow's linear_to_mel_weight_matrix leaves the constant part out
    return window.float().to(device), bank.float().to(device)
