"""The verbs that judge, as Python functions: select with freeze and check, regress, baseline export."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from harness.errors import HarnessError
from harness.places import Places, code_revision, find_places
from harness.told import Told, silent

if TYPE_CHECKING:
    from benchmarks.contract import Protocol
    from harness.answers.selection import SelectedRow
    from harness.gate.baselines import RecordedArm
    from harness.gate.checks import Checked
    from harness.gate.frozen_choice import FrozenChoice
    from harness.gate.regression import Verdict
    from harness.stores.results import Results
    from harness.trials.contract import TrialSpec
    from harness.trials.recordings import Recordings


class Exported(TypedDict):
    """What a baseline's file holds; each row is a setting with its seeds."""

    file: str
    baseline: str
    backbone: str
    protocol: str
    train_data: str
    test_data: str
    clips: int
    rows: list[dict[str, Any]]


class Frozen(TypedDict):
    """What was frozen: the file, its checksum, what it says in words, and all that it holds."""

    file: str
    sha256: str
    sentence: str
    content: dict[str, Any]


def select(
    *,
    study: str | None = None,
    protocol: str | None = None,
    backbone: str | None = None,
    scorer: str | None = None,
    resamples: int = 500,
    seed: int = 0,
    places: Places | None = None,
) -> list[SelectedRow]:
    """Choose M, K1, K2 and fusion on all other machines, report on the one left out, and compare with test-set tuning.

    Args:
        study: only this study's trials, by its name (the newest of that name) or key.
        protocol: only this protocol's.
        backbone: only this backbone's.
        scorer: only this scorer's, as in `knn:k=5`.
        resamples: of the bootstrap; the choice is repeated in each.
        seed: of the bootstrap's draws.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.

    Returns:
        One row a backbone, labels, scorer, year and way of choosing; fractions. See `harness.answers.selection.select`.

    Raises:
        HarnessError: nothing is recorded, nothing of that name, or no board has two cells and two machines.
    """
    from harness.answers.question import Question
    from harness.answers.selection import select as chosen_elsewhere
    from harness.verbs.answers import canonical_scorer
    from harness.verbs.stores import open_results

    question = Question(study, protocol, backbone, canonical_scorer(scorer), resamples=resamples, seed=seed)
    with open_results(places or find_places()) as results:
        return chosen_elsewhere(results, question)


def select_freeze(
    file: Path,
    *,
    study: str | None = None,
    protocol: str | None = None,
    backbone: str | None = None,
    scorer: str | None = None,
    year: str | None = None,
    resamples: int = 500,
    seed: int = 0,
    data: Path | None = None,
    ground_truth: Path | None = None,
    skip_bad: bool = False,
    places: Places | None = None,
    told: Told = silent,
) -> Frozen:
    """Write what `select` chooses to a file with a checksum, before other recordings are scored: a pre-registration.

    Of several backbones, labels, scorers or recipes the one with the best score on machines left out is frozen. The
    file says what was chosen, by which rule, on which recordings, what it promises, and what will count as holding.

    Args:
        file: a new file, ending in .json.
        study: as of `select`.
        protocol: as of `select`.
        backbone: as of `select`.
        scorer: as of `select`.
        year: only what this year scored, such as dcase2023, where trials scored several; None allows one year alone.
        resamples: as of `select`.
        seed: as of `select`.
        data: folder with the recordings that it is chosen on: digests of the test clips' samples go to the file, by
            which a check tells new clips from these, whatever their names; None has their ids alone.
        ground_truth: with `data`, the user's copy of the official files about evaluation clips.
        skip_bad: with `data`, go on without files that cannot be used.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.
        told: called with (what, done, total) as work goes on.

    Returns:
        The file, its checksum (publish that), a sentence, and the file's content.

    Raises:
        HarnessError: there is nothing to choose, the trials are of several sets of recordings or years, a trial's
            record is not among its run's artifacts, `data` has other recordings, or the file exists.
    """
    from harness.answers.question import Question
    from harness.answers.selection import select as chosen_elsewhere
    from harness.gate.fresh import clip_sounds
    from harness.gate.frozen_choice import freeze, trials_of, winner, write_frozen
    from harness.verbs.answers import canonical_scorer
    from harness.verbs.stores import open_results

    places = places or find_places()
    question = Question(study, protocol, backbone, canonical_scorer(scorer), resamples=resamples, seed=seed)
    with open_results(places) as results:
        row, families = winner(chosen_elsewhere(results, question), year=year)
        trials, tested = results.trial_scores(), results.test_set(str(row["test_data"]))
    recorded = trials_of(trials, row)
    spec = _recorded_spec(places, recorded[min(recorded)])
    if data is not None:
        recordings = _recordings(
            data, spec.protocol, ground_truth=ground_truth, skip_bad=skip_bad, places=places, told=told
        )
        if recordings.test_data != spec.test_data:
            raise HarnessError(
                f"A choice is frozen with the test recordings that it is chosen on, but {data} has "
                f"{recordings.test_data} instead of {spec.test_data}; name their folder with --data, or leave it out."
            )
        clips = clip_sounds(recordings)
    elif tested is not None:
        clips = dict.fromkeys(tested["clip_id"].astype(str), "")
    else:
        raise HarnessError(
            f"A choice is frozen with the ids of its test clips, but those of {spec.test_data} are not recorded; name "
            "the folder of these recordings with --data."
        )
    asked = {**question.names(), "year": year, "resamples": resamples, "seed": seed}
    frozen = freeze(
        row, recorded, spec, families=families, question=asked, clips=clips,
        seen=[str(each) for each in trials["test_data"].unique()], code=code_revision(),
    )  # fmt: skip
    write_frozen(frozen, file)
    return {
        "file": str(file), "sha256": frozen.sha256, "sentence": frozen.sentence(),
        "content": frozen.content.model_dump(),
    }  # fmt: skip


def select_check(
    file: Path,
    *,
    data: Path | None = None,
    protocol: str | None = None,
    ground_truth: Path | None = None,
    skip_bad: bool = False,
    threads: int = 1,
    places: Places | None = None,
    told: Told = silent,
) -> Checked:
    """Say whether a frozen choice holds on other test recordings.

    Args:
        file: what `select_freeze` wrote.
        data: folder with the same training and other test recordings, on which the choice's trials are run as far as
            they are not recorded; None looks for recorded ones alone.
        protocol: with `data`, another protocol of the same rules that scores other parts; None is the frozen one.
        ground_truth: with `data`, the user's copy of the official files about evaluation clips.
        skip_bad: with `data`, go on without files that cannot be used.
        threads: of torch.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.
        told: called with (what, done, total) as work goes on.

    Returns:
        Whether it held, with a row for each set of test recordings and year; see `harness.gate.checks.check`.

    Raises:
        HarnessError: the file is not as it was frozen, the recordings are not those that could check it, or no trial
            on others is recorded yet.
    """
    from harness.gate.checks import check
    from harness.gate.frozen_choice import read_frozen
    from harness.verbs.stores import open_results

    places = places or find_places()
    frozen, test_data = read_frozen(file), None
    if data is not None:
        from benchmarks.protocols import find_protocol

        named = find_protocol(protocol) if protocol else frozen.spec.protocol
        test_data = _run_frozen(
            frozen, data, named, ground_truth=ground_truth, skip_bad=skip_bad, threads=threads, places=places, told=told
        )
    with open_results(places) as results:
        return check(
            frozen,
            results,
            file=str(file),
            spec_of=lambda row: _recorded_spec(places, row),
            test_data=test_data,
            compared=data is not None,
        )


def _recorded_spec(places: Places, row: Mapping[Any, Any]) -> TrialSpec:
    """Read from MLflow what a recorded trial was."""
    from harness.stores.history import fetch_spec, place_of_runs

    return fetch_spec(place_of_runs(str(row["origin"]), places.tracking), str(row["run_id"]), key=str(row["key"]))


def _recordings(
    root: Path, protocol: Protocol, *, ground_truth: Path | None, skip_bad: bool, places: Places, told: Told
) -> Recordings:
    """Prepare the recordings of a folder."""
    from harness.trials.recordings import prepare_recordings

    return prepare_recordings(
        root, protocol, places.open_cache(), ground_truth=ground_truth, skip_bad=skip_bad,
        progress=lambda done, total: told("reading recordings", done, total),
    )  # fmt: skip


def _run_frozen(
    frozen: FrozenChoice,
    root: Path,
    protocol: Protocol,
    *,
    ground_truth: Path | None,
    skip_bad: bool,
    threads: int,
    places: Places,
    told: Told,
) -> str:
    """Run a frozen choice's trials on other recordings, and return the fingerprint of these test recordings."""
    from dataclasses import replace

    from harness.gate.fresh import clip_sounds, demand_other_clips, demand_other_recordings
    from harness.gate.weights import weights_here
    from harness.trials.candidates import check_candidates
    from harness.trials.stages import check_layers
    from harness.verbs.trials import run_spec

    cache = places.open_cache()
    recordings = _recordings(root, protocol, ground_truth=ground_truth, skip_bad=skip_bad, places=places, told=told)
    demand_other_recordings(
        frozen, protocol, train_data=recordings.train_data, test_data=recordings.test_data, named=str(root)
    )
    demand_other_clips(frozen, clip_sounds(recordings), named=str(root))
    backbone = weights_here(frozen.spec.backbone)
    specs = {
        each: replace(spec, backbone=backbone) for each, spec in frozen.specs(protocol, recordings.test_data).items()
    }
    check_layers(list(specs.values()), recordings)
    check_candidates(list(specs.values()), recordings, cache)
    for done, spec in enumerate(specs.values()):
        told("trials", done, len(specs))
        run_spec(replace(spec, scorers=(frozen.scorer,)), recordings, cache, threads=threads, places=places, told=told)
    return recordings.test_data


def regress(
    baseline: str,
    candidate: str,
    *,
    margin: float = 0.5,
    scorer: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    allow: Collection[str] = (),
    junit: Path | None = None,
    places: Places | None = None,
) -> Verdict:
    """Judge whether a candidate is worse than a baseline by more than a margin.

    Args:
        baseline: a run id, a trial key, STUDY[:BACKBONE[:M]], or a file from `asdbench baseline export`.
        candidate: likewise.
        margin: largest loss of the official score that does not matter, in percentage points.
        scorer: only this scorer's results.
        resamples: of the bootstrap.
        seed: of its draws.
        allow: names of settings and of the recipe's fields that may differ between the two.
        junit: JUnit file to write the verdict to; if the comparison cannot be made, the error is written there.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.

    Returns:
        Whether the candidate is accepted, with a row for each setting, and for each setting and machine type. See
        `harness.gate.regression.regress`.

    Raises:
        HarnessError: the comparison cannot be made.
    """
    from harness.gate.junit import error_case, verdict_cases, write_junit
    from harness.gate.regression import regress as judged
    from harness.verbs.answers import canonical_scorer

    try:
        before, now = _arms(baseline, candidate, scorer=canonical_scorer(scorer), places=places or find_places())
        document = judged(before, now, margin=margin, resamples=resamples, seed=seed, allow=allow)
    except ValueError as error:
        if junit is not None:
            write_junit(error_case(str(error)), junit)
        raise
    if junit is not None:
        write_junit(verdict_cases(document), junit)
    return document


def baseline_export(reference: str, *, out: Path, scorer: str | None = None, places: Places | None = None) -> Exported:
    """Write recorded results to a file that later candidates are judged by, here or elsewhere.

    Args:
        reference: a run id, a trial key, or STUDY[:BACKBONE[:M]].
        out: the file, ending in .json or .json.gz.
        scorer: only this scorer's results.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.

    Returns:
        What the file holds, with a row a setting.

    Raises:
        HarnessError: nothing recorded has that name, or the file cannot be written.
    """
    from harness.gate.baseline_file import write_baseline
    from harness.gate.baselines import find_arm
    from harness.verbs.answers import canonical_scorer
    from harness.verbs.stores import open_results

    with open_results(places or find_places()) as results:
        arm = find_arm(results, reference, scorer=canonical_scorer(scorer))
    write_baseline(arm, out, code=code_revision())
    return {
        "file": str(out),
        "baseline": reference,
        "backbone": arm.backbone,
        "protocol": arm.protocol,
        "train_data": arm.train_data,
        "test_data": arm.test_data,
        "clips": len(arm.clips),
        "rows": [
            {"setting": setting.shown(), **setting.as_json(), "seeds": sorted(of_setting)}
            for setting, of_setting in arm.trials.items()
        ],
    }


def _arms(baseline: str, candidate: str, *, scorer: str | None, places: Places) -> tuple[RecordedArm, RecordedArm]:
    from harness.gate.baseline_file import read_baseline
    from harness.gate.baselines import find_arm, of_scorer
    from harness.gate.named import is_file_name
    from harness.verbs.stores import open_results

    files = [is_file_name(reference) for reference in (baseline, candidate)]
    opened: AbstractContextManager[Results | None] = nullcontext() if all(files) else open_results(places)
    with opened as results:

        def arm(reference: str, is_file: bool) -> RecordedArm:
            if is_file or results is None:
                return of_scorer(read_baseline(Path(reference)), scorer)
            return find_arm(results, reference, scorer=scorer)

        return arm(baseline, files[0]), arm(candidate, files[1])
