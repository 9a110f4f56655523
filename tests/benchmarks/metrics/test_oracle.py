"""The official results of three years, computed by code that this project did not write."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.contract import RuleName
from benchmarks.metrics.measures import machine_h_means, measure, metric_rows, official_score

DATA = Path(__file__).parents[2] / "data" / "metrics"
FIELDS = {"AUC": ("s_auc", "t_auc", "auc"), "pAUC": ("p_auc",), "AUC (source)": ("s_auc",), "AUC (target)": ("t_auc",)}
TOLERANCE = 1e-12


def scored_clips(year: RuleName) -> pd.DataFrame:
    """Return the scored clips of an oracle, labels and domains from names."""
    scored = pd.read_csv(DATA / f"{year}_scores.csv.gz")
    names = scored["file"].str.extract(r"anomaly_score_(?P<machine>\w+?)_(?:section|id)_(?P<section>\d\d)")
    domain = scored["clip"].str.extract(r"_(source|target)_")[0]
    return scored.assign(
        **names,
        dataset=year,
        domain=domain,
        condition=scored["clip"].str.extract(r"(normal|anomaly)")[0],
        clip_id=scored["file"] + "/" + scored["clip"],
    )


def printed_tables(year: RuleName) -> dict[str, list[dict[str, str]]]:
    """Return the tables of an official result.csv by machine; the last one, over all machines, under "all"."""
    with (DATA / f"{year}_result.csv").open() as lines:
        rows = [row for row in csv.reader(lines) if row]
    tables: dict[str, list[dict[str, str]]] = {}
    machine, header = "all", rows[0]
    for row in rows:
        if len(row) == 1:
            machine = row[0]
        elif re.match(r"section|id|$", row[0]) and "AUC" in "".join(row):
            header = [name or f"#{place}" for place, name in enumerate(row)]
            machine = "all" if not row[0] else machine
            tables[machine] = []
        else:
            tables[machine].append(dict(zip(header, row, strict=True)))
    return tables


@pytest.mark.parametrize(("year", "cells"), [("dcase2020", 8), ("dcase2021", 84), ("dcase2022", 63)])
def test_every_official_cell_is_met(year: RuleName, cells: int) -> None:
    """Every AUC and pAUC that the official code printed is ours to 1e-12."""
    ours = metric_rows(measure(scored_clips(year), year), year).set_index(["machine", "section", "metric", "domain"])
    ours_by_cell = dict(ours["value"].items())
    seen = 0
    for machine, rows in printed_tables(year).items():
        for row in rows:
            section = row.get("section", row.get("id", ""))
            if not section.isdigit():
                continue
            for column in FIELDS.keys() & row.keys():
                found = [
                    value
                    for (at, of, metric, domain), value in ours_by_cell.items()
                    if (at, of) == (machine, section)
                    and metric in FIELDS[column]
                    and (row.get("domain", domain) == domain or "domain" not in row)
                ]
                assert found == [pytest.approx(float(row[column]), abs=TOLERANCE)], (machine, section, column)
                seen += 1
    assert seen == cells == len(ours)


@pytest.mark.parametrize("year", ["dcase2020", "dcase2021", "dcase2022"])
def test_the_official_means_are_met(year: RuleName) -> None:
    """The arithmetic and harmonic means of each machine and of all machines are ours to 1e-12."""
    ours = metric_rows(measure(scored_clips(year), year), year)
    seen = 0
    for machine, rows in printed_tables(year).items():
        mine = ours if machine == "all" else ours[ours["machine"] == machine]
        for row in rows:
            kind = next(iter(row.values())).split()[0]
            for column in FIELDS.keys() & row.keys():
                values = mine.loc[mine["metric"].isin(FIELDS[column]), "value"]
                if kind in ("Average", "arithmetic"):
                    mean = values.mean()
                elif kind == "harmonic":
                    mean = len(values) / (1 / values).sum()
                else:
                    continue
                assert mean == pytest.approx(float(row[column]), abs=TOLERANCE), (machine, kind, column)
                seen += 1
    assert seen == {"dcase2020": 2, "dcase2021": 32, "dcase2022": 48}[year]


def test_the_official_score_of_2021_is_met() -> None:
    """The harmonic mean of the 84 numbers of 2021 is 0.5738507008099665."""
    metrics = measure(scored_clips("dcase2021"), "dcase2021")
    assert official_score(metrics, "dcase2021") == pytest.approx(0.5738507008099665, abs=TOLERANCE)


def test_equal_sections_make_the_mean_of_machines_the_official_score() -> None:
    """Where every machine has equally many numbers, the harmonic mean of its harmonic means is the official score."""
    metrics = measure(scored_clips("dcase2022"), "dcase2022")
    means = [value for value in machine_h_means(metrics, "dcase2022").values() if value is not None]
    assert len(means) / sum(1 / value for value in means) == pytest.approx(
        official_score(metrics, "dcase2022"), abs=TOLERANCE
    )


def test_the_same_domain_reading_of_2022_is_not_the_official_one() -> None:
    """Reading 2022 by 2021's rule misses every AUC but one, which two orders of clips happen to share."""
    right = measure(scored_clips("dcase2022"), "dcase2022")
    wrong = measure(scored_clips("dcase2022"), "dcase2021")
    misses = [abs(getattr(a, f) - getattr(b, f)) for a, b in zip(right, wrong, strict=True) for f in ("s_auc", "t_auc")]
    assert sum(miss > 1e-6 for miss in misses) == 41
    assert max(misses) > 0.27
