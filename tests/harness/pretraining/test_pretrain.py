"""`asdbench pretrain`: a file that fine-tuning loads, a run in MLflow, the same bytes however often it is cut."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from backbones import load_encoder
from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.synthetic.generator import generate
from harness.pretraining.pretrain import pretrain

OPTIONS = "--option frames=96 --option embed_dim=16 --option layers=1 --option heads=2 --option decoder_dim=16"
OPTIONS += " --option decoder_layers=1 --option decoder_heads=2"
LINE = "pretrain --data {root} --protocol dcase2023 --out {out} --epochs 2 --batch-size 4 --clip-seconds 1"
LINE += f" --warmup-epochs 1 --threads 1 {OPTIONS}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated recordings of two machine types."""
    folder = tmp_path_factory.mktemp("recordings")
    generate(folder, DATASET, machines=("fan", "valve"), train_source=4, train_target=1, test_per_cell=2, seconds=1.0)
    return folder


def sha256(path: Path) -> str:
    """Return the sum of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_pretrain(asdbench: Any, root: Path, tmp_path: Path) -> None:
    """The verb writes a checkpoint that loads without options, is recorded with curve and picture, and is made once."""
    from mlflow import MlflowClient

    out = tmp_path / "made.pt"
    status, said, errors = asdbench(f"{LINE} --json", root=root, out=out)
    assert status == 0, errors
    row = json.loads(said)
    assert (row["status"], row["clips"], row["epochs"], row["sha256"]) == ("finished", 10, 2, sha256(out))
    encoder = load_encoder("audiomae", out)
    assert (encoder.dim, encoder.config.heads, encoder.config.frames) == (16, 2, 96)
    assert encoder.weights_sha256 == row["sha256"]
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = client.get_run(row["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.tags["asd.kind"] == "pretrain" and run.data.tags["asd.weights_sha256"] == row["sha256"]
    assert run.data.params["pretrain.mask_ratio"] == "0.8" and run.data.params["encoder.layers"] == "1"
    assert [point.step for point in client.get_metric_history(row["run_id"], "pretrain/loss")] == [1, 2]
    assert {each.path for each in client.list_artifacts(row["run_id"])} == {"pretraining.json", "reconstruction.png"}
    changed = out.stat().st_mtime_ns
    status, said, _ = asdbench(LINE, root=root, out=out)
    assert status == 0 and "done already" in said
    assert out.stat().st_mtime_ns == changed
    trial = f"trial {root} --protocol dcase2023 --backbone audiomae --weights {out} --epochs 1 --clip-seconds 1"
    status, said, errors = asdbench(f"{trial} --json --recipe lora_rank=2")
    assert status == 0, errors


def test_only_training_clips_are_heard(asdbench: Any, root: Path, tmp_path: Path) -> None:
    """Other test clips change neither the key nor a byte of the file."""
    import shutil

    other = tmp_path / "other"
    shutil.copytree(root, other)
    for clip in other.rglob("test/*.wav"):
        content = bytearray(clip.read_bytes())
        content[1000:2000] = bytes(1000)
        clip.write_bytes(bytes(content))
    sums = []
    for folder, name in ((root, "one.pt"), (other, "two.pt")):
        status, _, errors = asdbench(LINE, root=folder, out=tmp_path / name)
        assert status == 0, errors
        sums.append(torch.load(tmp_path / name, weights_only=True)["pretraining"]["key"] + sha256(tmp_path / name))
    assert sums[0] == sums[1]


PROGRAM = """
import json, sys, time
from pathlib import Path
from harness.pretraining.pretrain import pretrain
def told(what, done, total):
    print(what, flush=True)
    time.sleep(0.05)
pretrain(Path(sys.argv[1]), out=Path("made.pt"), told=told, **json.loads(sys.argv[2]))
"""
SIZES = {"frames": 96, "embed_dim": 16, "layers": 1, "heads": 2}
SIZES |= {"decoder_dim": 16, "decoder_layers": 1, "decoder_heads": 2}
WHAT: dict[str, Any] = {
    "protocol": "dcase2023",
    "backbone": "audiomae",
    "options": SIZES,
    "recipe": {"epochs": 6, "batch_size": 4, "clip_seconds": 1.0},
    "threads": 1,
    "every_seconds": 0.0,
}


@pytest.mark.slow
def test_interrupted_and_started_again(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C closes the run and says why; the same run is then finished, and says so no longer."""
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASDBENCH_CACHE", str(tmp_path / "cache"))

    def stop(what: str, done: int, _all: int) -> None:
        if "steps" in what and done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(root, out=Path("made.pt"), told=stop, **WHAT)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = [each for each in client.search_experiments() if each.name == "asdbench"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.tags["asd.reason"]) == ("KILLED", "it was interrupted")
    row = pretrain(root, out=Path("made.pt"), **WHAT)
    assert row["run_id"] == run.info.run_id
    run = client.get_run(row["run_id"])
    assert (run.info.status, run.data.tags.get("asd.reason")) == ("FINISHED", None)


@pytest.mark.slow
def test_killed_and_started_again(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at a random moment and started again, it writes the very bytes of an uncut run, with one MLflow run."""
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "cut")
    monkeypatch.setenv("ASDBENCH_CACHE", str(tmp_path / "cut" / "cache"))
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(root), json.dumps(WHAT)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert process.stdout is not None
    last = random.randint(1, 12)  # of 18 steps
    steps = (line for line in process.stdout if line.startswith("pre-training"))
    for _ in range(last):
        next(steps)
    time.sleep(random.uniform(0, 0.1))
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert not (tmp_path / "cut" / "made.pt").exists()
    told: list[int] = []
    row = pretrain(
        root, out=Path("made.pt"), told=lambda what, done, _all: told.append(done) if "steps" in what else None, **WHAT
    )
    assert told[0] > last and told[-1] == 18
    assert not list((tmp_path / "cut" / "cache" / "pretraining").glob("*.pt"))
    monkeypatch.chdir(tmp_path / "whole")
    monkeypatch.setenv("ASDBENCH_CACHE", str(tmp_path / "whole" / "cache"))
    assert pretrain(root, out=Path("made.pt"), **WHAT)["sha256"] == row["sha256"] == sha256(tmp_path / "cut/made.pt")
    client = MlflowClient(f"sqlite:///{tmp_path / 'cut' / 'mlflow.db'}")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert [run.info.run_id for run in runs] == [row["run_id"]]
    points = client.get_metric_history(row["run_id"], "pretrain/loss")
    assert [point.step for point in points] == list(range(1, 7))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (LINE + " --backbone beats", "can pre-train (audiomae), but got beats"),
        (LINE + " --recipe beta3=1", "Did you mean 'beta"),
        (LINE + " --recipe fit=1", "fit of the recipe must be text"),
        (LINE + " --recipe micro_batch=0.5", "must be a whole number"),
        (LINE + " --recipe precision=half", "precision must be"),
        (LINE + " --weights nowhere.pt", "nowhere.pt does not exist"),
        (LINE + " --option layer=3", "Did you mean 'layers'?"),
        (LINE.replace("{out}", "{root}"), "is a folder"),
        (LINE.replace("{out}", "{root}/dcase2023/none.pt/x").replace("{root}/", "/proc/"), "can be written"),
    ],
)
def test_mistakes(asdbench: Any, root: Path, tmp_path: Path, line: str, sentence: str) -> None:
    """A mistake is one sentence, before anything is trained."""
    status, _, errors = asdbench(line, root=root, out=tmp_path / "made.pt")
    assert status == 1 and sentence in " ".join(errors.split()), errors
    assert "Traceback" not in errors


def test_file_of_something_else(asdbench: Any, root: Path, tmp_path: Path) -> None:
    """A file that another command made, or nobody, is never overwritten."""
    out = tmp_path / "made.pt"
    out.write_text("precious")
    status, _, errors = asdbench(LINE, root=root, out=out)
    assert status == 1 and "is another" in errors
    assert out.read_text() == "precious"
