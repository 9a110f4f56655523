"""What names a baseline or a candidate: a file that was exported, or something recorded."""

from __future__ import annotations

from pathlib import Path

FILES = (".json", ".json.gz")  # how files that are exported end


def is_file_name(reference: str) -> bool:
    """Tell whether a reference means a file."""
    try:
        return reference.endswith(FILES) or Path(reference).is_file()
    except (OSError, ValueError):  # too long for a name, or with a sign that no name has
        return False
