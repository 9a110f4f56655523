"""Files of `torch.save`: read with torch's unpickler for weights alone, which calls nothing that is not let in."""

from __future__ import annotations

import argparse
import io
import pickle
import pickletools
import re
import warnings
import zipfile
from pathlib import Path

import torch

from backbones.contract import BackboneError
from backbones.files import refuse_stand_in

ALLOWED_CLASSES: tuple[type, ...] = (argparse.Namespace,)  # AudioMAE's files keep their command line in one
ZIP_START = b"PK\x03\x04"
WHAT = "a checkpoint"
MOST_PARTS = 20_000  # of a zip file: a tensor each
_FORBIDDEN = re.compile(  # of builtins torch says the bare name
    r"(?:GLOBAL|global|Unsupported class|Unsupported function)[: ]+([A-Za-z_][\w.]*\.[\w.]+)|GLOBAL[: ]+(\w+)"
)


def read_pickled(data: bytes, path: Path) -> object:
    """Read what `torch.save` wrote, onto the CPU; only tensors, plain containers and `argparse.Namespace` are let in.

    Args:
        data: the whole file.
        path: of the file, for what is said.

    Raises:
        BackboneError: it is empty, cut off, damaged, something else, or would run code.
    """
    refuse_stand_in(path, data, what=WHAT)
    if data.lstrip(b" \t\r\n")[:1] in (b"{", b"["):
        shown = data[:40].decode("utf-8", "replace").strip().splitlines()[0]
        raise BackboneError(f"{path} is a text file and no checkpoint (it begins with {shown!r}); download it again.")
    if data.startswith(ZIP_START):
        _check_zip(data, path)
    try:
        with torch.serialization.safe_globals(list(ALLOWED_CLASSES)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about what is refused below
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(data, path, error) from error
    except Exception as error:  # what is damaged raises anything
        raise BackboneError(
            f"{path} could not be read as a checkpoint, a file that torch.save writes; it may be cut off or damaged: "
            f"{_first(error)}."
        ) from error


def _check_zip(data: bytes, path: Path) -> None:
    """Hold a zip file to what torch.save writes: stored parts whose sums fit, no larger than the file itself.

    torch does not compare the sums, and would unpack a compressed part however large it becomes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            parts = file.infolist()
            packed = next((part.filename for part in parts if part.compress_type != zipfile.ZIP_STORED), None)
            if packed is not None:
                raise BackboneError(f"{path} is refused: its part {packed} is compressed, which torch.save never does.")
            if len(parts) > MOST_PARTS or sum(part.file_size for part in parts) > len(data):
                raise BackboneError(f"{path} is refused: its parts are larger or more than the file can hold.")
            if (broken := file.testzip()) is not None:
                raise BackboneError(f"{path} is damaged: the sum of {broken} does not fit; download it again.")
    except BackboneError:
        raise
    except Exception as error:  # what is damaged raises anything, from struct.error to NotImplementedError
        raise BackboneError(f"{path} is cut off or damaged ({_first(error)}); download it again.") from error


def _refusal(data: bytes, path: Path, error: Exception) -> BackboneError:
    found = _FORBIDDEN.search(str(error))
    called = found.group(1) or found.group(2) if found else _called_by(data)
    if called is None:
        return BackboneError(
            f"{path} is no checkpoint, a file that torch.save writes, or it is cut off or damaged; download it again."
        )
    allowed = ", ".join(f"{cls.__module__}.{cls.__qualname__}" for cls in ALLOWED_CLASSES)
    return BackboneError(
        f"{path} is refused, since loading it would call {called}; beside tensors and plain containers only "
        f"{allowed} is let in. Get the file from its official source."
    )


def _called_by(data: bytes) -> str | None:
    """Name the first thing that a bare pickle would look up outside what is let in; nothing is executed."""
    allowed = {f"{cls.__module__} {cls.__qualname__}" for cls in ALLOWED_CLASSES}
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
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
