"""A choice that is frozen before it is checked on other recordings, as a readable JSON file with a checksum.

A pre-registration: what was chosen, on which data, by which rule, what it promises and what will count as holding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from benchmarks.contract import Protocol
from harness.errors import HarnessError
from harness.files import read_bytes, write_whole
from harness.gate.baseline_file import Name, Seed, checksum
from harness.plugins import unknown
from harness.stores.records import parse_spec, spec_content
from harness.tables import brief, in_percent
from harness.trials.axes import axis_names, axis_values, shown_cell
from harness.trials.contract import METHOD, TrialSpec

FORMAT = "asdbench-frozen-choice"
VERSION = 2  # the first had no test clips
SUFFIX = ".json"
MOST_BYTES = 10 * 2**20  # a file has a hundred bytes a test clip
LIBRARIES = ("torch", "numpy", "scikit-learn", "librosa")  # packages whose versions may move a trial's numbers

RULE = (
    "Of all cells that every seed scored, the one with the best official score, mean over seeds, on all machines; of "
    "equal ones that with the smaller M, K1, K2. The promise is the score with the cell chosen for each machine on all "
    "other machines."
)


def _date(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("must say its time zone")
    return text


Date = Annotated[Name, AfterValidator(_date)]
Fraction = Annotated[float, Field(strict=True, ge=0, le=1)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Promise(_Form):
    """What the choice is expected to score on other machines of the same kind; fractions.

    Attributes:
        official_score: with each machine's cell chosen on the others.
        ci_low: lower end of its interval over machines and seeds.
        ci_high: upper end.
        level: of the interval.
        optimistic_score: of the frozen cell on the very machines it was chosen on.
        holds: when it holds, in a sentence.
    """

    official_score: Fraction
    ci_low: Fraction
    ci_high: Fraction
    level: Fraction
    optimistic_score: Fraction
    holds: Name


class Content(_Form):
    """The part of the file that the checksum is over.

    Attributes:
        chosen: the value of each axis of the study, and the scorer.
        seeds: of the trials.
        trials: seed -> key of the trial that it was chosen by.
        years: that were scored.
        machines: that were scored.
        question: filters of the selection, and how it resampled.
        rule: by which it was chosen, in words.
        cells: how many there were to choose from.
        families: backbones, labels, scorers and recipes among which the best was taken.
        promise: what the choice should score elsewhere.
        protocol: by name.
        train_data: fingerprint of the training recordings.
        test_data: fingerprint of the test recordings that it was chosen on.
        clips: id of each test clip that it was chosen on -> digest of its samples, "" where the recordings were not at
            hand.
        seen: fingerprints of all test recordings that any trial had been scored on.
        method: version of the method, which is part of every trial's key.
        spec: everything that determines the first seed's trial.
        libraries: versions where it was frozen.
        code: revision.
        date: when it was frozen, UTC.
    """

    chosen: dict[Name, bool | int | float | str | None]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    trials: dict[Name, Name]
    years: Annotated[list[Name], Field(min_length=1)]
    machines: Annotated[list[Name], Field(min_length=2)]
    question: dict[Name, int | str | None]
    rule: Name
    cells: Annotated[int, Field(strict=True, ge=2)]
    families: Annotated[int, Field(strict=True, ge=1)]
    promise: Promise
    protocol: Name
    train_data: Name
    test_data: Name
    clips: Annotated[dict[Name, Name], Field(min_length=1)]
    seen: list[Name]
    method: Annotated[int, Field(strict=True)]
    spec: dict[str, Any]
    libraries: dict[Name, Name]
    code: Name
    date: Date


@dataclass(frozen=True)
class FrozenChoice:
    """A frozen choice with its checksum and the trial that it stands for.

    Attributes:
        content: of the file.
        sha256: over the content.
        spec: of the first seed.
    """

    content: Content
    sha256: str
    spec: TrialSpec

    def specs(self, protocol: Protocol, test_data: str) -> dict[int, TrialSpec]:
        """Return seed -> the trial that checks this choice on other test recordings."""
        spec = replace(self.spec, protocol=protocol, test_data=test_data)
        return {seed: replace(spec, seed=seed) for seed in self.content.seeds}

    def sounds(self) -> set[str]:
        """Return the digests of the samples of the test clips that it was chosen on; none if they were not at hand."""
        return set(self.content.clips.values()) - {""}

    @property
    def moment(self) -> datetime:
        """Return when it was frozen."""
        return datetime.fromisoformat(self.content.date)

    @property
    def scorer(self) -> str:
        """Return the scorer that was chosen."""
        return str(self.content.chosen["scorer"])

    def shown(self) -> str:
        """Say what was chosen in words."""
        chosen = self.content.chosen
        return f"{chosen['backbone']}, {shown_cell(chosen, whole=True)}, {self.scorer}"

    def sentence(self) -> str:
        """Say what was frozen and what it promises."""
        content, promise = self.content, self.content.promise
        best = f", the best of {content.families} families" if content.families > 1 else ""
        return (
            f"Frozen: {self.shown()} (seeds {', '.join(map(str, content.seeds))}), chosen from {content.cells} cells "
            f"on {', '.join(content.years)}{best}. It promises {in_percent(promise.official_score)} % on other "
            f"machines (95 % CI {in_percent(promise.ci_low)} to {in_percent(promise.ci_high)}). {promise.holds}"
        )


def winner(rows: Sequence[Mapping[str, Any]], *, year: str | None = None) -> tuple[Mapping[str, Any], int]:
    """Return the row of a selection that is frozen, and how many rows it was the best of.

    Args:
        rows: of `select`. Those chosen on other years are left out, and so is training on the withheld truth, which
            nobody could repeat on new recordings.
        year: only this year's rows, where the trials scored several.

    Raises:
        HarnessError: no row is left, or the rows are of several protocols, recordings or years.
    """
    own = [row for row in rows if row["chosen_on"] == "other machines" and row["labels"] != "truth"]
    if not own:
        raise HarnessError(
            "What is frozen must be chosen on other machines, by labels that others could make, but nothing recorded "
            "was; run a study with two cells and two machines."
        )
    if year is not None:
        years = {str(row["dataset"]) for row in own}
        if year not in years:
            raise HarnessError(unknown("year to choose on", year, years))
        own = [row for row in own if row["dataset"] == year]
    boards = sorted(
        {tuple(str(row[name]) for name in ("protocol", "dataset", "train_data", "test_data")) for row in own}
    )
    if len(boards) > 1:
        listed = "; ".join(f"{protocol} on {year} ({train}-{test})" for protocol, year, train, test in boards)
        several_years = len({board[1] for board in boards}) > 1
        raise HarnessError(
            f"A choice is frozen on one set of recordings and year, but these trials have {len(boards)}: {listed}; "
            f"choose one with --study{', --protocol or --year' if several_years else ' or --protocol'}."
        )
    return max(own, key=lambda row: row["official_score"]), len(own)


def trials_of(trials: pd.DataFrame, row: Mapping[str, Any]) -> dict[int, Mapping[Any, Any]]:
    """Return seed -> the recorded trial of a selection's best cell.

    Args:
        trials: rows of the results tables, a row a trial and scorer.
        row: of the selection.
    """
    same = trials[trials["kind"] == "trial"]
    given = {
        name: row[name] for name in ("backbone", "labels", "scorer", "recipe", "protocol", "train_data", "test_data")
    }
    for name, value in {**given, **row["best"]}.items():
        same = same[same[name].isna() if value is None else same[name] == value]
    return {int(each["seed"]): each for each in same.to_dict("records") if int(each["seed"]) in row["seeds"]}


def freeze(
    row: Mapping[str, Any],
    recorded: Mapping[int, Mapping[Any, Any]],
    spec: TrialSpec,
    *,
    families: int,
    question: Mapping[str, Any],
    clips: Mapping[str, str],
    seen: Sequence[str],
    code: str,
) -> FrozenChoice:
    """Return the frozen choice of a selection's row.

    Args:
        row: of the selection, see `winner`.
        recorded: seed -> trial of its best cell, see `trials_of`.
        spec: of the first seed's trial.
        families: how many rows it was the best of.
        question: filters of the selection and how it resampled.
        clips: id of each test clip -> digest of its samples, or "".
        seen: fingerprints of all test recordings on which trials are scored.
        code: revision.
    """
    threshold = in_percent(row["ci_low"])
    content = Content(
        chosen={name: row[name] if name in row else row["best"][name] for name in (*axis_names(), "scorer")},
        seeds=sorted(recorded),
        trials={str(seed): str(recorded[seed]["key"]) for seed in sorted(recorded)},
        years=[str(row["dataset"])],
        machines=[str(each["machine"]) for each in row["machines"]],
        question=dict(question),
        rule=RULE,
        cells=row["cells"],
        families=families,
        promise=Promise(
            official_score=row["official_score"],
            ci_low=row["ci_low"],
            ci_high=row["ci_high"],
            level=0.95,
            optimistic_score=row["optimistic_score"],
            holds=(
                f"It holds on other test recordings if the official score there, mean over the same seeds, is at least "
                f"{threshold} %, the lower end of this interval; it does not if the whole 95 % interval of that score "
                "lies below; else those recordings cannot tell."
            ),
        ),
        protocol=str(row["protocol"]),
        train_data=str(row["train_data"]),
        test_data=str(row["test_data"]),
        clips=dict(sorted(clips.items())),
        seen=sorted(set(seen)),
        method=METHOD,
        spec=json.loads(json.dumps(spec_content(spec))),
        libraries=_versions(),
        code=code,
        date=datetime.now(UTC).isoformat(),
    )
    return FrozenChoice(content, checksum(content.model_dump()), spec)


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_frozen(frozen: FrozenChoice, path: Path) -> None:
    """Write a frozen choice to a new file; one that is there already is never replaced.

    Raises:
        HarnessError: the name ends otherwise, the file exists, or it cannot be written.
    """
    if path.suffix != SUFFIX:
        raise HarnessError(f"A frozen choice's file must end in {SUFFIX}, but got {path.name!r}.")
    document = {
        "format": FORMAT, "version": VERSION, "sha256": frozen.sha256, "content": frozen.content.model_dump()
    }  # fmt: skip
    try:
        write_whole(path, (json.dumps(document, indent=2) + "\n").encode(), new=True)
    except FileExistsError:
        raise HarnessError(f"A choice is frozen once, but {path} exists already; name another file.") from None
    except OSError as error:
        raise HarnessError(
            f"A frozen choice must be written to a place that takes it, but {path}: {error.strerror}."
        ) from error


def read_frozen(path: Path) -> FrozenChoice:
    """Read a frozen choice, and refuse a file that is not as it was frozen.

    Raises:
        HarnessError: the file is missing, something else, was changed by hand, or was frozen by another version of the
            file's format or of the method.
    """
    try:
        document = json.loads(read_bytes(path, what="A frozen choice", most=MOST_BYTES))
    except HarnessError:
        raise
    except (ValueError, RecursionError) as error:  # deep nesting is a RecursionError of json
        raise HarnessError(f"{path} must be a frozen choice, but it is no JSON: {brief(str(error))}.") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise HarnessError(f"{path} must be a choice that `asdbench select --freeze` wrote, but it is something else.")
    version, content = document.get("version"), document.get("content")
    if type(version) is not int or version != VERSION:
        raise HarnessError(
            f"{path} must be a frozen choice of format version {VERSION}, but has version {brief(repr(version))}; "
            "check it with the version of asdbench that froze it."
        )
    if not isinstance(content, dict) or document.get("sha256") != checksum(content):
        raise HarnessError(
            f"{path} must be as it was frozen, but its content does not match its checksum: it was changed by hand; "
            "take the original file, or freeze anew what you choose now."
        )
    try:
        read = Content.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = brief(".".join(str(step) for step in first["loc"]))
        raise HarnessError(f"{path} must be a whole frozen choice, but {place}: {brief(first['msg'])}.") from error
    if read.method != METHOD:
        raise HarnessError(
            f"{path} was frozen under method {read.method}, but this version computes method {METHOD}, whose numbers "
            f"differ; check it with revision {brief(read.code)} of the code, or freeze anew."
        )
    frozen = FrozenChoice(read, str(document["sha256"]), parse_spec(read.spec))
    _demand_whole(path, frozen)
    return frozen


def _demand_whole(path: Path, frozen: FrozenChoice) -> None:
    """Check that what a file says in words is the trial that its keys name."""
    content, spec = frozen.content, frozen.spec
    keys = {str(seed): each.key() for seed, each in frozen.specs(spec.protocol, content.test_data).items()}
    said = {name: content.chosen.get(name) for name in axis_names()}
    if keys != content.trials or said != axis_values(spec) or spec.train_data != content.train_data:
        raise HarnessError(
            f"{path} must name the trials that its spec gives, but names others; it was not written by "
            "`asdbench select --freeze`, or by another version."
        )
