"""Files that are read take as much memory as they have bytes, and no more than they may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.files import read_bytes


def test_a_small_file_is_read_whatever_its_largest_size(tmp_path: Path) -> None:
    """A bound beyond all memory asks for no memory."""
    path = tmp_path / "small"
    path.write_bytes(b"few")
    assert read_bytes(path, most=2**60) == b"few"
    assert read_bytes(path, most=3) == b"few"
    with pytest.raises(HarnessError, match="at most 2 bytes"):
        read_bytes(path, most=2)


def test_a_file_of_some_size_is_read_to_its_end(tmp_path: Path) -> None:
    """Longer than what is asked for at least, and still whole."""
    (tmp_path / "long").write_bytes(b"x" * 3_000_000)
    assert len(read_bytes(tmp_path / "long")) == 3_000_000
