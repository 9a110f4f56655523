"""Wide grouped convolution along tokens: direct, or by way of its spectrum where that takes a fraction of the time."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from backbones.memory import has_matrix_units

# From here on the spectrum pays on a CPU: its work a token grows with width + channels, the direct way's with width
# times channels.
SPECTRAL_WIDTH = 64
SPECTRAL_CHANNELS = 32  # of a group


def convolve(x: Tensor, weight: Tensor, bias: Tensor, *, groups: int) -> Tensor:
    """Convolve along the tokens, with zeros around them, to the same length: y[t] = sum of w[k] x[t + k - width // 2].

    Args:
        x: (b, n, d).
        weight: (d, d / groups, width).
        bias: (d,).
        groups: of channels.

    Returns:
        (b, n, d), in float32 where it went by the spectrum.
    """
    if _pays(x, weight):
        with torch.autocast(x.device.type, enabled=False):
            return by_spectrum(x.float(), weight.float(), groups=groups) + bias.float()
    width = weight.shape[2]
    spread = functional.conv1d(x.transpose(1, 2), weight, bias, padding=width // 2, groups=groups)
    return spread[:, :, : x.shape[1]].transpose(1, 2)


def _pays(x: Tensor, weight: Tensor) -> bool:
    """Tell whether the spectrum pays; the number of clips has no say, so that a clip's numbers do not hang on it."""
    if x.device.type != "cpu":
        return False
    in_units = torch.is_autocast_enabled("cpu") and has_matrix_units(x.device)
    channels, width = weight.shape[1:]
    return not in_units and channels >= SPECTRAL_CHANNELS and width >= SPECTRAL_WIDTH and x.shape[1] >= 2 * width


def by_spectrum(x: Tensor, weight: Tensor, *, groups: int) -> Tensor:
    """Convolve block by block in the frequency domain (overlap-save): (b, n, d), (d, d / groups, width) -> (b, n, d).

    The discrete Fourier transforms are matrix products: a window is short, and the transform of the weights comes out
    with the frequencies first, as the products over channels want them.
    """
    clips, n, dim = x.shape
    channels, width = weight.shape[1:]
    window = 2 * width
    block = window - width + 1  # outputs of a window that no end spoils
    blocks = -(-n // block)
    there, back = _waves(window)  # (2 f, window)
    f = len(there) // 2
    padded = functional.pad(x, (0, 0, width // 2, blocks * block + width - 1 - width // 2 - n))
    windows = padded.unfold(1, window, block).reshape(-1, window)  # (b * blocks * d, window)
    of_x = torch.matmul(windows, there.t()).view(clips * blocks, groups, channels, 2, f)
    x_cos, x_sin = of_x.permute(3, 4, 1, 0, 2).reshape(2, f * groups, clips * blocks, channels)
    of_weight = torch.matmul(there[:, :width], weight.view(-1, width).t())
    w_cos, w_sin = of_weight.view(2, f * groups, channels, channels).transpose(2, 3)
    real = torch.baddbmm(torch.bmm(x_cos, w_cos), x_sin, w_sin)
    imaginary = torch.baddbmm(torch.bmm(x_sin, w_cos), x_cos, w_sin, beta=-1)  # of x times the conjugate of w
    spectrum = torch.stack((real, imaginary)).view(2, f, groups, clips * blocks, channels)
    spectrum = spectrum.permute(3, 2, 4, 0, 1).reshape(-1, 2 * f)
    spread = torch.matmul(spectrum, back[:, :block])  # (b * blocks * d, block)
    return spread.view(clips, blocks, dim, block).transpose(2, 3).reshape(clips, blocks * block, dim)[:, :n]


@lru_cache(maxsize=4)
@torch.inference_mode(False)  # training takes what embedding left here
def _waves(window: int) -> tuple[Tensor, Tensor]:
    """Return the waves of a transform of a real window, and of its inverse: (2 * frequencies, window) each."""
    frequency = torch.arange(window // 2 + 1, dtype=torch.float64)[:, None]
    angle = (frequency * torch.arange(window)) % window * (2 * torch.pi / window)
    share = torch.full_like(frequency, 2.0 / window)
    share[0] = share[-1] = 1.0 / window  # the two that have no mirror image
    waves = torch.stack((angle.cos(), angle.sin()))
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64)[:, None, None]
    return waves.flatten(0, 1).float(), (waves * share * signs).flatten(0, 1).float()
