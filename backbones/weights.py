"""Find a checkpoint, take its sha256, read it without running code, and fill a model with it."""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backbones.contract import BackboneError

logger = logging.getLogger(__name__)

WEIGHTS_FOLDER = "ASDBENCH_WEIGHTS"  # environment variable
SUFFIXES = (".pt", ".pth", ".ckpt")
MODEL_CONFIG = "config.json"  # what tells the folder of a saved transformers model
MODEL_SUFFIXES = (".json", ".safetensors", ".bin")
ALLOWED_CLASSES: tuple[type, ...] = (argparse.Namespace,)  # AudioMAE's files keep their command line in one
NAMED = 3  # how many keys an error message names
ZIP_START = b"PK\x03\x04"
_FORBIDDEN = re.compile(r"(?:GLOBAL|global|Unsupported class|Unsupported function)[: ]+([A-Za-z_][\w.]*\.[\w.]+)")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file that has been read.

    Attributes:
        path: where it lies.
        sha256: of the file.
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
    """Find a checkpoint by path, or by name in the folder that ASDBENCH_WEIGHTS names, suffix or not.

    Raises:
        BackboneError: when there is no such file.
    """
    asked = Path(weights).expanduser()
    places = [asked]
    folder = os.environ.get(WEIGHTS_FOLDER)
    if folder and not asked.is_absolute():
        named = Path(folder).expanduser() / asked
        places += [named, *(named.with_name(named.name + suffix) for suffix in SUFFIXES)]
    for place in places:
        if place.is_file():
            return place
    where = f"{WEIGHTS_FOLDER}={folder}" if folder else f"{WEIGHTS_FOLDER} is not set"
    kind = "is a folder" if asked.is_dir() else "does not exist"
    raise BackboneError(
        f"weights must name a checkpoint file, but {asked} {kind}; give its path, "
        f"or its name in the folder of the environment variable {WEIGHTS_FOLDER} ({where})."
    )


def find_model_folder(weights: str | Path) -> Path:
    """Find the folder of a saved model by path, or by name in the folder that ASDBENCH_WEIGHTS names.

    Raises:
        BackboneError: when there is no such folder, or no configuration in it.
    """
    asked = Path(weights).expanduser()
    folder = os.environ.get(WEIGHTS_FOLDER)
    places = [asked] + ([Path(folder).expanduser() / asked] if folder and not asked.is_absolute() else [])
    for place in places:
        if (place / MODEL_CONFIG).is_file():
            return place
    kind = f"is a folder without {MODEL_CONFIG}" if asked.is_dir() else "is no folder"
    raise BackboneError(
        f"hf: must be followed by a folder that a model was saved to by save_pretrained, but {asked} {kind}; "
        f"give its path, or its name in the folder of the environment variable {WEIGHTS_FOLDER}."
    )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, or of a model's folder, as 64 hexadecimal digits.

    Each file is read once for as long as it stays as it is. A folder's sum is that of its configurations and weights
    with their names, so that a note beside them changes nothing.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in MODEL_SUFFIXES and file.is_file())
        text = "".join(f"{file.name} {sha256_of(file)}\n" for file in files)
        return hashlib.sha256(text.encode()).hexdigest()
    about = path.stat()
    return _sha256(path.resolve(), about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, _size: int, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_checkpoint(weights: str | Path) -> Checkpoint:
    """Read a checkpoint onto the CPU; only tensors, plain containers and `argparse.Namespace` are let in.

    Raises:
        BackboneError: when the file is missing, empty, cut off, no checkpoint at all, would run code, or holds no
            "model".
    """
    path = find_checkpoint(weights)
    try:
        _check_start(path)
        sha256 = sha256_of(path)
        with torch.serialization.safe_globals(list(ALLOWED_CLASSES)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about what is refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, error) from error
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        if isinstance(error, BackboneError):
            raise
        raise BackboneError(
            f"{path} could not be read as a checkpoint, a file that torch.save writes; it may be cut off or damaged: "
            f"{_first(error)}."
        ) from error
    return Checkpoint(path=path, sha256=sha256, content=_check_content(path, content))


def _check_start(path: Path) -> None:
    if path.stat().st_size == 0:
        raise BackboneError(f"{path} is empty (0 bytes), so it is no checkpoint; download it again.")
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith(ZIP_START):
        if not zipfile.is_zipfile(path):
            raise BackboneError(f"{path} is cut off: its end is missing; download it again.")
        about = path.stat()
        if (broken := _broken_part(path.resolve(), about.st_size, about.st_mtime_ns)) is not None:
            raise BackboneError(f"{path} is damaged: the sum of {broken} does not fit; download it again.")
        return
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] in (b"<", b"{", b"[") or text.startswith(b"version https://git-lfs"):
        shown = text[:40].decode("utf-8", "replace").splitlines()[0]
        raise BackboneError(
            f"{path} is a text file and no checkpoint (it begins with {shown!r}), perhaps an error page "
            "that was saved in its place; download it again."
        )


@lru_cache(maxsize=64)
def _broken_part(path: Path, _size: int, _changed: int) -> str | None:
    """Return the first part of a zip file whose checksum does not fit, which torch itself does not compare."""
    with zipfile.ZipFile(path) as file:
        return file.testzip()


def _refusal(path: Path, error: Exception) -> BackboneError:
    found = _FORBIDDEN.search(str(error))
    called = found.group(1) if found else _called_by(path)
    if called is None:
        return BackboneError(
            f"{path} is no checkpoint, a file that torch.save writes, or it is cut off or damaged; download it again."
        )
    allowed = ", ".join(f"{cls.__module__}.{cls.__qualname__}" for cls in ALLOWED_CLASSES)
    return BackboneError(
        f"{path} is refused, since loading it would call {called}; beside tensors and plain containers only "
        f"{allowed} is let in. Get the file from its official source."
    )


def _called_by(path: Path) -> str | None:
    """Name the first thing that a bare pickle would look up outside what is let in; nothing is executed."""
    allowed = {f"{cls.__module__} {cls.__qualname__}" for cls in ALLOWED_CLASSES}
    strings: list[str] = []
    try:
        with path.open("rb") as file:
            for opcode, argument, _ in pickletools.genops(file):
                called = argument if opcode.name in ("GLOBAL", "INST") else None
                if opcode.name == "STACK_GLOBAL":
                    called = " ".join(strings[-2:])
                if called is not None and called not in allowed:
                    return str(called).replace(" ", ".")
                if called is None and isinstance(argument, str):
                    strings.append(argument)
    except Exception:  # noqa: BLE001 - what is no pickle raises anything
        return None
    return None


def _first(error: BaseException) -> str:
    if isinstance(error, KeyError):  # its text is the key alone
        return "it begins like no checkpoint"
    lines = re.sub(r"^\[enforce fail at [^\]]*\] *\. *", "", str(error).strip()).splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def _check_content(path: Path, content: object) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise BackboneError(f'{path} must hold a mapping with the key "model", but holds a {type(content).__name__}.')
    model = content.get("model")
    if "model" not in content:
        raise BackboneError(f'{path} must hold a mapping under the key "model", but its keys are {_some(content)}.')
    if not isinstance(model, Mapping) or not model:
        kind = "an empty one" if isinstance(model, Mapping) else f"a {type(model).__name__}"
        raise BackboneError(f'{path} must hold a mapping of tensors under the key "model", but holds {kind} there.')
    for name, value in model.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise BackboneError(
                f'In {path}, "model" must map names to tensors, but {name!r} is a {type(value).__name__}.'
            )
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise BackboneError(
                f'In {path}, "model" must hold plain tensors with their numbers, but {name} is sparse, quantised or '
                "without data."
            )
    return content


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


def _some(names: Iterable[object]) -> str:
    shown = [str(name) for name in names]
    rest = len(shown) - NAMED
    return ", ".join(shown[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
