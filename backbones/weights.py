"""Find a checkpoint, read it without running code, sum what was read, and fill a model with it."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backbones.contract import BackboneError, Encoder, evaluating
from backbones.files import is_file, read_file, sha256_of_file, what_is
from backbones.pickled import read_pickled
from backbones.plugins import did_you_mean
from backbones.released.catalogue import (
    RELEASED,
    WEIGHTS_FOLDER,
    expanded,
    how_to_bring,
    kept_folder,
    places_of,
    released_called,
    weights_folders,
)
from backbones.released.hub import fetch_model
from backbones.released.place import is_place, parse_place
from backbones.safe_tensors import is_safe_tensors, read_safe_tensors

logger = logging.getLogger(__name__)

MODEL_CONFIG = "config.json"  # what tells the folder of a saved transformers model
SAFE_TENSORS = "model.safetensors"  # the weights in it
MODEL_SUFFIXES = (".json", ".safetensors", ".bin")
NAMED = 3  # how many keys an error message names
MOST_NAMED = 80  # letters of a key that a message shows
MOST_BYTES = 4 * 2**30  # of a checkpoint; the released ones have 0.4 GB
MOST_TENSORS = 10_000  # of a checkpoint; the released ones have 250
PLAIN = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # the types of weights that are read
COUNTS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)  # of buffers that nothing uses
# BEATs' files name one table of relative positions once a layer, so that the tensors together exceed the file.
MOST_SHARED = 8  # times the file's size
PROBE_SECONDS = 2  # of noise that an encoder must hear; a patch of 128 frames takes 1.3


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file that has been read.

    Attributes:
        path: where it lies.
        sha256: of the bytes that `content` was read from.
        content: what it holds, always with "model", a mapping from names to tensors.
    """

    path: Path
    sha256: str
    content: Mapping[str, Any]

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The model's tensors by name."""
        tensors: Mapping[str, Tensor] = self.content["model"]
        return tensors


def find_checkpoint(weights: str | Path) -> Path:
    """Find a file of weights by path, or by name in the folders of weights, suffix or not.

    Those are the folder that ASDBENCH_WEIGHTS names, and `weights` of the cache, where `asdbench weights download` puts
    a released file. A released file is known by its name: BEATs_iter3_plus_AS2M.

    Raises:
        BackboneError: when there is no such file; of a released one with the command that brings it.
    """
    for place in places_of(weights):
        if is_file(place):
            return place
    asked = expanded(weights)
    if released_called(str(asked)) is not None:
        raise BackboneError(how_to_bring(str(asked)))
    named = os.environ.get(WEIGHTS_FOLDER)
    where = f"{WEIGHTS_FOLDER}={named}" if named else f"{WEIGHTS_FOLDER} is not set"
    hint = did_you_mean(asked.name, [each.name for each in RELEASED])
    raise BackboneError(
        f"weights must name a checkpoint file, but {asked} {what_is(asked)}; give its path, its name in the folder of "
        f"the environment variable {WEIGHTS_FOLDER} ({where}), or a name of `asdbench weights ls`.{hint}"
    )


def find_model_folder(weights: str | Path) -> Path:
    """Find the folder of a saved model by path, by name in the folders of weights, or on the hub.

    A model of the hub is named ORG/NAME@REVISION, and brought if it is not here: its safetensors and configuration,
    nothing else. Nothing without @ is ever asked for.

    Raises:
        BackboneError: when there is no such folder, or no configuration in it; or the hub does not have the model.
    """
    asked = expanded(weights)
    places = [asked] if asked.is_absolute() else [asked, *(folder / asked for folder in weights_folders())]
    for place in places:
        if is_file(place / MODEL_CONFIG):
            return place
    found = what_is(asked)
    if found == "does not exist" and is_place(str(asked)):
        return fetch_model(parse_place(str(asked)), kept_folder())
    if found == "is a folder":
        found = f"is a folder whose {MODEL_CONFIG} {what_is(asked / MODEL_CONFIG)}"
    elif found == "does not exist":
        found = "is no folder"
    raise BackboneError(
        f"hf: must be followed by a folder that a model was saved to by save_pretrained, but {asked} {found}; "
        f"give its path, its name in the folder of the environment variable {WEIGHTS_FOLDER}, or its place on the hub, "
        "ORG/NAME@REVISION."
    )


def find_checkpoint_or_model(weights: str | Path) -> Path:
    """Find a file of weights as `find_checkpoint`, or the safetensors file of a saved model's folder or of the hub.

    Raises:
        BackboneError: as `find_checkpoint` and `find_model_folder`.
    """
    asked = expanded(weights)
    if is_file(asked / MODEL_CONFIG) or (what_is(asked) == "does not exist" and is_place(str(asked))):
        return find_model_folder(asked) / SAFE_TENSORS
    return find_checkpoint(weights)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, or of a model's folder, as 64 hexadecimal digits.

    Every call reads the content anew: size and time of a file can be the same when its content is not, and the sum
    stands for the content in keys. A folder's sum is that of its configurations and weights with their names, so that
    a note beside them changes nothing.

    Raises:
        BackboneError: something that is no file lies there.
    """
    if what_is(path) == "is a folder":
        return folder_sum({file.name: sha256_of_file(file) for file in model_files(path)})
    return sha256_of_file(path)


def model_files(folder: Path) -> list[Path]:
    """Return the configurations and weights of a model's folder by name."""
    try:
        return sorted(file for file in folder.iterdir() if file.suffix in MODEL_SUFFIXES)
    except OSError as error:
        raise BackboneError(f"The folder {folder} could not be read: {error.strerror}.") from error


def folder_sum(sums: Mapping[str, str]) -> str:
    """Return the sum of a model's folder from those of its files by name."""
    text = "".join(f"{name} {sums[name]}\n" for name in sorted(sums))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def read_checkpoint(weights: str | Path) -> Checkpoint:
    """Read a checkpoint onto the CPU; only tensors, plain containers and `argparse.Namespace` are let in.

    The file is read once: its sum is that of the very bytes that become tensors.

    Raises:
        BackboneError: when the file is missing, empty, cut off, no checkpoint at all, would run code, or holds no
            "model".
    """
    read = read_file(find_checkpoint(weights), most_bytes=MOST_BYTES)
    return parse_checkpoint(read.data, read.path, sha256=read.sha256)


def parse_checkpoint(data: bytes, path: Path, *, sha256: str = "") -> Checkpoint:
    """Read a checkpoint from the bytes of its file, see `read_checkpoint`; a safetensors file holds its "model" alone.

    Args:
        data: the whole file.
        path: of the file, for what is said.
        sha256: of the bytes.

    Raises:
        BackboneError: as `read_checkpoint`.
    """
    content = {"model": read_safe_tensors(data, path)} if is_safe_tensors(data) else read_pickled(data, path)
    if not isinstance(content, Mapping):
        raise BackboneError(f'{path} must hold a mapping with the key "model", but holds a {type(content).__name__}.')
    if "model" not in content:
        raise BackboneError(f'{path} must hold a mapping under the key "model", but its keys are {_some(content)}.')
    check_tensors(content["model"], path=path, size=len(data), what='"model"')
    return Checkpoint(path=path, sha256=sha256, content=content)


def check_tensors(tensors: object, *, path: Path, size: int, what: str) -> dict[str, Tensor]:
    """Refuse what is no mapping from names to plain tensors whose numbers all lie in the file.

    A tensor of a billion rows that all show the same number takes four bytes in a file and four billion in a model,
    so every tensor must have a place in the file for each of its numbers.

    Args:
        tensors: what a file held.
        path: of the file.
        size: of the file in bytes.
        what: holds the tensors, for example '"model"'.

    Raises:
        BackboneError: naming the first that is something else.
    """
    if not isinstance(tensors, Mapping) or not tensors:
        kind = "an empty one" if isinstance(tensors, Mapping) else f"a {type(tensors).__name__}"
        raise BackboneError(f'{path} must hold a mapping of tensors under the key "model", but holds {kind} there.')
    if len(tensors) > MOST_TENSORS:
        raise BackboneError(f"{path} must hold at most {MOST_TENSORS:,} tensors, but holds {len(tensors):,}.")
    held = 0
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            shown = _short(name) if isinstance(name, str) else f"a key that is a {type(name).__name__}"
            raise BackboneError(
                f"In {path}, {what} must map names to tensors, but {shown} is a {type(value).__name__}."
            )
        _check_tensor(_short(name), value, path=path, what=what)
        held += value.numel() * value.element_size()
    if held > MOST_SHARED * size:
        raise BackboneError(
            f"{path} is refused: its tensors would take {held:,} bytes, but the file has {size:,}, since many of them "
            "show the same numbers."
        )
    return dict(tensors)


def _check_tensor(name: str, value: Tensor, *, path: Path, what: str) -> None:
    if value.is_nested or value.layout != torch.strided or value.is_meta or value.is_quantized:
        raise BackboneError(
            f"In {path}, {what} must hold plain tensors with their numbers, but {name} is sparse, quantised or "
            "without data."
        )
    if value.dtype not in PLAIN + COUNTS:
        raise BackboneError(
            f"The weights in {path} must be floating-point numbers of 16 to 64 bits, but {name} has {value.dtype}; "
            "take a file that is not quantised."
        )
    if value.numel() == 0:
        raise BackboneError(f"The tensors in {path} must hold numbers, but {name} has the shape {tuple(value.shape)}.")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise BackboneError(
            f"In {path}, {name} has the shape {tuple(value.shape)}, but the file holds fewer numbers, which it repeats."
        )


def count_layers(checkpoint: Checkpoint, start: str) -> int:
    """Count a model's layers by its tensors' names: those numbered 0, 1, 2 ... without a gap.

    A name such as blocks.99999999.norm1.weight thus stands for itself alone, and `fill` calls it unknown.

    Args:
        checkpoint: of the model.
        start: how the names of layers begin, for example "blocks.".
    """
    numbers = {name[len(start) :].split(".")[0] for name in checkpoint.tensors if name.startswith(start)}
    count = 0
    while str(count) in numbers:
        count += 1
    return count


def require(checkpoint: Checkpoint, names: Sequence[str], *, backbone: str, top: Sequence[str] = ()) -> None:
    """Refuse a checkpoint of another model, recognised by tensors or top-level keys that it lacks.

    Raises:
        BackboneError: naming what is missing and what is there instead.
    """
    missing = [f'"{key}"' for key in top if key not in checkpoint.content]
    missing += [name for name in names if name not in checkpoint.tensors]
    if missing:
        raise BackboneError(
            f"{checkpoint.path} is not a checkpoint of {backbone}: it lacks {', '.join(missing[:NAMED])}, and holds "
            f"{_some(checkpoint.content)} with the tensors {_some(checkpoint.tensors)}."
        )


def fill(model: nn.Module, tensors: Mapping[str, Tensor], *, path: Path) -> None:
    """Fill a model with a checkpoint's tensors, all of them and no others, as float32.

    A model on torch's device without data moves to the CPU once names and shapes fit, so that a file that speaks of a
    huge model is refused by its tensors and not by the memory.

    Raises:
        BackboneError: when tensors are missing, left over, of another shape or type, or not finite; the message names
            the first few.
    """
    wanted = model.state_dict()
    problems = []
    if missing := [name for name in wanted if name not in tensors]:
        problems.append(f"lacks {_some(missing)}")
    if extra := [name for name in tensors if name not in wanted]:
        problems.append(f"has the unknown {_some(extra)}")
    misshapen = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in tensors and tensors[name].shape != wanted[name].shape
    ]
    if misshapen:
        problems.append(f"has other shapes: {_some(misshapen)}")
    if problems:
        raise BackboneError(
            f"{path} does not fit the {type(model).__name__} it describes: it {'; it '.join(problems)}."
        )
    check_values(tensors, path=path)
    if any(parameter.is_meta for parameter in model.parameters()):
        model.to_empty(device="cpu")
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})


def check_values(tensors: Mapping[str, Tensor], *, path: Path) -> None:
    """Refuse tensors that are not real numbers or not finite.

    Raises:
        BackboneError: naming the first few.
    """
    if other := [f"{name} {tensor.dtype}" for name, tensor in tensors.items() if not tensor.is_floating_point()]:
        raise BackboneError(f"The weights in {path} must be floating-point numbers, but are not in {_some(other)}.")
    if broken := [name for name, tensor in tensors.items() if not torch.isfinite(tensor.float()).all()]:
        raise BackboneError(
            f"The weights in {path} must be finite, but there are NaN or infinite ones in {_some(broken)}."
        )


def check_hearing(encoder: Encoder, *, path: Path) -> None:
    """Refuse an encoder from a file that turns a clip of noise into numbers that are not finite.

    Finite weights can do so too: a position convolution of zeros is divided by its own length, and numbers near the
    largest that float32 holds overflow.

    Raises:
        BackboneError: naming the file.
    """
    noise = torch.randn(1, PROBE_SECONDS * encoder.sample_rate, generator=torch.Generator().manual_seed(0))
    with evaluating(encoder), torch.no_grad():
        found = encoder(0.1 * noise)
    if not torch.isfinite(found).all():
        raise BackboneError(
            f"The weights in {path} turn a clip of noise into NaN or infinite numbers, so they are of no use; download "
            "the file again, or take another."
        )


def _some(names: Iterable[object]) -> str:
    shown = [_short(name) for name in names]
    rest = len(shown) - NAMED
    return ", ".join(shown[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _short(name: object) -> str:
    text = name if isinstance(name, str) else repr(name) if isinstance(name, (int, float)) else type(name).__name__
    return text if len(text) <= MOST_NAMED else f"{text[:MOST_NAMED]}..."
