"""Finds plugins by name: backbones, losses, labeling strategies, datasets and scorers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, TypeAlias

from backbones import BACKBONES, LOSSES
from backbones.plugins import OpenFolder, did_you_mean, unknown
from harness.errors import HarnessError

__all__ = ["PLACES", "PluginKind", "did_you_mean", "load", "names", "summaries", "unknown"]

PluginKind: TypeAlias = Literal["backbone", "loss", "strategy", "dataset", "scorer"]

PLACES: dict[PluginKind, OpenFolder] = {
    "backbone": replace(BACKBONES, refuse=HarnessError),
    "loss": replace(LOSSES, refuse=HarnessError),
    "strategy": OpenFolder(
        "strategy", "labeling.strategies", "STRATEGY", "labeling.contract:Strategy", "asdbench.strategies", HarnessError
    ),
    "dataset": OpenFolder(
        "dataset", "benchmarks.datasets", "DATASET", "benchmarks.contract:Dataset", "asdbench.datasets", HarnessError
    ),
    "scorer": OpenFolder(
        "scorer", "harness.scorers", "SCORER", "harness.scoring.contract:Scorer", "asdbench.scorers", HarnessError
    ),
}


def names(kind: PluginKind) -> list[str]:
    """List the names of a kind of plugin, sorted, without importing the plugins."""
    return PLACES[kind].names()


def summaries(kind: PluginKind) -> dict[str, str]:
    """Return name -> first line of the plugin's docstring, read without importing it."""
    return PLACES[kind].summaries()


def load(kind: PluginKind, name: str) -> Any:
    """Import one plugin and return the constant that it declares.

    Raises:
        HarnessError: nothing has that name, it cannot be imported, or it does not declare its constant.
    """
    return PLACES[kind].load(name)
