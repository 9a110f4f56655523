"""What the fuzzers share: inputs with a few bytes changed, given to readers for as long as wanted.

A reader takes bytes; whatever it raises is a fault, and the input is left in the current folder.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Reader = Callable[[bytes], None]
# what stands in files that break readers: ends of lines, quotes, separators, numbers that are none, signs of two bytes
ODD = (
    b"\0", b"\n", b"\r", b'"', b"'", b",", b";", b"\t", b"=", b"[", b"]", b"{", b"..", b"/", b"\\",
    b"\xff\xfe", b"\xef\xbb\xbf",
    b"nan", b"inf", b"-1", b"1e999", b"9" * 400, b"0x10", b"1_0", b"\xe2\x80\xae", b"\x1b[31m",
    b"\xed\xa0\x80", b"e\xcc\x81",
    b"\xef\xbc\x90", b"%00", b"#", b"\xff" * 4, b"\x80", b"\x7f\xff\xff\xff", b" ", b"true", b"[[",
    b'"""', b"_", b"a" * 300,
)  # fmt: skip


def mutated(data: bytes, chance: random.Random, *, odd: Sequence[bytes] = ()) -> bytes:
    """Change, cut, repeat or add a few bytes, or put something odd among them."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(changed) + 1)
        end = min(len(changed), at + chance.randint(1, 16))
        kind = chance.randrange(5 if odd else 4)
        if kind == 0 and at < len(changed):
            changed[at] = chance.randrange(256)
        elif kind == 1:
            del changed[at:end]
        elif kind == 2:
            changed[at:at] = changed[at:end]
        elif kind == 3:
            changed[at:at] = chance.randbytes(chance.randint(1, 8))
        elif kind == 4:
            changed[at : at + chance.randrange(4)] = chance.choice(odd)
    return bytes(changed)


def run(kinds: Mapping[str, tuple[Reader, Sequence[bytes]]], seconds: float, *, slow: float = 20.0) -> None:
    """Give changed inputs to readers in turn until the time is over, and say how many of each kind there were.

    Args:
        kinds: by name, a reader and whole inputs to start from.
        seconds: in all.
        slow: seconds that a reader may take for one input.
    """
    ends, counts, chance = time.monotonic() + seconds, Counter[str](), random.Random()
    while time.monotonic() < ends:
        for name, (read, seeds) in kinds.items():
            for _ in range(20):
                data = mutated(chance.choice(seeds), chance, odd=ODD)
                began = time.monotonic()
                try:
                    read(data)
                    assert time.monotonic() - began < slow, "too slow"
                except BaseException:
                    Path(f"fuzz_failure_{name.replace(' ', '_')}.bin").write_bytes(data)
                    raise
                counts[name] += 1
    sys.stdout.write(", ".join(f"{count:,} {name}" for name, count in counts.items()) + ": no exception but ours\n")
