"""Of much the first rows are printed, and how much there is."""

from __future__ import annotations

import wave
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer

from harness.answers.leaderboard import leaderboard
from harness.answers.published import reference
from harness.cli.backbones import checked_sentence
from harness.cli.main import app
from harness.cli.show import SHOWN, TOP, show_leaderboard, show_reference, show_status
from tests.harness.made_up import open_tables, record


def test_a_leaderboard_says_how_many_rows_it_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fewer rows than a board has are counted in one sentence; of a whole board there is none."""
    results = open_tables(tmp_path)
    for m in (1, 3, 5):
        record(results, m=m, seeds=(0,))
    show_leaderboard(leaderboard(results, top=2), "text")
    assert "2 of 3 rows are shown" in capsys.readouterr().out
    show_leaderboard(leaderboard(results), "text")
    assert "rows are shown" not in capsys.readouterr().out
    results.close()


def status_of(failed: int, trials: int) -> dict[str, Any]:
    """A study's status with so many failures and rows of costs."""
    cost = {"kind": "trial", "backbone": "b", "m": 1, "k1": 2, "k2": 3, "seed": 0, "status": "finished", "seconds": {}}
    return {
        "study": "toy", "planned": 9, "finished": 0, "failed": failed, "pruned": 0, "running": 0, "cells": [],
        "reasons": {f"key{at}": "it broke" for at in range(failed)}, "pruned_reasons": {},
        "trials": [{**cost, "key": f"row{at}", "peak_mb": 1.0} for at in range(trials)],
    }  # fmt: skip


@pytest.mark.parametrize("more", [0, 1])
def test_a_status_prints_the_first_failures_and_costs(more: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Reasons and costs beyond the first are counted instead of printed."""
    show_status(status_of(SHOWN + more, TOP + more), "text")
    said = capsys.readouterr().out
    assert said.count("it broke") == SHOWN
    assert said.count("row") - said.count("rows") >= TOP
    assert (f"{SHOWN} of {SHOWN + 1} failed trials are shown" in said) == bool(more)
    assert (f"{TOP} of {TOP + 1} trials are shown" in said) == bool(more)


def test_costs_have_plain_headings(capsys: pytest.CaptureFixture[str]) -> None:
    """Stages are called as one speaks of them, in a trial's order, behind what a trial took in all."""
    row = status_of(0, 1)
    row["trials"][0]["seconds"] = {"draw": 1.0, "finetune": 60.0, "rank": 2.0, "own": 0.5}
    show_status(row, "text")
    (heading,) = [line for line in capsys.readouterr().out.splitlines() if "peak MiB" in line]
    places = [heading.index(name) for name in (" seconds", "peak MiB", "ranking", "fine-tuning", "drawing", "own")]
    assert places == sorted(places)


def test_notes_of_published_numbers_say_whose_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Each note stands once, with its systems, and with the number where it is about one; deviations are percent."""
    show_reference(reference(None), "text")
    said = capsys.readouterr().out
    assert "\npaper (beats, M = 15, slider, t_auc): printed 63.70, must be 61.36" in said
    assert "65.33 ± 0.41" in said and "standard deviation" not in said
    assert "dcase2026/baseline-mse, dcase2026/baseline-mahala: official baseline" in said
    lines = [line for line in said.splitlines() if ": frozen, 1-NN" in line]
    assert len(lines) == len(set(lines)) > 10


def test_a_backbone_that_meets_the_contract_is_said_to() -> None:
    """The report of checks ends with a verdict in words, and with what could not be checked here."""
    rows = [{"name": name, "status": status} for name, status in (("builds", "pass"), ("speed", "measured"))]
    assert checked_sentence("tiny", rows) == "tiny meets the contract: 1 check passed, none failed."
    rows += [{"name": "device", "status": "skip"}, {"name": "shapes", "status": "pass"}]
    assert checked_sentence("tiny", rows) == (
        "tiny meets the contract: 2 checks passed, none failed; not checked here: device."
    )


def test_an_example_is_one_of_several_where_there_are_several(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Each wrong value once needs no footer; the protocol's verdict counts what else stops it."""
    for name in "abcd":
        with wave.open(str(tmp_path / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(name.encode() * 2 + bytes(range(250)) * 200)
    table = tmp_path / "recordings.csv"
    lines = [
        "file,machine,split,domain,condition",
        "c.wav,press,train,source,normal",
        "d.wav,press,test,source,normal",
        "a.wav,press,train,sorce,normal",
        "b.wav,press,test,source,abnormal",
    ]
    table.write_text("\n".join(lines) + "\n")
    with suppress(typer.Exit):
        app(["data", "doctor", str(tmp_path), "--protocol", "own"], standalone_mode=False)
    printed = capsys.readouterr()
    assert "The example is" not in printed.out
    assert "1 more stops it." in printed.out + printed.err
