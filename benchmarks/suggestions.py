"""Suggests the name that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return " Did you mean X?" for the known name nearest to a wrong one, or "" where none is near."""
    folded = {candidate.casefold(): candidate for candidate in sorted(known)}
    near = difflib.get_close_matches(name.casefold(), list(folded), n=1)
    return f" Did you mean {folded[near[0]]}?" if near else ""
