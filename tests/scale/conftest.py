"""The sheet of costs at each size, and which rows are measured: `make scale ROWS="index labels" SIZES="1000 10000"`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.scale.growth import ON_A_SERVER, Sheet
from tests.scale.measured import Stages
from tests.speed.conftest import fits, text_of

if TYPE_CHECKING:
    from tests.servers import Postgres

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MEASURED = Path(os.environ.get("ASDBENCH_SCALE") or ROOT / ".asdbench" / "full_size.json")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the rows that ROWS asks for; tests of other folders stay as they are."""
    words = os.environ.get("ROWS", "").lower().split()
    rows = [item for item in items if HERE in item.path.parents and item.get_closest_marker("scale")]
    left = [item for item in rows if words and not any(fits(word, text_of(item)) for word in words)]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


class Workshop:
    """Runs stages at each size, each once and after those that it needs, and keeps what they cost.

    Args:
        module: of the stages.
        needs: stage -> the one before it.
        sheet: gets the costs.
        folder: holds a folder a size.
        server: address of a PostgreSQL server that gets a size's databases; "" keeps them in the folder.
    """

    def __init__(self, module: str, needs: dict[str, str], sheet: Sheet, folder: Path, *, server: str = "") -> None:
        self.module, self.needs, self.sheet, self.folder, self.server = module, needs, sheet, folder, server
        self.processes: dict[int, Stages] = {}
        self.done: set[tuple[str, int]] = set()

    def run(self, stage: str, size: int) -> None:
        """Run a stage at a size, and what it needs, unless that was done here before."""
        if (stage, size) in self.done:
            return
        if stage in self.needs:
            self.run(self.needs[stage], size)
        if size not in self.processes:
            self.processes[size] = Stages(self.module, str(self.folder / str(size)), str(size), server=self.server)
        cost = self.processes[size].run(stage)
        if stage in self.needs:  # what needs nothing makes the input, and is no stage of the product's
            self.sheet.put(stage, size, cost)
        self.done.add((stage, size))

    def close(self) -> None:
        """Let the processes end."""
        for process in self.processes.values():
            process.close()


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """The stages that clips go through."""
    from tests.scale.clip_stages import NEEDS

    yield from _opened("clip", NEEDS, tmp_path_factory)


@pytest.fixture(scope="session")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """What recorded trials cost those who ask."""
    from tests.scale.trial_stages import NEEDS

    yield from _opened("trial", NEEDS, tmp_path_factory)


@pytest.fixture(scope="session")
def trials_on_postgresql(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Workshop]:
    """The same where a server has them."""
    from tests.scale.trial_stages import NEEDS

    yield from _opened("trial", NEEDS, tmp_path_factory, server=postgres.uri)


def _opened(
    what: str, needs: dict[str, str], folders: pytest.TempPathFactory, *, server: str = ""
) -> Iterator[Workshop]:
    sheet = Sheet(MEASURED, f"{what}s on {ON_A_SERVER}" if server else f"{what}s")
    workshop = Workshop(f"tests.scale.{what}_stages", needs, sheet, folders.mktemp(what), server=server)
    try:
        yield workshop
    finally:
        workshop.close()
