"""One entry of the table adds an axis to studies, plans, searches, tables and records."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.trials.axes import AXES, nested_axes
from labeling.fusion import FUSIONS
from tests.harness.studies.test_keys import GOLDEN

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a process says whose table has one more entry, a choice of the recipe."""
    script = Path(__file__).with_name("with_another_axis.py")
    command = [sys.executable, str(script), str(tmp_path_factory.mktemp("axis"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_grid_walks_through_it(found: Any) -> None:
    """Every value is combined with every other axis, once; what trains nothing stands once whatever it is."""
    assert found["order"] == [[0, 1], [0, 3], [8, 1], [8, 3]]
    assert found["kinds"] == ["level", "frozen", "trial", "trial", "trial", "trial"]
    assert found["labels"][-1] == "tiny M=3 K1=15 K2=15 LoRA rank=8 seed=0"
    assert found["labels"][0] == "tiny M=1 K1=15 K2=15 seed=0"


def test_its_bounds_are_the_recipes(found: Any) -> None:
    """A value that the recipe would refuse is refused in the space, with its key and the rule."""
    assert "space.lora_rank.0: Input should be greater than or equal to 0, but got -1" in found["refused"]


def test_keys_of_before_stay(found: Any) -> None:
    """A study that does not name the axis keeps its key and its trials'; one that does is another study."""
    demo, without, varied = found["keys"]
    assert demo == GOLDEN["demo"][0]
    assert without != varied
    assert found["same cells"]


def test_a_search_proposes_it(found: Any) -> None:
    """A sampler has the axis as a parameter, and what it proposes is a planned cell."""
    assert found["proposed"]
    assert found["parameters"] == ["backbone", "fusion", "k1", "k2", "labels", "lora_rank", "m"]


def test_stores_have_it(found: Any) -> None:
    """Tables of before get its column, filled from the recorded recipes; MLflow and records have it, too."""
    assert found["rows"] == [8, 0, 8]
    assert found["column"] == [8]
    assert found["params"] == 8
    assert found["read back"]


def test_the_table_agrees_with_the_rooms() -> None:
    """The table's fusions are those of the labeling room, and each axis stands once in the order of a grid."""
    assert {axis.name: axis.choices for axis in AXES}["fusion"] == FUSIONS
    assert sorted(axis.name for axis in nested_axes()) == sorted(axis.name for axis in AXES)
