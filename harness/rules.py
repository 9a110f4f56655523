"""Which metric rule (definition of the official score) belongs to which year."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import plugins

if TYPE_CHECKING:
    from benchmarks.contract import RuleName


def rule_of(dataset: str) -> RuleName:
    """Return the name of a year's metric rule."""
    rule: RuleName = plugins.load("dataset", dataset).rule
    return rule
