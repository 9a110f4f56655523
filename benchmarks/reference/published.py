"""Published results, as files with an integrity test, read into one tidy table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from benchmarks.contract import BenchmarkError
from benchmarks.suggestions import did_you_mean

FOLDER = Path(__file__).parent
COLUMNS = ("system", "backbone", "m", "dataset", "part", "machine", "metric", "value", "deviation", "note")
OVERALL = "all"  # machine, dataset or part of a value that goes over all of them

Row: TypeAlias = Mapping[str, Any]

# what the paper's columns and rows are called here; the datasets write machine types their own way
PAPER_MACHINES = {
    "Bearing": "bearing",
    "Fan": "fan",
    "Gearbox": "gearbox",
    "Slider": "slider",
    "ToyCar": "ToyCar",
    "ToyTrain": "ToyTrain",
    "Valve": "valve",
    "hmean": OVERALL,
}
PAPER_METRICS = {"sAUC": "s_auc", "tAUC": "t_auc", "aveAUC": "mean_auc", "pAUC": "p_auc", "HMean": "h_mean"}
ASDKIT_MEANS = {"hmean": "h_mean", "amean": "mean"}
BACKBONES = ("audiomae", "beats", "eat", "ced", "dasheng", "fisher")  # that published names speak of


@dataclass(frozen=True)
class Erratum:
    """A published number that contradicts its own table.

    Attributes:
        system: as in the table that `load_reference` returns, like the next four.
        backbone: the encoder.
        m: attributes joined.
        machine: machine type.
        metric: metric.
        printed: the number as it was printed, as a fraction.
        corrected: what it must be, as a fraction.
        reason: how that is known.
    """

    system: str
    backbone: str
    m: int
    machine: str
    metric: str
    printed: float
    corrected: float
    reason: str

    @property
    def note(self) -> str:
        """Return the sentence that stands beside the corrected value."""
        return f"printed {100 * self.printed:.2f}, must be {100 * self.corrected:.2f}: {self.reason}"


ERRATA: tuple[Erratum, ...] = (
    Erratum(
        system="paper",
        backbone="beats",
        m=15,
        machine="slider",
        metric="t_auc",
        printed=0.6370,
        corrected=0.6136,
        reason="its average AUC, its H. Mean and the H. Mean of its row all say so (Table 3)",
    ),
)


def load_reference(name: str) -> pd.DataFrame:
    """Return a published table, a row a number.

    Args:
        name: one of `reference_names()`.

    Returns:
        Columns `system backbone m dataset part machine metric value deviation note`. Values are fractions; a metric is
        `s_auc`, `t_auc`, `mean_auc`, `p_auc`, `h_mean`, `official_score` or `mean` (arithmetic, of official scores).
        "all" stands where a number goes over all machines, datasets or parts; `backbone` and `m` are NA where the
        system has none; `deviation` is the standard deviation over runs, NaN where it was not published; `note` is
        empty or says more. An erratum stands corrected, its note says what was printed; the file keeps the printed
        number.

    Raises:
        BenchmarkError: there is no such table.
    """
    if name not in TABLES:
        raise BenchmarkError(
            f"A reference must be one of {', '.join(TABLES)}, but got {name!r}.{did_you_mean(name, TABLES)}"
        )
    file, rows = TABLES[name]
    printed = pd.read_csv(FOLDER / file, dtype=str, keep_default_na=False)
    table = pd.DataFrame(list(rows(printed)), columns=list(COLUMNS))
    return table.astype({"m": "Int64", "value": float, "deviation": float, "backbone": object, "note": object})


def reference_names() -> tuple[str, ...]:
    """Return the names of the published tables."""
    return tuple(TABLES)


def _row(system: str, metric: str, value: float, **others: Any) -> Row:
    missing: dict[str, Any] = {"backbone": None, "m": None, "machine": OVERALL, "deviation": None, "note": ""}
    return {**missing, "system": system, "metric": metric, "value": value, **others}


def _paper(printed: pd.DataFrame) -> Iterator[Row]:
    """Read Tables 2 and 3; the last column is the harmonic mean over machines, its last cell the official score."""
    for cells in printed.to_dict("records"):
        for column, machine in PAPER_MACHINES.items():
            metric = PAPER_METRICS[cells["metric"]]
            if machine == OVERALL and metric == "h_mean":
                metric = "official_score"
            place = {"backbone": cells["backbone"].lower(), "m": int(cells["M"]), "machine": machine}
            value, note = _percent(cells[column]), ""
            for erratum in ERRATA:
                if ("paper", metric, *place.values()) == (
                    erratum.system,
                    erratum.metric,
                    erratum.backbone,
                    erratum.m,
                    erratum.machine,
                ):
                    value, note = erratum.corrected, erratum.note
            yield _row("paper", metric, value, dataset="dcase2025", part="dev", note=note, **place)


def _official_baseline(printed: pd.DataFrame) -> Iterator[Row]:
    for cells in printed.to_dict("records"):
        where = {column: cells[column] for column in ("dataset", "part", "machine")}
        yield _row(cells["system"], cells["metric"], float(cells["value"]), **where)


def _asdkit(printed: pd.DataFrame) -> Iterator[Row]:
    """Read official scores of recipes by year and part, "mean (std)" of four runs or one number."""
    for cells in printed.to_dict("records"):
        system = f"asdkit/{cells['recipe']}"
        for column, cell in cells.items():
            if column == "recipe" or not cell:
                continue
            mean, deviation = _mean_and_deviation(cell)
            year, part = str(column)[:2], str(column)[2:]
            if column in ASDKIT_MEANS:
                where, metric = {"dataset": OVERALL, "part": OVERALL}, ASDKIT_MEANS[str(column)]
            else:
                where, metric = {"dataset": f"dcase20{year}", "part": part}, "official_score"
            yield _row(system, metric, mean, backbone=_backbone(cells["recipe"]), deviation=deviation, **where)


def _rmis(printed: pd.DataFrame) -> Iterator[Row]:
    """Read frozen backbones with one nearest neighbour, development and evaluation sets combined."""
    for cells in printed.to_dict("records"):
        system = f"rmis/{cells['model']} {cells['variant']}"
        note = f"frozen, 1-NN, {cells['params']} parameters"
        for column, cell in cells.items():
            if not re.fullmatch(r"dcase\d\d|ad_mean", str(column)):
                continue
            dataset = OVERALL if column == "ad_mean" else f"dcase20{str(column)[-2:]}"
            metric = "mean" if column == "ad_mean" else "official_score"
            where = {"dataset": dataset, "part": "dev+eval", "backbone": _backbone(cells["model"])}
            yield _row(system, metric, _percent(cell), note=note, **where)


def _dcase2026(printed: pd.DataFrame) -> Iterator[Row]:
    """Read official scores of 2026; most were read in other people's texts and not recomputed, as their notes say."""
    for cells in printed.to_dict("records"):
        where = {"dataset": "dcase2026", "part": cells["part"], "backbone": cells["backbone"] or None}
        value = _percent(cells["official_score"])
        yield _row(f"dcase2026/{cells['system']}", "official_score", value, note=cells["note"], **where)


def _percent(cell: str) -> float:
    # through the decimal digits, so that 59.29 becomes the float that 0.5929 is
    return float(f"{cell}e-2")


def _mean_and_deviation(cell: str) -> tuple[float, float | None]:
    found = re.fullmatch(r"([\d.]+)(?: \(([\d.]+)\))?", cell)
    if found is None:
        raise BenchmarkError(f"A published score must read '65.33' or '65.33 (0.41)', but reads {cell!r}.")
    mean, deviation = found.groups()
    return _percent(mean), None if deviation is None else _percent(deviation)


def _backbone(name: str) -> str | None:
    words = re.split(r"[_ ]", name.lower())
    return next((backbone for backbone in BACKBONES if backbone in words), None)


TABLES: Mapping[str, tuple[str, Callable[[pd.DataFrame], Iterator[Row]]]] = {
    "paper": ("paper_tables.csv", _paper),
    "official_baseline": ("published_official_baseline.csv", _official_baseline),
    "asdkit": ("published_asdkit.csv", _asdkit),
    "rmis": ("published_rmis.csv", _rmis),
    "dcase2026": ("published_dcase2026.csv", _dcase2026),
}
