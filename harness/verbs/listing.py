"""The names that studies and verbs accept: backbones, losses, strategies, datasets, scorers, protocols, studies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness import plugins
from harness.errors import HarnessError


def ls(kind: str | None = None) -> list[dict[str, Any]]:
    """List the names that studies and verbs accept, without importing any plugin.

    Args:
        kind: backbones, losses, strategies, datasets, scorers, protocols or studies, or one of these in the singular;
            None lists all of them.

    Returns:
        A row for each name: `kind`, `name`, `summary`.

    Raises:
        HarnessError: there is no such kind.
    """
    several = SINGULAR.get(kind or "", kind)
    if several is not None and several not in LISTS:
        raise HarnessError(plugins.unknown("ls", several, LISTS))
    return [row for name, rows in LISTS.items() if several in (None, name) for row in rows()]


def _list_plugins(kind: plugins.PluginKind) -> Callable[[], list[dict[str, Any]]]:
    return lambda: [{"kind": kind, "name": name, "summary": said} for name, said in plugins.summaries(kind).items()]


def _list_scorers() -> list[dict[str, Any]]:
    from harness.scoring.choice import list_scorers

    return list_scorers(plugins.summaries("scorer"))


def _list_protocols() -> list[dict[str, Any]]:
    from benchmarks.protocols import ALIASES, PROTOCOLS

    summaries = {name: each.summary for name, each in PROTOCOLS.items()}
    summaries |= {name: f"another name of {meant}" for name, meant in ALIASES.items()}
    return [{"kind": "protocol", "name": name, "summary": summary} for name, summary in summaries.items()]


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
# as the column "kind" says it -> what lists it
SINGULAR = {
    "backbone": "backbones", "loss": "losses", "strategy": "strategies", "dataset": "datasets", "scorer": "scorers",
    "protocol": "protocols", "study": "studies",
}  # fmt: skip
