"""What recorded results say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.places import Places, code_revision, find_places, sqlite_path
from harness.verbs.stores import open_results


def leaderboard(*, places: Places | None = None, references: bool = True, **chosen: Any) -> list[dict[str, Any]]:
    """Rank everything that is recorded; see `harness.answers.leaderboard.leaderboard`.

    Args:
        places: of the stores.
        references: add chance and published results; see `harness.answers.references.with_references`.
        chosen: study, protocol, backbone, machine, scorer, top.
    """
    from harness.answers.leaderboard import leaderboard as rank
    from harness.answers.references import with_references

    with open_results(places or find_places()) as results:
        rows = rank(results, **with_canonical_scorer(chosen))
        if not references:
            return rows
        return with_references(rows, results, backbone=chosen.get("backbone"), machine=chosen.get("machine"))


def reference(name: str | None = None, *, places: Places | None = None) -> list[dict[str, Any]]:
    """Return published numbers beside the same cells recorded here; see `harness.answers.published.reference`."""
    from harness.answers.published import reference as beside

    places = places or find_places()
    path = sqlite_path(places.results)
    if path is not None and not path.is_file():  # the published numbers need no database
        return beside(None, name)
    with open_results(places) as results:
        return beside(results, name)


def compare(*, places: Places | None = None, **chosen: Any) -> list[dict[str, Any]]:
    """Compare Top-M with Top-1, paired; see `harness.answers.compare.compare`."""
    from harness.answers.compare import compare as paired

    with open_results(places or find_places()) as results:
        return paired(results, **with_canonical_scorer(chosen))


def with_canonical_scorer(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return a question whose scorer is written as results carry it; a bare name may be one without a plugin here."""
    from harness.scoring.choice import parse_scorer

    scorer = chosen.get("scorer")
    return {**chosen, "scorer": str(parse_scorer(scorer))} if scorer and ":" in scorer else dict(chosen)


def report(out: Path, *, log: bool = True, places: Places | None = None, **chosen: Any) -> dict[str, Any]:
    """Write one self-contained page of what is recorded; see `harness.report.page.report`.

    Args:
        out: the page's file.
        log: add the page to the study's MLflow run, where a study is named.
        places: of the stores.
        chosen: study, protocol, backbone, scorer, comparisons, resamples, seed.
    """
    from harness.report.page import report as write

    places = places or find_places()
    with open_results(places) as results:
        tracker = None
        if log and (chosen.get("study") or places.tracking.startswith("http")):
            from harness.stores.tracker import Tracker

            tracker = Tracker(places.tracking, code=code_revision())
        return write(results, out, tracking=places.tracking, tracker=tracker, **with_canonical_scorer(chosen))
