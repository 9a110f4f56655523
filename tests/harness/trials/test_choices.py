"""What a trial may be chosen by; labels come from the open folder of strategies."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import labeling.strategies
from backbones import plugins
from harness.errors import HarnessError
from harness.studies.plan import make_plan
from harness.trials.choices import TrialChoices, check_labels, labeled_by, read_by
from tests.harness.made_up import make_spec
from tests.harness.studies.test_plan import DATA, study

STRATEGY = '''"""The alphabet: a baseline of one file."""

from dataclasses import replace

from labeling.contract import Strategy
from labeling.strategies.gmm import STRATEGY as GMM

STRATEGY = replace(GMM, name="{name}", stands_alone={alone}, choices={choices})
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One more place for files of strategies, beside the repository's."""
    places = [*labeling.strategies.__path__, str(tmp_path)]
    monkeypatch.setattr(labeling.strategies, "__path__", places)  # where a plugin is imported from
    monkeypatch.setattr(labeling.strategies.__spec__, "submodule_search_locations", places)  # and where it is listed
    return tmp_path


def test_a_strategy_that_stands_alone_is_a_value_of_labels(folder: Path) -> None:
    """One file in the folder of strategies, and studies label by it, each M and K1 that it reads once."""
    (folder / "alphabet.py").write_text(STRATEGY.format(name="alphabet", alone=True, choices='("m", "k1")'))
    file = study(
        space={"backbone": ["tiny"], "m": [1, 3], "k1": [5, 15], "k2": [2, 4], "labels": ["paper", "alphabet"]},
        seeds=[0],
    )
    specs = [spec for spec in make_plan(file).specs(**DATA) if spec.labels == "alphabet"]
    assert sorted((spec.m, spec.k1, spec.k2) for spec in specs) == [
        (1, 5, None), (1, 15, None), (3, 5, None), (3, 15, None),
    ]  # fmt: skip
    assert TrialChoices("dcase2023", "tiny", labels="alphabet").labels == "alphabet"


def test_a_package_adds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point of another package does as well as a file."""
    point = EntryPoint("elsewhere", "labeling.strategies.machine:STRATEGY", "asdbench.strategies")
    monkeypatch.setattr(
        plugins, "_installed", lambda group, _path: {"elsewhere": point} if group == point.group else {}
    )
    spec = labeled_by(make_spec(m=3), "elsewhere")
    assert (spec.labels, spec.m, spec.k1, spec.k2, spec.fusion) == ("elsewhere", None, None, None, "composite")


def test_one_that_does_not_stand_alone_is_refused(folder: Path) -> None:
    """A strategy that serves some of the paper's cases labels no study by itself; what does is listed."""
    (folder / "halfway.py").write_text(STRATEGY.format(name="halfway", alone=False, choices="()"))
    for name in ("halfway", "cluster_wise"):
        with pytest.raises(
            HarnessError, match=rf"labels must be one of gmm, iterated, machine, paper, truth, ward, but got '{name}'"
        ):
            check_labels(name)
    with pytest.raises(ValueError, match=r"space\.labels must be one of .* Did you mean 'paper'\?"):
        study(space={"backbone": ["tiny"], "m": [1], "labels": ["papper"]})


def test_what_labels_read() -> None:
    """The paper's method reads all of M, K1, K2 and fusion, the truth none, a baseline what its file says."""
    assert {name: sorted(read_by(name)) for name in ("paper", "truth", "machine", "gmm")} == {
        "paper": ["fusion", "k1", "k2", "m"], "truth": [], "machine": [], "gmm": ["fusion", "k2", "m"],
    }  # fmt: skip
