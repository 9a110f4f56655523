"""The command line: contracts of --json, and one sentence for each mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.protocols import find_protocol
from benchmarks.synthetic.generator import generate
from harness.cli.main import app

TRIAL = "trial {root} --protocol dcase2023 --backbone tiny --epochs 1 --clip-seconds 1 --batch-size 8"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated recordings of one labeled machine type."""
    folder = tmp_path_factory.mktemp("recordings")
    generate(folder, DATASET, machines=("fan",), train_source=6, train_target=2, test_per_cell=2, seconds=1.0)
    return folder


def test_help_imports_no_framework() -> None:
    """`asdbench --help` is answered without any of the heavy packages."""
    heavy = {"torch", "torchaudio", "ray", "mlflow", "optuna", "sqlalchemy", "pandas", "sklearn", "librosa"}
    ask = "\n".join(
        (
            "import sys, harness.cli.main",
            "sys.argv = ['asdbench', '--help']",
            "try: harness.cli.main.main()",
            "except SystemExit: print(*sys.modules, file=sys.stderr)",
        )
    )
    asked = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True)
    assert "harness.cli.main" in asked.stderr.split()
    assert heavy.isdisjoint(asked.stderr.split())


def test_ls_imports_no_framework() -> None:
    """`asdbench ls` lists every kind of name without any of the heavy packages, so it answers at once."""
    heavy = {"torch", "ray", "mlflow", "optuna", "sqlalchemy", "pandas", "pyarrow", "sklearn", "librosa", "matplotlib"}
    said = "import sys; from harness.verbs import ls; rows = ls(); print(len(rows), *sys.modules)"
    asked = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    count, *modules = asked.stdout.split()
    assert int(count) > 50
    assert heavy.isdisjoint(modules)


READERS = (
    "leaderboard", "compare", "importance", "report --out page.html", "select", "select --freeze choice.json",
    "regress --baseline a --candidate b", "baseline export a --out a.json", "study status demo", "study ls",
    "detect 3f9c clips", "submit 3f9c --out files",
)  # fmt: skip


def test_a_missing_database_is_said_at_once(tmp_path: Path) -> None:
    """Every verb that reads what is recorded says so where nothing is, before anything heavy is imported."""
    heavy = {"torch", "ray", "mlflow", "optuna", "sqlalchemy", "pandas", "numpy", "scipy", "sklearn", "librosa"}
    ask = "\n".join(
        (
            "import sys, harness.cli.main as command",
            "for line in sys.argv[1:]:",
            "    sys.argv = ['asdbench', *line.split()]",
            "    try: command.main()",
            "    except SystemExit as end: print(end.code, line, flush=True)",
            "print(*sys.modules)",
        )
    )
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    asked = subprocess.run(
        [sys.executable, "-c", ask, *READERS], check=True, capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    *ends, modules = asked.stdout.splitlines()
    assert ends == [f"1 {line}" for line in READERS]
    said = f"asdbench: Recorded trials are read from {tmp_path / 'mlflow.db'}, but there is no such file; run `asdbench"
    assert asked.stderr.count(said) == len(READERS), asked.stderr
    assert heavy.isdisjoint(modules.split())
    assert not any(tmp_path.iterdir())


def test_kinds_are_named_in_the_singular_too(asdbench: Any) -> None:
    """`ls` takes each kind as its column says it, and as it is listed; a protocol's other name is a name."""
    listed = json.loads(asdbench("ls --json")[1])["rows"]
    for kind in dict.fromkeys(row["kind"] for row in listed):
        some = json.loads(asdbench(f"ls {kind} --json")[1])["rows"]
        assert some == [row for row in listed if row["kind"] == kind], kind
    named = {row["name"]: row["summary"] for row in json.loads(asdbench("ls protocols --json")[1])["rows"]}
    assert named["paper"] == "another name of dcase2025-paper"
    assert all(find_protocol(name) for name in named)


def test_every_verb_says_what_it_does() -> None:
    """Every verb has a docstring with an example; that a page explains it is tested with the pages."""
    group = typer.main.get_command(app)
    assert hasattr(group, "commands")
    verbs = {name: each for name, each in group.commands.items() if not hasattr(each, "commands")}
    for name, each in group.commands.items():
        if hasattr(each, "commands"):
            verbs |= {f"{name} {inner}": command for inner, command in each.commands.items()}
    for name, command in verbs.items():
        assert f"Example: asdbench {name}" in (command.help or ""), name


def test_data_index_json(asdbench: Any, root: Path) -> None:
    """`data index --json` counts clips by machine, part, section, split, domain and condition."""
    status, out, _ = asdbench("data index {root} --dataset dcase2023 --json", root=root)
    found = json.loads(out)
    assert (status, found["dataset"], found["clips"]) == (0, "dcase2023", 16)
    assert {
        "machine": "fan",
        "part": "dev",
        "section": "00",
        "split": "train",
        "domain": "source",
        "condition": "normal",
        "clips": 6,
        "labeled": 6,
    }.items() <= next(row for row in found["rows"] if row["clips"] == 6).items()


def test_label_json(asdbench: Any, root: Path) -> None:
    """`label --json` has a row a machine type with the contract's fields."""
    status, out, err = asdbench("label {root} --protocol dcase2023 --m 1 --k1 2 --k2 2 --json", root=root)
    assert status == 0, err
    found = json.loads(out)
    assert (found["protocol"], found["m"], found["k1"], found["k2"]) == ("dcase2023", 1, 2, 2)
    fields = [
        "machine",
        "strategy",
        "clips",
        "labeled",
        "pseudo_labeled",
        "left_out",
        "classes",
        "singletons",
        "mean_confidence",
    ]
    assert set(fields) <= set(found["rows"][0])


def test_trial_then_leaderboard(asdbench: Any, root: Path) -> None:
    """A trial is recorded with its numbers, read back when asked for again, and stands on the leaderboard."""
    status, out, err = asdbench(f"{TRIAL} --json", root=root)
    assert status == 0, err
    found = json.loads(out)
    assert found["status"] == "finished"
    assert {"dataset", "machine", "section", "s_auc", "t_auc", "p_auc", "h_mean"} <= set(found["rows"][0])
    assert {"rank", "finetune", "embed", "score"} <= set(found["seconds"])
    again = json.loads(asdbench(f"{TRIAL} --json", root=root)[1])
    assert again == found
    rows = json.loads(asdbench("leaderboard --json")[1])["rows"]
    (own,) = (row for row in rows if row["kind"] != "chance")
    assert (own["rank"], own["kind"], own["m"], own["trials"]) == (1, "trial", 1, 1)
    assert own["official_score"] == found["official_score"]
    assert own["machines"] == {"fan": found["rows"][0]["h_mean"]}
    status, _, err = asdbench("compare --json")
    assert status == 1
    assert "needs M = 1 and another M" in err


def test_listings_speak_every_form(asdbench: Any) -> None:
    """A listing prints JSON, CSV, markdown or a table, and refuses two at once."""
    assert {row["name"] for row in json.loads(asdbench("ls backbones --json")[1])["rows"]} >= {"beats", "audiomae"}
    assert asdbench("ls backbones --csv")[1].startswith("kind,name,summary\n")
    assert asdbench("ls backbones --markdown")[1].startswith("| kind | name | summary |\n")
    assert "beats" in asdbench("ls")[1]
    assert asdbench("ls --csv --json")[0] == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("data index {empty}", "recordings"),
        ("data index {empty}/nowhere", "nowhere"),
        ("data index {root} --dataset dcase2032", "dcase2032"),
        ("label {root} --protocol dcase2032", "protocol must be one of"),
        (
            "label {root} --protocol dcase2023 --m 20",
            "m must be between 1 and 15, the candidates per clip, but got 20.",
        ),
        ("label {root} --protocol dcase2025", "dcase2025"),
        (TRIAL.replace("tiny", "tyni"), "Did you mean 'tiny'?"),
        (TRIAL + " --weights nowhere.pt", "nowhere.pt"),
        (TRIAL + " --scorer knm", "Did you mean 'knn'?"),
        (TRIAL + " --db sqlite:////proc/nowhere/mlflow.db", "results database"),
        (TRIAL + " --db http://127.0.0.1:9", "MLflow tracking server must answer"),
        ("study run demmo --data {root}", "Did you mean 'demo'?"),
        ("study run demo --data {root}", "dcase2024"),
        ("study status demo", "asdbench demo"),
        ("leaderboard", "asdbench demo"),
        ("compare", "asdbench demo"),
        ("ls backbonez", "Did you mean 'backbones'?"),
    ],
)
def test_mistakes_are_one_sentence(asdbench: Any, root: Path, tmp_path: Path, line: str, said: str) -> None:
    """A known mistake is one sentence on stderr, exit status 1, and leaves no database behind."""
    (tmp_path / "empty").mkdir()
    status, out, err = asdbench(line, root=root, empty=tmp_path / "empty")
    complaint = [text for text in err.splitlines() if text.startswith("asdbench: ")]
    assert (status, out, len(complaint)) == (1, "", 1), err
    assert said in complaint[0]
    assert "Traceback" not in err
    assert not (tmp_path / "mlflow.db").exists()


def test_k_above_the_clips_is_refused_before_any_trial(asdbench: Any, tmp_path: Path, root: Path) -> None:
    """K2 above a machine type's clips is one sentence before anything is recorded."""
    study = tmp_path / "study.toml"
    study.write_text(
        'name = "toy"\n[protocol]\nname = "toy"\ntrain = ["dcase2023/dev"]\nscore = ["dcase2023/dev"]\n'
        'cases = { fan = "fragmented" }\n[space]\nbackbone = ["tiny"]\nm = [1]\nk2 = [9]\n'
    )
    status, _, err = asdbench("study run {study} --data {root}", study=study, root=root)
    assert status == 1
    assert "k2 must be between 1 and 8, the training clips of fan (fragmented), but got 9" in err
    assert not (tmp_path / "mlflow.db").exists()
