"""The error class of the harness."""

from __future__ import annotations

from harness.credentials import scrubbed


class HarnessError(ValueError):
    """A study, trial or query cannot be carried out. The message is one sentence, in which passwords are masked."""

    def __init__(self, sentence: str) -> None:
        super().__init__(scrubbed(sentence))
