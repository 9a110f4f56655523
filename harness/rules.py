"""Whose metric definition holds for which year."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import plugins

if TYPE_CHECKING:
    from benchmarks.contract import RuleName


def rule_of(dataset: str) -> RuleName:
    """Return whose metric definition holds for a year."""
    rule: RuleName = plugins.load("dataset", dataset).rule
    return rule
