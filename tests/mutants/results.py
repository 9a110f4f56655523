"""What is known of mutants: results that are kept between runs, and those that are accepted with a reason."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from tests.mutants.rooms import ROOT, Room

EQUIVALENTS = Path(__file__).with_name("equivalents.toml")
KEPT = ROOT / ".asdbench" / "mutants"

State = Literal["killed", "equivalent", "surviving"]


@dataclass(frozen=True)
class Result:
    """What became of a mutant.

    Attributes:
        name: of the mutant.
        state: "killed" by a test or a time limit, "equivalent" for a reason that is written down, or "surviving".
        source: digest of the changed file as it stands.
        tests: digest of the room's tests.
        seconds: that it took.
    """

    name: str
    state: State
    source: str
    tests: str
    seconds: float = 0.0


def digest(files: Iterable[str]) -> str:
    """Return a digest of files' content."""
    seen = hashlib.sha256()
    for file in files:
        seen.update((ROOT / file).read_bytes())
    return seen.hexdigest()[:16]


class Ledger:
    """The results of a room, one line each, so that a run that was cut goes on where it stopped."""

    def __init__(self, name: str, room: Room) -> None:
        self.path = KEPT / f"{name}.jsonl"
        self.tests = digest(sorted(ROOT.joinpath(each).relative_to(ROOT).as_posix() for each in room.test_files()))
        self.sources = {file: digest([file]) for file in room.files()}
        self.results: dict[str, Result] = {}
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                result = Result(**json.loads(line))
                self.results[result.name] = result

    def known(self, name: str, file: str) -> Result | None:
        """Return a result that still holds: of the file as it is, and for a survivor of the tests as they are."""
        found = self.results.get(name)
        if found is None or found.source != self.sources[file]:
            return None
        return found if found.state == "killed" or found.tests == self.tests else None

    def add(self, name: str, file: str, state: State, seconds: float) -> Result:
        """Keep a result."""
        result = Result(name, state, self.sources[file], self.tests, round(seconds, 1))
        self.results[name] = result
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file_of_results:
            file_of_results.write(json.dumps(asdict(result)) + "\n")
        return result


class Equivalents:
    """Mutants that change no number that anybody can see, by name or pattern, each with its reason."""

    def __init__(self, path: Path = EQUIVALENTS) -> None:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        self.reasons: dict[str, str] = {
            mutant: entry["reason"] for entry in content.get("equivalent", []) for mutant in entry["mutants"]
        }

    def reason(self, name: str) -> str | None:
        """Return why a mutant is accepted; None where it is not."""
        plain = _plain(name)
        for pattern, reason in self.reasons.items():
            if fnmatchcase(plain, _plain(pattern)):
                return reason
        return None


def _plain(text: str) -> str:
    """Square brackets are code here, not a pattern's choice of letters."""
    return text.replace("[", "⟦").replace("]", "⟧").replace("?", "¿")
