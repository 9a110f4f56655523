"""The names that studies and verbs accept: backbones, losses, strategies, datasets, scorers, protocols, studies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness import plugins
from harness.errors import HarnessError


def ls(kind: str | None = None) -> list[dict[str, Any]]:
    """List the names that studies and verbs accept, without importing any plugin.

    Args:
        kind: backbones, losses, strategies, datasets, scorers, protocols or studies; None lists all of them.

    Returns:
        A row for each name: `kind`, `name`, `summary`.

    Raises:
        HarnessError: there is no such kind.
    """
    if kind is not None and kind not in LISTS:
        raise HarnessError(plugins.unknown("ls", kind, LISTS))
    return [row for name, rows in LISTS.items() if kind in (None, name) for row in rows()]


def _list_plugins(kind: plugins.PluginKind) -> Callable[[], list[dict[str, Any]]]:
    return lambda: [{"kind": kind, "name": name, "summary": said} for name, said in plugins.summaries(kind).items()]


def _list_scorers() -> list[dict[str, Any]]:
    from harness.scoring.choice import list_scorers

    return list_scorers(plugins.summaries("scorer"))


def _list_protocols() -> list[dict[str, Any]]:
    from benchmarks.protocols import PROTOCOLS

    return [{"kind": "protocol", "name": name, "summary": each.summary} for name, each in PROTOCOLS.items()]


def _list_studies() -> list[dict[str, Any]]:
    from harness.studies.shipped import study_summaries

    return [{"kind": "study", "name": name, "summary": summary} for name, summary in study_summaries().items()]


LISTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "backbones": _list_plugins("backbone"),
    "losses": _list_plugins("loss"),
    "strategies": _list_plugins("strategy"),
    "datasets": _list_plugins("dataset"),
    "scorers": _list_scorers,
    "protocols": _list_protocols,
    "studies": _list_studies,
}
