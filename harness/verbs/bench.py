"""The fixed regression study on one backbone, and its verdict against a baseline."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.places import Places, find_places

if TYPE_CHECKING:
    from harness.answers.board import BoardRow
    from harness.gate.regression import Verdict
    from harness.studies.progress import Event, Outcome
    from harness.studies.study_file import StudyFile
    from harness.told import Told

STUDY = "regression"


@dataclass(frozen=True)
class Benched:
    """The result of `bench_backbone`.

    Attributes:
        study: name under which the study is recorded.
        outcome: how the study ended.
        rows: leaderboard of the same protocol and recordings: this backbone's rows, and all recorded before.
        verdict: against the baseline, as `harness.gate.regression.regress` returns it; None without a baseline.
    """

    study: str
    outcome: Outcome
    rows: list[BoardRow]
    verdict: Verdict | None


def bench_backbone(
    backbone: str,
    *,
    weights: str = "",
    options: Mapping[str, Any] | None = None,
    called: str | None = None,
    data: Path | None = None,
    protocol: str | None = None,
    seeds: int | None = None,
    baseline: str | None = None,
    margin: float = 0.5,
    allow: Collection[str] = (),
    junit: Path | None = None,
    workers: int | None = None,
    places: Places | None = None,
    told: Told | None = None,
    listen: Event = lambda _progress: None,
    say: Callable[[str], None] = lambda _sentence: None,
) -> Benched:
    """Run the regression study on a backbone, from wherever it stopped; judge it against a baseline if one is named.

    Args:
        backbone: an encoder by name, or hf:FOLDER.
        weights: a checkpoint; empty is random weights from each seed.
        options: of the encoder.
        called: name on leaderboards; None is the encoder's name, of hf:FOLDER the folder's behind "hf-".
        data: folder with recordings; None uses those of `asdbench demo`, and generates them if they are missing.
        protocol: which recordings train and which are scored; None is the study's, made for the generated recordings.
        seeds: number of seeds, counted from 0; None is the study's three.
        baseline: a file from `asdbench baseline export`, or another reference to recorded results, as in `regress`.
        margin: largest loss of the official score that does not matter, in percentage points.
        allow: names of settings and of the recipe's fields that may differ from the baseline.
        junit: JUnit file to write the verdict to.
        workers: number of trials that run at the same time.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.
        told: called with (what, done, total) while recordings are prepared.
        listen: called with the study's `Progress` after each trial.
        say: called with what is planned and about how long it takes, before the first trial.

    Raises:
        HarnessError: the baseline cannot be read, before anything is run; or the study cannot be carried out.
    """
    from harness import verbs
    from harness.errors import HarnessError
    from harness.gate.baseline_file import read_baseline
    from harness.gate.named import is_file_name
    from harness.studies.plan import make_plan
    from harness.tables import how_many, lasting
    from harness.told import silent
    from harness.verbs.demonstration import RECORDINGS, generate_recordings  # its results can be compared with

    places, told = places or find_places(), told or silent
    if baseline is not None and is_file_name(baseline):
        read_baseline(Path(baseline))  # now, not after the study, so that a wrong name is reported at once
    name = called or name_of(backbone)
    file = study_of(backbone, called=name, weights=weights, options=options, protocol=protocol, seeds=seeds)
    make_plan(file, root=data)  # finds the encoder and its weights, or says that they are not there, before the rest
    if data is None:
        generate_recordings(RECORDINGS, told=told)
    costs = verbs.study_plan(file, data=data or RECORDINGS, workers=workers, places=places, told=told)
    say(
        f"About {lasting(3600 * costs['hours'])} with {how_many(costs['workers'], 'trial')} at a time "
        f"({costs['basis']}), less where trials are recorded already. Stop it whenever you like: the same command goes "
        "on."
    )
    outcome = verbs.study_run(
        file, data=data or RECORDINGS, workers=workers, places=places, told=told, listen=listen, say=say
    )
    if not outcome.progress.finished:
        reasons = " ".join(dict.fromkeys(outcome.failures.values()))
        raise HarnessError(f"Backbone {name} must finish a trial to be benched, but all failed: {reasons}")
    own = verbs.leaderboard(places=places, study=outcome.key)[0]
    board = verbs.leaderboard(places=places, protocol=own["protocol"])
    verdict = None
    if baseline is not None:
        verdict = verbs.regress(
            baseline, f"{outcome.key}:{name}", margin=margin, allow=allow, junit=junit, places=places
        )
    return Benched(file.name, outcome, [row for row in board if row["data"] == own["data"]], verdict)


def name_of(backbone: str) -> str:
    """Return how a study calls a backbone: `hf-wavlm` for `hf:models/wavlm`, since studies' names have no colon."""
    from backbones import named_weights

    front, place = named_weights(backbone)
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(place.partition("@")[0]).name).strip("-")
    return f"{front}-{plain}" if plain else front


def study_of(
    backbone: str,
    *,
    called: str,
    weights: str = "",
    options: Mapping[str, Any] | None = None,
    protocol: str | None = None,
    seeds: int | None = None,
) -> StudyFile:
    """Return the regression study with this backbone; it is recorded under the name `regression-NAME`.

    Raises:
        HarnessError: there is no such encoder, or the name cannot be part of a study's name.
    """
    from backbones import named_weights
    from harness import plugins
    from harness.errors import HarnessError
    from harness.studies.study_file import checked_study, read_study

    if named_weights(backbone)[0] not in plugins.names("backbone"):
        raise HarnessError(plugins.unknown("backbone", backbone, plugins.names("backbone")))
    shipped = read_study(STUDY).model_dump()
    table = {
        **shipped,
        "name": f"{STUDY}-{called}",
        "space": {**shipped["space"], "backbone": [called]},
        "backbones": {called: {"encoder": backbone, "weights": weights, "options": dict(options or {})}},
    }
    if protocol is not None:
        table["protocol"] = protocol
    if seeds is not None:
        table["seeds"] = list(range(seeds))
    return checked_study(table, f"{STUDY}-{called}")
