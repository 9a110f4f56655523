"""SpecAugment: bands of time and frequency that are hidden while an encoder is trained."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from backbones.contract import BackboneError
from backbones.memory import send


def draw_masks(
    clips: int,
    shape: tuple[int, int],
    *,
    time_mask: int,
    mel_mask: int,
    masks: int,
    generator: Generator,
) -> Tensor:
    """Draw where SpecAugment's masks lie: widths uniform in 0..widest, positions uniform where they fit.

    Source: Park et al., 2019, section 2, with one draw for each clip.

    Args:
        clips: number of clips.
        shape: (frames, mel bins).
        time_mask: frames, the widest time mask; no mask is wider than the clip.
        mel_mask: mel bins, the widest frequency mask.
        masks: how many of each kind.
        generator: of the CPU.

    Returns:
        (clips, masks, 2, 2) int64: for each mask, first and end along time, then along mel bins.

    Raises:
        BackboneError: when a width or the count is negative.
    """
    for name, value in (("time_mask", time_mask), ("mel_mask", mel_mask), ("masks", masks)):
        if value < 0:
            raise BackboneError(f"{name} of SpecAugment must be 0 or more, but got {value}; 0 switches it off.")
    draws = torch.rand((clips, masks, 2, 2), generator=generator, dtype=torch.float64)
    size = torch.tensor(shape)
    widest = torch.minimum(torch.tensor([time_mask, mel_mask]), size)
    width = (draws[..., 0] * (widest + 1)).floor()  # (clips, masks, 2)
    first = (draws[..., 1] * (size - width + 1)).floor()
    return torch.stack((first, first + width), dim=-1).long()


def apply_masks(fbank: Tensor, masks: Tensor) -> Tensor:
    """Fill masked frames and mel bins with the clip's own mean, which normalises to about 0.

    Args:
        fbank: (b, frames, 128) log-mel features, left as they are.
        masks: (b, masks, 2, 2) from `draw_masks`, on any device.

    Returns:
        (b, frames, 128) masked features.
    """
    masks = send(masks, fbank.device)
    hidden = torch.zeros(fbank.shape, dtype=torch.bool, device=fbank.device)
    for axis, view in ((0, (1, 1, -1, 1)), (1, (1, 1, 1, -1))):
        places = torch.arange(fbank.shape[axis + 1], device=fbank.device).view(view)
        first, end = masks[:, :, axis, 0, None, None], masks[:, :, axis, 1, None, None]
        hidden |= ((places >= first) & (places < end)).any(dim=1)
    return torch.where(hidden, fbank.mean(dim=(1, 2), keepdim=True), fbank)
