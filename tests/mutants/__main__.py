"""Change the code that makes numbers, one place at a time, and see whether a test notices: `make mutants`.

Every change (`tests.mutants.changes`) is tried against the tests of its room (`tests.mutants.rooms`) that call its
function, the quickest first, up to the first failure; one outside of functions against all tests. A test that takes
twenty times what it does without a change has noticed an endless loop. Results are kept under .asdbench/mutants: a run
that was cut goes on where it stopped, and a survivor is tried again once the tests changed.
"""

from __future__ import annotations

import argparse
import itertools
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
from tests.mutants.child import Collected, run_tests, warm_up
from tests.mutants.results import Equivalents, Ledger, Result
from tests.mutants.rooms import ROOMS, ROOT, Room

LIMIT_S = 120.0  # at least, that the tests of a mutant may take: an endless loop is noticed
FACTOR = 10.0  # times what they take without a change
PAUSE_S = 0.01


@dataclass
class Map:
    """Which tests call which functions, and how long each takes.

    Attributes:
        seconds: by test.
        by_function: tests by (file, first line of the function).
        by_file: tests by file.
        while_collected: functions that are called while tests are collected.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    by_function: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    by_file: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    while_collected: set[tuple[str, int]] = field(default_factory=set)

    def inside(self, mutant: Mutant) -> bool:
        """Tell whether a mutant changes the inside of a function that only tests call."""
        return mutant.function > 0 and (mutant.file, mutant.function) not in self.while_collected

    def tests_for(self, mutant: Mutant) -> list[str]:
        """Return the tests that may notice a mutant, the likeliest and quickest first."""
        calling = self.by_function.get((mutant.file, mutant.function), set())
        if self.inside(mutant):
            return self._quickest(calling)
        reached = calling or self.by_file.get(mutant.file, set())
        return self._quickest(reached) + self._quickest(set(self.seconds) - reached)

    def _quickest(self, tests: set[str]) -> list[str]:
        return sorted(tests, key=lambda test: self.seconds[test])


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
        warm_up(room.heavy)
        reached = _reach(name, room, ledger)
        limit = max(LIMIT_S, FACTOR * sum(reached.seconds.values()))
        inside = [mutant for mutant in left if reached.inside(mutant)]
        outside = [mutant for mutant in left if not reached.inside(mutant)]
        began = time.monotonic()
        tried = itertools.chain(
            _collected(inside, room, reached, jobs, limit),
            _forked(
                outside,
                lambda mutant: run_tests(reached.tests_for(mutant), mutant=mutant, seconds=reached.seconds),
                jobs,
                limit,
            ),
        )
        for done, (mutant, killed, seconds) in enumerate(tried, start=1):
            result = ledger.add(mutant.name, mutant.file, "killed" if killed else "surviving", seconds)
            results[mutant.name] = result
            if not killed:
                _say(f"surviving: {mutant.name}  (line {mutant.line}, {seconds:.0f} s)")
            elif done % 50 == 0:
                _say(f"{name}: {done} of {len(left)} tried in {time.monotonic() - began:.0f} s")
    return [results[mutant.name] for mutant in mutants]


def _collected(
    mutants: list[Mutant], room: Room, reached: Map, jobs: int, limit_s: float
) -> Iterator[tuple[Mutant, bool, float]]:
    """Try mutants inside functions in forks of one session, which is itself a fork; yield what `_forked` yields."""
    if not mutants:
        return
    reading, writing = os.pipe()

    def loop(session: Collected) -> None:
        place = {id(mutant): number for number, mutant in enumerate(mutants)}
        for mutant, killed, seconds in _forked(
            mutants, lambda mutant: session.try_mutant(mutant, reached.tests_for(mutant)), jobs, limit_s
        ):
            os.write(writing, f"{place[id(mutant)]} {killed:d} {seconds}\n".encode())

    tests = list(reached.seconds)
    child = _fork(lambda: Collected(room.files(), loop, reached.seconds).run(tests), Path(os.devnull))
    os.close(writing)
    with os.fdopen(reading) as lines:
        for line in lines:
            number, killed, seconds = line.split()
            yield mutants[int(number)], killed == "1", float(seconds)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        sys.exit(f"The tests could not be collected: pytest ended with {code}.")


def _reach(name: str, room: Room, ledger: Ledger) -> Map:
    """Run a room's tests once as they are, and note which functions each calls; kept while neither changes."""
    kept = ledger.path.with_suffix(".reached.json")
    key = f"{ledger.tests} {' '.join(ledger.sources.values())}"
    content = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    if content.get("key") != key:
        _say(f"{name}: which test calls which function")
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "reached.json"
            os.environ["ASDBENCH_REACHED"] = str(place)
            child = _fork(lambda: run_tests(room.test_files(), trace=room.files()), Path(folder) / "said")
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code:
                sys.exit(
                    f"The tests of {name} must pass before anything is changed, but they end with {code}:\n"
                    + (Path(folder) / "said").read_text(encoding="utf-8")[-2000:]
                )
            content = {"key": key, **json.loads(place.read_text(encoding="utf-8"))}
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(content), encoding="utf-8")
    found = Map(seconds=content["seconds"])
    found.while_collected = {(file, line) for file, line in content["calls"].pop("", [])}
    for test, calls in content["calls"].items():
        every = [each for each in found.seconds if test in {each, "*"} or each.startswith(f"{test}::")]
        for file, line in calls:
            found.by_function[file, line].update(every)
            found.by_file[file].update(every)
    return found


def _forked(
    mutants: list[Mutant], work: Callable[[Mutant], int], jobs: int, limit_s: float
) -> Iterator[tuple[Mutant, bool, float]]:
    """Try mutants, so many at once; yield each with whether it was noticed, and the seconds that it took."""
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
                yield mutant, os.waitstatus_to_exitcode(status) != 0, seconds
        time.sleep(PAUSE_S)


def _fork(work: Callable[[], int], output: Path) -> int:
    """Do something in a forked process with its output in a file; return its number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
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
