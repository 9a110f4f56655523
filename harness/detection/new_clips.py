"""New clips in a folder: which of a trial's machines each is of, which cannot be heard, and how all are scored."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.contract import BenchmarkError, Mix
from benchmarks.files import printable, read_table
from benchmarks.folders import folder_of
from benchmarks.recordings.audio import CHANNELS_USED, SAMPLE_RATE, Sound, listen
from benchmarks.recordings.layout import ENDINGS, is_hidden
from benchmarks.recordings.names import parse_name
from benchmarks.recordings.packed import HeldClips
from harness import plugins
from harness.detection.detector import Detection, Detector, Unit
from harness.errors import HarnessError
from harness.plugins import did_you_mean

AT_ONCE = 64  # clips in memory; a multiple of the batch size
MOST_SAID = 3  # files that a note names


@dataclass(frozen=True)
class Unheard:
    """A clip that was not scored.

    Attributes:
        file: below the folder.
        why: in one sentence.
    """

    file: str
    why: str


@dataclass(frozen=True)
class Found:
    """What was detected in a folder.

    Attributes:
        rows: scored clips, the most anomalous first (`_ranked`).
        unheard: clips that were not scored.
        notes: sentences about clips that were scored but differ from what the trial was trained on.
    """

    rows: list[Detection]
    unheard: list[Unheard]
    notes: list[str]

    def document(self) -> list[dict[str, Any]]:
        """Return the rows with their place, `rank` and `file` first, as they are printed."""
        return [
            {"rank": place, "file": row.clip_id, **{k: v for k, v in asdict(row).items() if k != "clip_id"}}
            for place, row in enumerate(self.rows, start=1)
        ]


def detect_in(
    detector: Detector,
    root: Path,
    *,
    machine: str = "",
    section: str = "",
    scorer: str | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Found:
    """Score every recording in a folder, or one file.

    Args:
        detector: of a finished trial.
        root: folder with new clips, or one clip.
        machine: machine type of all of them; "" tells it by csv, folders and names (`unit_of`).
        section: of all of them; likewise.
        scorer: by which; None is the trial's first.
        progress: called with (clips done, clips in all).

    Raises:
        HarnessError: there are no clips, the machine or scorer is none of the trial's, or no clip can be scored.
        BenchmarkError: the folder cannot be read.
    """
    detector.scorer(scorer)
    place = folder_of(root)
    files = _files(place)
    known = _Known(detector, place, machine=machine, section=section)
    rows: list[Detection] = []
    unheard: list[Unheard] = []
    odd: dict[str, list[str]] = {}
    for start in range(0, len(files), AT_ONCE):
        units: dict[str, Unit] = {}
        sounds: dict[str, Sound] = {}
        for path in files[start : start + AT_ONCE]:
            name = path.name if path == place else path.relative_to(place).as_posix()
            try:
                unit = known.unit_of(name)
                sound = listen(str(path), detector.hearing.mixes[unit[0]])
                demand_sound(sound, printable(name), detector)
            except ValueError as error:
                unheard.append(Unheard(printable(name), _short(str(error), path, name)))
                continue
            units[name], sounds[name] = unit, sound
            for what in _oddities(sound, detector.hearing.mixes[unit[0]]):
                odd.setdefault(what, []).append(printable(name))
        if units:
            both = "both" in detector.hearing.mixes.values()
            held = HeldClips({name: sound.samples for name, sound in sounds.items()}, channels=2 if both else 1)
            rows += detector.detect(units, held, scorer=scorer)
        progress(min(start + AT_ONCE, len(files)), len(files))
    if not rows:
        more = f" Nor could {len(unheard) - 1} others." if len(unheard) > 1 else ""
        raise HarnessError(f"At least one clip must be one that can be scored, but {unheard[0].why}{more}")
    notes = [f"{what}: {_listed(names)}." for what, names in odd.items()]
    if known.note:
        notes.append(known.note)
    return Found(_ranked(rows), unheard, notes)


def _ranked(rows: Sequence[Detection]) -> list[Detection]:
    """Return the most anomalous clip first.

    Scores of different sections have scales of their own, so they count in units of their section's threshold. Where a
    section has none, or one that is not above 0, scores count as they are.
    """
    scaled = all(row.threshold is not None and row.threshold > 0 for row in rows)
    return sorted(rows, key=lambda row: (-row.score / (row.threshold or 1.0) if scaled else -row.score, row.clip_id))


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise HarnessError(f"New clips must lie in a folder, but there is no {printable(place)}.")
    found = sorted(
        path
        for path in place.rglob("*")
        if path.suffix.lower() in ENDINGS and not any(map(is_hidden, path.relative_to(place).parts))
    )
    if not found:
        raise HarnessError(f"New clips must be WAV or FLAC files, but {printable(place)} holds none.")
    return found


def demand_sound(sound: Sound, name: str, detector: Detector) -> None:
    """Refuse what would get a score that says nothing of the machine."""
    if not sound.samples.any():
        raise HarnessError(f"a clip must hold sound, but {name} is silent from beginning to end.")
    channels = 2 if "both" in detector.hearing.mixes.values() else 1
    samples = len(sound.samples) // channels
    if samples < detector.least_samples:
        raise HarnessError(
            f"a clip must have at least {detector.least_samples / SAMPLE_RATE:.2f} s, a tenth of what the trial hears, "
            f"but {name} has {samples / SAMPLE_RATE:.2f} s."
        )


def _oddities(sound: Sound, mix: Mix) -> list[str]:
    found = []
    if sound.rate < SAMPLE_RATE:
        found.append(f"Recorded at {sound.rate} Hz, so nothing above {sound.rate // 2} Hz is heard of")
    elif sound.rate > SAMPLE_RATE:
        found.append(f"Recorded at {sound.rate} Hz and brought to {SAMPLE_RATE} Hz, as in training")
    if sound.channels > 1:
        found.append(f"Of {sound.channels} channels {CHANNELS_USED[mix]}, as in training")
    return found


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_SAID
    return ", ".join(names[:MOST_SAID]) + (f" and {more} more" if more > 0 else "")


def _short(sentence: str, path: Path, name: str) -> str:
    """Return a sentence with the file's name below the folder instead of its whole path."""
    return sentence.replace(printable(path), printable(name))


class _Known:
    """Tells which of a trial's sections a clip belongs to.

    The first that speaks counts: the option `--machine`; a csv in the folder with the columns `file` and `machine`; a
    folder named like a machine type, the innermost first, and the folder itself; a file name that begins with a machine
    type; and where the trial knows one machine type alone, that one. The section is that of `--section`, of an official
    file name (`section_00_...`, `id_00_...`), or the machine type's only one. A folder named like a year tells years
    apart.
    """

    def __init__(self, detector: Detector, place: Path, *, machine: str, section: str) -> None:
        self.units, self.place, self.section = detector.units, place, section
        self.machines = list(dict.fromkeys(unit[1] for unit in self.units))
        self.folded = {name.casefold(): name for name in self.machines}
        self.machine = machine and self._machine(machine, "--machine")
        sections = sorted({unit[2] for unit in self.units})
        if section and section not in sections:
            raise HarnessError(f"--section must be one of {', '.join(sections)}, but got {section!r}.")
        self.note = ""
        self.listed = {} if machine or place.is_file() else self._table()

    def _machine(self, said: str, where: str) -> str:
        if said.casefold() not in self.folded:
            raise HarnessError(
                f"{where} must be one of {', '.join(self.machines)}, which the trial knows, but got "
                f"{printable(said)!r}.{did_you_mean(said, self.machines)}"
            )
        return self.folded[said.casefold()]

    def _table(self) -> dict[str, str]:
        """Read the csv of the folder that has the columns file and machine: file -> machine."""
        found: dict[str, str] = {}
        for table in sorted(path for path in self.place.glob("*") if path.suffix.lower() == ".csv"):
            try:
                rows = read_table(table).rows
            except BenchmarkError as error:
                self.note = f"A csv was passed over: {error}"
                continue
            heading = [cell.casefold() for cell in rows[0][1]] if rows else []
            if "file" in heading and "machine" in heading:
                file, machine = heading.index("file"), heading.index("machine")
                for _, cells in rows[1:]:
                    if len(cells) > max(file, machine) and cells[machine]:
                        for spelling in _spellings(cells[file].replace("\\", "/")):
                            found[spelling] = cells[machine]
        return found

    def unit_of(self, name: str) -> Unit:
        """Return the section that a clip belongs to.

        Args:
            name: below the folder.

        Raises:
            HarnessError: nothing says it, or it is none of the trial's.
        """
        path = PurePosixPath(name)
        folders = [*reversed(path.parts[:-1]), self.place.name if self.place.is_dir() else self.place.parent.name]
        machine = self.machine or self._told(name, path, folders)
        matching = [unit for unit in self.units if unit[1] == machine]
        there = ", ".join(sorted({unit[2] for unit in matching}))
        section = self.section or _section_of(path.stem)
        if len({unit[2] for unit in matching}) > 1 and not section:
            raise HarnessError(
                f"{machine} has the sections {there}, but nothing says which one {printable(name)} is of; name it with "
                "--section, or the file as section_NN_... ."
            )
        if section:
            among = [unit for unit in matching if unit[2] == section]
            if not among and (self.section or len({unit[2] for unit in matching}) > 1):
                raise HarnessError(
                    f"The trial knows no section {section} of {machine}, which {printable(name)} is of; there are "
                    f"{there}."
                )
            matching = among or matching
        if len(matching) > 1:
            years = {plugins.load("dataset", unit[0]).folder: unit for unit in matching} | {
                unit[0]: unit for unit in matching
            }
            told = next((years[folder] for folder in folders if folder in years), None)
            if told is None:
                raise HarnessError(
                    f"The trial knows {machine} of {', '.join(unit[0] for unit in matching)}, but nothing says which "
                    f"year {printable(name)} is of; put it into a folder of that name."
                )
            return told
        return matching[0]

    def _told(self, name: str, path: PurePosixPath, folders: Sequence[str]) -> str:
        said = next((self.listed[each] for each in _spellings(name) if each in self.listed), None)
        if said:
            return self._machine(said, f"the machine of {printable(name)} in the csv")
        for folder in folders:
            if folder.casefold() in self.folded:
                return self.folded[folder.casefold()]
        for machine in sorted(self.machines, key=len, reverse=True):
            if re.match(rf"{re.escape(machine)}(?![^\W\d_])", path.stem, re.IGNORECASE):
                return machine
        if len(self.machines) == 1:
            return self.machines[0]
        raise HarnessError(
            f"The trial knows {', '.join(self.machines)}, but nothing says which of them {printable(name)} is; name it "
            "with --machine, or put it into a folder of its name."
        )


def _spellings(name: str) -> list[str]:
    """Return a file's name with and without its ending, in one of Unicode's forms: a csv may write it either way."""
    path = PurePosixPath(unicodedata.normalize("NFC", name))
    return [str(path), *([str(path.with_suffix(""))] if path.suffix.lower() in ENDINGS else [])]


def _section_of(stem: str) -> str:
    """Return the section that an official name says; "" where it says none."""
    for with_ids in (False, True):
        try:
            return parse_name(stem, with_ids=with_ids).section
        except BenchmarkError:
            continue
    return ""
