"""Plugins are found by file name and entry point, and wrong names get an answer."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

import backbones.plugins
from harness import plugins
from harness.errors import HarnessError


@pytest.mark.parametrize("kind", ["backbone", "loss", "strategy", "dataset", "scorer"])
def test_every_file_declares_its_constant(kind: plugins.PluginKind) -> None:
    """Every file in an open folder loads, and its plugin is called as the file."""
    assert plugins.names(kind)
    for name in plugins.names(kind):
        assert plugins.load(kind, name).name == name
        assert plugins.summaries(kind)[name]


def test_unknown_name_hints_at_the_nearest() -> None:
    """A wrong name is answered with what there is and the nearest right one."""
    with pytest.raises(HarnessError, match=r"backbone must be one of .*but got 'baets'\. Did you mean 'beats'\?"):
        plugins.load("backbone", "baets")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("elsewhere", "fractions:Fraction", r"asdbench\.losses:elsewhere must declare LOSS, a Loss, but got <class"),
        ("elsewhere", "no_such_module:LOSS", "must be importable, but: No module named 'no_such_module'"),
        ("elsewhere", "fractions:NO_SUCH_NAME", "must be importable, but"),
        ("arcface", "fractions:Fraction", "arcface comes with asdbench, but another package adds one of that name too"),
    ],
)
def test_a_broken_entry_point_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """What another package declares is of its contract, can be imported, and hides nothing that is here."""
    point = EntryPoint(name, value, "asdbench.losses")
    monkeypatch.setattr(backbones.plugins, "_installed", lambda group, _path: {name: point})
    with pytest.raises(HarnessError, match=said):
        plugins.load("loss", name)


def test_listing_and_help_import_nothing_heavy() -> None:
    """Listing names and starting the command line import no framework."""
    heavy = "torch mlflow ray optuna sqlalchemy pandas sklearn librosa"
    script = (
        "import sys, harness.cli.main; from harness import plugins\n"
        "[plugins.summaries(kind) for kind in plugins.PLACES]\n"
        f"sys.exit(' '.join(set('{heavy}'.split()) & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
