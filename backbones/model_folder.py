"""Folders that `save_pretrained` of transformers wrote: read once, JSON and weights alone, and refused where they lie.

transformers itself never sees the folder. It is handed dictionaries and tensors, so that no file can make it import
code, ask whether it may, fetch something, or follow an adapter to another model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from backbones.contract import BackboneError
from backbones.files import read_file, refuse_stand_in, sha256_of_file
from backbones.pickled import read_pickled
from backbones.safe_tensors import read_safe_tensors
from backbones.weights import MODEL_CONFIG, SAFE_TENSORS, check_tensors, find_model_folder, folder_sum, model_files

EXTRACTOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"  # newer releases of transformers keep the extractor's settings in here
SHARDS = "model.safetensors.index.json"
PICKLED = "pytorch_model.bin"
MOST_JSON = 64 * 2**20  # bytes; the largest vocabularies take 20 MiB
MOST_SHARDS = 100
CODE = "auto_map"  # where a folder names the Python files that should be run
LARGEST = 2**24  # of a whole number in a configuration: samples of a window, sizes, places of tokens
MOST_MEMBERS = 1_000  # of a list in a configuration, unless there are more tensors; Whisper names 90 tokens
# Names of other files than those that are read here, of types (weights always become float32), and of the classes of a
# head, which is left out: transformers makes up a name for each of as many as there are said to be.
NOT_OURS = (
    "transformers_weights", "name_or_path", "_name_or_path", "dtype", "torch_dtype",
    "num_labels", "id2label", "label2id",
)  # fmt: skip
ATTENTION = ("attn_implementation", "_attn_implementation")
KNOWN_ATTENTION = (None, "eager", "sdpa")  # anything else names a package, or code on the hub
INTEGERS = ("num_batches_tracked", "position_ids", "token_type_ids", "relative_position_index")  # counts, no weights


@dataclass(frozen=True)
class ModelFolder:
    """A saved model as it was when it was read.

    Attributes:
        path: of the folder.
        sha256: of its configurations and weights, see `backbones.weights.sha256_of`.
        config: what its config.json says.
        extractor: what its feature extractor's file says.
        tensors: its weights by name.
    """

    path: Path
    sha256: str
    config: dict[str, Any]
    extractor: dict[str, Any]
    tensors: dict[str, Tensor]


def read_model_folder(weights: str | Path) -> ModelFolder:
    """Read a folder made by `save_pretrained`, each file once; the sum is that of the very bytes that are used.

    Links are followed, also out of the folder, since the cache of the Hugging Face hub is made of links; what they lead
    to must be a regular file, and counts by its content.

    Raises:
        BackboneError: there is no such folder; a file is missing, damaged or no file; one of them names code to be run;
            the weights are quantised or not finite; or a configuration has numbers that no model can have.
    """
    folder = find_model_folder(weights)
    texts, sums = {}, {}
    for path in model_files(folder):
        if path.suffix == ".json":
            read = read_file(path, most_bytes=MOST_JSON)
            texts[path.name], sums[path.name] = _parsed(read.data, path), read.sha256
    for name, content in texts.items():
        _refuse_code(content, folder / name)
    config = _object(texts[MODEL_CONFIG], folder / MODEL_CONFIG)
    _refuse_timm(config, folder)
    needed, tensors = _weight_files(folder, texts), dict[str, Tensor]()
    for path in model_files(folder):
        if path.name in needed:
            read = read_file(path)
            sums[path.name] = read.sha256
            tensors |= _tensors(read.data, path)
        elif path.name not in sums:
            sums[path.name] = sha256_of_file(path)
    extractor = _extractor(folder, texts)
    _check_config(config, folder / MODEL_CONFIG, tensors=len(tensors))
    return ModelFolder(folder, folder_sum(sums), config, extractor, tensors)


def _parsed(data: bytes, path: Path) -> object:
    refuse_stand_in(path, data, what="a JSON file")
    try:
        return json.loads(data.decode("utf-8-sig"))
    except RecursionError as error:
        raise BackboneError(f"{path} is nested too deeply to be the file of a model.") from error
    except ValueError as error:  # not UTF-8, no JSON, or a number of thousands of digits
        raise BackboneError(f"{path} could not be read as JSON: {str(error).splitlines()[0]}.") from error


def _members(content: object) -> Iterator[tuple[str, object]]:
    """Yield (name, value) of every member of every object, however deep, and ("", value) of lists' members."""
    stack: list[tuple[str, object]] = [("", content)]
    while stack:
        name, value = stack.pop()
        yield name, value
        if isinstance(value, dict):
            stack += value.items()
        elif isinstance(value, list):
            stack += [(name, each) for each in value]


def _refuse_code(content: object, path: Path) -> None:
    """Refuse a file that names Python code; a vocabulary may well hold that word, with a number behind it."""
    for name, value in _members(content):
        if name == CODE and isinstance(value, (dict, list, str)):
            raise BackboneError(
                f"{path} is refused, since its {CODE} names code that would be run, and nothing of a model's folder is "
                "ever run here; take a model that transformers knows by itself, without trust_remote_code."
            )


def _refuse_timm(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a model that timm saved, which is how most people have AudioMAE, and say which backbone takes it."""
    if "model_type" not in config and isinstance(config.get("architecture"), str):
        raise BackboneError(
            f"{folder} holds a model of timm and none of transformers; if it is AudioMAE, the backbone audiomae takes "
            f'it: encoder = "audiomae", weights = "{folder / SAFE_TENSORS}".'
        )


def _object(content: object, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise BackboneError(f"{path} must hold a JSON object, but holds a {type(content).__name__}.")
    return content


def _weight_files(folder: Path, texts: Mapping[str, object]) -> set[str]:
    """Name the files that hold the weights: one, or the parts that an index names."""
    there = {path.name for path in model_files(folder)}
    if SAFE_TENSORS in there:
        return {SAFE_TENSORS}
    if SHARDS in texts:
        places = _object(texts[SHARDS], folder / SHARDS).get("weight_map")
        names = set(map(str, places.values())) if isinstance(places, dict) else set()
        if not names or len(names) > MOST_SHARDS:
            raise BackboneError(f"{folder / SHARDS} must name 1 to {MOST_SHARDS} files, but names {len(names)}.")
        for name in sorted(names):
            if name not in there or not name.endswith(".safetensors"):
                raise BackboneError(f"{folder / SHARDS} names {name!r}, which is no safetensors file of its folder.")
        return names
    if PICKLED in there:
        return {PICKLED}
    raise BackboneError(f"{folder} holds no weights: {SAFE_TENSORS} is missing, which save_pretrained writes.")


def _tensors(data: bytes, path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        tensors: object = read_safe_tensors(data, path)
    else:
        tensors = read_pickled(data, path)
    checked = check_tensors(tensors, path=path, size=len(data), what="the file")
    for name, tensor in checked.items():
        if not tensor.is_floating_point() and name.rsplit(".", 1)[-1] not in INTEGERS:
            raise BackboneError(
                f"The weights in {path} must be floating-point numbers, but {name} has {tensor.dtype}; take a file "
                "that is not quantised."
            )
    return checked


def _extractor(folder: Path, texts: Mapping[str, object]) -> dict[str, Any]:
    if PROCESSOR in texts:
        inner = _object(texts[PROCESSOR], folder / PROCESSOR).get("feature_extractor")
        if isinstance(inner, dict):
            _check_numbers(inner, folder / PROCESSOR)
            return inner
    if EXTRACTOR not in texts:
        raise BackboneError(
            f"{folder} could not be read as a model saved by transformers: its feature extractor's {EXTRACTOR} is "
            "missing; save the extractor with save_pretrained into the same folder."
        )
    found = _object(texts[EXTRACTOR], folder / EXTRACTOR)
    _check_numbers(found, folder / EXTRACTOR)
    return found


def _check_config(config: dict[str, Any], path: Path, *, tensors: int) -> None:
    """Refuse what no model can have, before anything is built from it."""
    _check_numbers(config, path)
    for name, value in _members(config):
        if name == "quantization_config" and value:
            raise BackboneError(
                f"{path} says that the weights are quantised ({name}); take the model's weights in float32 or float16."
            )
        if name in ATTENTION and value not in KNOWN_ATTENTION:
            raise BackboneError(
                f"{name} in {path} must be eager or sdpa, which come with transformers and torch, but is {value!r}."
            )
        if name.endswith(("layers", "depths")) and type(value) is int and value > tensors:
            raise BackboneError(
                f"{path} does not fit the weights beside it: {name} is {value}, but there are {tensors} tensors in all."
            )
        if isinstance(value, list) and len(value) > max(tensors, MOST_MEMBERS):
            raise BackboneError(
                f"Lists in {path} must have at most {max(tensors, MOST_MEMBERS):,} members, but {name} has "
                f"{len(value):,}."
            )
        if "drop" in name and isinstance(value, (int, float)) and not 0 <= value <= 1:
            raise BackboneError(f"{name} in {path} must be a share from 0 to 1, but is {value}.")
    for part in [value for _, value in _members(config) if isinstance(value, dict)]:
        for name in NOT_OURS:
            part.pop(name, None)


def _check_numbers(content: object, path: Path) -> None:
    for name, value in _members(content):
        if isinstance(value, float) and not math.isfinite(value):
            raise BackboneError(f"The numbers in {path} must be finite, but {name} is {value}.")
        if type(value) is int and abs(value) > LARGEST:
            raise BackboneError(f"The numbers in {path} must be at most {LARGEST:,}, but {name} is larger.")
