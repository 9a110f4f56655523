"""`asdbench score`: the official numbers of anybody's files, and their place on the leaderboard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.contract import RuleName
from benchmarks.metrics.measures import measure, metric_rows, official_score
from harness import verbs
from harness.errors import HarnessError
from harness.places import Places
from harness.verbs.stores import open_results
from tests.benchmarks.metrics.test_oracle import scored_clips

DATA = Path(__file__).parents[2] / "data" / "metrics"
YEARS: tuple[RuleName, ...] = ("dcase2020", "dcase2021", "dcase2022")
ROW = ["machine", "section", "domain", "metric", "value"]


def write_oracle(folder: Path, year: str) -> Path:
    """Write an oracle's score files under their own names."""
    for name, clips in pd.read_csv(DATA / f"{year}_scores.csv.gz").groupby("file"):
        file = folder / (str(name) if str(name).endswith(".csv") else f"{name}.csv")
        clips[["clip", "score"]].to_csv(file, header=False, index=False)
    return folder


def write_cells(folder: Path, cells: dict[tuple[str, str], int], machine: str = "fan") -> Path:
    """Write a file of 2023 with so many clips of each (domain, condition)."""
    folder.mkdir(exist_ok=True)
    lines = [
        f"section_00_{domain}_test_{condition}_{i:04d}_m-n_W.wav,{i + 3 * (condition == 'anomaly') + 0.5}\n"
        for (domain, condition), count in cells.items()
        for i in range(count)
    ]
    (folder / f"anomaly_score_{machine}_section_00_test.csv").write_text("".join(lines))
    return folder


ALL = {(domain, condition): 5 for domain in ("source", "target") for condition in ("normal", "anomaly")}


@pytest.mark.parametrize("year", YEARS)
def test_the_oracles_come_out_of_their_files(year: RuleName, tmp_path: Path) -> None:
    """Read from files, an oracle's numbers are those of its table, which the official results are met by."""
    found = verbs.score(write_oracle(tmp_path, year), dataset=year, resamples=100)
    metrics = measure(scored_clips(year), year)
    expected = metric_rows(metrics, year)[ROW].to_dict("records")
    cells = [[row["machine"], row["section"], row["domain"] or "", row["metric"]] for row in found["rows"]]
    assert cells == [
        [row["machine"], row["section"], row["domain"] if isinstance(row["domain"], str) else "", row["metric"]]
        for row in expected
    ]
    assert [row["value"] for row in found["rows"]] == pytest.approx([row["value"] for row in expected], abs=1e-12)
    assert found["official_score"] == pytest.approx(official_score(metrics, year), abs=1e-12)
    assert found["undefined"] == []
    for row in found["rows"]:
        assert 0 <= row["ci_low"] <= row["value"] <= row["ci_high"] <= 1
    if year == "dcase2021":
        assert found["official_score"] == pytest.approx(0.5738507008099665, abs=1e-12)


def test_the_oracles_own_folders(shared: Path) -> None:
    """The folders of the oracles are read as they are, with the decision files beside."""
    folder = shared / "oracles" / "metrics" / "dcase2021_dev_baseline"
    if not folder.is_dir():
        pytest.skip(f"no oracles at {folder}")
    found = verbs.score(folder, dataset="dcase2021", resamples=100)
    assert found["official_score"] == pytest.approx(0.5738507008099665, abs=1e-12)


@pytest.mark.parametrize(
    ("empty", "undefined"),
    [
        ([("source", "anomaly"), ("target", "anomaly")], {"s_auc", "t_auc", "p_auc"}),
        ([("source", "normal"), ("target", "normal")], {"s_auc", "t_auc", "p_auc"}),
        ([("target", "normal")], {"t_auc"}),
        ([("source", "normal")], {"s_auc"}),
    ],
)
def test_what_is_undefined_is_none_with_the_reason(
    empty: list[tuple[str, str]], undefined: set[str], tmp_path: Path
) -> None:
    """One class only, or a domain without normal clips: no value, no interval, a reason, and no official score."""
    write_cells(tmp_path, ALL, machine="ToyCar")
    found = verbs.score(
        write_cells(tmp_path, {**ALL, **dict.fromkeys(empty, 0)}), dataset="dcase2023", resamples=100, explain=True
    )
    missing = {row["metric"] for row in found["rows"] if row["value"] is None}
    assert missing == undefined
    assert all(row["ci_low"] is None for row in found["rows"] if row["value"] is None)
    assert found["official_score"] is None and found["ci_low"] is None and found["machines_ci_low"] is None
    assert len(found["undefined"]) == len(undefined)
    assert all("of fan, section 00, dcase2023 is undefined: there is no" in why for why in found["undefined"])
    h_means = {each["machine"]: each["h_mean"] for each in found["machines"]}
    assert h_means["fan"] is None and h_means["ToyCar"] == pytest.approx(found["machines"][0]["h_mean"])


@pytest.mark.parametrize(
    ("year", "normal", "anomalous"),
    [("dcase2022", [50, 50, 100], [100, 100, 100]), ("dcase2021", [100, 100, 100, 100], [100, 100, 100, 100])],
)
def test_explained_numbers_name_their_clips(year: str, normal: list[int], anomalous: list[int], tmp_path: Path) -> None:
    """From 2022 on a domain's normals meet the anomalies of both; in 2021 those of their own domain."""
    found = verbs.score(write_oracle(tmp_path, year), dataset=year, resamples=100, explain=True)
    rows = [row for row in found["rows"] if (row["machine"], row["section"]) == ("ToyCar", "00")]
    assert [row["normal"] for row in rows] == normal
    assert [row["anomalous"] for row in rows] == anomalous
    first = rows[0]
    assert all("_source_test_normal_" in name for name in first["normal_clips"])
    domains = {name.split("_")[2] for name in first["anomalous_clips"]}
    assert domains == ({"source", "target"} if year == "dcase2022" else {"source"})


def test_an_external_system_is_recorded_once(places: Places, tmp_path: Path) -> None:
    """The same files under the same name are one row of the leaderboard; other scores are another."""
    folder = write_cells(tmp_path / "scores", ALL)
    write_cells(folder, ALL, machine="ToyCar")
    first, again = (
        verbs.score(folder, dataset="dcase2023", resamples=100, record="theirs", places=places) for _ in range(2)
    )
    assert (first["key"], first["run_id"]) == (again["key"], again["run_id"])
    rows = verbs.leaderboard(places=places)
    found = [(row["kind"], row["backbone"], row["trials"]) for row in rows]
    assert found == [("external", "theirs", 1), ("chance", None, 0)]
    assert rows[0]["official_score"] == pytest.approx(first["official_score"])
    write_cells(folder, {**ALL, ("source", "normal"): 9})
    other = verbs.score(folder, dataset="dcase2023", resamples=100, record="theirs", places=places)
    renamed = verbs.score(folder, dataset="dcase2023", resamples=100, record="ours", places=places)
    assert len({first["key"], other["key"], renamed["key"]}) == 3
    with pytest.raises(HarnessError, match="must name the system"):
        verbs.score(folder, dataset="dcase2023", resamples=100, record=" ", places=places)


def test_the_clip_scores_of_an_external_system_come_back(places: Places, tmp_path: Path) -> None:
    """What is recorded of an external system has the files' scores and labels, and its intervals in the detail."""
    folder = write_cells(tmp_path / "scores", ALL)
    found = verbs.score(folder, dataset="dcase2023", resamples=100, record="theirs", places=places)
    with open_results(places) as results:
        clips = results.clip_scores([found["key"]], "external")[found["key"]]
        detail = json.loads(results.trial_scores([found["key"]])["detail"].iloc[0])
    assert len(clips) == 20
    assert set(clips.loc[clips["clip_id"].str.contains("anomaly"), "condition"]) == {"anomaly"}
    assert detail["intervals"]["external"]["official"] == [found["ci_low"], found["ci_high"]]
    assert detail["intervals"]["external"]["official_machines"] is None


def test_score_json(asdbench: Any, tmp_path: Path) -> None:
    """`score --json` keeps its contract, and says on stderr what no file scores."""
    write_cells(tmp_path / "scores", ALL)
    status, out, err = asdbench("score {folder} --dataset dcase2023 --json", folder=tmp_path / "scores")
    found = json.loads(out)
    assert (status, found["dataset"], found["clips"]) == (0, "dcase2023", 20)
    assert found["rows"][0].keys() >= set(ROW)
    assert [(row["metric"], row["domain"]) for row in found["rows"]] == [
        ("s_auc", "source"), ("t_auc", "target"), ("p_auc", None),
    ]  # fmt: skip
    assert "no file scores bearing 00" in err
    assert {"machine": "valve", "section": "00"} in found["absent"]
    assert not (tmp_path / "mlflow.db").exists()
    status, out, _ = asdbench("score {folder} --dataset dcase2023 --explain", folder=tmp_path / "scores")
    assert "5 of source" in out and "10 of all" in out and "Official score" in out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("score {folder} --dataset dcase2032", "dataset must be one of dcase2020"),
        ("score {folder}/nowhere --dataset dcase2023", "nowhere"),
        ("score {folder} --dataset dcase2024 --part eval", "of the eval part"),
        ("score {folder} --dataset dcase2020", "fan"),
        ("score {folder} --dataset own", "name a year"),
        ("submit 00 --out there", "asdbench demo"),
    ],
)
def test_mistakes_are_one_sentence(asdbench: Any, tmp_path: Path, line: str, said: str) -> None:
    """A known mistake is one sentence on stderr and exit status 1, without a database left behind."""
    write_cells(tmp_path / "scores", ALL)
    status, out, err = asdbench(line, folder=tmp_path / "scores")
    complaint = [text for text in err.splitlines() if text.startswith("asdbench: ")]
    assert (status, out, len(complaint)) == (1, "", 1), err
    assert said in complaint[0]
    assert not (tmp_path / "mlflow.db").exists()
