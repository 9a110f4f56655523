"""A baseline's file is anybody's: each input is taken whole or refused in one sentence that names the file."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.gate import baseline_file
from harness.gate.baseline_file import checksum, read_baseline
from harness.gate.named import is_file_name
from harness.stores.readings import TEST_COLUMNS

CONTENT: dict[str, Any] = {
    "name": "n", "backbone": "tiny", "protocol": "p", "train_data": "a", "test_data": "b", "code": "c",
    "columns": TEST_COLUMNS,
    "clips": [
        ["one", "dcase2023", "fan", "00", "source", "normal"], ["two", "dcase2023", "fan", "00", "target", "anomaly"],
    ],
    "cells": [
        {"kind": "trial", "m": 1, "k1": 15, "k2": 15, "fusion": "composite", "labels": "paper", "scorer": "knn",
         "trials": [{"seed": 0, "key": "k", "scores": [0.1, 0.2]}]}
    ],
}  # fmt: skip
Edit = Callable[[dict[str, Any]], object]


def document(edit: Edit = lambda _: None, **around: Any) -> dict[str, Any]:
    """A file's document whose checksum is right, however its content was edited."""
    content = deepcopy(CONTENT)
    edit(content)
    return {"format": "asdbench-baseline", "version": 1, "sha256": checksum(content), "content": content, **around}


def encoded(edit: Edit = lambda _: None, **around: Any) -> bytes:
    """The same as bytes."""
    return json.dumps(document(edit, **around)).encode()


def cell(content: dict[str, Any]) -> dict[str, Any]:
    """The one setting."""
    found: dict[str, Any] = content["cells"][0]
    return found


def trial(content: dict[str, Any]) -> dict[str, Any]:
    """The one trial."""
    found: dict[str, Any] = cell(content)["trials"][0]
    return found


PACKED = gzip.compress(encoded())
TAKEN = {
    "as it was exported": encoded(),
    "compressed": PACKED,
    "in two members": gzip.compress(encoded()[:50]) + gzip.compress(encoded()[50:]),
    "with a byte order mark": b"\xef\xbb\xbf" + encoded(),
    "without an M": encoded(lambda c: cell(c).update(m=None)),
    "with a hostile name": encoded(lambda c: c.update(backbone="\x1b[31m</script>")),
}
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "cannot be read"),
    "a page": (b"<html>", "cannot be read"),
    "zeros": (b"\0" * 100, "cannot be read"),
    "a list": (b"[]", "something else"),
    "null": (b"null", "something else"),
    "another format": (encoded(format="x"), "something else"),
    "deep lists": (b"[" * 200_000, "cannot be read"),
    "deep objects": (b'{"a":' * 200_000, "cannot be read"),
    "a number of 5,000 digits": (b'{"version":' + b"9" * 5000 + b"}", "cannot be read"),
    "cut": (encoded()[:-20], "cannot be read"),
    "latin-1": (b'{"format":"\xe9"}', "cannot be read"),
    "version 2": (encoded(version=2), "has version 2"),
    "version 1.0": (encoded(version=1.0), "has version 1.0"),
    "version true": (encoded(version=True), "has version True"),
    "a version of escapes": (encoded(version="\x1b[31m"), r"has version '\\x1b\[31m'"),
    "a version of 100,000 digits": (encoded(version="9" * 100_000), "has version '9999"),
    "no sum": (encoded(sha256=None), "does not match its checksum"),
    "a sum that is a list": (encoded(sha256=[1]), "does not match its checksum"),
    "edited": (encoded().replace(b"0.1", b"0.9"), "does not match its checksum"),
    "content that is a list": (encoded(content=[]), "does not match its checksum"),
    "NaN": (encoded(lambda c: trial(c).update(scores=[float("nan"), 1.0])), "NaN is no number"),
    "infinity": (encoded(lambda c: trial(c).update(scores=[float("inf"), 1.0])), "Infinity is no number"),
    "1e400": (
        encoded(lambda c: trial(c).update(scores=[float("inf"), 1.0])).replace(b"Infinity", b"1e400"),
        "scores.0: Input should be a finite number",
    ),
    "scores that are true and text": (encoded(lambda c: trial(c).update(scores=[True, "2"])), "scores.0"),
    "scores that are no list": (encoded(lambda c: trial(c).update(scores=5)), "scores: Input should be"),
    "too few scores": (encoded(lambda c: trial(c).update(scores=[1.0])), "a score a clip, but trial k has 1 for 2"),
    "a seed below zero": (encoded(lambda c: trial(c).update(seed=-1)), "seed: Input should be greater"),
    "a seed of 2^63": (encoded(lambda c: trial(c).update(seed=2**63)), "seed: Input should be less"),
    "a seed of 400 digits": (encoded(lambda c: trial(c).update(seed=10**400)), "seed"),
    "a seed that is true": (encoded(lambda c: trial(c).update(seed=True)), "seed: Input should be a valid integer"),
    "a seed twice": (
        encoded(lambda c: cell(c)["trials"].append({"seed": 0, "key": "other", "scores": [5.0, 6.0]})),
        "one trial a setting and seed",
    ),
    "a trial under two seeds": (
        encoded(lambda c: cell(c)["trials"].append({"seed": 1, "key": "k", "scores": [5.0, 6.0]})),
        "each trial once, but k stands for",
    ),
    "a setting twice": (encoded(lambda c: c["cells"].append(deepcopy(cell(c)))), "each setting once"),
    "no trials": (encoded(lambda c: cell(c).update(trials=[])), "trials: List should have at least 1"),
    "no settings": (encoded(lambda c: c.update(cells=[])), "cells: List should have at least 1"),
    "no clips": (encoded(lambda c: c.update(clips=[])), "clips: List should have at least 1"),
    "a clip twice": (encoded(lambda c: c.update(clips=[c["clips"][0]] * 2)), "each clip once, but has one twice"),
    "a clip of five columns": (encoded(lambda c: c["clips"][0].pop()), "clips.0"),
    "a condition that nobody knows": (encoded(lambda c: c["clips"][0].__setitem__(5, "odd")), "clips.0.5"),
    "a clip without a name": (encoded(lambda c: c["clips"][0].__setitem__(0, None)), "clips.0.0"),
    "other columns": (encoded(lambda c: c.update(columns=["a"])), "must hold clips with clip_id"),
    "an unknown kind": (encoded(lambda c: cell(c).update(kind="chance")), "kind: Input should be"),
    "an M of 0": (encoded(lambda c: cell(c).update(m=0)), "must give M as a whole number"),
    "an M of a billion": (encoded(lambda c: cell(c).update(m=10**9)), "must give M as a whole number"),
    "an M that is true": (encoded(lambda c: cell(c).update(m=True)), "must give M as a whole number"),
    "K1 in words": (encoded(lambda c: cell(c).update(k1="15")), "must give K1 as a whole number"),
    "a fusion that is a list": (encoded(lambda c: cell(c).update(fusion=["set"])), "must give fusion as up to"),
    "no labels said": (encoded(lambda c: cell(c).pop("labels")), "must say each setting's labels"),
    "a choice that nobody knows": (encoded(lambda c: cell(c).update(x=1)), "this version of asdbench knows, but has x"),
    "a name of a megabyte": (encoded(lambda c: c.update(name="n" * 10**6)), "name: String should have at most"),
    "an unknown field": (encoded(lambda c: c.update(x=1)), "x: Extra inputs are not permitted"),
    "half a surrogate pair": (encoded(lambda c: c.update(backbone="\ud800")), "backbone"),
    "compressed and cut": (PACKED[:-20], "cannot be read"),
    "a wrong sum of what is compressed": (PACKED[:-8] + b"\0" * 8, "cannot be read"),
    "compression's first two bytes": (b"\x1f\x8b", "cannot be read"),
    "no compression behind its first bytes": (b"\x1f\x8b" + bytes(range(100)), "cannot be read"),
    "something behind the compressed": (PACKED + b"junk", "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_whole_is_taken(name: str, tmp_path: Path) -> None:
    """A whole file is read, whatever its names say and however it is packed."""
    path = tmp_path / "baseline.json"
    path.write_bytes(TAKEN[name])
    arm = read_baseline(path)
    (scores,) = arm.scores.values()
    assert scores[0].tolist() == [0.1, 0.2]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_is_one_sentence(name: str, tmp_path: Path) -> None:
    """Anything else is one sentence: the file, what is wrong, and no more than a reader reads."""
    content, said = REFUSED[name]
    path = tmp_path / "baseline.json"
    path.write_bytes(content)
    with pytest.raises(HarnessError, match=said) as refused:
        read_baseline(path)
    sentence = str(refused.value)
    assert str(path) in sentence
    assert len(sentence) < 500
    assert "\n" not in sentence
    assert "\x1b" not in sentence


PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "must be a regular file"),
    "a folder": (Path.mkdir, "must be a regular file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "cannot: Too many levels"),
    "a device without end": (lambda path: path.symlink_to("/dev/zero"), "must be a regular file"),
    "nothing": (lambda _: None, "there is no"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "there is no"),
}


@pytest.mark.parametrize("name", PLACES)
def test_what_is_no_file_is_said_at_once(name: str, tmp_path: Path) -> None:
    """Pipes, folders and devices under a baseline's name are not waited for."""
    make, said = PLACES[name]
    path = tmp_path / "baseline.json"
    make(path)
    with pytest.raises(HarnessError, match=said):
        read_baseline(path)


def test_a_small_file_that_unpacks_to_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is unpacked than a baseline can have, nor read of a file that is larger."""
    monkeypatch.setattr(baseline_file, "MOST_BYTES", 10_000)
    packing = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packing.compress(b"0" * 2**24) + packing.flush()
    for content in (bomb, b"0" * 20_000):
        path = tmp_path / "bomb.json.gz"
        path.write_bytes(content)
        with pytest.raises(HarnessError, match="must have at most 10,000 bytes, but has more"):
            read_baseline(path)


@pytest.mark.parametrize("reference", ["a" * 5000, "a\0b", "a/" * 3000])
def test_names_that_no_file_can_have(reference: str) -> None:
    """What cannot be a file's name is not a file: it names a study, or nothing."""
    assert not is_file_name(reference)


def test_the_command_says_it_in_one_line(asdbench: Any, tmp_path: Path) -> None:
    """`regress` answers a wrong file with one line and exit status 1."""
    path = tmp_path / "b.json"
    path.write_bytes(REFUSED["a seed twice"][0])
    status, out, err = asdbench("regress --baseline {path} --candidate {path}", path=path)
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert "one trial a setting and seed" in err
