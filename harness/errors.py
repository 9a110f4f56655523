"""The one error of the harness: a sentence."""

from __future__ import annotations

from harness.credentials import scrubbed


class HarnessError(ValueError):
    """A study, trial or question that cannot be carried out, said in one sentence, without a password in it."""

    def __init__(self, sentence: str) -> None:
        super().__init__(scrubbed(sentence))
