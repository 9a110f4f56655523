"""Named protocols: which recordings train, which are scored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contract import MIXES, PARTS, BenchmarkError, Channels, Dataset, DatasetPart, Mix, Protocol, Withheld
from benchmarks.files import printable
from benchmarks.suggestions import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

# paper, section 4.1: the years whose recordings train. A year that comes later is none of them.
PAPER_YEARS = ("dcase2020", "dcase2021", "dcase2022", "dcase2023", "dcase2024", "dcase2025")
YEAR = re.compile(r"dcase\d{4}")  # how a year's file in `benchmarks/datasets` is called
# The labeling room's cases, which a benchmark names and never runs (paper, Table 1).
CASES = ("sample-wise", "fragmented", "partial", "unlabeled", "direct")
KEYS = ("name", "train", "score", "machines", "cases", "strategies", "withhold", "channels", "summary")
WITHHELD_KEYS = ("machine", "domain", "share", "seed")
ALIASES = {"paper": "dcase2025-paper"}

PAPER_CASES = {
    # paper, Table 1 and section 2: the machine types that it names for each strategy
    "bearing": "sample-wise",
    "slider": "sample-wise",
    "ToyTrain": "sample-wise",
    "fan": "fragmented",
    "ToyCar": "partial",
    "AirCompressor": "unlabeled",
    "BandSealer": "direct",
}


def _parts(*names: str) -> tuple[DatasetPart, ...]:
    return tuple(parse_part(name) for name in names)


def parse_part(name: str) -> DatasetPart:
    """Read a part of a dataset, written "dcase2023/dev".

    Raises:
        BenchmarkError: if it is written otherwise.
    """
    dataset, slash, part = name.partition("/")
    for known in PARTS:
        if part == known and dataset:
            return DatasetPart(dataset, known)
    hint = did_you_mean(part, PARTS) if slash else ""
    raise BenchmarkError(f"parts must be written <dataset>/<{'|'.join(PARTS)}>, but got {name}.{hint}")


def year_names() -> list[str]:
    """List the years that have a file in `benchmarks/datasets`, sorted, without importing any."""
    files = (Path(__file__).parent / "datasets").glob("*.py")
    return sorted(file.stem for file in files if YEAR.fullmatch(file.stem))


def year_protocol(year: str) -> Protocol:
    """Return the protocol that every year has: its development set trains, and is scored."""
    return Protocol(year, _parts(f"{year}/dev"), _parts(f"{year}/dev"), summary=f"the development set of {year} alone")


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        *(year_protocol(year) for year in year_names()),
        Protocol(
            "dcase2025-paper",
            train=_parts(*(f"{year}/{part}" for year in PAPER_YEARS for part in ("dev", "additional"))),
            score=_parts("dcase2025/dev"),
            cases=PAPER_CASES,
            summary="the paper's: all six years train, the development set of 2025 is scored",
        ),
        Protocol(
            "real-mini",
            train=_parts("dcase2020/dev", "dcase2023/dev"),
            score=_parts("dcase2020/dev", "dcase2023/dev"),
            # both stand in 2023 with attributes and in 2020 without, as the paper's sample-wise types do
            cases={"ToyCar": "sample-wise", "valve": "sample-wise"},
            strategies=dict.fromkeys(("pump", "slider", "ToyConveyor"), "machine"),  # too few clips to cluster
            summary="a few hundred real recordings of 2020 (no attributes) and 2023",
        ),
        Protocol(
            "own",
            train=_parts("own/dev"),
            score=_parts("own/dev"),
            summary="recordings of your own, listed by a csv (file, machine, split, domain, condition, attribute)",
        ),
        Protocol(
            "demo",
            train=_parts("dcase2024/dev", "dcase2025/dev"),
            score=_parts("dcase2025/dev"),
            summary="generated recordings of two years, every labeling case among them",
        ),
    )
}


def heard(dataset: Dataset, protocol: Protocol | None) -> Mix:
    """Return which sound of several channels counts: the protocol's word, else what the dataset says of itself."""
    return dataset.mix if protocol is None or protocol.channels is None else MIXES[protocol.channels]


def find_protocol(name: str) -> Protocol:
    """Return a named protocol.

    Raises:
        BenchmarkError: if there is none of that name; the nearest is named.
    """
    try:
        return PROTOCOLS[ALIASES.get(name, name)]
    except KeyError:
        known = [*PROTOCOLS, *ALIASES]
        raise BenchmarkError(
            f"protocol must be one of {', '.join(known)}, but got {name}.{did_you_mean(name, known)}"
        ) from None


def parse_protocol(mapping: Mapping[str, Any]) -> Protocol:
    """Read a protocol as a TOML file writes it.

    Args:
        mapping: `name`, `train` and `score` (parts such as "dcase2023/dev"), and if wanted `machines`, `cases`
            (machine type to labeling case), `strategies` (machine type to strategy), `withhold` (tables of `machine`,
            `domain`, `share` and `seed`, each of which hides attributes), `channels` (of recordings with two
            microphones) and `summary`.

    Raises:
        BenchmarkError: if a key is unknown, missing or of another type, or a part or case does not exist.
    """
    for key in mapping:
        if key not in KEYS:
            raise BenchmarkError(
                f"keys of a protocol must be among {', '.join(KEYS)}, but got {key}.{did_you_mean(key, KEYS)}"
            )
    name, summary = mapping.get("name"), mapping.get("summary", "")
    if not isinstance(name, str) or not name or not isinstance(summary, str):
        raise BenchmarkError(f"name and summary of a protocol must be texts, but got {name!r} and {summary!r}.")
    train, score = _texts(mapping, "train"), _texts(mapping, "score")
    if not train or not score:
        raise BenchmarkError(
            f'train and score of protocol {name} must each list a part such as "dcase2023/dev", but got '
            f"{list(train)} and {list(score)}."
        )
    return Protocol(
        name,
        _parts(*train),
        _parts(*score),
        _texts(mapping, "machines"),
        _cases(mapping),
        summary,
        _strategies(mapping),
        _withheld(mapping),
        _channels(mapping),
    )


def _channels(mapping: Mapping[str, Any]) -> Channels | None:
    """Return which microphone a protocol hears, None where it does not say."""
    channels = mapping.get("channels")
    if channels is None or (isinstance(channels, str) and channels in MIXES):
        return channels  # type: ignore[return-value]  # a word of the table
    raise BenchmarkError(
        f"channels of a protocol must be one of {', '.join(MIXES)}, but got {printable(repr(channels), most=80)}."
        f"{did_you_mean(str(channels)[:80], MIXES)}"
    )


def _texts(mapping: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return a list of texts of a protocol, without repetitions."""
    value = mapping.get(key, ())
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise BenchmarkError(f"{key} of a protocol must be a list of texts, but got {value!r}.")
    return tuple(dict.fromkeys(value))


def _cases(mapping: Mapping[str, Any]) -> dict[str, str]:
    """Return a protocol's labeling case of each machine type that it fixes."""
    cases = mapping.get("cases", {})
    if not isinstance(cases, Mapping):
        raise BenchmarkError(f"cases of a protocol must map machine types to labeling cases, but got {cases!r}.")
    for machine, case in cases.items():
        if case not in CASES:
            raise BenchmarkError(
                f"the labeling case of {machine} must be one of {', '.join(CASES)}, but got {case}."
                f"{did_you_mean(str(case), CASES)}"
            )
    return dict(cases)


def _strategies(mapping: Mapping[str, Any]) -> dict[str, str]:
    """Return the strategy of each machine type that a protocol fixes; whether there is one of that name shows later."""
    strategies = mapping.get("strategies", {})
    if not isinstance(strategies, Mapping) or not all(isinstance(name, str) for name in strategies.values()):
        raise BenchmarkError(f"strategies of a protocol must map machine types to names, but got {strategies!r}.")
    return dict(strategies)


def _withheld(mapping: Mapping[str, Any]) -> tuple[Withheld, ...]:
    """Return what a protocol hides on purpose."""
    tables = mapping.get("withhold", ())
    if not isinstance(tables, list | tuple) or not all(isinstance(table, Mapping) for table in tables):
        raise BenchmarkError(
            'withhold of a protocol must be a list of tables such as { machine = "ToyCar", share = 0.8 }, '
            f"but got {tables!r}."
        )
    return tuple(_withheld_table(table) for table in tables)


def _withheld_table(table: Mapping[str, Any]) -> Withheld:
    for key in table:
        if key not in WITHHELD_KEYS:
            raise BenchmarkError(
                f"keys of withhold must be among {', '.join(WITHHELD_KEYS)}, but got {key}."
                f"{did_you_mean(str(key), WITHHELD_KEYS)}"
            )
    if not {"machine", "domain", "share"} & set(table):
        raise BenchmarkError("withhold must name a machine, a domain or a share, but names none of them.")
    machine, domain = table.get("machine", ""), table.get("domain")
    share, seed = table.get("share", 1.0), table.get("seed", 0)
    if not isinstance(machine, str):
        raise BenchmarkError(f"machine of withhold must be a machine type, but got {machine!r}.")
    if domain not in (None, "source", "target"):
        raise BenchmarkError(f"domain of withhold must be source or target, but got {domain!r}.")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise BenchmarkError(f"share of withhold must be over 0 and at most 1, but got {share!r}.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise BenchmarkError(f"seed of withhold must be a whole number from 0, but got {seed!r}.")
    return Withheld(machine, domain, float(share), seed)


def split_clips(clips: pd.DataFrame, protocol: Protocol) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split clips into those that train and those that are scored, both in the table's order.

    Args:
        clips: a checked clip table.
        protocol: the training parts, the scored parts, the machine types to keep.

    Returns:
        (training clips of the training parts, test clips of the scored parts whose condition is known). Where no test
        clip's condition is known, all of them: they are scored, and what needs labels is undefined (`says_no_labels`).

    Raises:
        BenchmarkError: if a part has no clips here, a machine type does not exist, nothing is left to train on or to
            score, or a scored machine type has no training clip.
    """
    parts = clips["dataset"] + "/" + clips["part"]
    present = sorted(set(parts))
    for part in (*protocol.train, *protocol.score):
        if str(part) not in present:
            raise BenchmarkError(
                f"protocol {protocol.name} must find clips of {part}, but there are none; "
                f"there are clips of {', '.join(present) or 'nothing'}."
            )
    trains = parts.isin([str(part) for part in protocol.train]) & (clips["split"] == "train")
    scored = parts.isin([str(part) for part in protocol.score]) & (clips["split"] == "test")
    if protocol.machines:
        _check_machines(protocol, set(clips["machine"][trains | scored]))
        kept = clips["machine"].isin(protocol.machines)
        trains, scored = trains & kept, scored & kept
    labeled = scored & clips["condition"].notna()
    train, test = clips.loc[trains], clips.loc[labeled if labeled.any() else scored]
    _check_split(protocol, train, test)
    return train, test


def says_no_labels(test: pd.DataFrame) -> str:
    """Return one sentence where no test clip says whether it is normal; "" where they do.

    Args:
        test: the test clips that `split_clips` returns.
    """
    if test.empty or test["condition"].notna().any():
        return ""
    own = set(test["dataset"]) == {"own"}
    way = (
        "fill the csv's column condition (normal or anomaly)" if own else "name the official files with --ground-truth"
    )
    return (
        f"None of the {len(test)} test clips says whether it is normal: they are scored, but no AUC and no official "
        f"score is defined; {way} to measure."
    )


def _check_machines(protocol: Protocol, known: set[str]) -> None:
    for machine in protocol.machines:
        if machine not in known:
            raise BenchmarkError(
                f"machines of protocol {protocol.name} must be among {', '.join(sorted(known))}, but got {machine}."
                f"{did_you_mean(machine, known)}"
            )


def _check_split(protocol: Protocol, train: pd.DataFrame, test: pd.DataFrame) -> None:
    if train.empty:
        raise BenchmarkError(f"protocol {protocol.name} must find training clips, but there is none.")
    if test.empty:
        raise BenchmarkError(f"protocol {protocol.name} must find test clips to score, but there is none.")
    bare = sorted(set(test["machine"]) - set(train["machine"]))
    if bare:
        raise BenchmarkError(
            f"protocol {protocol.name} must find training clips of every machine type that it scores, "
            f"but has none of {', '.join(bare)}."
        )
