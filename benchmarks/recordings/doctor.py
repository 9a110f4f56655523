"""What is on disk against what should be: every recording is read, and every difference has a way out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.contract import PARTS, BenchmarkError, Dataset, Mix, Part, Problem, ProblemKind, Progress, Protocol
from benchmarks.protocols import heard, says_no_labels, split_clips
from benchmarks.recordings.attributes import name_traps
from benchmarks.recordings.audio import CHANNELS_USED, SAMPLE_RATE, Inspection, RecordingError, look
from benchmarks.recordings.index import Scan, scan_root
from benchmarks.recordings.own import unlisted
from benchmarks.recordings.processes import open_pool
from benchmarks.recordings.truth import add_ground_truth

COMMON_SHARE = 0.9  # where so many clips of a machine type are of one length, the others stand out
LENGTH_SECONDS = 0.05  # lengths that differ by less are one length
CLIPPED_SHARE = 0.001  # of samples at full scale; a recorder that was set right has none or a few
FETCHED: tuple[ProblemKind, ...] = ("unreadable", "empty", "truncated", "not finite")  # what fetching again may mend
WORTH_PROCESSES = 64  # clips; below that a process takes longer to start than to read them


@dataclass(frozen=True)
class PartReport:
    """A part of a year as it stands on disk.

    Attributes:
        dataset: year.
        part: of the year.
        layout: official, side by side (unzipped archives, or ASDKit's formatted folders) or csv (own recordings).
        clips: recordings that can be indexed.
        machines: machine types that are there.
        missing: machine types that are not.
    """

    dataset: str
    part: Part
    layout: str
    clips: int
    machines: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """Whether a protocol could run on a root.

    Attributes:
        protocol: its name.
        runs: whether it could.
        why: why not, in one sentence; "" where it could.
    """

    protocol: str
    runs: bool
    why: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What was found below a root.

    Attributes:
        parts: what is there.
        problems: what is not as it should be; none where all is well.
        verdict: on the protocol that was named, None where none was.
    """

    parts: tuple[PartReport, ...]
    problems: tuple[Problem, ...]
    verdict: Verdict | None


def examine(
    root: Path | str,
    datasets: Sequence[Dataset],
    *,
    protocol: Protocol | None = None,
    ground_truth: Path | str | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Diagnosis:
    """Read every recording of some years below a folder and say what is there and what is wrong with it.

    Args:
        root: as `benchmarks.recordings.index.index_root` takes it.
        datasets: years to look for.
        protocol: say whether it could run.
        ground_truth: the user's copy of the official files about evaluation clips.
        workers: processes that read.
        progress: told after each recording.

    Raises:
        BenchmarkError: if the root does not exist or holds a year twice, or the official files cannot be used.
    """
    root = Path(root).expanduser().absolute()
    scan = scan_root(root, datasets)
    clips = scan.clips
    if ground_truth is not None:
        clips = add_ground_truth(clips, ground_truth, datasets)
    known = {dataset.name: dataset for dataset in datasets}
    parts = tuple(_report_parts(clips, datasets))
    problems = [*scan.problems, *_missing(parts, clips, known, root), *_extra(root, datasets)]
    mixes = {dataset.name: heard(dataset, protocol) for dataset in datasets}
    contents = _read_all(clips, mixes, workers=workers, progress=progress)
    problems += _compare(clips, contents, known, mixes)
    problems += name_traps(clips)
    verdict = None if protocol is None else judge(protocol, Scan(clips, tuple(problems)))
    return Diagnosis(parts, tuple(problems), verdict)


def judge(protocol: Protocol, scan: Scan) -> Verdict:
    """Say whether a protocol could run on what was found, without leaving out bad files."""
    try:
        train, test = split_clips(scan.clips, protocol)
    except BenchmarkError as error:
        return Verdict(protocol.name, False, str(error))
    unit = ["dataset", "machine", "section"]
    there = set(train[unit].itertuples(index=False, name=None))
    for dataset, machine, section in sorted(set(test[unit].itertuples(index=False, name=None)) - there):
        return Verdict(
            protocol.name, False,
            f"protocol {protocol.name} must find training clips of every section that it scores, but has none of "
            f"{dataset} {machine} section {section}.",
        )  # fmt: skip
    used = {*train["path"], *test["path"]}
    years = {part.dataset for part in (*protocol.train, *protocol.score)}
    indexed = set(scan.clips["path"])
    stopping = [
        problem
        for problem in scan.bad
        if problem.path in used or (problem.path not in indexed and problem.dataset in years)
    ]
    if stopping:
        others = len(stopping) - 1
        more = f" {others} more {'stops' if others == 1 else 'stop'} it." if others else ""
        way = " Or go on without bad files: --skip-bad."
        return Verdict(protocol.name, False, f"{stopping[0].sentence}{more}{way}")
    return Verdict(protocol.name, True, says_no_labels(test))


def _report_parts(clips: pd.DataFrame, datasets: Sequence[Dataset]) -> Iterator[PartReport]:
    """Yield what is there of each part of each year that is there at all."""
    for dataset in datasets:
        year = clips[clips["dataset"] == dataset.name]
        for part in PARTS if len(year) else ():
            own = year[year["part"] == part]
            there = tuple(sorted(own["machine"].unique()))
            missing = tuple(name for name in dataset.machines.get(part, ()) if name not in there)
            if there or missing:
                yield PartReport(dataset.name, part, _layout(own, dataset), len(own), there, missing)


def _layout(clips: pd.DataFrame, dataset: Dataset) -> str:
    if clips.empty or dataset.listed:
        return "csv" if dataset.listed else ""
    official = {"dev_data", "eval_data"} & set(Path(clips["path"].iloc[0]).parts)
    return "official" if official else "side by side"


def _missing(
    parts: Sequence[PartReport], clips: pd.DataFrame, known: dict[str, Dataset], root: Path
) -> Iterator[Problem]:
    """Yield what a part lacks that has something: machine types, and sections of those that are there."""
    if not parts:
        yield Problem(
            "missing", str(root),
            f"{root} must hold recordings of {', '.join(known)}, but none was found; where archives were unzipped side "
            "by side without a year's name, name the year with --dataset.",
            bad=False,
        )  # fmt: skip
    for report in parts:
        name = f"{report.dataset}/{report.part}"
        if report.machines and report.missing:
            options = f"--part {report.part} " + " ".join(f"--machines {machine}" for machine in report.missing)
            yield Problem(
                "missing", str(root),
                f"{name} lacks {', '.join(report.missing)}; "
                f"fetch: asdbench data download {report.dataset} --to {root} {options}.",
                bad=False, dataset=report.dataset, part=report.part,
            )  # fmt: skip
        here = clips[(clips["dataset"] == report.dataset) & (clips["part"] == report.part)]
        for machine, sections in known[report.dataset].sections.get(report.part, {}).items():
            there = set(here.loc[here["machine"] == machine, "section"])
            lacking = [section for section in sections if section not in there]
            if there and lacking:
                yield Problem(
                    "missing", str(root),
                    f"{name} lacks sections {', '.join(lacking)} of {machine}; unzip its archive again.",
                    bad=False, dataset=report.dataset, part=report.part,
                )  # fmt: skip


def _extra(root: Path, datasets: Sequence[Dataset]) -> Iterator[Problem]:
    """Yield recordings of the user's that the csv does not list."""
    for dataset in datasets:
        for path in unlisted(root, dataset) if dataset.listed else ():
            sentence = f"{path} is not listed by the csv and is passed over; add a line or remove it."
            yield Problem("extra", path, sentence, bad=False, dataset=dataset.name, part="dev")


def _read_all(
    clips: pd.DataFrame, mixes: Mapping[str, Mix], *, workers: int, progress: Progress | None
) -> list[Inspection | RecordingError]:
    """Read every clip, in the table's order."""
    jobs: list[tuple[str, Mix]] = [
        (path, mixes[dataset]) for path, dataset in zip(clips["path"], clips["dataset"], strict=True)
    ]
    contents: list[Inspection | RecordingError] = []

    def collect(found: Iterator[Inspection | RecordingError]) -> None:
        for content in found:
            contents.append(content)
            if progress is not None:
                progress(len(contents), len(jobs))

    if workers > 1 and len(jobs) >= WORTH_PROCESSES:
        try:
            with open_pool(workers) as pool:
                collect(pool.map(look, jobs, chunksize=16))
        except BrokenProcessPool as error:
            raise BenchmarkError(
                "reading processes must stay alive, but one was killed; examine with fewer workers."
            ) from error
    else:
        collect(map(look, jobs))
    return contents


def _compare(
    clips: pd.DataFrame,
    contents: Sequence[Inspection | RecordingError],
    known: dict[str, Dataset],
    mixes: Mapping[str, Mix],
) -> Iterator[Problem]:
    """Yield what is wrong with recordings by themselves, then what only the others show."""
    lengths: dict[tuple[str, Part, str], list[tuple[str, float]]] = defaultdict(list)
    digests: dict[tuple[str, str], list[str]] = defaultdict(list)
    rows = clips[["path", "dataset", "part", "machine"]].itertuples(index=False)
    for (path, name, part, machine), content in zip(rows, contents, strict=True):
        if isinstance(content, RecordingError):
            way = " Fetch it again." if content.kind in FETCHED else ""
            yield Problem(content.kind, path, f"{content}{way}", dataset=name, part=part)
            continue
        for kind, sentence in _oddities(path, content, known[name], mixes[name]):
            yield Problem(kind, path, sentence, bad=False, dataset=name, part=part)
        lengths[name, part, machine].append((path, content.seconds))
        digests[name, content.digest].append(path)
    for (name, part, _), found in lengths.items():
        for path, sentence in _odd_lengths(found):
            yield Problem("length", path, sentence, bad=False, dataset=name, part=part)
    for (name, _), paths in digests.items():
        for path in paths[1:]:
            sentence = f"{path} has the same samples as {paths[0]}; remove one if it is a copy."
            yield Problem("duplicated", path, sentence, bad=False, dataset=name)


def _oddities(path: str, content: Inspection, dataset: Dataset, mix: Mix) -> Iterator[tuple[ProblemKind, str]]:
    """Yield what about a readable recording differs from its year's format."""
    if content.rate != SAMPLE_RATE:
        yield "rate", f"{path} is at {content.rate} Hz instead of {SAMPLE_RATE}; it is resampled as it is read."
    if content.channels != dataset.channels:
        there = "one channel" if content.channels == 1 else f"{content.channels} channels"
        used = f"; {CHANNELS_USED[mix]}" if content.channels > 1 else ""
        yield "channels", f"{path} has {there} instead of {dataset.channels}{used}."
    if content.encoding != "PCM_16":
        yield "encoding", f"{path} is {content.encoding} instead of PCM_16; it is rounded to 16 bits as it is read."
    if content.full_share >= CLIPPED_SHARE:
        yield (
            "clipped",
            f"{100 * content.full_share:.3g} % of the samples of {path} stand at full scale (its peak is "
            f"{content.peak:.5g}), so the recorder clipped it; it is used as it is.",
        )
    if content.behind:
        yield (
            "longer",
            f"{path} holds {content.behind:,} bytes behind the {content.seconds:.2f} s that its header announces; they "
            "are not read, so if they are samples, mend the header (sox --ignore-length does).",
        )


def _odd_lengths(found: Sequence[tuple[str, float]]) -> Iterator[tuple[str, str]]:
    """Yield the clips whose length is not the one that nearly all of their machine type have."""
    rounded = Counter(round(seconds / LENGTH_SECONDS) for _, seconds in found)
    common, count = rounded.most_common(1)[0]
    if count < COMMON_SHARE * len(found):
        return
    for path, seconds in found:
        if abs(round(seconds / LENGTH_SECONDS) - common) > 1:
            usual = common * LENGTH_SECONDS
            yield (
                path,
                f"{path} is {seconds:.2f} s long, where nearly all others are {usual:.2f} s; compare its source.",
            )
