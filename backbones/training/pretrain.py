"""Pre-training: an encoder learns to fill in what is masked (paper, section 4.2; AudioMAE, Huang et al., 2022)."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from backbones import backbone_names, find_backbone
from backbones.contract import BackboneError, MaskedEncoder, MaskedPass, ReadClips, pick_device
from backbones.features.log_mel import FRAME, frame_count
from backbones.features.prepared import Features, prepare_features
from backbones.memory import MicroBatch, arithmetic, enough_memory, send
from backbones.networks.noise import Noise, drawing_from
from backbones.training.checkpoint import TrainingCheckpoint, digest_of
from backbones.training.optimiser import Schedule, check_settings, make_pretraining_optimiser, set_learning_rate

logger = logging.getLogger(__name__)

SEEDS = 2**62
BASE_BATCH = 256  # clips for which a base learning rate holds (facebookresearch/AudioMAE:main_pretrain.py)
WAY_OUT = "take a smaller backbone or decoder"


@dataclass(frozen=True)
class PretrainRecipe:
    """How an encoder learns to reconstruct; the defaults are the paper's (section 4.2) where it says something.

    The paper names no augmentation, so there is none; the official code rolls and scales the features of AudioSet.

    Attributes:
        epochs: passes over the clips.
        batch_size: clips an optimiser step sees.
        micro_batch: clips that are in memory at once; None finds the largest that fits.
        base_learning_rate: the peak is this times batch_size / 256, as in the official code.
        weight_decay: of AdamW, on weights and not on biases or norms; the official code has 1e-4.
        warmup_epochs: linear warm-up before the cosine, which falls with every step.
        beta1: of AdamW (facebookresearch/AudioMAE:main_pretrain.py).
        beta2: of AdamW, likewise.
        mask_ratio: share of masked patches.
        clip_seconds: every clip is brought to this length, as fine-tuning does.
        fit: what happens to a shorter clip.
        gradient_clip: largest norm of the gradient; None leaves it, as the official code does.
        precision: as in `FinetuneRecipe`.
    """

    epochs: int = 40
    batch_size: int = 512
    micro_batch: int | None = None
    base_learning_rate: float = 2e-4
    weight_decay: float = 1e-2
    warmup_epochs: float = 4.0
    beta1: float = 0.9
    beta2: float = 0.95
    mask_ratio: float = 0.8
    clip_seconds: float = 10.0
    fit: Literal["repeat", "pad"] = "repeat"
    gradient_clip: float | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @property
    def learning_rate(self) -> float:
        """The peak of the learning rate."""
        return self.base_learning_rate * self.batch_size / BASE_BATCH


@dataclass(frozen=True)
class PretrainReport:
    """What one epoch of pre-training did.

    Attributes:
        epoch: 1 is the first.
        loss: mean squared error of the masked patches, each normalised to variance 1; its mean patch alone gives 1.
        learning_rate: at the end of the epoch.
        seconds: the epoch took, in the process that ended it.
        precision: "float32" or "bfloat16".
    """

    epoch: int
    loss: float
    learning_rate: float
    seconds: float
    precision: str = "float32"


OnPretrainEpoch: TypeAlias = Callable[[PretrainReport], None]
OnStep: TypeAlias = Callable[[int, int], None]
"""Told after each step: steps done, steps in all."""


def load_masked_encoder(name: str, *, weights: Any = None, seed: int = 0, **options: Any) -> MaskedEncoder:
    """Build a backbone with its decoder.

    Args:
        name: of the backbone.
        weights: a checkpoint to start from; None draws random weights.
        seed: of what the checkpoint does not bring.
        options: of the backbone.

    Raises:
        BackboneError: it cannot be pre-trained so, or an option or the checkpoint is wrong.
    """
    build = find_backbone(name).build_masked
    if build is None:
        able = ", ".join(each for each in backbone_names() if find_backbone(each).build_masked is not None)
        raise BackboneError(
            f"backbone must be one that masked reconstruction can pre-train ({able}), but got {name}, "
            "which has no decoder."
        )
    with enough_memory(f"to build the backbone {name}", way_out=WAY_OUT):
        model = build(weights=weights, seed=seed, **options)
    assert isinstance(model, MaskedEncoder)
    return model


def padding_share(model: MaskedEncoder, clip_seconds: float) -> float:
    """Return which share of the model's input would be padding with clips of this length."""
    frames = frame_count(round(clip_seconds * model.sample_rate))
    return max(0.0, 1 - frames / model.n_frames)


@enough_memory("to pre-train", way_out=WAY_OUT)
def pretrain(
    model: MaskedEncoder,
    read: ReadClips,
    n: int,
    *,
    recipe: PretrainRecipe | None = None,
    seed: int = 0,
    on_epoch: OnPretrainEpoch | None = None,
    on_step: OnStep | None = None,
    device: torch.device | None = None,
    features_gb: float = 4.0,
    checkpoint: TrainingCheckpoint | None = None,
) -> tuple[MaskedEncoder, list[PretrainReport]]:
    """Teach a copy of a model to reconstruct masked patches from the visible ones, and return that copy.

    A clip shorter than the model's input is padded the official way, and its padded patches take part like any other.
    What chance decides is a function of seed, epoch and step, so that a run that was cut goes on with the same step,
    and on a CPU ends with the same weights as one that was not, bit for bit.

    Args:
        model: is left untouched.
        read: from positions to waveforms, all of one length.
        n: number of clips.
        recipe: how to learn; None takes the paper's.
        seed: of the order and the masks.
        on_epoch: is told of each epoch, those of a cut run again.
        on_step: is told of progress.
        device: None takes the first GPU where there is one, else the CPU.
        features_gb: GiB of log-mel features that may be kept in memory.
        checkpoint: where the state is kept between steps, under a path that stands for the clips. The caller removes
            it.

    Returns:
        The trained model, in evaluation mode on the device, and the report of every epoch.

    Raises:
        BackboneError: the recipe is wrong, loss or gradient stop being finite, or memory does not suffice for one clip.
    """
    recipe = PretrainRecipe() if recipe is None else recipe
    device = pick_device() if device is None else device
    check_pretrain_recipe(recipe, model)
    if n < 1 or seed < 0:
        raise BackboneError(f"Pre-training needs at least one clip and a seed of 0 or more, but got {n} and {seed}.")
    learner = copy.deepcopy(model).to(device).train()
    features, shape = prepare_features(learner, read, n, device=device, budget_gb=features_gb)
    run = _Pretraining(learner, features, n, recipe=recipe, seed=seed, device=device)
    if checkpoint is not None:
        key = digest_of(learner, "pretrain", n, shape, recipe, seed, str(device), run.dtype)
        if checkpoint.take_up(key, run.load, run.state):
            logger.info("going on at step %d of epoch %d", run.step, run.epoch)
    run.all(checkpoint, on_epoch=on_epoch, on_step=on_step)
    for parameter in learner.parameters():
        parameter.grad = None
    return learner.eval(), run.reports


class _Pretraining:
    """A model on its way: where it is, and what one step needs."""

    def __init__(
        self,
        model: MaskedEncoder,
        features: Features,
        n: int,
        *,
        recipe: PretrainRecipe,
        seed: int,
        device: torch.device,
    ) -> None:
        self.model, self.features, self.n = model, features, n
        self.recipe, self.seed, self.device = recipe, seed, device
        self.dtype = arithmetic(recipe.precision, device)
        self.micro_batch = MicroBatch(recipe.micro_batch, recipe.batch_size, device, way_out=WAY_OUT)
        self.optimiser = make_pretraining_optimiser(
            model, weight_decay=recipe.weight_decay, betas=(recipe.beta1, recipe.beta2)
        )
        self.steps = -(-n // recipe.batch_size)
        self.schedule = Schedule(recipe.learning_rate, recipe.warmup_epochs * self.steps, recipe.epochs * self.steps)
        self.epoch, self.step, self.summed = 1, 0, 0.0  # epochs count from 1, as in reports; steps done in this one
        self.seconds = 0.0
        self.reports: list[PretrainReport] = []

    def all(
        self, checkpoint: TrainingCheckpoint | None, *, on_epoch: OnPretrainEpoch | None, on_step: OnStep | None
    ) -> None:
        """Go on to the end of the last epoch."""
        if on_epoch is not None:
            for report in self.reports:
                on_epoch(report)
        while self.epoch <= self.recipe.epochs:
            self._go_on()
            done = self.reports[-1] if self.step == 0 else None
            if checkpoint is not None and checkpoint.is_due():
                checkpoint.write(self.state())
            if on_step is not None:
                on_step((self.epoch - 1) * self.steps + self.step, self.recipe.epochs * self.steps)
            if done is not None and on_epoch is not None:
                on_epoch(done)

    def _go_on(self) -> None:
        """Make one step, and end the epoch if it was the last."""
        began = time.perf_counter()
        size = self.recipe.batch_size
        batch = self._order()[self.step * size : (self.step + 1) * size]
        rate = self.schedule.rate((self.epoch - 1) * self.steps + self.step)
        set_learning_rate(self.optimiser, rate)
        self.summed += self._learn(batch, rate) * len(batch)
        self.seconds += time.perf_counter() - began
        self.step += 1
        if self.step < self.steps:
            return
        precision = str(self.dtype).removeprefix("torch.")
        self.reports.append(PretrainReport(self.epoch, self.summed / self.n, rate, self.seconds, precision))
        self.epoch, self.step, self.summed, self.seconds = self.epoch + 1, 0, 0.0, 0.0

    def _order(self) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, self.epoch]).permutation(self.n).astype(np.int64)

    def _learn(self, batch: NDArray[np.int64], rate: float) -> float:
        chance = np.random.default_rng([self.seed, self.epoch, self.step + 1])  # 0 would repeat the order's numbers
        noise = torch.from_numpy(chance.random((len(batch), self.model.n_patches), dtype=np.float32))
        clip_seeds = chance.integers(SEEDS, size=len(batch))
        total = self.micro_batch.fitting(lambda: self._gradients(batch, noise, clip_seeds))
        learning = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(learning, self.recipe.gradient_clip or math.inf)
        loss, length = torch.stack((total, norm.double())).tolist()  # the step's one wait for the device
        for what, value in (("Loss", loss), ("The gradient's norm", length)):
            if not math.isfinite(value):
                raise BackboneError(
                    f"{what} became {value} in epoch {self.epoch} of {self.recipe.epochs}, at a learning rate of "
                    f"{rate:.2g}; lower base_learning_rate ({self.recipe.base_learning_rate:.2g}), or check the "
                    "recordings."
                )
        self.optimiser.step()
        return float(loss)

    def _gradients(self, batch: NDArray[np.int64], noise: Tensor, clip_seeds: NDArray[np.int64]) -> Tensor:
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device, dtype=torch.float64)
        for start in range(0, len(batch), self.micro_batch.size):
            rows = slice(start, start + self.micro_batch.size)
            drawing = Noise(clip_seeds=clip_seeds[rows].tolist(), step_seed=int(clip_seeds[0]), device=self.device)
            with (
                drawing_from(drawing),
                torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32),
            ):
                masked = self.model.forward_masked(
                    self.features(batch[rows]), send(noise[rows], self.device), mask_ratio=self.recipe.mask_ratio
                )
            share = masked.loss.float() * (len(batch[rows]) / len(batch))
            share.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            total += share.detach()
        return total

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on: chance is a function of epoch and step."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "micro_batch": self.micro_batch.size,
            "at": [self.epoch, self.step],
            "summed": self.summed,
            "seconds": self.seconds,
            "reports": [asdict(report) for report in self.reports],
        }

    def load(self, state: dict[str, Any]) -> bool:
        """Take up a state, and say so."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.micro_batch.size = state["micro_batch"]
        self.epoch, self.step = state["at"]
        self.summed, self.seconds = state["summed"], state["seconds"]
        self.reports = [PretrainReport(**report) for report in state["reports"]]
        return True


@torch.no_grad()
def reconstruct(
    model: MaskedEncoder, waveforms: Tensor, *, mask_ratio: float, seed: int = 0
) -> tuple[MaskedPass, tuple[Tensor, Tensor, Tensor]]:
    """Mask clips, fill in what is masked, and return the pass with input, masked input and reconstruction.

    Args:
        model: in evaluation mode.
        waveforms: (b, samples) in -1..1.
        mask_ratio: share of masked patches.
        seed: of the masks.

    Returns:
        The pass, and three panels (b, frames, 128) of normalised log-mel on the CPU; masked places are NaN in the
        second.
    """
    device = next(model.parameters()).device
    fbank = model.fbank(waveforms.to(device))
    noise = torch.rand((len(fbank), model.n_patches), generator=Generator().manual_seed(seed))
    masked = model.forward_masked(fbank, noise.to(device), mask_ratio=mask_ratio)
    shown, hidden, filled = (panel.float().cpu() for panel in model.panels(fbank, masked))
    return masked, (shown, hidden, filled)


def check_pretrain_recipe(recipe: PretrainRecipe, model: MaskedEncoder) -> None:
    """Refuse a recipe that cannot be carried out with this model.

    Raises:
        BackboneError: naming the first setting that is out of range.
    """
    clip = recipe.gradient_clip
    check_settings(
        recipe,
        ("epochs", recipe.epochs >= 1, "1 or more"),
        ("base_learning_rate", 0 < recipe.base_learning_rate < math.inf, "above 0"),
        ("beta1", 0 <= recipe.beta1 < 1, "at least 0 and below 1"),
        ("beta2", 0 <= recipe.beta2 < 1, "at least 0 and below 1"),
        ("clip_seconds", recipe.clip_seconds * model.sample_rate >= FRAME, "at least 0.025, one frame"),
        ("fit", recipe.fit in ("repeat", "pad"), "repeat or pad"),
        ("gradient_clip", clip is None or clip > 0, "above 0, or None"),
    )
    kept = int(model.n_patches * (1 - recipe.mask_ratio))
    if not 0 < kept < model.n_patches:
        raise BackboneError(
            f"mask_ratio must leave 1 to {model.n_patches - 1} of {model.n_patches} patches visible, "
            f"but {recipe.mask_ratio:g} leaves {kept}."
        )
