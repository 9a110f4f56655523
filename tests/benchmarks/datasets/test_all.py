from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from benchmarks.contract import PARTS, Dataset

YEARS = ("dcase2020", "dcase2021", "dcase2022", "dcase2023", "dcase2024", "dcase2025", "dcase2026")


@pytest.mark.parametrize("year", YEARS)
def test_a_dataset_is_consistent(year: str, load_dataset: Callable[[str], Dataset]) -> None:
    """Every machine type of every part has sections and one archive, and what is withheld is among them."""
    dataset = load_dataset(year)
    assert dataset.name == year
    assert dataset.folder == f"{year}t2"
    for part in PARTS:
        machines = dataset.machines[part]
        assert set(dataset.sections[part]) == set(machines)
        assert all(dataset.sections[part].values())
        assert sorted(archive.machine for archive in dataset.archives if archive.part == part) == sorted(machines)
        assert set(dataset.withheld.get(part, ())) <= set(machines)


@pytest.mark.parametrize("year", YEARS)
def test_archives_name_their_machine(year: str, load_dataset: Callable[[str], Dataset]) -> None:
    """An archive's file name holds its machine type, and its sum is 32 hexadecimal digits where there is one."""
    for archive in load_dataset(year).archives:
        assert archive.machine in archive.name
        assert archive.md5 is None or re.fullmatch("[0-9a-f]{32}", archive.md5)


def test_sums_are_known_for_three_years(load_dataset: Callable[[str], Dataset]) -> None:
    """All archives of 2020 and 2023 and the evaluation ones of 2026 have sums, no others; no sum stands twice."""
    known = {year: [a.md5 for a in load_dataset(year).archives if a.md5] for year in YEARS}
    assert {year: len(sums) for year, sums in known.items()} == {
        "dcase2020": 18, "dcase2021": 0, "dcase2022": 0, "dcase2023": 21, "dcase2024": 0, "dcase2025": 0,
        "dcase2026": 10,
    }  # fmt: skip
    assert len({md5 for sums in known.values() for md5 in sums}) == 49


def test_what_is_withheld(load_dataset: Callable[[str], Dataset]) -> None:
    """2024 and 2025 withhold attributes of three development and four evaluation types, and of different ones."""
    assert load_dataset("dcase2024").withheld["dev"] == ("gearbox", "slider", "ToyTrain")
    assert load_dataset("dcase2025").withheld["dev"] == ("bearing", "slider", "ToyTrain")
    assert load_dataset("dcase2024").withheld["eval"] == (
        "AirCompressor",
        "BrushlessMotor",
        "HoveringDrone",
        "ToothBrush",
    )
    assert load_dataset("dcase2025").withheld["additional"] == ("AutoTrash", "Polisher", "ScrewFeeder", "ToyPet")


def test_second_revisions(load_dataset: Callable[[str], Dataset]) -> None:
    """Two training archives of 2024 are second revisions, since their record was withdrawn."""
    names = [a.name for a in load_dataset("dcase2024").archives if "_r2" in a.name]
    assert names == ["eval_data_3DPrinter_train_r2.zip", "eval_data_RoboticArm_train_r2.zip"]


def test_rules(load_dataset: Callable[[str], Dataset]) -> None:
    """The metric rule of 2022 holds until 2026; 2020 and 2021 have their own."""
    assert [load_dataset(year).rule for year in YEARS] == ["dcase2020", "dcase2021", *["dcase2022"] * 5]
