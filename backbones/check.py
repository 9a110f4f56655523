"""The contract of a backbone as a report: what holds, what does not, and why it matters."""

from __future__ import annotations

import io
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Generator, Tensor

from backbones.contract import BackboneError, Encoder
from backbones.features.log_mel import SAMPLE_RATE
from backbones.layers import describe_layers

Build: TypeAlias = Callable[[int], Encoder]
"""A seed -> the encoder with that seed's weights, or the checkpoint's."""

Status: TypeAlias = Literal["pass", "fail", "skip", "measured"]

CLIP_SECONDS = 10.0  # DCASE Task 2: most years
LENGTHS = (6, 10, 12, 18)  # seconds, the lengths of the clips of 2020 to 2025
CLIPS = 3
ROWS_TOLERANCE = 1e-3  # of an embedding's norm; batched arithmetic may round otherwise
PADDING_TOLERANCE = 1e-3
NUDGE = 0.02  # of weights, so that a bias that starts at 0 does not hide what depends on it
LAYERDROP_TRIES = 8  # passes, so that a layer which training drops now and then is met
MIB = 2.0**20


@dataclass(frozen=True)
class CheckLine:
    """One line of the report.

    Attributes:
        name: what is checked.
        status: pass, fail, skip (cannot be told here), or measured (nothing to pass).
        found: what was seen.
        why: why it matters.
    """

    name: str
    status: Status
    found: str
    why: str


class _NotMetError(Exception):
    """A point of the contract that does not hold, with what was seen."""


class _SkipError(Exception):
    """A point that cannot be told here, with the reason."""


@dataclass
class _Subject:
    build: Build
    encoder: Encoder
    clips: Tensor  # (3, samples): noise, a tone, faint noise

    def fbank(self) -> Tensor:
        with torch.no_grad():
            return self.encoder.fbank(self.clips)


def check_encoder(build: Build, *, seconds: float = CLIP_SECONDS, seed: int = 0) -> Iterator[CheckLine]:
    """Check an encoder against the contract, line by line.

    Args:
        build: from a seed to the encoder; called a few times.
        seconds: length of the clips of most lines.
        seed: of the clips and the weights.

    Yields:
        A line as soon as it is known; where the encoder cannot be built, that line alone.
    """
    try:
        encoder = build(seed).eval()
    except Exception as error:  # noqa: BLE001 - whatever a foreign encoder raises is the finding
        yield CheckLine("builds", "fail", _said(error), LINES[0][2])
        return
    subject = _Subject(build, encoder, example_clips(seconds, seed=seed))
    for name, check, why in LINES:
        with _torch_generator_kept():
            torch.manual_seed(seed)
            status, found = _outcome(check, subject)
        yield CheckLine(name, status, found, why)


def example_clips(seconds: float, *, seed: int = 0) -> Tensor:
    """Make three clips, (3, samples) in -1..1: noise, a tone in noise, noise at -60 dB."""
    chance = Generator().manual_seed(seed)
    samples = round(seconds * SAMPLE_RATE)
    noise = 0.1 * torch.randn((CLIPS, samples), generator=chance)
    noise[1] = 0.1 * noise[1] + 0.3 * torch.sin(2 * torch.pi * 440 * torch.arange(samples) / SAMPLE_RATE)
    noise[2] *= 1e-3
    return noise.clamp(-1, 1)


def _outcome(check: Callable[[_Subject], str], subject: _Subject) -> tuple[Status, str]:
    try:
        return "measured" if check in MEASUREMENTS else "pass", check(subject)
    except _NotMetError as error:
        return "fail", str(error)
    except _SkipError as error:
        return "skip", str(error)
    except Exception as error:  # noqa: BLE001 - whatever a foreign encoder raises is the finding
        return "fail", _said(error)


def _builds(subject: _Subject) -> str:
    encoder = subject.encoder
    _demand(isinstance(encoder, Encoder), f"it is a {type(encoder).__name__} and no backbones.contract.Encoder")
    _demand(isinstance(encoder.dim, int) and encoder.dim > 0, f"dim is {getattr(encoder, 'dim', None)!r}")
    _demand(encoder.sample_rate == SAMPLE_RATE, f"sample_rate is {encoder.sample_rate} Hz, recordings have 16000")
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    return f"{type(encoder).__name__}, {parameters:,} parameters, embeddings of {encoder.dim} numbers"


def _shapes(subject: _Subject) -> str:
    encoder, fbank = subject.encoder, subject.fbank()
    _demand(fbank.ndim == 3 and len(fbank) == CLIPS, f"fbank gave {tuple(fbank.shape)} for {CLIPS} clips")
    with torch.no_grad():
        tokens, embedded = encoder.tokens(fbank), encoder(subject.clips)
        pooled = encoder.pool(tokens)
    wanted = (CLIPS, encoder.dim)
    _demand(
        tokens.ndim == 3 and (len(tokens), tokens.shape[2]) == wanted,
        f"tokens gave {tuple(tokens.shape)}, not ({CLIPS}, n, {encoder.dim})",
    )
    _demand(tuple(pooled.shape) == wanted, f"pool gave {tuple(pooled.shape)}, not {wanted}")
    _demand(tuple(embedded.shape) == wanted, f"forward gave {tuple(embedded.shape)}, not {wanted}")
    _demand(_distance(embedded, pooled) <= ROWS_TOLERANCE, "forward is not pool(tokens(fbank(waveforms)))")
    return f"features {_shape(fbank)}, tokens {_shape(tokens)}, embedding {encoder.dim}"


def _dtype(subject: _Subject) -> str:
    with torch.no_grad():
        embedded = subject.encoder(subject.clips)
    weights = {parameter.dtype for parameter in subject.encoder.parameters()}
    _demand(embedded.dtype == torch.float32, f"embeddings are {embedded.dtype}")
    _demand(weights <= {torch.float32}, f"weights are {', '.join(sorted(map(str, weights)))}")
    return "float32"


def _finite(subject: _Subject) -> str:
    loud = torch.ones_like(subject.clips[:1])
    loud[:, ::2] = -1.0
    cases = {"noise and tones": subject.clips, "silence": torch.zeros_like(loud), "full scale": loud}
    for name, clips in cases.items():
        with torch.no_grad():
            _demand(bool(torch.isfinite(subject.encoder(clips)).all()), f"NaN or infinite embeddings of {name}")
    return ", ".join(cases)


def _rows(subject: _Subject) -> str:
    with torch.no_grad():
        together = subject.encoder(subject.clips)
        alone = torch.cat([subject.encoder(clip[None]) for clip in subject.clips])
    gap = _distance(together, alone)
    _demand(gap <= ROWS_TOLERANCE, f"a clip in a batch differs from itself alone by {gap:.2g} of its norm")
    return f"largest difference {gap:.1g} of the norm"


def _deterministic(subject: _Subject) -> str:
    again = subject.build(0).eval()
    twin = subject.build(0).eval()
    with torch.no_grad():
        first, second = again(subject.clips), again(subject.clips)
        other = twin(subject.clips)
    _demand(torch.equal(first, second), "the same clips gave other embeddings the second time")
    _demand(torch.equal(first, other), "the same seed gave other weights the second time")
    return "the same clips twice, and the same seed twice: equal to the last bit"


def _order(subject: _Subject) -> str:
    turn = torch.tensor([2, 0, 1])
    with torch.no_grad():
        gap = _distance(subject.encoder(subject.clips[turn]), subject.encoder(subject.clips)[turn])
    _demand(gap <= ROWS_TOLERANCE, f"another order of the batch changes embeddings by {gap:.2g} of their norm")
    return f"largest difference {gap:.1g} of the norm"


def _gradients(subject: _Subject) -> str:
    encoder, fbank = subject.build(0).train(), subject.fbank()
    trainable = {name: each for name, each in encoder.named_parameters() if each.requires_grad}
    if not trainable:
        return "nothing in it is trainable: it can be used frozen alone"
    chance = Generator().manual_seed(1)
    for _ in range(LAYERDROP_TRIES):
        embedded = encoder.pool(encoder.tokens(fbank))
        (embedded * torch.randn(embedded.shape, generator=chance)).sum().backward()  # type: ignore[no-untyped-call]
        if all(each.grad is not None for each in trainable.values()):
            break
    broken = [name for name, each in trainable.items() if each.grad is not None and not each.grad.isfinite().all()]
    _demand(not broken, f"gradients are not finite in {_some(broken)}")
    unreached = [name for name, each in trainable.items() if each.grad is None]
    _demand(not unreached, f"no gradient reaches {_some(unreached)}; set requires_grad to False where that is meant")
    return f"{len(trainable)} of {sum(1 for _ in encoder.parameters())} tensors are trainable, and all are reached"


def _layers(subject: _Subject) -> str:
    encoder = subject.encoder
    for name, _ in encoder.named_parameters():
        place = encoder.layer_index(name)
        _demand(0 <= place <= encoder.n_layers, f"layer_index({name!r}) is {place}, not in 0..{encoder.n_layers}")
    return f"{encoder.n_layers} layer{'s' * (encoder.n_layers != 1)}"


def _heard(subject: _Subject) -> str:
    if not subject.encoder.layer_modules():
        raise _SkipError("layer_modules names none, so its embedding alone is scored")
    with torch.no_grad():
        return describe_layers(subject.encoder, subject.clips)


def _padding(subject: _Subject) -> str:
    encoder, frames = _nudged(subject.build(0)), subject.fbank()[:1]
    half = frames[:, : frames.shape[1] // 2 // 16 * 16]  # a multiple of the usual patches
    if half.shape[1] == 0:
        raise _SkipError(f"the clips have {frames.shape[1]} frames, too few to pad")
    mask = torch.zeros((1, 2 * half.shape[1]), dtype=torch.bool)
    mask[:, half.shape[1] :] = True
    with torch.no_grad():
        alone = encoder.tokens(half, torch.zeros_like(mask[:, : half.shape[1]]))
        quiet, loud = (
            encoder.tokens(torch.cat([half, filler], dim=1), mask) for filler in (torch.zeros_like(half), half * 2 + 5)
        )
    shown = min(alone.shape[1], quiet.shape[1])
    gap = _distance(loud[:, :shown], quiet[:, :shown])
    _demand(gap <= PADDING_TOLERANCE, f"what stands in masked frames changes the tokens by {gap:.2g} of their norm")
    gap = _distance(quiet[:, :shown], alone[:, :shown])
    _demand(gap <= PADDING_TOLERANCE, f"a masked tail changes the tokens before it by {gap:.2g} of their norm")
    return f"largest difference {gap:.1g} of the norm"


def _round_trip(subject: _Subject) -> str:
    source, other = _nudged(subject.build(0)), subject.build(1).eval()
    held = io.BytesIO()
    torch.save(source.state_dict(), held)
    held.seek(0)
    other.load_state_dict(torch.load(held, weights_only=True))
    with torch.no_grad():
        _demand(torch.equal(other(subject.clips), source(subject.clips)), "a reloaded state gives other embeddings")
    return f"{len(source.state_dict())} tensors, {held.getbuffer().nbytes / MIB:.1f} MiB"


def _lengths(subject: _Subject) -> str:
    seen = []
    for seconds in LENGTHS:
        with torch.no_grad():
            clip = example_clips(seconds)[:1]
            embedded = subject.encoder(clip)
        _demand(tuple(embedded.shape) == (1, subject.encoder.dim), f"{seconds} s gave {tuple(embedded.shape)}")
        _demand(bool(torch.isfinite(embedded).all()), f"{seconds} s gave NaN or infinite numbers")
        seen.append(f"{seconds} s")
    return ", ".join(seen)


def _device(subject: _Subject) -> str:
    if not torch.cuda.is_available():
        return _follows_to_meta(subject)
    encoder = subject.build(0).eval().to("cuda")
    with torch.no_grad():
        there, here = encoder(subject.clips.to("cuda")).cpu(), subject.encoder(subject.clips)
    gap = _distance(there, here)
    _demand(gap <= 1e-2, f"embeddings from the GPU differ by {gap:.2g} of their norm")
    return f"GPU against CPU: largest difference {gap:.1g} of the norm"


def _follows_to_meta(subject: _Subject) -> str:
    """Move it to torch's device without data, where a tensor that stays on the CPU shows as well as on a GPU."""
    encoder, fbank = subject.build(0).eval().to("meta"), subject.fbank().to("meta")
    try:
        with torch.no_grad():
            tokens = encoder.tokens(fbank)
    except RuntimeError as error:
        if "device" in str(error) and "meta" in str(error) and not isinstance(error, NotImplementedError):
            raise _NotMetError(f"something stays on the CPU: {str(error).splitlines()[0]}") from error
        raise _SkipError("there is no GPU here, and its arithmetic needs numbers to follow") from error
    _demand(tokens.device.type == "meta", f"tokens came back on {tokens.device}")
    return "no GPU here; on the meta device every tensor follows"


def _speed(subject: _Subject) -> str:
    clip = subject.clips[:1]
    with torch.no_grad():
        forward = f"{_rate(lambda: subject.encoder(clip))} clips/s forward"
    encoder = subject.build(0).train()
    if not any(parameter.requires_grad for parameter in encoder.parameters()):
        return forward
    fbank = subject.fbank()[:1]

    def step() -> None:
        encoder.zero_grad(set_to_none=True)
        encoder.pool(encoder.tokens(fbank)).sum().backward()  # type: ignore[no-untyped-call]

    threads = torch.get_num_threads()
    return f"{forward}, {_rate(step)} with gradients, {threads} thread{'s' * (threads > 1)}"


def _memory(subject: _Subject) -> str:
    weights = sum(each.numel() * each.element_size() for each in subject.encoder.parameters())
    held = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal held
        held += tensor.numel() * tensor.element_size()
        return tensor

    fbank = subject.fbank()[:1]
    encoder = subject.build(0).train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        encoder.pool(encoder.tokens(fbank))
    return f"weights {weights / MIB:,.1f} MiB, kept for the gradients of one clip {held / MIB:,.1f} MiB"


LINES: tuple[tuple[str, Callable[[_Subject], str], str], ...] = (
    ("builds", _builds, "a study builds it in every worker from its name, options and weights"),
    ("shapes", _shapes, "pooling, the class head and every scorer count on them"),
    ("dtype", _dtype, "scores are compared across backbones at one precision"),
    ("finite values", _finite, "one NaN makes a machine's metrics undefined"),
    ("a batch equals its rows", _rows, "a score must not depend on which clips are scored beside it"),
    ("order of a batch", _order, "the order of test clips is no information"),
    ("determinism", _deterministic, "the same seed must give the same numbers, or trials cannot be paired"),
    ("gradients", _gradients, "a parameter that never learns is a bug or should be frozen openly"),
    ("layers", _layers, "layer-wise learning rates and freezing go by them"),
    ("layers heard", _heard, "scorers can name a layer: knn:layer=6"),
    ("padding", _padding, "clips of different lengths must not hear their padding"),
    ("state round-trip", _round_trip, "checkpoints of a trial are its state dict"),
    ("clip lengths", _lengths, "DCASE clips last 6 to 18 s"),
    ("device", _device, "a tensor made on the CPU in forward stops a GPU worker"),
    ("speed", _speed, "what a trial will take"),
    ("memory", _memory, "what a worker needs"),
)
MEASUREMENTS = (_speed, _memory)


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _NotMetError(otherwise)


def _distance(one: Tensor, other: Tensor) -> float:
    """Return the largest distance of two rows, as a share of the row's norm."""
    if one.shape != other.shape:
        raise _NotMetError(f"shapes differ: {tuple(one.shape)} and {tuple(other.shape)}")
    norms = other.norm(dim=-1).clamp(min=1e-6)
    gap = ((one - other).norm(dim=-1) / norms).max()
    return float(gap) if torch.isfinite(gap) else float("inf")


@torch.no_grad()
def _nudged(encoder: Encoder) -> Encoder:
    """Move every weight a little, as training does."""
    chance = Generator().manual_seed(2)
    for parameter in encoder.parameters():
        parameter.add_(NUDGE * torch.randn(parameter.shape, generator=chance))
    return encoder.eval()


def _rate(work: Callable[[], object], *, times: int = 3) -> str:
    """Say how often work can be done in a second: "12.3", and of slow work not "0.0" but "0.026"."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    rate = 1 / min(taken)
    return f"{rate:,.1f}" if rate >= 1 else f"{rate:.2g}"


def _shape(tensor: Tensor) -> str:
    return " x ".join(str(side) for side in tensor.shape[1:])


def _some(names: list[str]) -> str:
    rest = len(names) - 3
    return ", ".join(names[:3]) + (f" and {rest} more" if rest > 0 else "")


def _said(error: Exception) -> str:
    if isinstance(error, BackboneError):
        return str(error)
    lines = str(error).strip().splitlines()
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {where.name}: {lines[0] if lines else 'no message'}"


@contextmanager
def _torch_generator_kept() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield
