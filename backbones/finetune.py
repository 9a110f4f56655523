"""Fine-tuning: the encoder learns to tell attribute classes apart (paper, section 3.3)."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional

from backbones.contract import (
    BackboneError,
    Encoder,
    EpochReport,
    FinetuneRecipe,
    OnEpoch,
    ReadClips,
    pick_device,
)
from backbones.features import Features, prepare_features
from backbones.frontend import apply_masks, draw_masks
from backbones.memory import free_cached_memory, ran_out_of_memory
from backbones.noise import Noise, drawing_from
from backbones.optimiser import Schedule, check_recipe, make_optimiser, set_learning_rate

logger = logging.getLogger(__name__)

CPU_MICRO_BATCH = 8  # clips
SEEDS = 2**62
ROW_TOLERANCE = 1e-3  # on the sum of a clip's soft targets


@dataclass(frozen=True)
class _Draws:
    """What chance decides in one epoch, by clip and by step, so that no cut into micro-batches changes it."""

    order: NDArray[np.int64]  # (n,)
    clip_seeds: NDArray[np.int64]  # (n,)
    step_seeds: NDArray[np.int64]  # (steps,)
    masks: Tensor  # (n, masks, 2, 2)


class _Trainer:
    """An encoder, its classification head, and what one step of learning needs."""

    def __init__(
        self, encoder: Encoder, head: nn.Linear, features: Features, targets: Tensor, *, recipe: FinetuneRecipe
    ) -> None:
        self.encoder = encoder
        self.head = head
        self.features = features
        self.targets = targets
        self.recipe = recipe
        self.device = targets.device
        self.optimiser = make_optimiser(encoder, head, recipe)
        default = CPU_MICRO_BATCH if self.device.type == "cpu" else recipe.batch_size
        self.micro_batch = min(recipe.micro_batch or default, recipe.batch_size)
        self.dtype = _dtype(recipe.precision, self.device)

    def step(self, positions: NDArray[np.int64], draws: _Draws, *, step_seed: int) -> tuple[float, int]:
        """Learn from one batch; return its summed loss and how many clips were right."""
        while True:
            self.optimiser.zero_grad(set_to_none=True)
            try:
                loss, right = self._gradients(positions, draws, step_seed)
            except (RuntimeError, MemoryError) as error:
                if self.recipe.micro_batch is not None or not ran_out_of_memory(error):
                    raise
                self._halve()
                continue
            parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
            norm = nn.utils.clip_grad_norm_(parameters, self.recipe.gradient_clip)
            if not np.isfinite(loss):
                raise _NotFiniteError("Loss", loss)
            if not torch.isfinite(norm):
                raise _NotFiniteError("The gradient's norm", norm.item())
            self.optimiser.step()
            return loss, right

    def _gradients(self, positions: NDArray[np.int64], draws: _Draws, step_seed: int) -> tuple[float, int]:
        loss = torch.zeros((), device=self.device, dtype=torch.float64)
        right = torch.zeros((), device=self.device, dtype=torch.int64)
        for start in range(0, len(positions), self.micro_batch):
            part = positions[start : start + self.micro_batch]
            targets = self.targets[torch.from_numpy(part).to(self.device)]
            logits = self._logits(part, draws, step_seed)
            summed = functional.cross_entropy(logits, targets, reduction="sum")
            summed.div(len(positions)).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            loss += summed.detach()
            classes = targets if targets.ndim == 1 else targets.argmax(dim=1)
            right += (logits.detach().argmax(dim=1) == classes).sum()
        return loss.item(), int(right.item())

    def _logits(self, part: NDArray[np.int64], draws: _Draws, step_seed: int) -> Tensor:
        fbank = apply_masks(self.features(part), draws.masks[torch.from_numpy(part)])
        noise = Noise(clip_seeds=draws.clip_seeds[part].tolist(), step_seed=step_seed, device=self.device)
        # Encoders that draw from torch's own generator repeat themselves too, if not for every cut of the batch.
        _seed_torch(int(draws.clip_seeds[part[0]]), self.device)
        with (
            drawing_from(noise),
            torch.set_grad_enabled(self.recipe.train == "all"),
            torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32),
        ):
            embeddings = self.encoder.pool(self.encoder.tokens(fbank))
        logits: Tensor = self.head(embeddings.float())
        return logits

    def _halve(self) -> None:
        if self.micro_batch == 1:
            raise BackboneError(
                f"The memory of {self.device} does not suffice to fine-tune on one clip; take shorter clips, "
                'a smaller backbone, or train="head".'
            )
        self.micro_batch = min(self.micro_batch, self.recipe.batch_size) // 2
        self.optimiser.zero_grad(set_to_none=True)
        free_cached_memory(self.device)
        logger.info("memory does not suffice; now %d clips at once", self.micro_batch)


class _NotFiniteError(ArithmeticError):
    """A loss or gradient that is NaN or infinite, before it is known in which epoch."""

    def __init__(self, what: str, value: float) -> None:
        super().__init__(f"{what} became {value}")


def finetune(
    encoder: Encoder,
    read: ReadClips,
    targets: NDArray[Any],
    *,
    n_classes: int,
    recipe: FinetuneRecipe | None = None,
    seed: int = 0,
    on_epoch: OnEpoch | None = None,
    device: torch.device | None = None,
    features_gb: float = 4.0,
) -> Encoder:
    """Teach a copy of an encoder to tell classes apart, and return that copy.

    Gradients are those of the whole batch whatever the micro-batch: every clip counts the same, and its masks and
    dropout are its own. Torch's own generator is left as it was found.

    Args:
        encoder: is left untouched.
        read: from positions to waveforms, all of one length.
        targets: (n,) class of each clip, or (n, c) its weights, which sum to 1.
        n_classes: number of classes c.
        recipe: how to learn; None takes the paper's.
        seed: of the head, the order, SpecAugment and dropout.
        on_epoch: is told of each epoch.
        device: None takes the first GPU where there is one, else the CPU.
        features_gb: GiB of log-mel features that may be kept in memory.

    Returns:
        The fine-tuned encoder, in evaluation mode, on the device; with 0 epochs a plain copy.

    Raises:
        BackboneError: when targets or recipe are wrong, loss or gradient stop being finite, or memory does not
            suffice for one clip.
    """
    recipe = FinetuneRecipe() if recipe is None else recipe
    device = pick_device() if device is None else device
    check_recipe(recipe, encoder)
    if seed < 0:
        raise BackboneError(f"seed must be 0 or more, but got {seed}.")
    checked = _check_targets(targets, n_classes).to(device)
    learner = copy.deepcopy(encoder).to(device)
    if recipe.epochs == 0:
        return learner.eval()
    learns = [parameter.requires_grad for parameter in learner.parameters()]
    if recipe.train == "head":
        learner.requires_grad_(False)
    learner.train(recipe.train == "all")
    if learner.gradient_decay is not None:
        learner.gradient_decay = recipe.gradient_decay
    with _torch_generator_kept(device):
        features, shape = prepare_features(learner, read, len(checked), device=device, budget_gb=features_gb)
        head = _new_head(learner.dim, n_classes, seed=seed).to(device)
        trainer = _Trainer(learner, head, features, checked, recipe=recipe)
        _train(trainer, shape, seed=seed, on_epoch=on_epoch)
    for parameter, learned in zip(learner.parameters(), learns, strict=True):
        parameter.requires_grad_(learned).grad = None
    learner.gradient_decay = encoder.gradient_decay
    return learner.eval()


def _train(trainer: _Trainer, shape: tuple[int, int], *, seed: int, on_epoch: OnEpoch | None) -> None:
    recipe, n = trainer.recipe, len(trainer.targets)
    steps = -(-n // recipe.batch_size)
    schedule = Schedule(recipe.learning_rate, recipe.warmup_epochs * steps, recipe.epochs * steps)
    for epoch in range(1, recipe.epochs + 1):
        began = time.perf_counter()
        draws = _draw(n, steps, shape, recipe=recipe, seed=seed, epoch=epoch)
        loss, right, rate = 0.0, 0, 0.0
        for step in range(steps):
            rate = schedule.rate((epoch - 1) * steps + step)
            set_learning_rate(trainer.optimiser, rate)
            batch = draws.order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            try:
                batch_loss, batch_right = trainer.step(batch, draws, step_seed=int(draws.step_seeds[step]))
            except _NotFiniteError as error:
                raise BackboneError(
                    f"{error} in epoch {epoch} of {recipe.epochs}, at a learning rate of {rate:.2g}; "
                    f"lower learning_rate ({recipe.learning_rate:.2g}), or check the recordings."
                ) from error
            loss, right = loss + batch_loss, right + batch_right
        report = EpochReport(
            epoch=epoch,
            loss=loss / n,
            accuracy=right / n,
            learning_rate=rate,
            seconds=time.perf_counter() - began,
        )
        logger.debug("%s", report)
        if on_epoch is not None:
            on_epoch(report)


def _draw(n: int, steps: int, shape: tuple[int, int], *, recipe: FinetuneRecipe, seed: int, epoch: int) -> _Draws:
    chance = np.random.default_rng([seed, epoch])
    order = chance.permutation(n).astype(np.int64)
    clip_seeds = chance.integers(SEEDS, size=n)
    step_seeds = chance.integers(SEEDS, size=steps)
    masks = draw_masks(
        n,
        shape,
        time_mask=recipe.time_mask,
        mel_mask=recipe.mel_mask,
        masks=recipe.masks,
        generator=Generator().manual_seed(int(chance.integers(SEEDS))),
    )
    return _Draws(order=order, clip_seeds=clip_seeds, step_seeds=step_seeds, masks=masks)


def _new_head(dim: int, n_classes: int, *, seed: int) -> nn.Linear:
    with torch.device("meta"):
        empty = nn.Linear(dim, n_classes)
    head = empty.to_empty(device="cpu")
    chance = np.random.default_rng([seed, 0])  # epochs count from 1
    with torch.no_grad():
        head.weight.normal_(0.0, 0.02, generator=Generator().manual_seed(int(chance.integers(SEEDS))))
        head.bias.zero_()
    return head


def _check_targets(targets: NDArray[Any], n_classes: int) -> Tensor:
    if n_classes < 1:
        raise BackboneError(f"n_classes must be 1 or more, but got {n_classes}.")
    if len(targets) == 0:
        raise BackboneError("Fine-tuning needs at least one clip, but got none; see which clips labeling kept.")
    if targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer):
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= n_classes:
            raise BackboneError(f"targets must lie between 0 and {n_classes - 1}, but reach from {low} to {high}.")
        return torch.from_numpy(targets.astype(np.int64))
    if targets.shape != (len(targets), n_classes) or not np.issubdtype(targets.dtype, np.floating):
        raise BackboneError(
            f"targets must be integers of shape (n,) or weights of shape (n, {n_classes}), "
            f"but are {targets.dtype} of shape {targets.shape}."
        )
    if not (np.isfinite(targets).all() and (targets >= 0).all()):
        raise BackboneError("Soft targets must be finite and 0 or more, but some are not.")
    sums = targets.sum(axis=1)
    if np.abs(sums - 1).max() > ROW_TOLERANCE:
        raise BackboneError(
            f"Soft targets must sum to 1 a clip, but sums reach from {sums.min():.3g} to {sums.max():.3g}."
        )
    return torch.from_numpy(targets.astype(np.float32))


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "auto":
        fits = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fits else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


@contextmanager
def _torch_generator_kept(device: torch.device) -> Iterator[None]:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def _seed_torch(seed: int, device: torch.device) -> None:
    """Seed torch's own generators of the CPU and this device; `torch.manual_seed` would reach for all others too."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
