"""The reader of study files, for fuzzers: any bytes, and studies whose values are odd, are a study or one sentence.

For longer: python -m tests.hostile.fuzz_studies SECONDS
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
from functools import cache
from pathlib import Path

import benchmarks
from harness.errors import HarnessError
from harness.studies.plan import make_plan
from harness.studies.study_file import read_study
from tests.hostile import fuzzing

VALUE = re.compile(r"(?m)^(\w+) *= *(.*)$")
VALUES = (
    "nan", "inf", "-inf", "-1", "0", "2.5", "9223372036854775808", "1e400", "true", '""', '"x"', "[]", "[[]]", "{}",
    "{a = 1}", "1979-05-27T07:32:00Z", "07:32:00", '"\\u0000"', '"\\u202e"', "[1, 'a']", "[nan]", "1e-320",
    "['tiny', 'tiny']",
    '"../../x"', '"hf:/dev/zero"', "[-1]", "['']", "0x7f", "[1.5]", "[true]", "[0]", "[16]", "1_0", "'''x'''",
)  # fmt: skip


@cache
def _file() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-")) / "odd.toml"


def fuzz_study(data: bytes) -> None:
    """Read any bytes as a study; what is read can be planned, or is refused in one sentence."""
    _file().write_bytes(data)
    try:
        make_plan(read_study(str(_file())))
    except ValueError as error:
        assert type(error).__name__.endswith("Error")
        assert type(error) is not ValueError or isinstance(error, HarnessError), repr(error)
        assert "\n" not in str(error), str(error)
        assert len(str(error)) < 1500, len(str(error))


def fuzz_values(data: bytes) -> None:
    """Read a study some of whose values are others; the bytes only draw them."""
    chance = random.Random(data)
    text = chance.choice(shipped()).decode()
    places = list(VALUE.finditer(text))
    for match in sorted(chance.sample(places, chance.randint(1, 3)), key=lambda each: -each.start(2)):
        text = text[: match.start(2)] + chance.choice(VALUES) + text[match.end(2) :]
    fuzz_study(text.encode())


@cache
def shipped() -> tuple[bytes, ...]:
    """Return the studies that ship."""
    return tuple(path.read_bytes() for path in sorted((Path(benchmarks.__file__).parent / "studies").glob("*.toml")))


def kinds() -> dict[str, tuple[fuzzing.Reader, list[bytes]]]:
    """Return each reader with whole inputs to start from."""
    return {"studies": (fuzz_study, list(shipped())), "studies of odd values": (fuzz_values, [bytes(8)])}


if __name__ == "__main__":
    fuzzing.run(kinds(), float(sys.argv[1]))
