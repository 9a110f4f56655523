"""What recorded results say: leaderboard, comparison, published tables, report."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.places import Places, code_revision, find_places, sqlite_path
from harness.verbs.stores import open_results

if TYPE_CHECKING:
    from harness.answers.board import BoardRow
    from harness.answers.compare import ComparedRow
    from harness.answers.importance import ImportanceRow
    from harness.answers.published import PublishedRow
    from harness.report.page import Written


def leaderboard(
    *,
    study: str | None = None,
    protocol: str | None = None,
    backbone: str | None = None,
    machine: str | None = None,
    scorer: str | None = None,
    top: int | None = None,
    references: bool = True,
    places: Places | None = None,
) -> list[BoardRow]:
    """Rank everything that is recorded, best first, with chance and published results beside it.

    Args:
        study: only this study's trials, by its name (the newest of that name) or key.
        protocol: only this protocol's.
        backbone: only this backbone's, and the level row, which has none.
        machine: rank by this machine type's harmonic mean instead of the official score.
        scorer: only this scorer's, such as `knn:k=5`, and the level row.
        top: return only so many rows of each board, and its best frozen and level rows.
        references: add chance and published results; see `harness.answers.references.with_references`.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.

    Returns:
        A row for each combination of backbone, M, K1, K2 and so on, averaged over its seeds; scores are fractions. The
        fields are described in `harness.answers.leaderboard.leaderboard`.

    Raises:
        HarnessError: nothing is recorded, or nothing of that name.
    """
    from harness.answers.leaderboard import leaderboard as rank
    from harness.answers.question import Question
    from harness.answers.references import with_references

    question = Question(study, protocol, backbone, canonical_scorer(scorer))
    with open_results(places or find_places()) as results:
        rows = rank(results, question, machine=machine, top=top)
        return with_references(rows, results, backbone=backbone, machine=machine) if references else rows


def reference(name: str | None = None, *, places: Places | None = None) -> list[PublishedRow]:
    """Return published numbers, each beside the one of the same configuration recorded here, if there is one.

    Args:
        name: one published table: paper, official_baseline, asdkit, rmis or dcase2026; None is all of them.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.

    Returns:
        One row a number; fractions. See `harness.answers.published.reference`.

    Raises:
        HarnessError: there is no such table.
    """
    from harness.answers.published import reference as beside

    places = places or find_places()
    path = sqlite_path(places.results)
    if path is not None and not path.is_file():  # the published numbers need no database
        return beside(None, name)
    with open_results(places) as results:
        return beside(results, name)


def compare(
    *,
    study: str | None = None,
    protocol: str | None = None,
    backbone: str | None = None,
    scorer: str | None = None,
    families: int | None = 50,
    resamples: int = 1000,
    seed: int = 0,
    places: Places | None = None,
) -> list[ComparedRow]:
    """Compare every M with M = 1, paired by seed, with intervals and corrected p-values.

    Args:
        study: only this study's trials, by its name (the newest of that name) or key.
        protocol: only this protocol's.
        backbone: only this backbone's.
        scorer: only this scorer's, as in `knn:k=5`.
        families: most that are compared, those with the best scores; None compares all, a second or so each.
        resamples: of the bootstrap.
        seed: of the bootstrap's draws.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.

    Returns:
        A row for each M > 1, with the result in words under "sentence"; differences are fractions. See
        `harness.answers.compare.compare`.

    Raises:
        HarnessError: nothing is recorded, there is no M = 1 or no other M, or no seed that both have.
    """
    from harness.answers.compare import compare as paired
    from harness.answers.question import Question

    question = Question(study, protocol, backbone, canonical_scorer(scorer), resamples=resamples, seed=seed)
    with open_results(places or find_places()) as results:
        return paired(results, question, families=families)


def importance(
    *,
    study: str | None = None,
    protocol: str | None = None,
    backbone: str | None = None,
    scorer: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    places: Places | None = None,
) -> list[ImportanceRow]:
    """Compute how much of the variance of recorded scores each choice explains: M, the scorer, the seed, ...

    Args:
        study: only this study's trials, by its name (the newest of that name) or key.
        protocol: only this protocol's.
        backbone: only this backbone's.
        scorer: only this scorer's, as in `knn:k=5`.
        resamples: bootstrap resamples for the intervals.
        seed: of the bootstrap and of the permutation test.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.

    Returns:
        One row a board and choice; fractions. See `harness.answers.importance.importance`.

    Raises:
        HarnessError: nothing is recorded, or nothing of that name.
    """
    from harness.answers.importance import importance as shares
    from harness.answers.question import Question
    from harness.studies.importance import MOST, ped_anova

    question = Question(study, protocol, backbone, canonical_scorer(scorer), resamples=resamples, seed=seed)
    with open_results(places or find_places()) as results:
        return shares(results, question, importances=partial(ped_anova, most=MOST))


def canonical_scorer(scorer: str | None) -> str | None:
    """Return a scorer in canonical form; a bare name is returned as it is if no plugin here has it."""
    from harness.scoring.choice import parse_scorer

    return str(parse_scorer(scorer)) if scorer and ":" in scorer else scorer


def report(
    out: Path,
    *,
    study: str | None = None,
    protocol: str | None = None,
    backbone: str | None = None,
    scorer: str | None = None,
    comparisons: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
    log: bool = True,
    places: Places | None = None,
) -> Written:
    """Write one self-contained HTML page of what is recorded: the answer, figures, tables, how to reproduce it.

    Args:
        out: the page's file, ending in .html; one that is there is replaced.
        study: only this study's trials, by its name (the newest of that name) or key.
        protocol: only this protocol's.
        backbone: only this backbone's.
        scorer: only this scorer's, as in `knn:k=5`.
        comparisons: number of families (settings that differ in M alone) to compare on each board; None compares the
            best 20, and only the best one on a board of over 1,000 trials.
        resamples: of the comparisons' bootstrap.
        seed: of the bootstrap's draws.
        log: add the page to the study's MLflow run, where a study is named.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.

    Returns:
        Where the page is, how large, and the comparisons' sentences. See `harness.report.page.report`.

    Raises:
        HarnessError: nothing is recorded, nothing of that name, or the file cannot be written.
    """
    from harness.answers.question import Question
    from harness.report.page import report as write

    question = Question(study, protocol, backbone, canonical_scorer(scorer), resamples=resamples, seed=seed)
    places = places or find_places()
    with open_results(places) as results:
        tracker = None
        if log and (study or places.tracking.startswith("http")):
            from harness.stores.tracker import Tracker

            tracker = Tracker(places.tracking, code=code_revision())
        return write(results, out, question, comparisons=comparisons, tracking=places.tracking, tracker=tracker)
