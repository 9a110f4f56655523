"""Fine-tuning: the encoder learns to tell attribute classes apart (paper, section 3.3)."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from backbones.contract import BackboneError, Encoder, EpochReport, LossHead, OnEpoch, ReadClips, pick_device
from backbones.features.masks import apply_masks, draw_masks
from backbones.features.prepared import Features, prepare_features
from backbones.memory import MicroBatch, arithmetic, enough_memory, send
from backbones.networks.directions import weights_of
from backbones.networks.noise import Noise, drawing_from
from backbones.training.adapters import choose_what_learns, merge_adapters
from backbones.training.checkpoint import TrainingCheckpoint, digest_of
from backbones.training.loss_choice import LossChoice, parse_loss
from backbones.training.optimiser import Schedule, check_recipe, make_optimiser, set_learning_rate
from backbones.training.recipe import FinetuneRecipe

logger = logging.getLogger(__name__)

SEEDS = 2**62
ROW_TOLERANCE = 1e-3  # on the sum of a clip's soft targets
WAY_OUT = 'take shorter clips, a smaller backbone, or train="head"'


@dataclass(frozen=True)
class _Draws:
    """What chance decides in one epoch, by clip and by step, so that no cut into micro-batches changes it."""

    order: NDArray[np.int64]  # (n,)
    clip_seeds: NDArray[np.int64]  # (n,)
    step_seeds: NDArray[np.int64]  # (steps,)
    masks: Tensor  # (n, masks, 2, 2)
    partners: NDArray[np.int64]  # (n,) the clip that each is mixed with
    shares: Tensor  # (n,) float32, a clip's own part of the mixture; 1 where nothing is mixed


class _Trainer:
    """An encoder, the loss behind it, and what one step of learning needs."""

    def __init__(
        self, encoder: Encoder, head: LossHead, features: Features, targets: Tensor, *, recipe: FinetuneRecipe
    ) -> None:
        self.encoder = encoder
        self.head = head
        self.features = features
        self.targets = targets
        self.recipe = recipe
        self.device = targets.device
        self.optimiser = make_optimiser(encoder, head, recipe)
        self.micro_batch = MicroBatch(recipe.micro_batch, recipe.batch_size, self.device, way_out=WAY_OUT)
        self.dtype = arithmetic(recipe.precision, self.device)

    def step(self, positions: NDArray[np.int64], draws: _Draws, *, step_seed: int) -> Tensor:
        """Learn from one batch.

        Returns:
            (3,) float64 on the device: its summed loss, how many clips were right, and the gradient's norm. A GPU is
            still at work on them; whoever reads them waits.
        """
        loss, right = self.micro_batch.fitting(lambda: self._gradients(positions, draws, step_seed))
        parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.recipe.gradient_clip)
        self.optimiser.step()
        self.head.end_step()
        return torch.stack((loss, right.double(), norm.double()))

    def _gradients(self, positions: NDArray[np.int64], draws: _Draws, step_seed: int) -> tuple[Tensor, Tensor]:
        self.optimiser.zero_grad(set_to_none=True)
        self.head.begin_step()
        loss = torch.zeros((), device=self.device, dtype=torch.float64)
        right = torch.zeros((), device=self.device, dtype=torch.int64)
        for start in range(0, len(positions), self.micro_batch.size):
            part = positions[start : start + self.micro_batch.size]
            targets = self._targets(part, draws)
            summed, scores = self.head(self._embeddings(part, draws, step_seed), targets)
            summed.div(len(positions)).backward()
            loss += summed.detach()
            classes = targets if targets.ndim == 1 else targets.argmax(dim=1)
            right += (scores.detach().argmax(dim=1) == classes).sum()
        return loss, right

    def _targets(self, part: NDArray[np.int64], draws: _Draws) -> Tensor:
        targets = self.targets[send(torch.from_numpy(part), self.device)]
        if not self.recipe.mixup:
            return targets
        others = self.targets[send(torch.from_numpy(draws.partners[part]), self.device)]
        shares = send(draws.shares[torch.from_numpy(part)], self.device)[:, None]  # (b, 1)
        classes = self.head.n_classes
        return shares * weights_of(targets, classes) + (1.0 - shares) * weights_of(others, classes)

    def _features(self, part: NDArray[np.int64], draws: _Draws) -> Tensor:
        fbank = self.features(part)  # (b, frames, bins)
        if self.recipe.mixup:
            shares = send(draws.shares[torch.from_numpy(part)], fbank.device)[:, None, None]
            fbank = shares * fbank + (1.0 - shares) * self.features(draws.partners[part])
        return apply_masks(fbank, draws.masks[torch.from_numpy(part)])

    def _embeddings(self, part: NDArray[np.int64], draws: _Draws, step_seed: int) -> Tensor:
        fbank = self._features(part, draws)
        noise = Noise(clip_seeds=draws.clip_seeds[part].tolist(), step_seed=step_seed, device=self.device)
        # Encoders that draw from torch's own generator repeat themselves too, if not for every cut of the batch.
        _seed_torch(int(draws.clip_seeds[part[0]]), self.device)
        with (
            drawing_from(noise),
            torch.set_grad_enabled(self.recipe.train == "all"),
            torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32),
        ):
            embeddings = self.encoder.pool(self.encoder.tokens(fbank))
        return embeddings.float()

    def state(self, reports: list[EpochReport]) -> dict[str, Any]:
        """Return all that the next epoch depends on: chance is a function of its number."""
        return {
            "encoder": self.encoder.state_dict(),
            "head": self.head.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "micro_batch": self.micro_batch.size,
            "reports": [asdict(report) for report in reports],
        }

    def load(self, state: dict[str, Any]) -> list[EpochReport]:
        """Take up a state, and return what was reported up to it."""
        self.encoder.load_state_dict(state["encoder"])
        self.head.load_state_dict(state["head"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.micro_batch.size = state["micro_batch"]
        return [EpochReport(**report) for report in state["reports"]]


class _Epoch:
    """What the steps of an epoch told, each read when the next one is queued, so that a GPU never waits for a reader.

    Attributes:
        loss: summed over the clips so far.
        right: clips that were right so far.
    """

    def __init__(self, number: int, recipe: FinetuneRecipe) -> None:
        self.loss, self.right = 0.0, 0
        self._number, self._recipe = number, recipe
        self._unread: tuple[Tensor, float] | None = None

    def add(self, told: Tensor, rate: float) -> None:
        """Keep what a step told, at a learning rate, and read what the one before it did."""
        self.read()
        self._unread = told, rate

    def read(self) -> None:
        """Read what the last step told.

        Raises:
            BackboneError: loss or gradient are not finite.
        """
        if self._unread is None:
            return
        told, rate = self._unread
        self._unread = None
        loss, right, norm = told.tolist()
        for what, value in (("Loss", loss), ("The gradient's norm", norm)):
            if not math.isfinite(value):
                raise BackboneError(
                    f"{what} became {value} in epoch {self._number} of {self._recipe.epochs}, at a learning rate of "
                    f"{rate:.2g}; lower learning_rate ({self._recipe.learning_rate:.2g}), or check the recordings."
                )
        self.loss, self.right = self.loss + loss, self.right + int(right)


@enough_memory("to fine-tune", way_out=WAY_OUT)
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
    checkpoint: TrainingCheckpoint | None = None,
) -> Encoder:
    """Teach a copy of an encoder to tell classes apart, and return that copy.

    Gradients are those of the whole batch whatever the micro-batch: every clip counts the same, and its masks and
    dropout are its own. Torch's own generator is left as it was found.

    With a checkpoint, a run that was cut goes on after the last epoch that it kept, and on a CPU ends with the same
    weights as one that was not, bit for bit.

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
        checkpoint: where the state is kept between epochs, under a path that stands for the clips; everything else
            that the numbers depend on is compared. Epochs of a cut run are reported again. The caller removes it.

    Returns:
        The fine-tuned encoder, in evaluation mode, on the device; with 0 epochs a plain copy.

    Raises:
        BackboneError: when targets or recipe are wrong, loss or gradient stop being finite, or memory does not
            suffice for one clip.
    """
    recipe = FinetuneRecipe() if recipe is None else recipe
    device = pick_device() if device is None else device
    check_recipe(recipe, encoder)
    if not encoder.bins_are_mel:
        recipe = replace(recipe, mel_mask=0)
    if seed < 0:
        raise BackboneError(f"seed must be 0 or more, but got {seed}.")
    checked = _check_targets(targets, n_classes).to(device)
    loss = parse_loss(recipe.loss)
    if not loss.loss.soft and (checked.ndim == 2 or recipe.mixup):
        soft = "soft fusion makes them" if checked.ndim == 2 else f"mixup = {recipe.mixup:g} makes them"
        raise BackboneError(
            f"The loss {loss.loss.name} must have one class a clip, but targets are weights over several ({soft}); "
            "take another loss, composite fusion, and mixup = 0."
        )
    learner = copy.deepcopy(encoder).to(device)
    if recipe.epochs == 0:
        return learner.eval()
    learns = [parameter.requires_grad for parameter in learner.parameters()]
    choose_what_learns(learner, recipe, seed=_adapter_seed(seed))
    learner.train(recipe.train == "all")
    if learner.gradient_decay is not None:
        learner.gradient_decay = recipe.gradient_decay
    with _torch_generator_kept(device):
        features, shape = prepare_features(learner, read, len(checked), device=device, budget_gb=features_gb)
        head = _new_head(loss, learner.dim, n_classes, seed=seed).to(device)
        trainer = _Trainer(learner, head, features, checked, recipe=recipe)
        started = _Started(checkpoint, trainer, seed=seed, shape=shape)
        _train(trainer, shape, seed=seed, on_epoch=on_epoch, started=started)
    merge_adapters(learner)
    for parameter, learned in zip(learner.parameters(), learns, strict=True):
        parameter.requires_grad_(learned).grad = None
    learner.gradient_decay = encoder.gradient_decay
    return learner.eval()


class _Started:
    """What an earlier try of the same run left, and where this one leaves its own state."""

    def __init__(
        self, checkpoint: TrainingCheckpoint | None, trainer: _Trainer, *, seed: int, shape: tuple[int, int]
    ) -> None:
        self.checkpoint, self.trainer = checkpoint, trainer
        self.reports: list[EpochReport] = []
        if checkpoint is not None:
            key = digest_of(
                trainer.encoder, "finetune", trainer.targets.cpu().numpy().tobytes(), trainer.head.n_classes,
                trainer.recipe, seed, shape, str(trainer.device), trainer.dtype,
            )  # fmt: skip
            left = checkpoint.take_up(key, trainer.load, lambda: trainer.state([]))
            if left is not None:
                self.reports = left
                logger.info("going on after epoch %d of %d", len(self.reports), trainer.recipe.epochs)

    def add(self, report: EpochReport) -> None:
        """Add an epoch, and keep the state after it if it is time."""
        self.reports.append(report)
        if self.checkpoint is not None and self.checkpoint.is_due():
            self.checkpoint.write(self.trainer.state(self.reports))


def _train(
    trainer: _Trainer, shape: tuple[int, int], *, seed: int, on_epoch: OnEpoch | None, started: _Started
) -> None:
    recipe, n = trainer.recipe, len(trainer.targets)
    if on_epoch is not None:
        for report in started.reports:
            on_epoch(report)
    steps = -(-n // recipe.batch_size)
    schedule = Schedule(recipe.learning_rate, recipe.warmup_epochs * steps, recipe.epochs * steps)
    for epoch in range(len(started.reports) + 1, recipe.epochs + 1):
        began = time.perf_counter()
        draws = _draw(n, steps, shape, recipe=recipe, seed=seed, epoch=epoch)
        told, rate = _Epoch(epoch, recipe), 0.0
        for step in range(steps):
            rate = schedule.rate((epoch - 1) * steps + step)
            set_learning_rate(trainer.optimiser, rate)
            batch = draws.order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            told.add(trainer.step(batch, draws, step_seed=int(draws.step_seeds[step])), rate)
        told.read()
        report = EpochReport(
            epoch=epoch,
            loss=told.loss / n,
            accuracy=told.right / n,
            learning_rate=rate,
            seconds=time.perf_counter() - began,
            classes=trainer.head.n_classes,
            precision=str(trainer.dtype).removeprefix("torch."),
        )
        started.add(report)
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
    partners, shares = order, np.ones(n)
    if recipe.mixup:
        mixing = np.random.default_rng([seed, epoch, 1])  # its own: without mixup the other draws stay as they are
        partners = mixing.permutation(n).astype(np.int64)
        shares = mixing.beta(recipe.mixup, recipe.mixup, size=n)
    return _Draws(
        order=order, clip_seeds=clip_seeds, step_seeds=step_seeds, masks=masks, partners=partners,
        shares=torch.from_numpy(shares.astype(np.float32)),
    )  # fmt: skip


def _new_head(loss: LossChoice, dim: int, n_classes: int, *, seed: int) -> LossHead:
    chance = np.random.default_rng([seed, 0])  # epochs count from 1
    return loss.build(dim=dim, n_classes=n_classes, generator=Generator().manual_seed(int(chance.integers(SEEDS))))


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


def _adapter_seed(seed: int) -> int:
    return int(np.random.default_rng([seed, 0, 1]).integers(SEEDS))  # the head takes [seed, 0], epochs the rest


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
