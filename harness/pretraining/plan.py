"""A pre-training, resolved: backbone, recipe, recordings, and the file that it writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.keys import digest
from harness.places import Places
from harness.plugins import unknown

if TYPE_CHECKING:
    from backbones.contract import MaskedEncoder
    from backbones.training.pretrain import PretrainRecipe
    from harness.trials.contract import BackboneChoice
    from harness.trials.recordings import Recordings


METHOD = 1  # part of every key: raise it when a change of code changes the numbers


@dataclass(frozen=True)
class Pretraining:
    """One pre-training, resolved.

    Attributes:
        choice: backbone, options and the checkpoint to start from.
        recipe: how to learn.
        seed: of new weights, order and masks.
        protocol: whose training clips are heard; by name.
        recordings: of it; no test clip is read.
        data: fingerprint of the training clips' audio.
    """

    choice: BackboneChoice
    recipe: PretrainRecipe
    seed: int
    protocol: str
    recordings: Recordings
    data: str

    def key(self) -> str:
        """Return its identity: the same command on the same clips has the same key."""
        return digest(
            {
                "method": METHOD,
                "kind": "pretrain",
                "backbone": self.choice.content(),
                "recipe": asdict(self.recipe),
                "seed": self.seed,
                "data": self.data,
            }
        )

    def params(self, model: MaskedEncoder) -> dict[str, Any]:
        """Return its choices under the names that MLflow's compare view lines up."""
        return {
            "kind": "pretrain",
            "backbone": self.choice.name,
            "encoder": self.choice.encoder,
            "weights_sha256": self.choice.weights_sha256 or None,
            **{f"encoder.{name}": value for name, value in self.choice.options},
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "protocol": self.protocol,
            "clips": len(self.recordings.train),
            "seed": self.seed,
            **{f"pretrain.{name}": value for name, value in asdict(self.recipe).items()},
            "pretrain.learning_rate": self.recipe.learning_rate,
        }


def read_pretrain_recipe(values: Mapping[str, Any]) -> PretrainRecipe:
    """Return a recipe from what differs from the defaults.

    Raises:
        HarnessError: a name is unknown or a value of another type.
    """
    from backbones.training.pretrain import PretrainRecipe  # noqa: PLC0415

    defaults = {field.name: field.default for field in fields(PretrainRecipe)}
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in defaults:
            raise HarnessError(unknown("recipe of pretrain", name, defaults))
        default = defaults[name]
        whole = isinstance(default, int) or name == "micro_batch"
        number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not (isinstance(value, str) if isinstance(default, str) else number or (default is None and value is None)):
            wanted = "text" if isinstance(default, str) else "a whole number" if whole else "a number"
            raise HarnessError(f"{name} of the recipe must be {wanted}, but got {value!r}.")
        checked[name] = value if whole or isinstance(value, str) or value is None else float(value)
    return PretrainRecipe(**checked)


def resolve(
    root: Path,
    protocol: str,
    backbone: str,
    *,
    weights: str,
    options: Mapping[str, Any] | None,
    recipe: Mapping[str, Any] | None,
    seed: int,
    ground_truth: Path | None,
    skip_bad: bool,
    places: Places,
    told: Callable[[str, int, int], None],
    load: Callable[..., MaskedEncoder],
) -> tuple[MaskedEncoder, Pretraining]:
    """Check everything that can be wrong before the recordings are read, then read them."""
    from backbones.training.pretrain import check_pretrain_recipe  # noqa: PLC0415
    from benchmarks.protocols import find_protocol  # noqa: PLC0415
    from harness.trials.choices import choose_backbone  # noqa: PLC0415
    from harness.trials.recordings import prepare_recordings  # noqa: PLC0415
    from harness.trials.stages import clip_ids, must_be_the_weights  # noqa: PLC0415

    found = find_protocol(protocol)
    choice = choose_backbone(backbone, backbone, weights=weights, options=options)
    model = load(
        choice.encoder, weights=Path(choice.weights) if choice.weights else None, seed=seed, **dict(choice.options)
    )
    if choice.weights:
        must_be_the_weights(Path(choice.weights), model.weights_sha256 or "", wanted=choice.weights_sha256)
    wanted = read_pretrain_recipe(recipe or {})
    check_pretrain_recipe(wanted, model)
    recordings = prepare_recordings(
        root, found, places.open_cache(), ground_truth=ground_truth, skip_bad=skip_bad,
        progress=lambda done, total: told("reading recordings", done, total),
    )  # fmt: skip
    heard = recordings.packed.fingerprint(clip_ids(recordings.train))
    return model, Pretraining(choice, wanted, seed, found.name, recordings, heard)


def checked_out(out: Path) -> Path:
    """Make the folder of the file now, not after hours of training."""
    out = out.expanduser().absolute()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        probe = out.with_name(f".{out.name}.probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise HarnessError(
            f"--out must name a file in a folder that can be written, but {out.parent}: {error.strerror}; name another."
        ) from error
    if out.is_dir():
        raise HarnessError(f"--out must name a file, but {out} is a folder; add a file name such as pretrained.pt.")
    return out
