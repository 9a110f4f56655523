"""Change the code that makes numbers, one place at a time, and see whether a test notices: `make mutants`.

Every change (`tests.mutants.changes`) is tried against the tests of its room (`tests.mutants.rooms`): first those that
call its function, the quickest first, then the others, up to the first failure. Results are kept under
.asdbench/mutants: a run that was cut goes on where it stopped, and a survivor is tried again once the tests changed.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.mutants.changes import Mutant, mutants_of
from tests.mutants.child import run_tests, warm_up
from tests.mutants.results import Equivalents, Ledger, Result, digest
from tests.mutants.rooms import ROOMS, ROOT, Room
from tests.mutants.session import Collected, collect, put_in_place

LIMIT_S = 120.0  # at least, that the tests of a mutant may take: an endless loop is noticed
FACTOR = 10.0  # times what they take without a change
PAUSE_S = 0.01
ALONE = 77  # a mutant that needs a process of its own
PR_SET_PDEATHSIG = 1  # of Linux's prctl
NO_TESTS = 5  # pytest's word for it


@dataclass
class Map:
    """Which tests call which functions, and how long each takes.

    Attributes:
        seconds: by test.
        by_function: tests by (file, first line of the function).
        by_file: tests by file.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    by_function: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    by_file: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def tests_for(self, mutant: Mutant) -> list[str]:
        """Return the tests that call a mutant's function, or any of its file, the quickest first."""
        reached = self.by_function.get((mutant.file, mutant.function)) or self.by_file.get(mutant.file, set())
        return sorted(reached, key=lambda test: self.seconds[test])


def main() -> int:
    """Run the mutants that were asked for, and say what became of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("rooms", nargs="*", help=f"{', '.join(ROOMS)}; all where none is named")
    parser.add_argument("--only", default="", help="mutants whose name holds this text")
    parser.add_argument("--random", type=int, metavar="N", help="N mutants of each room, drawn by chance")
    parser.add_argument("--seed", type=int, default=0, help="of --random")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--list", action="store_true", help="name the mutants and run nothing")
    asked = parser.parse_args()
    if unknown := set(asked.rooms) - set(ROOMS):
        parser.error(f"a room must be one of {', '.join(ROOMS)}, but got {sorted(unknown)[0]}")
    os.chdir(ROOT)
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    if not asked.list:
        warm_up()
    table: dict[str, Counter[str]] = {}
    survivors: list[str] = []
    for name in asked.rooms or ROOMS:
        chosen = [mutant for mutant in _mutants(ROOMS[name]) if asked.only in mutant.name]
        if asked.random is not None and asked.random < len(chosen):
            drawn = sorted(random.Random(asked.seed).sample(range(len(chosen)), asked.random))
            chosen = [chosen[place] for place in drawn]
        if asked.list:
            _say("\n".join(f"{mutant.name}  (line {mutant.line})" for mutant in chosen))
            continue
        results = _try_room(name, chosen, jobs=asked.jobs)
        table[name] = Counter(result.state for result in results)
        survivors += [result.name for result in results if result.state == "surviving"]
    if table:
        _say(_shown(table))
        _say("\n".join(f"surviving: {name}" for name in survivors) or "no mutant survives")
    return 1 if survivors else 0


def _mutants(room: Room) -> Iterator[Mutant]:
    for file in room.files():
        yield from mutants_of(ROOT, file)


def _try_room(name: str, mutants: list[Mutant], *, jobs: int) -> list[Result]:
    """Return what became of each mutant."""
    room = ROOMS[name]
    ledger, accepted = Ledger(name, room), Equivalents()
    results: dict[str, Result] = {}
    left: list[Mutant] = []
    for mutant in mutants:
        known = ledger.known(mutant.name, mutant.file)
        if known is not None and known.state == "killed":
            results[mutant.name] = known
        elif accepted.reason(mutant.name):
            results[mutant.name] = Result(mutant.name, "equivalent", "", "")
        elif known is not None:
            results[mutant.name] = known
        else:
            left.append(mutant)
    if left:
        reached = _reach(name, room, ledger)
        limit = max(LIMIT_S, FACTOR * sum(reached.seconds.values()))
        child = _fork(lambda: _in_one_session(left, ledger, reached, jobs=jobs, limit=limit), None)
        os.waitpid(child, 0)
        ledger = Ledger(name, room)
        tried = {mutant.name: ledger.known(mutant.name, mutant.file) for mutant in left}
        alone = [mutant for mutant in left if tried[mutant.name] is None]
        work = _forked(alone, lambda mutant: _tries(mutant, room, reached), jobs, limit)
        _keep(len(alone), work, ledger)
        results |= {mutant.name: ledger.results[mutant.name] for mutant in left}
    return [results[mutant.name] for mutant in mutants]


def _keep(count: int, tried: Iterator[tuple[Mutant, int, float]], ledger: Ledger) -> None:
    """Keep what became of mutants as they are tried; those that need a process of their own wait."""
    began = time.monotonic()
    for done, (mutant, code, seconds) in enumerate(tried, start=1):
        if code != ALONE:
            ledger.add(mutant.name, mutant.file, "killed" if code else "surviving", seconds)
        if not code:
            _say(f"surviving: {mutant.name}  (line {mutant.line}, {seconds:.0f} s)")
        if done % 50 == 0:
            _say(f"{done} of {count} tried in {time.monotonic() - began:.0f} s")


def _in_one_session(mutants: list[Mutant], ledger: Ledger, reached: Map, *, jobs: int, limit: float) -> int:
    """Try mutants in forks of one session, all of whose modules are imported."""

    def try_all(session: Collected) -> None:
        def try_one(mutant: Mutant) -> int:
            how = put_in_place(mutant)
            tests = reached.tests_for(mutant)
            if not how:
                return ALONE
            # a test that does not call a changed function cannot notice it
            code = session.run(tests if how == "code" else [*tests, *(set(reached.seconds) - set(tests))])
            return ALONE if not code and how == "values" else code

        _keep(len(mutants), _forked(mutants, try_one, jobs, limit), ledger)

    collect(sorted({test.split("::")[0] for test in reached.seconds}), try_all)
    return 0


def _tries(mutant: Mutant, room: Room, reached: Map) -> int:
    """Run the tests that may notice a mutant, in a forked process; return 0 where all pass."""
    likely = reached.tests_for(mutant)
    rest = [test for test in reached.seconds if test not in set(likely)]
    return run_tests(likely + rest, mutant=mutant)


def _reach(name: str, room: Room, ledger: Ledger) -> Map:
    """Run a room's tests once as they are, and note which functions each calls; kept while neither changes."""
    kept = ledger.path.with_suffix(".reached.json")
    sources = " ".join(ledger.sources.values())
    content = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    if content.get("sources") != sources:
        content = {"sources": sources, "files": {}}
    digests = {file: digest([file]) for file in room.test_files()}
    content["files"] = {file: of for file, of in content["files"].items() if of["digest"] == digests.get(file)}
    for file in room.test_files():
        if file in content["files"]:
            continue
        _say(f"{name}: which function is called by {file}")
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "reached.json"
            os.environ["ASDBENCH_REACHED"] = str(place)
            child = _fork(lambda file=file: run_tests([file], trace=room.files()), Path(folder) / "said")
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code not in (0, NO_TESTS):
                sys.exit(
                    f"The tests of {name} must pass before anything is changed, but they end with {code}:\n"
                    + (Path(folder) / "said").read_text(encoding="utf-8")[-2000:]
                )
            content["files"][file] = {"digest": digests[file], **json.loads(place.read_text(encoding="utf-8"))}
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(content), encoding="utf-8")
    found = Map()
    for of in content["files"].values():
        found.seconds |= of["seconds"]
        for test, calls in of["calls"].items():
            every = [test] if "::" in test else [each for each in of["seconds"] if each.startswith(f"{test}::")]
            for source, line in calls:
                found.by_function[source, line].update(every)
                found.by_file[source].update(every)
    return found


def _forked(
    mutants: list[Mutant], work: Callable[[Mutant], int], jobs: int, limit_s: float
) -> Iterator[tuple[Mutant, int, float]]:
    """Try mutants, so many at once; yield each with what its process returned, 0 if unnoticed, and its seconds."""
    waiting, running = list(reversed(mutants)), dict[int, tuple[Mutant, float]]()
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            running[_fork(lambda mutant=mutant: work(mutant), Path(os.devnull))] = (mutant, time.monotonic())
        for child, (mutant, began) in list(running.items()):
            seconds = time.monotonic() - began
            ended, status = os.waitpid(child, os.WNOHANG)
            if not ended and seconds > limit_s:
                os.killpg(child, signal.SIGKILL)
                ended, status = os.waitpid(child, 0)
            if ended:
                del running[child]
                yield mutant, os.waitstatus_to_exitcode(status), seconds
        time.sleep(PAUSE_S)


def _fork(work: Callable[[], int], output: Path | None) -> int:
    """Do something in a forked process with its output in a file, or shown; return its number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    if sys.platform == "linux":  # a run that is cut leaves nothing behind that goes on
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        if output is not None:
            os.setsid()
            with output.open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
        code = work()
    finally:
        os._exit(code)


def _shown(table: dict[str, Counter[str]]) -> str:
    states = ("killed", "equivalent", "surviving")
    rows = [("room", "tried", *states)]
    rows += [
        (name, str(sum(count.values())), *(str(count[state]) for state in states)) for name, count in table.items()
    ]
    total = sum(table.values(), Counter[str]())
    rows.append(("all", str(sum(total.values())), *(str(total[state]) for state in states)))
    return "\n".join(f"{row[0]:<12}" + "".join(f"{cell:>12}" for cell in row[1:]) for row in rows)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
