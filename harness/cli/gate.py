"""The verbs `select`, `regress`, `baseline export` and `bench-backbone`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import (
    BackboneFilter,
    Db,
    Form,
    GroundTruth,
    Options,
    Optuna,
    ProtocolFilter,
    ScorerName,
    Seed,
    SkipBad,
    StudyName,
    Threads,
    Verb,
    Weights,
    options_of,
    places_of,
    recorded_in,
    tabular,
)

baseline_app = typer.Typer(no_args_is_help=True, help="Baselines: what later candidates are judged by.")

REFERENCE = "a run id, a trial key, STUDY, STUDY:BACKBONE, STUDY:BACKBONE:M or an exported file"
Margin = Annotated[float, typer.Option("--margin", help="Points of the official score that do not matter.")]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", metavar="NAME", help="A setting or recipe's field that may differ; may be repeated."),
]
Junit = Annotated[Path | None, typer.Option("--junit", help="Write the verdict to this JUnit file, too.")]
Resamples = Annotated[int, typer.Option(min=100, help="Of the bootstrap.")]


@tabular
def select(
    study: StudyName = None,
    protocol: ProtocolFilter = None,
    backbone: BackboneFilter = None,
    scorer: ScorerName = None,
    resamples: Resamples = 500,
    seed: Seed = 0,
    freeze: Annotated[
        Path | None, typer.Option("--freeze", metavar="FILE", help="Write the choice to this new .json, with a sum.")
    ] = None,
    year: Annotated[
        str | None,
        typer.Option("--year", show_default="the only one", help="With --freeze: of several, the year to choose on."),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="FILE", help="Say whether a frozen choice holds on other recordings."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            show_default="what is recorded",
            help="With --check: run its trials here; with --freeze: know its clips by sound.",
        ),
    ] = None,
    ground_truth: GroundTruth = None,
    skip_bad: SkipBad = False,
    threads: Threads = 1,
    db: Db = None,
    form: Form = "text",
) -> None:
    """Choose M, K1 and K2 on all other machines, report on the one left out, and say what picking on it would hide.

    With --freeze the best choice is written to a file before other recordings are scored; with --check, later, what it
    scores there is set against what it promised: exit 0 if it held, 1 if it did not or if these recordings cannot tell.

    Example: asdbench select --study paper --freeze choice.json
    """
    if check is not None:
        _only_for_check(study, backbone, scorer, freeze, year, data, protocol)
        if (resamples, seed) != (500, 0):
            raise typer.BadParameter("--resamples and --seed do not go with --check: the file says them.")
    else:
        _not_without_check(freeze, year, data, ground_truth, skip_bad=skip_bad, threads=threads)
    runs = check is not None and data is not None  # and makes a database where there is none
    places = places_of(db, None) if runs else recorded_in(db)
    from harness import verbs
    from harness.cli.console import telling
    from harness.cli.show import show_check, show_freeze, show_select

    if check is not None:
        with telling() as told:
            checked = verbs.select_check(
                check, data=data, protocol=protocol, ground_truth=ground_truth, skip_bad=skip_bad, threads=threads,
                places=places, told=told,
            )  # fmt: skip
        show_check(checked, form)
        if not checked["held"]:
            raise typer.Exit(1)
        return
    if freeze is not None:
        with telling() as told:
            frozen = verbs.select_freeze(
                freeze, places=places, study=study, protocol=protocol, backbone=backbone, scorer=scorer,
                year=year, resamples=resamples, seed=seed, data=data, ground_truth=ground_truth, skip_bad=skip_bad,
                told=told,
            )  # fmt: skip
        show_freeze(frozen, form)
        return
    rows = verbs.select(
        places=places, study=study, protocol=protocol, backbone=backbone, scorer=scorer,
        resamples=resamples, seed=seed,
    )  # fmt: skip
    show_select(rows, form)


def _only_for_check(
    study: str | None, backbone: str | None, scorer: str | None, freeze: Path | None, year: str | None,
    data: Path | None, protocol: str | None,
) -> None:  # fmt: skip
    """Refuse filters beside --check: what is checked stands in the file."""
    given = {"--study": study, "--backbone": backbone, "--scorer": scorer, "--freeze": freeze, "--year": year}
    given |= {"--protocol": None if data else protocol}
    for name, value in given.items():
        if value is not None:
            raise typer.BadParameter(f"{name} does not go with --check: what is checked stands in the file.")


def _not_without_check(
    freeze: Path | None, year: str | None, data: Path | None, ground_truth: Path | None, *, skip_bad: bool, threads: int
) -> None:
    """Refuse options that only --check or --freeze give a meaning."""
    if threads != 1:
        raise typer.BadParameter("--threads goes with --check FILE, whose trials it runs.")
    if data is None and (ground_truth is not None or skip_bad):
        name = "--skip-bad" if ground_truth is None else "--ground-truth"
        raise typer.BadParameter(f"{name} goes with --data, whose recordings it reads.")
    if data is not None and freeze is None:
        raise typer.BadParameter("--data goes with --check FILE, whose trials it runs, or with --freeze FILE.")
    if year is not None and freeze is None:
        raise typer.BadParameter("--year goes with --freeze FILE, whose choice it narrows.")


@tabular
def regress(
    baseline: Annotated[str, typer.Option("--baseline", help=f"What was recorded before: {REFERENCE}.")],
    candidate: Annotated[str, typer.Option("--candidate", help="What is judged, named likewise.")],
    margin: Margin = 0.5,
    scorer: ScorerName = None,
    allow: Allow = None,
    junit: Junit = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    db: Db = None,
    form: Form = "text",
) -> None:
    """Judge whether a candidate is worse than a baseline by more than a margin: exit 0 if not, 1 if it may be.

    Example: asdbench regress --baseline tiny.json.gz --candidate regression-tiny --margin 0.5 --junit regress.xml
    """
    from harness.gate.named import is_file_name

    # two files need no database, and what goes wrong belongs into the JUnit file where one is asked for
    early = junit is None and not (is_file_name(baseline) and is_file_name(candidate))
    places = recorded_in(db) if early else places_of(db, None)
    from harness import verbs
    from harness.cli.show import show_regress

    document = verbs.regress(
        baseline, candidate, margin=margin, scorer=scorer, junit=junit, resamples=resamples, seed=seed,
        allow=allow or (), places=places,
    )  # fmt: skip
    show_regress(document, form)
    if not document["accepted"]:
        raise typer.Exit(1)


@baseline_app.command("export", cls=Verb)
@tabular
def baseline_export(
    reference: Annotated[
        str,
        typer.Argument(metavar="REFERENCE", help="A run id, a trial key, STUDY, STUDY:BACKBONE or STUDY:BACKBONE:M."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The file, ending in .json or .json.gz.")],
    scorer: ScorerName = None,
    db: Db = None,
    form: Form = "text",
) -> None:
    """Write recorded results, clip scores and all, to a file that candidates are judged by.

    Example: asdbench baseline export regression-tiny --out tiny.json.gz
    """
    places = recorded_in(db)
    from harness import verbs
    from harness.cli.show import show_baseline

    document = verbs.baseline_export(reference, out=out, scorer=scorer, places=places)
    show_baseline(document, form)


def bench_backbone(
    backbone: Annotated[
        str, typer.Argument(metavar="BACKBONE", help="By name (see `asdbench ls backbones`), or hf:FOLDER.")
    ],
    weights: Weights = "",
    option: Options = None,
    name: Annotated[
        str | None, typer.Option("--name", show_default="as it is", help="What leaderboards call it.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", show_default="generated ones", help="Folder with recordings.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", show_default="the study's", help="What trains and what is scored.")
    ] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, show_default="3", help="How many.")] = None,
    baseline: Annotated[str | None, typer.Option("--baseline", help=f"Judge it against this: {REFERENCE}.")] = None,
    margin: Margin = 0.5,
    allow: Allow = None,
    junit: Junit = None,
    workers: Annotated[int | None, typer.Option(min=1, show_default="one a core", help="Trials at once.")] = None,
    db: Db = None,
    optuna: Optuna = None,
) -> None:
    """Run the fixed regression study on a backbone, show it beside what is recorded, and judge it if asked to.

    Run again, it goes on where it stopped. With --baseline the exit status is that of `asdbench regress`.

    Example: asdbench bench-backbone tiny --baseline tiny.json.gz --margin 0.5
    """
    from harness import verbs
    from harness.cli.console import note, say, telling, watching
    from harness.cli.show import show_leaderboard, show_regress

    with telling() as told, watching() as listen:
        benched = verbs.bench_backbone(
            backbone, weights=weights, options=options_of(option), called=name, data=data, protocol=protocol,
            seeds=seeds, baseline=baseline, margin=margin, allow=allow or (), junit=junit, workers=workers,
            places=places_of(db, optuna), told=told, listen=listen, say=note,
        )  # fmt: skip
    show_leaderboard(benched.rows, "text")
    for label, reason in benched.outcome.failures.items():
        say(f"failed: {label}: {reason}", style="red")
    if benched.verdict is not None:
        show_regress(benched.verdict, "text")
    if benched.outcome.failures or (benched.verdict is not None and not benched.verdict["accepted"]):
        raise typer.Exit(1)
    if benched.verdict is None:
        say(f"To judge others by it: asdbench baseline export {benched.study} --out {benched.study}.json.gz")
