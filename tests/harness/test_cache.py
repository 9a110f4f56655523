"""The cache makes a value once and never takes half of one for whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from harness.cache import Cache
from harness.errors import HarnessError
from harness.files import write_whole


def test_makes_once(tmp_path: Path) -> None:
    """Many at once asking for one value make it once."""
    made: list[int] = []

    def make() -> int:
        made.append(1)
        return 7

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: Cache(tmp_path).get("kind", "abcd", make), range(16)))
    assert (answers, len(made)) == ([7] * 16, 1)


@pytest.mark.parametrize("kept", [0, 10, -1])
def test_damaged_entry_is_made_anew(tmp_path: Path, kept: int) -> None:
    """A truncated or altered entry is not believed."""
    cache = Cache(tmp_path)
    cache.get("kind", "abcd", lambda: np.arange(100))
    (path,) = tmp_path.rglob("*.npz")
    content = path.read_bytes()
    path.write_bytes(content[:kept])
    assert (cache.get("kind", "abcd", lambda: np.arange(100)) == np.arange(100)).all()
    assert path.read_bytes() == content


def test_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    """A write that fails leaves the older file and nothing beside it."""
    path = tmp_path / "file"
    write_whole(path, b"old")
    with pytest.raises(TypeError):
        write_whole(path, "not bytes")  # type: ignore[arg-type]  # the fault under test
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_memo_tells_features_apart(tmp_path: Path) -> None:
    """A memo belongs to its feature matrix: other features, other values."""
    cache = Cache(tmp_path)
    one, other = cache.memo(np.zeros((2, 2))), cache.memo(np.ones((2, 2)))
    assert (one("x", lambda: 1), other("x", lambda: 2), one("x", lambda: 3)) == (1, 2, 1)


def test_unwritable_folder_is_one_sentence(tmp_path: Path) -> None:
    """A cache that cannot be made says where and how to name another one."""
    (tmp_path / "file").write_text("")
    with pytest.raises(HarnessError, match="ASDBENCH_CACHE"):
        Cache(tmp_path / "file" / "cache")
