"""What a fuzzer calls: the readers of checkpoints, which may refuse anything but must raise nothing else.

Each takes bytes as a file would hold them. With hypothesis, from `test_fuzz_weights.py`, or for longer:

    python -m tests.hostile.fuzz_weights 600
"""

from __future__ import annotations

import io
import json
import random
import struct
import sys
import time
import zipfile
from pathlib import Path

import torch

from backbones.contract import BackboneError
from backbones.safe_tensors import read_safe_tensors
from backbones.weights import check_tensors, parse_checkpoint
from tests.hostile.fuzzing import mutated

__all__ = ["mutated"]

PATH = Path("fuzzed")


def fuzz_checkpoint(data: bytes) -> None:
    """Read bytes as a file of torch.save; anything but a BackboneError is a fault."""
    try:
        parse_checkpoint(data, PATH)
    except BackboneError as error:
        assert "\n" not in str(error)


def fuzz_pickle(data: bytes) -> None:
    """Read bytes as the pickle inside a file of torch.save whose sums are right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/byteorder", b"little")
        file.writestr("archive/data/0", bytes(32))
        file.writestr("archive/version", b"3\n")
    fuzz_checkpoint(buffer.getvalue())


def fuzz_safe_tensors(data: bytes) -> None:
    """Read bytes as a safetensors file; anything but a BackboneError is a fault."""
    try:
        check_tensors(read_safe_tensors(data, PATH), path=PATH, size=len(data), what="the file")
    except BackboneError as error:
        assert "\n" not in str(error)


def fuzz_header(text: bytes) -> None:
    """Read bytes as the header of a safetensors file whose length is right, with 32 bytes behind it."""
    fuzz_safe_tensors(struct.pack("<Q", len(text)) + text + bytes(32))


def seeds() -> dict[str, tuple[object, bytes]]:
    """Return each reader with a whole file of its kind to start from."""
    whole, legacy = io.BytesIO(), io.BytesIO()
    content = {"model": {"w": torch.zeros(8), "v": torch.ones(2, 2)}, "cfg": {"a": 1, "b": [2.0, "c", None, True]}}
    torch.save(content, whole)
    torch.save(content, legacy, _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(whole) as file:
        pickled = file.read(next(name for name in file.namelist() if name.endswith("data.pkl")))
    header = json.dumps({"w": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}}).encode()
    return {
        "zip": (fuzz_checkpoint, whole.getvalue()),
        "legacy": (fuzz_checkpoint, legacy.getvalue()),
        "pickle": (fuzz_pickle, pickled),
        "safetensors": (fuzz_safe_tensors, struct.pack("<Q", len(header)) + header + bytes(32)),
        "header": (fuzz_header, header),
    }


def main(seconds: float) -> None:
    """Mutate whole files for so many seconds, and say how many were read."""
    end, count, chance = time.monotonic() + seconds, 0, random.Random()
    while time.monotonic() < end:
        for read, data in seeds().values():
            for _ in range(50):
                changed = mutated(data, chance)
                try:
                    read(changed)  # type: ignore[operator]
                except BaseException:
                    Path("fuzz_weights_failure.bin").write_bytes(changed)
                    raise
                count += 1
    sys.stdout.write(f"{count} files read\n")


if __name__ == "__main__":
    main(float(sys.argv[1]))
