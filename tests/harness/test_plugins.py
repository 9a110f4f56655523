"""Plugins are found by file name and entry point, and wrong names get an answer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness import plugins
from harness.errors import HarnessError


@pytest.mark.parametrize("kind", ["backbone", "strategy", "dataset", "scorer"])
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
