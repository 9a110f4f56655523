"""What a file of weights is: a released one by its sum, another layout by its tensors, or no weights at all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from backbones.contract import BackboneError
from backbones.files import LFS_POINTER, ReadFile, read_file, what_is
from backbones.pickled import ZIP_START, read_pickled
from backbones.released.catalogue import Released, expanded, released_with
from backbones.safe_tensors import is_safe_tensors, read_safe_tensors

MOST_BYTES = 4 * 2**30
POINTED = re.compile(rb"oid sha256:([0-9a-f]{64})")
PAGE = re.compile(rb"<(!doctype html|html|head|body|\?xml|error)", re.IGNORECASE)
CUT = "it may be cut short or damaged; download it again"
END_OF_ZIP = b"PK\x05\x06"  # begins the last record of every zip file
YAMNET: tuple[tuple[Callable[[bytes, Path], bool], str], ...] = (  # told by how they begin and are called
    (lambda data, _path: data.startswith(b"\x89HDF"), "a file of HDF5, as TensorFlow's yamnet.h5 is"),
    (lambda data, path: data.startswith(ZIP_START) and path.suffix == ".zip", "a zip file, perhaps of an ONNX file"),
    (lambda _data, path: path.suffix == ".onnx", "an ONNX file, if its name is right"),
)


@dataclass(frozen=True)
class Identity:
    """What a file is.

    Attributes:
        path: of the file.
        bytes: its size.
        sha256: its sum.
        released: the name of the released file that it is, byte for byte; None for any other.
        backbone: that reads it; None where none does.
        what: it is, in one sentence.
    """

    path: Path
    bytes: int
    sha256: str
    released: str | None
    backbone: str | None
    what: str


def identify(weights: str | Path) -> Identity:
    """Say what a file is, without running anything of it.

    Raises:
        BackboneError: there is no such file, or it cannot be read.
    """
    path = expanded(weights)
    if what_is(path) == "is a folder":
        return _folder(path)
    read = read_file(path, most_bytes=MOST_BYTES)
    known = released_with(read.sha256)
    name = known.name if known else None
    backbone, what = (known.backbone, _said(known)) if known else _other(read)
    return Identity(path, len(read.data), read.sha256, name, backbone, what)


def stand_in(data: bytes) -> str | None:
    """Say what often lies under a downloaded file's name in its place; None for anything else.

    Args:
        data: the file's bytes, or the first few hundred.
    """
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not data:
        return "an empty file; download it again"
    if start.startswith(LFS_POINTER):
        found = POINTED.search(data[:512])
        known = released_with(found[1].decode()) if found else None
        of = f" that stands for {known.name}" if known else ""
        return f"a pointer of Git LFS{of}, not the file itself; run git lfs pull in its repository"
    if PAGE.match(start):
        return "a web page or an error of a server, saved under the file's name; download it again"
    if start.startswith(b"<"):
        return "a text that begins with <, perhaps an error of a server; download it again"
    if start.startswith((b"{", b"[")):
        return "a text in JSON, perhaps an answer of a server; download it again"
    return None


def _said(known: Released) -> str:
    by = "with AudioSet's labels" if known.stage == "fine-tuned" else "without labels"
    return f"the released {known.name}, byte for byte; {known.stage} {by}, licence {known.licence}"


def _folder(path: Path) -> Identity:
    try:
        config = json.loads(read_file(path / "config.json", most_bytes=2**24).data)
        kind = config.get("model_type") or config.get("architecture")
    except (BackboneError, ValueError, AttributeError):
        raise BackboneError(f"{path} is a folder without a model's config.json; name a file of weights.") from None
    return Identity(path, 0, "", None, "hf", f"a folder of a saved model ({kind}); name it as hf:{path}")


def _other(read: ReadFile) -> tuple[str | None, str]:
    """Return which backbone reads a file that is none of the released ones, and what it is."""
    data, path = read.data, read.path
    if (what := stand_in(data)) is not None:
        return None, what
    if data.startswith(ZIP_START) and END_OF_ZIP not in data[-(2**16) :]:
        return None, f"the first {len(data):,} bytes of a checkpoint: {CUT}"
    for is_one, what in YAMNET:
        if is_one(data, path):
            return "yamnet", what
    try:
        if is_safe_tensors(data):
            return _safe_tensors(read_safe_tensors(data, path))
        return _pickled(read_pickled(data, path))
    except BackboneError as error:
        return None, f"no file of weights that can be used: {error}"


def _safe_tensors(tensors: Mapping[str, Tensor]) -> tuple[str | None, str]:
    if "patch_embed.proj.weight" in tensors and "blocks.0.attn.qkv.weight" in tensors:
        stage = "fine-tuned" if "fc_norm.weight" in tensors else "pre-trained"
        return "audiomae", f"AudioMAE in timm's layout, {stage}; the sum of the released one is not published"
    return None, f"a safetensors file of another model ({_some(tensors)}); one of transformers is named by its folder"


def _pickled(content: object) -> tuple[str | None, str]:
    model = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(content, Mapping) or not isinstance(model, Mapping):
        keys = _some(content) if isinstance(content, Mapping) else type(content).__name__
        return None, f"a checkpoint of another layout, without a mapping under model ({keys})"
    if "patch_embedding.weight" in model:
        return _beats(content.get("cfg"), model)
    if "patch_embed.proj.weight" in model:
        tuned = "fc_norm.weight" in model or "head.weight" in model
        return "audiomae", f"a {'fine-tuned' if tuned else 'pre-trained'} AudioMAE in the official layout"
    return None, f"a checkpoint of another model: {_some(model)}"


def _beats(config: object, model: Mapping[Any, object]) -> tuple[str | None, str]:
    if not isinstance(config, Mapping):
        return None, "tensors of BEATs without their cfg, which says how they hang together; no released file"
    tuned = bool(config.get("finetuned_model")) or any(str(name).startswith("predictor.") for name in model)
    stage = "fine-tuned" if tuned else "pre-trained"
    return "beats", f"a {stage} BEATs, but none of the released files: no other has its sum"


def _some(names: Mapping[Any, object]) -> str:
    shown = [str(name)[:60] for name in list(names)[:3]]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
