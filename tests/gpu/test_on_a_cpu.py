"""What the tests of a GPU call, in small and on a CPU: so it is known to run before a GPU is at hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones import load_encoder
from tests.backbones.conftest import SMALL
from tests.gpu.agreement import SIZES, cell, computed, cut_and_resumed, farthest, farthest_gradient, relative, tuned
from tests.gpu.speed import matrix_rate, measure, other_models, our_models, written

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Keep torch to one thread, as the other tests of encoders do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_an_encoder_agrees_with_itself():
    """By two ways of attention, BEATs agrees as a GPU must with a CPU; with other weights it does not."""
    encoder = load_encoder("beats", **SIZES["beats"])
    expected, found = (computed(encoder, CPU, way=way) for way in ("fused", "piecewise"))
    assert relative(found.vectors, expected.vectors) < 1e-4
    assert farthest_gradient(found, expected)[0] < 1e-3
    assert found.gradients["encoder.layers.0.self_attn.relative_attention_bias.weight"].abs().max() > 0
    other = computed(load_encoder("beats", seed=1, **SIZES["beats"]), CPU)
    assert relative(other.vectors, expected.vectors) > 0.1
    assert farthest_gradient(other, expected)[0] > 0.1


def test_an_encoder_without_weights():
    """An encoder without weights has no gradients, and that is no difference."""
    found = computed(load_encoder("logmel"), CPU)
    assert found.gradients == {} and farthest_gradient(found, found) == (0.0, "")


def test_resumed(tmp_path: Path):
    """On a CPU a run that was stopped and goes on ends with the same weights, bit for bit."""
    assert farthest(cut_and_resumed("tiny", CPU, tmp_path), tuned("tiny", CPU, epochs=3)) == 0.0


def test_a_cell():
    """A cell in small measures an AUC, the same each time."""
    assert 0.0 <= cell(2, CPU) == cell(2, CPU) <= 1.0


@pytest.mark.slow
def test_speed_in_small(tmp_path: Path):
    """Each of our encoders has a row for each work and way, and the script of the docs makes a table of them."""
    rate = matrix_rate(CPU, side=64, repeats=1)
    models = our_models(CPU, sizes=SMALL | {"audiomae": {**SMALL["audiomae"], "frames": 1024}})
    rows = [row for model in models for row in measure(model, CPU, clips=1, rate=rate, repeats=1)]
    assert [(row.model, row.work, row.way) for row in rows] == [
        ("beats", "forward", "piecewise"), ("beats", "training step", "piecewise"),
        ("beats", "forward", "fused"), ("beats", "training step", "fused"),
        ("audiomae", "forward", "its own"), ("audiomae", "training step", "its own"),
    ]  # fmt: skip
    assert all(np.isfinite([row.clips_per_second, row.share]).all() and row.share > 0 for row in rows)
    path = tmp_path / "gpu.json"
    written(rows, CPU, rate=rate, path=path)
    assert len(json.loads(path.read_text())["rows"]) == 6
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "gpu_table.py"), str(path)], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("| model | work | attention |")
    assert len(lines) == 2 + 6 + 2 and "CPU" in lines[-1]


@pytest.mark.slow
def test_the_references_run():
    """AST and openbeats, where they are installed, take the features that they are timed with."""
    for model in other_models(CPU):
        with torch.no_grad():
            assert model.run(model.features).ndim == 3


PACKAGES = """
import importlib.abc, sys
MISSING = {missing!r}
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
import pytest
sys.exit(pytest.main({arguments!r}))
"""
MISSING = {
    "mlflow", "optuna", "sqlalchemy", "librosa", "soundfile", "soxr", "typer", "rich", "pydantic", "matplotlib",
    "jinja2", "psutil", "hypothesis", "openbeats", "xdist", "pyarrow",
}  # fmt: skip


@pytest.mark.slow
def test_what_a_gpu_machine_needs():
    """The GPU's tests are found with torch, numpy, pandas, scikit-learn and pytest, and skip in words without a GPU."""
    arguments = ["-o", "addopts=--strict-markers --import-mode=importlib", "-m", "gpu", "-rs", "-q", "tests/gpu"]
    code = PACKAGES.format(missing=MISSING, arguments=arguments)
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "this machine has no GPU that torch can use" in done.stdout
    assert "passed" not in done.stdout
