"""YAMNet in trials: frozen and fine-tuned on generated recordings, checked as a backbone, its weights in the record."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.synthetic.generator import generate
from harness import verbs
from harness.places import Places
from harness.trials.choices import choose_backbone
from tests.backbones.networks.yamnet_made_up import network, save_h5

RECIPE = {"epochs": 1, "batch_size": 4, "clip_seconds": 1.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated recordings of one machine type."""
    folder = tmp_path_factory.mktemp("recordings")
    generate(folder, DATASET, machines=("fan",), train_source=4, train_target=1, test_per_cell=2, seconds=1.0)
    return folder


def test_it_is_fine_tuned_and_frozen(root: Path, places: Places) -> None:
    """A trial that learns and one that does not both end with a score, under keys of their own."""
    keys = set()
    for m in (1, None):
        found = verbs.trial(root, protocol="dcase2023", backbone="yamnet", m=m, recipe=RECIPE, places=places)
        assert 0 < found["official_score"] < 1
        keys.add(found["key"])
    assert len(keys) == 2


@pytest.mark.slow
def test_it_meets_the_contract() -> None:
    """`check-backbone yamnet` passes line by line."""
    report = verbs.check_backbone("yamnet", seconds=2.0)
    assert [row for row in report["rows"] if row["status"] == "fail"] == []


def test_the_record_has_the_sum_of_what_was_loaded(root: Path, places: Places, tmp_path: Path) -> None:
    """A trial on a file's weights is another trial than one on random ones, by the sum of the file's bytes."""
    path = save_h5(tmp_path / "yamnet.h5", network())
    choice = choose_backbone("yamnet", "yamnet", weights=str(path))
    assert choice.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    found = verbs.trial(
        root, protocol="dcase2023", backbone="yamnet", m=None, weights=str(path), recipe=RECIPE, places=places
    )
    random = verbs.trial(root, protocol="dcase2023", backbone="yamnet", m=None, recipe=RECIPE, places=places)
    assert found["key"] != random["key"]
