"""The finished study that several files compare theirs with; it is run once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.toy_study import make_recordings, official, run


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated recordings of two machine types."""
    return make_recordings(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="session")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished toy study that nobody disturbed."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        outcome = run(root, folder, patch)
    assert (outcome.progress.finished, outcome.progress.failed) == (7, 0)
    return folder


@pytest.fixture(scope="session")
def undisturbed(finished: Path) -> dict[str, float]:
    """Official scores of that study."""
    return official(finished)
