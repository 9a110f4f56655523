"""Models of the hub, hf:ORG/NAME@REVISION: weights and configuration alone, at a commit, and kept."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest
import torch

from backbones import load_encoder
from backbones.contract import BackboneError
from backbones.released.hub import source_of
from backbones.weights import find_model_folder, sha256_of
from harness.trials.choices import choose_backbone
from tests.backbones.hugging_face_models import save_model
from tests.backbones.released.hub_server import COMMIT, Hub

NAMED = "hf:org/wave@main"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny wav2vec 2.0 as save_pretrained writes it."""
    return save_model("wav2vec2", tmp_path_factory.mktemp("wave"))


@pytest.fixture
def wave(server: Hub, saved: Path) -> Hub:
    """A hub with that model, beside code, pickles, notes and files of inner folders."""
    server.files = {("org/wave", path.name): path.read_bytes() for path in saved.iterdir()}
    for other in ("modeling_wave.py", "pytorch_model.bin", "README.md", "onnx/model.safetensors", "tokenizer.json"):
        server.files["org/wave", other] = b"{}"
    return server


def test_a_model_comes_from_the_hub(wave: Hub, saved: Path) -> None:
    """Its numbers are those of the folder that was uploaded, and its sum is that folder's."""
    sound = 0.1 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(load_encoder(NAMED)(sound), load_encoder(f"hf:{saved}")(sound), atol=0, rtol=0)
    assert sha256_of(find_model_folder("org/wave@main")) == sha256_of(saved)


def test_code_and_pickles_are_not_fetched(wave: Hub) -> None:
    """Nothing but safetensors and configuration is asked for, and the folder holds nothing else."""
    folder = find_model_folder("org/wave@main")
    asked = {path.rsplit("/", 1)[-1] for _, path, _ in wave.asked if "/resolve/" in path}
    assert asked == {"config.json", "preprocessor_config.json", "model.safetensors"}
    assert {path.name for path in folder.iterdir()} == asked
    assert not any("onnx" in path for _, path, _ in wave.asked)


def test_what_another_program_left_in_the_cache_changes_no_sum(wave: Hub, saved: Path) -> None:
    """The hub's cache may hold more of a repository than is read here; a trial's key does not depend on it."""
    hub = importlib.import_module("huggingface_hub")
    hub.snapshot_download("org/wave", endpoint=wave.address, cache_dir=Path(_home()) / "hub")
    assert any(path.name == "pytorch_model.bin" for path in Path(_home()).rglob("*"))
    assert sha256_of(find_model_folder("org/wave@main")) == sha256_of(saved)


def test_the_commit_goes_into_the_record(wave: Hub) -> None:
    """A choice of a branch says which commit it was, in its path and in its source; a folder has none."""
    choice = choose_backbone(NAMED, NAMED)
    assert (choice.name, choice.source) == ("hf:wave@main", f"org/wave@{COMMIT}")
    assert choice.weights.endswith(f"hub/org--wave@{COMMIT}")
    assert source_of(Path("/models/org--wave@main")) == ""
    assert choose_backbone("mine", "hf", weights="org/wave@main").content() == choice.content()


def test_a_branch_that_moved_is_another_model(wave: Hub, saved: Path) -> None:
    """A new commit under the same branch is fetched, and stands beside the old one."""
    before = find_model_folder("org/wave@main")
    other = COMMIT[::-1]
    wave.commits |= {"main": other, other: other}
    after = find_model_folder("org/wave@main")
    assert (before.name, after.name) == (f"org--wave@{COMMIT}", f"org--wave@{other}")
    assert find_model_folder(f"org/wave@{COMMIT}") == before


def test_without_a_network_what_is_here_is_used(wave: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, and with a hub that does not answer, a model that was brought is found; another one is one sentence."""
    folder = find_model_folder("org/wave@main")
    wave.asked = []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert find_model_folder("org/wave@main") == folder
    assert find_model_folder(f"org/wave@{COMMIT}") == folder
    with pytest.raises(BackboneError, match=r"org/other@main is not here, and HF_HUB_OFFLINE forbids the network"):
        find_model_folder("org/other@main")
    assert wave.asked == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert find_model_folder("org/wave@main") == folder
    with pytest.raises(BackboneError, match=r"org/other@main could not be brought|is not here"):
        find_model_folder("org/other@main")


def test_loading_a_folder_forbids_no_later_download(wave: Hub, saved: Path) -> None:
    """Transformers is kept from the network while it loads, and the hub can be asked again afterwards."""
    load_encoder(f"hf:{saved}")
    assert find_model_folder("org/wave@main").is_dir()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf:org/nothing@main", "has no repository org/nothing, or it is private"),
        ("hf:org/wave@none", "org/wave has no revision none"),
        ("hf:org/gated@main", "org/gated@main is gated"),
        ("hf:datasets/org/wave@main", "must lie in a model repository"),
    ],
)
def test_what_the_hub_has_not_is_one_sentence(wave: Hub, name: str, said: str) -> None:
    """A model that is missing, gated or no model is said to be that."""
    wave.status = {"org/gated": (403, "GatedRepo")}
    with pytest.raises(BackboneError, match=said) as error:
        choose_backbone(name, name)
    assert "\n" not in str(error.value)


def test_nothing_without_a_revision_is_asked_for(server: Hub) -> None:
    """A misspelt folder never goes to the network: only ORG/NAME@REVISION does."""
    with pytest.raises(BackboneError, match=r"is no folder.*ORG/NAME@REVISION"):
        choose_backbone("hf:models/wave", "hf:models/wave")
    assert server.asked == []


def test_a_model_with_code_of_its_own_is_refused(wave: Hub) -> None:
    """A configuration that names code is refused when it is read, although the code itself was never fetched."""
    config = wave.files["org/wave", "config.json"]
    wave.files["org/wave", "config.json"] = config.replace(
        b"{", b'{"auto_map": {"AutoModel": "modeling_wave.Wave"},', 1
    )
    with pytest.raises(BackboneError, match="names code that would be run"):
        load_encoder(NAMED)


def test_a_file_that_is_cut_is_taken_up(wave: Hub, saved: Path) -> None:
    """A connection that breaks within the weights ends with the same bytes."""
    wave.drops = [-1, -1, 2_000]
    assert sha256_of(find_model_folder("org/wave@main")) == sha256_of(saved)


def _home() -> str:
    return os.environ["HF_HOME"]
