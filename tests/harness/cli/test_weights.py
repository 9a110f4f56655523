"""The verbs about weights, and studies that name weights by their released names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backbones.released import catalogue
from backbones.released.catalogue import MIT, Released
from harness.errors import HarnessError
from harness.studies.plan import make_plan
from harness.studies.study_file import read_study
from harness.trials.choices import choose_backbone
from tests.backbones.conftest import ORACLES
from tests.backbones.released.hub_server import COMMIT, Hub, serving

BEATS = (ORACLES / "beats_small.pt").read_bytes()  # stands for the released file
SUM = hashlib.sha256(BEATS).hexdigest()
STUDY = """
name = "named"
protocol = "dcase2023"
[space]
backbone = ["BEATs"]
m = [1]
[backbones.BEATs]
encoder = "beats"
weights = "BEATs_small"
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one released file of BEATs in the real format."""
    pytest.importorskip("huggingface_hub", reason="the hub needs the extra asdbench[hf]")
    small = Released(
        "BEATs_small", "beats", "pre-trained", ".pt", len(BEATS), SUM, MIT, ("org/beats@main",), "BEATs_small.pt"
    )
    monkeypatch.setattr(catalogue, "RELEASED", (small,))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with serving(Hub(files={("org/beats", "BEATs_small.pt"): BEATS})) as started:
        monkeypatch.setenv("HF_ENDPOINT", started.address)
        yield started


def test_list_download_list(asdbench: Any, hub: Hub, tmp_path: Path) -> None:
    """What is absent is downloaded by its name, is here afterwards, and a second download asks nobody."""
    (row,) = json.loads(asdbench("weights ls --json")[1])["rows"]
    assert (row["name"], row["bytes"], row["sha256"], row["licence"]) == ("BEATs_small", len(BEATS), SUM, "MIT")
    assert (row["status"], row["path"]) == ("absent", None)
    status, out, err = asdbench("weights download BEATs_small --json")
    assert status == 0, err
    found = json.loads(out)
    path = tmp_path / ".asdbench" / "weights" / "BEATs_small.pt"
    assert (found["path"], found["source"], found["fetched"]) == (str(path), f"org/beats@{COMMIT}", True)
    assert path.read_bytes() == BEATS
    (row,) = json.loads(asdbench("weights ls --json")[1])["rows"]
    assert (row["status"], row["path"]) == ("here", str(path))
    asked = len(hub.asked)
    assert json.loads(asdbench("weights download BEATs_small --json")[1])["fetched"] is False
    assert len(hub.asked) == asked
    path.write_bytes(BEATS[:-1])
    (row,) = json.loads(asdbench("weights ls --json")[1])["rows"]
    assert row["status"] == "another file"


def test_what_is_kept_is_private(asdbench: Any, hub: Hub, tmp_path: Path) -> None:
    """The cache that a download makes is its owner's alone, as if a trial had made it."""
    asdbench("weights download BEATs_small")
    assert (tmp_path / ".asdbench").stat().st_mode & 0o077 == 0


def test_refusals_are_one_line_and_exit_1(asdbench: Any, hub: Hub) -> None:
    """An unknown name, a lost file and a forbidden network are one sentence each, without a traceback."""
    for line, said in (
        ("weights download BEATs_smal", "Did you mean 'BEATs_small'?"),
        ("weights download BEATs_small --from org/other@main", "has no repository org/other"),
        ("weights download BEATs_small --from org/beats", "must be ORG/NAME@REVISION"),
        ("weights check nowhere.pt", "does not exist"),
    ):
        status, _, err = asdbench(line)
        assert status == 1
        assert said in err
        assert len(err.strip().splitlines()) == 1, err


def test_check_says_what_a_file_is(asdbench: Any, hub: Hub, tmp_path: Path) -> None:
    """A released file is named and exits 0; a page under its name exits 1."""
    (tmp_path / "a.pt").write_bytes(BEATS)
    (tmp_path / "b.pt").write_bytes(b"<html>quota</html>")
    status, out, _ = asdbench("weights check a.pt")
    assert status == 0
    assert "is the released BEATs_small, byte for byte" in out
    status, out, _ = asdbench("weights check b.pt --json")
    found = json.loads(out)
    assert (status, found["released"], found["backbone"]) == (1, None, None)
    assert "web page" in found["what"]


def test_a_study_names_weights_and_is_told_the_command(asdbench: Any, hub: Hub, tmp_path: Path) -> None:
    """A study whose released weights are absent says the one command that brings them; after it the plan has them."""
    (tmp_path / "named.toml").write_text(STUDY)
    asdbench("ls backbones")  # moves to the empty folder
    with pytest.raises(
        ValueError, match=r"BEATs_small are not here.*bring them: asdbench weights download BEATs_small$"
    ):
        make_plan(read_study(str(tmp_path / "named.toml")))
    assert asdbench("weights download BEATs_small")[0] == 0
    choice = make_plan(read_study(str(tmp_path / "named.toml"))).backbones["BEATs"]
    assert (choice.weights_sha256, Path(choice.weights).name) == (SUM, "BEATs_small.pt")


def test_a_key_knows_the_bytes_and_not_the_name(asdbench: Any, hub: Hub, tmp_path: Path) -> None:
    """Weights by their released name are the very trial that they are by their path."""
    asdbench("weights download BEATs_small")
    named = choose_backbone("BEATs", "beats", weights="BEATs_small")
    (tmp_path / "copy.pt").write_bytes(BEATS)
    assert choose_backbone("other", "beats", weights=str(tmp_path / "copy.pt")).content() == named.content()


def test_an_unknown_backbone_still_has_its_sentence() -> None:
    """A misspelt encoder is answered with the nearest, whatever weights it has."""
    with pytest.raises(HarnessError, match="Did you mean 'beats'"):
        choose_backbone("x", "baets", weights="nowhere")
