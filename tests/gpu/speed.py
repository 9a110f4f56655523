"""How fast encoders are on a device, and how much of what it can do they use; the same functions for every device."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from backbones import load_encoder
from backbones.networks.attention import can_compile
from backbones.networks.transformer import Way, attending_by

CLIP_SECONDS = 10.0  # paper, section 4.1
TOKENS_AST = 1024  # frames of AST's input, 10.24 s
BACKWARD = 2  # a pass back multiplies twice as much as one forward
AIM = 0.4  # of the matrix rate, in training


@dataclass(frozen=True)
class Row:
    """What was measured of one model doing one thing.

    Attributes:
        model: whose.
        work: "forward" or "training step".
        way: of attention.
        clips: at once.
        clips_per_second: 10 s clips.
        share: of the device's matrix rate in bfloat16 that its products reached.
        peak_gb: GiB of memory at most; 0 where the device does not say.
    """

    model: str
    work: str
    way: str
    clips: int
    clips_per_second: float
    share: float
    peak_gb: float


@dataclass(frozen=True)
class Model:
    """A model to be timed.

    Attributes:
        name: of it.
        module: in training mode, on the device.
        run: from features to tokens.
        features: of one clip, made up.
        ways: of attention that are timed; None is what it takes by itself.
    """

    name: str
    module: nn.Module
    run: Callable[[Tensor], Tensor]
    features: Tensor
    ways: tuple[Way | None, ...] = (None,)


def wait(device: torch.device) -> None:
    """Wait until the device has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(run: Callable[[], object], device: torch.device, *, repeats: int) -> float:
    """Return the shortest of several timings, after two runs in which kernels are made."""
    found = []
    for number in range(repeats + 2):
        wait(device)
        began = time.perf_counter()
        run()
        wait(device)
        if number >= 2:
            found.append(time.perf_counter() - began)
    return min(found)


def matrix_rate(device: torch.device, *, side: int, repeats: int = 10) -> float:
    """Return the operations a second of a product of two square matrices in bfloat16."""
    one, two = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2.0 * side**3 / seconds_of(lambda: one @ two, device, repeats=repeats)


def our_models(device: torch.device, *, sizes: dict[str, dict[str, Any]] | None = None) -> Iterator[Model]:
    """Make our encoders at the paper's size, or at others, one after the other.

    Args:
        device: where.
        sizes: options by backbone; None is the paper's size.
    """
    ways: tuple[Way, ...] = ("piecewise", "fused")
    if device.type == "cuda":
        ways = ("flex", "fused") if can_compile() else ("fused",)
    for name in ("beats", "audiomae"):
        options = (sizes or {}).get(name, {})
        encoder = load_encoder(name, **options, **({"encoder_layerdrop": 0.0} if name == "beats" else {}))
        features = encoder.fbank(0.1 * torch.randn(1, int(CLIP_SECONDS * 16_000)))
        encoder.to(device).train()
        yield Model(name, encoder, encoder.tokens, features.to(device), ways if name == "beats" else (None,))


def other_models(device: torch.device) -> Iterator[Model]:
    """Make AST of transformers and BEATs of openbeats, where they are installed, one after the other."""
    if find_spec("transformers"):
        from transformers import ASTConfig, ASTModel

        ast = ASTModel(ASTConfig()).to(device).train()
        features = torch.randn(1, TOKENS_AST, 128, device=device)
        yield Model("transformers AST", ast, lambda x: ast(x).last_hidden_state, features)
    if find_spec("openbeats"):
        from openbeats.beats_encoder import BeatsEncoder

        ours = load_encoder("beats", encoder_layerdrop=0.0)
        config = {name: getattr(ours.config, name) for name in vars(ours.config)}
        theirs = BeatsEncoder(input_size=0, beats_config=config).to(device).train()
        features = ours.fbank(0.1 * torch.randn(1, int(CLIP_SECONDS * 16_000))).to(device)
        yield Model("openbeats", theirs, lambda x: theirs.extract_features(x, skip_fbank_extraction=True)[0], features)


def operations(model: Model) -> float:
    """Count the operations of a clip's pass forward; products inside a compiled kernel would not be counted."""
    with torch.no_grad(), attending_by("fused"), FlopCounterMode(display=False) as counted:
        model.run(model.features)
    return float(counted.get_total_flops())


def measure(model: Model, device: torch.device, *, clips: int, rate: float, repeats: int = 5) -> list[Row]:
    """Time a model's pass forward and its training step in bfloat16, by each of its ways of attention.

    A training step is forward, backward and AdamW's step, on features that are there.

    Args:
        model: to be timed.
        device: where it is.
        clips: at once.
        rate: of the device's products, from `matrix_rate`.
        repeats: timings, of which the shortest counts.
    """
    batch = model.features.expand(clips, *model.features.shape[1:]).contiguous()
    needed = operations(model) * clips
    on_gpu = device.type == "cuda"
    optimiser = torch.optim.AdamW(model.module.parameters(), lr=1e-6, fused=True if on_gpu else None)
    rows = []

    def forward() -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            return model.run(batch)

    def embed() -> None:
        with torch.no_grad():
            forward()

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        forward().float().square().mean().backward()
        optimiser.step()

    for way in model.ways:
        for work, run, operation_count in (
            ("forward", embed, needed),
            ("training step", step, (1 + BACKWARD) * needed),
        ):
            if on_gpu:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(device)
            if way is None:
                seconds = seconds_of(run, device, repeats=repeats)
            else:
                with attending_by(way):
                    seconds = seconds_of(run, device, repeats=repeats)
            peak = torch.cuda.max_memory_allocated(device) / 2**30 if on_gpu else 0.0
            share = operation_count / seconds / rate
            rows.append(Row(model.name, work, way or "its own", clips, clips / seconds, share, peak))
    model.module.zero_grad(set_to_none=True)
    return rows


def written(rows: list[Row], device: torch.device, *, rate: float, path: Path) -> None:
    """Write what was measured as JSON: the device, its matrix rate, a row for each model and work."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    content = {"device": name, "torch": torch.__version__, "matrix_rate": rate, "rows": [asdict(row) for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
