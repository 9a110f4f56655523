"""The recipe of fine-tuning: its choices, the paper's values of them, and which of them a trial's key holds."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True)
class FinetuneRecipe:
    """How an encoder learns to classify attributes; the defaults are the paper's (section 4.2).

    Attributes:
        epochs: passes over the training clips; 0 leaves the encoder frozen.
        batch_size: clips an optimiser step sees.
        micro_batch: clips that are in memory at once; left out, the largest number that fits.
        learning_rate: peak, after warm-up.
        weight_decay: of AdamW, on weights and not on biases or norms.
        warmup_epochs: linear warm-up before the cosine.
        clip_seconds: every clip is brought to this length; `longest` is that of the longest training clip.
        fit: what happens to a shorter clip.
        time_mask: frames, the widest SpecAugment time mask.
        mel_mask: mel bins, the widest SpecAugment frequency mask.
        masks: how many of each.
        gradient_clip: largest norm of the gradient.
        precision: "auto" is bfloat16 where the processor has units for it (CUDA from Ampere on; a CPU with AMX), else
            float32.
        layer_decay: factor on the learning rate for each layer further from the head.
        gradient_decay: factor on the gradient below each layer, for BEATs. Microsoft's files say 0.6, which leaves
            the lowest of 12 layers 0.2 % of the gradient, so that fine-tuning looks frozen; hence 1 by default.
        train: what learns: the encoder ("all"); the loss's own weights, which are thrown away, so that embeddings stay
            as they were ("head"); or a small network on the encoder's embeddings, whose output is scored
            ("projection", `backbones.training.projection`).
        freeze_layers: how many of the lowest layers, and with them the stem, stay as they are; 0 lets all learn.
        lora_rank: rank of low-rank adapters, which then learn in place of the encoder's own weights; 0 has none.
        lora_alpha: adapters are scaled by lora_alpha / lora_rank.
        lora_targets: which linear maps get one: those of the attention, or those of the feed-forward parts too.
        loss: a file of backbones/losses/ by name, with options as in "arcface:margin=0.3,scale=30".
        mixup: alpha of the Beta distribution from which each clip's share is drawn when it is mixed with another clip,
            log-mel features and targets alike (Zhang et al., 2018); 0 mixes nothing. A projection mixes embeddings.
        embed: what of a clip is embedded for scoring: "crop" as in training, of `clip_seconds`; or "whole", to its end,
            in windows of that length whose embeddings are averaged (measured: docs/scorers.md).
        projection_dim: size of the embeddings that a projection makes.
        projection_hidden: size of the layer between a projection's two linear maps; 0 has one map alone.
        scale_rate: whether the peak of the learning rate is times batch_size / 256, as in pre-training; the paper names
            one rate for both, and the official code of AudioMAE scales it (docs/paper.md).
        adam_eps: what AdamW adds to the root of the squared gradients before it divides by it.
        decays: "matrices" decay, and vectors (biases, norms, class tokens) do not; or "all" do.
    """

    epochs: int = 40
    batch_size: int = 512
    micro_batch: int | None = None
    learning_rate: float = 2e-4
    weight_decay: float = 1e-2
    warmup_epochs: float = 4.0
    clip_seconds: float | None = 10.0  # None is `longest`
    fit: Literal["repeat", "pad"] = "repeat"
    time_mask: int = 192  # AudioMAE's fine-tuning (facebookresearch/AudioMAE, timem)
    mel_mask: int = 48  # AudioMAE's fine-tuning (freqm)
    masks: int = 1
    gradient_clip: float = 1.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    layer_decay: float = 1.0
    gradient_decay: float = 1.0
    train: Literal["all", "head", "projection"] = "all"
    freeze_layers: int = 0
    lora_rank: int = 0
    lora_alpha: float = 16.0  # twice the rank of 8 that Hu et al., 2021, find enough
    lora_targets: Literal["attention", "all"] = "attention"
    loss: str = "cross_entropy"
    mixup: float = 0.0
    embed: Literal["crop", "whole"] = "crop"
    projection_dim: int = 128
    projection_hidden: int = 0
    scale_rate: bool = False
    # Softmax does not feel a key's bias, so its gradient is rounding noise near 1e-9. With torch's 1e-8 Adam blows that
    # up to whole steps, and the cut into micro-batches moves weights by 1e-4; BERT's 1e-6 leaves less than 1e-6 of it.
    adam_eps: float = 1e-6
    decays: Literal["matrices", "all"] = "matrices"

    @property
    def peak_rate(self) -> float:
        """The peak of the learning rate."""
        return self.learning_rate * (self.batch_size / BASE_BATCH if self.scale_rate else 1.0)

    def content(self) -> dict[str, Any]:
        """Return what decides about numbers; later choices are left out where they change nothing (`FIRST_RELEASE`)."""
        content = dict(vars(self))  # asdict copies each value first, which took most of a key's time
        for name in ENCODERS_OWN if self.train == PROJECTION else PROJECTIONS_OWN:
            del content[name]
        for name, decides, default in _LATER:
            if name in content and content[decides] == default:
                del content[name]
        return content


HEAD = "head"  # the value of `train` with which the loss's own weights learn alone
BASE_BATCH = 256  # clips for which a scaled learning rate is said (facebookresearch/AudioMAE:main_pretrain.py)
PROJECTION = "projection"  # the value of `train` with which the encoder stays as it is, and embeddings are made once
# Fields that a projection reads and nobody else, and those that it does not read since no encoder learns: what a trial
# does not read is no part of its key.
PROJECTIONS_OWN = ("projection_dim", "projection_hidden")
ENCODERS_OWN = (
    "micro_batch", "time_mask", "mel_mask", "masks", "layer_decay", "gradient_decay", "freeze_layers", "lora_rank",
    "lora_alpha", "lora_targets",
)  # fmt: skip
# Fields that `FinetuneRecipe` had when trials were first recorded: they are part of every key. A later field is left
# out of keys while it has its default, so that trials recorded before it came keep their keys.
FIRST_RELEASE = (
    "epochs", "batch_size", "micro_batch", "learning_rate", "weight_decay", "warmup_epochs", "clip_seconds", "fit",
    "time_mask", "mel_mask", "masks", "gradient_clip", "precision", "layer_decay", "gradient_decay", "train",
)  # fmt: skip
# A later field that only says how another one works counts exactly where that other one is not at its default:
# without adapters (`lora_rank = 0`) their scale changes nothing.
WORKS_WITH = {"lora_alpha": "lora_rank", "lora_targets": "lora_rank"}


def _later_fields() -> tuple[tuple[str, str, Any], ...]:
    """Return each later field, the field that decides whether it counts, and at which value of that one it does not."""
    defaults = {each.name: each.default for each in fields(FinetuneRecipe)}
    deciding = {name: WORKS_WITH.get(name, name) for name in defaults if name not in FIRST_RELEASE}
    # those that depend on another first: once that one is left out, nobody can tell
    order = sorted(deciding, key=lambda name: deciding[name] == name)
    return tuple((name, deciding[name], defaults[deciding[name]]) for name in order)


_LATER = _later_fields()
