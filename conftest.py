"""Settings that every test shares."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

with suppress(ImportError):  # the GPU's tests do without it
    from hypothesis import settings

    settings.register_profile("asdbench", deadline=None)  # how long a test takes says how busy the machine is
    settings.load_profile("asdbench")

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MPLBACKEND", "Agg")
# Ray reads this once a process: a test that set it for itself would lock every later one out of its own cluster
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # as harness.engine does; a test may import Ray first
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
if "PYTEST_XDIST_WORKER" in os.environ:  # one test a core: threads of two tests on the same cores wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# workers and subprocesses import the tests' own trainables and drivers
ROOT = str(Path(__file__).parent)
_paths = [ROOT, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(_paths))

SHARED = Path(os.environ.get("ASDBENCH_SHARED", Path(__file__).parent.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real recordings and oracles, where there is one."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no real recordings at {SHARED}; set ASDBENCH_SHARED to a folder that holds data/ and samples/")
    return SHARED


# Files whose tests start Ray again and again. They run one after the other, since each Ray has a dozen processes:
# of three at once on two cores, some did not start within the half minute that Ray waits
RAY = ("tests/harness/stores/test_faults.py", "tests/harness/engine/")
# files that take a minute or more: they begin first, so that no worker is left with one of them at the end
LONG = (
    *RAY,
    "tests/harness/gate/test_simulated.py",
    "tests/harness/statistics/test_coverage.py",
    "tests/docs/test_commands.py",
    "tests/harness/stores/test_tracker.py",
    "tests/harness/trials/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of long files first; their order among themselves stays."""
    places = {each: at for at, each in enumerate(LONG)}
    items.sort(key=lambda item: next((at for each, at in places.items() if item.nodeid.startswith(each)), len(LONG)))


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, which the GPU's tests do without
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give all tests of a file to one worker, and all that start Ray to one, too."""
    from xdist.scheduler import LoadFileScheduling  # noqa: PLC0415 - not everywhere

    class OneRay(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "Ray" if nodeid.startswith(RAY) else super()._split_scope(nodeid)

    return OneRay(config, log)
