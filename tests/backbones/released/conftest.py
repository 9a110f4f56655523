"""A server that stands in for the hub, and a catalogue of small files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from backbones.released import catalogue, hub
from backbones.released.catalogue import MIT, NON_COMMERCIAL, Released
from tests.backbones.released.hub_server import Hub, serving

CONTENT = bytes(range(256)) * 1_000  # of the released file "small"
SUM = hashlib.sha256(CONTENT).hexdigest()
SMALL = Released(
    "BEATs_small", "beats", "pre-trained", ".pt", len(CONTENT), SUM, MIT, ("org/first@main", "org/second@main"),
    "BEATs_small.pt",
)  # fmt: skip
OPEN = Released(
    "open_model", "audiomae", "pre-trained", ".safetensors", None, None, NON_COMMERCIAL, ("org/open@main",),
    "model.safetensors",
)  # fmt: skip
DRIVE = Released(
    "on_a_drive", "audiomae", "pre-trained", ".pth", None, None, NON_COMMERCIAL, (), "x.pth",
    elsewhere="it is on a drive",
)  # fmt: skip


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the hub's caches, weights and settings of whoever runs the tests out of them."""
    for name in ("ASDBENCH_WEIGHTS", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ASDBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(catalogue, "RELEASED", (SMALL, OPEN, DRIVE))
    monkeypatch.setattr(hub, "PAUSE", 0.0)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub whose first mirror has the released file."""
    pytest.importorskip("huggingface_hub", reason="the hub needs the extra asdbench[hf]")
    with serving(Hub(files={("org/first", "BEATs_small.pt"): CONTENT})) as started:
        monkeypatch.setenv("HF_ENDPOINT", started.address)
        yield started
