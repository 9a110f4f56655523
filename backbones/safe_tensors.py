"""Files of the safetensors format: a header of JSON that says where each tensor lies, and their bytes."""

from __future__ import annotations

import json
import math
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from backbones.contract import BackboneError
from backbones.files import refuse_stand_in

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
MOST_HEADER = 100_000_000  # bytes; the format's own limit
MOST_TENSORS = 10_000  # of a file; Whisper large has 1,259
WHAT = "a safetensors file"


@dataclass(frozen=True)
class _Entry:
    """Where a tensor lies, from the first byte behind the header on."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


def is_safe_tensors(data: bytes) -> bool:
    """Tell whether a file begins as a safetensors file does: eight bytes of a length, then JSON."""
    return data[8:10] == b'{"' and data[6:8] == bytes(2)


def read_safe_tensors(data: bytes, path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, with a copy of their numbers.

    Every tensor must lie where the header says, be as long as its shape says, and overlap no other, so that a header
    that lies can neither show other memory nor let a small file become a large model.

    Args:
        data: the whole file.
        path: of the file, for what is said.

    Raises:
        BackboneError: it is cut short, damaged, something else, or holds numbers of a kind that no encoder has.
    """
    refuse_stand_in(path, data, what=WHAT)
    entries, first = _entries(data, path)
    tensors = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, that bytes must not be written to: they are copied
        for name, entry in entries.items():
            count = math.prod(entry.shape)
            values = torch.frombuffer(data, dtype=entry.dtype, count=count, offset=first + entry.start)
            tensors[name] = values.reshape(entry.shape).clone()
    return tensors


def written_safe_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Return a safetensors file of some tensors, in the order of their names.

    Raises:
        BackboneError: a tensor is of a type that the format does not have, or there is none.
    """
    names = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, Any] = {}
    parts, place = [], 0
    for name, tensor in sorted(tensors.items()):
        if tensor.dtype not in names:
            raise BackboneError(f"Tensors of {WHAT} must be of {', '.join(DTYPES)}, but {name} is {tensor.dtype}.")
        part = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        header[name] = {
            "dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [place, place + len(part)],
        }  # fmt: skip
        parts.append(part)
        place += len(part)
    if not header:
        raise BackboneError(f"{WHAT} must hold tensors, but there is none.")
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # as the format asks: numbers begin at a multiple of eight bytes
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def _entries(data: bytes, path: Path) -> tuple[dict[str, _Entry], int]:
    """Read and check the header: where each tensor lies, and where the header ends."""
    if len(data) < 8:
        raise BackboneError(f"{path} is cut short after {len(data)} bytes; download it again.")
    (length,) = struct.unpack("<Q", data[:8])
    first = 8 + length
    if length > MOST_HEADER or first > len(data):
        raise BackboneError(
            f"{path} is not {WHAT}, or it is cut short: its header should have {length:,} bytes, but the file has "
            f"{len(data):,}; download it again."
        )
    header = _header(data[8:first], path)
    if len(header) > MOST_TENSORS:
        raise BackboneError(f"{path} must hold at most {MOST_TENSORS:,} tensors, but holds {len(header):,}.")
    entries = {name: _entry(name, said, path) for name, said in header.items()}
    place = 0
    for name, entry in sorted(entries.items(), key=lambda each: (each[1].start, each[1].end)):
        if entry.start != place:
            kind = "overlaps another" if entry.start < place else "leaves a gap before it"
            raise BackboneError(f"{path} is damaged: the tensor {name} {kind}; download it again.")
        place = entry.end
    there = len(data) - first
    if place > there:
        raise BackboneError(
            f"{path} is cut short: its tensors take {place:,} bytes, but {there:,} are there; download it again."
        )
    if place < there:
        raise BackboneError(f"{path} is damaged: {there - place:,} bytes behind its tensors belong to none.")
    return entries, first


def _header(text: bytes, path: Path) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands there twice")
        return found

    try:
        header = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise BackboneError(f"{path} is not {WHAT}, or it is damaged: its header is not JSON ({error}).") from error
    if not isinstance(header, dict):
        raise BackboneError(f"{path} is not {WHAT}: its header must be an object, but is a {type(header).__name__}.")
    header.pop("__metadata__", None)
    if not header:
        raise BackboneError(f"{path} must hold tensors, but holds none.")
    return header


def _entry(name: str, said: object, path: Path) -> _Entry:
    if not isinstance(said, dict):
        raise BackboneError(f"{path} is damaged: its header says nothing of the tensor {name}.")
    kind, shape, offsets = said.get("dtype"), said.get("shape"), said.get("data_offsets")
    if not isinstance(kind, str) or kind not in DTYPES:
        raise BackboneError(
            f"The weights in {path} must be floating-point numbers of 16 to 64 bits, but {name} is of the type {kind}; "
            "take a file that is not quantised."
        )
    if not (_are_counts(shape) and _are_counts(offsets) and len(offsets) == 2):
        raise BackboneError(f"{path} is damaged: the shape or the place of {name} is not made of counts.")
    start, end = offsets
    if math.prod(shape) * DTYPES[kind].itemsize != end - start or end > 2**62:
        raise BackboneError(
            f"{path} is damaged: {name} should have the shape {shape} of {kind}, but lies in {end - start:,} bytes."
        )
    if math.prod(shape) == 0:
        raise BackboneError(f"The tensors in {path} must hold numbers, but {name} has the shape {shape}.")
    return _Entry(DTYPES[kind], tuple(shape), start, end)


def _are_counts(values: object) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
