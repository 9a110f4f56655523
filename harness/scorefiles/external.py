"""Systems that were not run here: their score files, recorded beside our own trials."""

from __future__ import annotations

import hashlib

import pandas as pd

from backbones.training.recipe import FinetuneRecipe
from benchmarks.contract import DatasetPart, Protocol
from benchmarks.files import printable
from benchmarks.metrics.measures import machine_h_means
from harness.errors import HarnessError
from harness.keys import digest
from harness.pictures.candidates import png
from harness.pictures.scores import score_pictures
from harness.places import Places, code_revision
from harness.scorefiles.measured import MeasuredFolder
from harness.stores.recorder import Recorder
from harness.stores.results import Results
from harness.stores.tracker import Tracker
from harness.trials.contract import BackboneChoice, Kind, TrialResult, TrialSpec

EXTERNAL: Kind = "external"  # also the encoder and the scorer of such a system
MOST_NAME = 200  # characters of a system's name
LABEL_COLUMNS = ["clip_id", "machine", "section", "domain", "condition"]


def record_external(name: str, measured: MeasuredFolder, *, places: Places) -> dict[str, str]:
    """Record scores as a trial of the kind "external"; the same scores under the same name are recorded once.

    Args:
        name: of the system, as leaderboards print it.
        measured: its scores.
        places: of the stores.

    Returns:
        `key` and `run_id` of the trial.

    Raises:
        HarnessError: the name is empty, longer than 200 characters or not printable, or a store cannot be written.
    """
    if not name.strip():
        raise HarnessError("--record must name the system, but the name is empty.")
    if not name.strip().isprintable() or len(name) > MOST_NAME:
        raise HarnessError(
            f"--record must be a name of at most {MOST_NAME} characters without control characters, but got "
            f"{printable(name, most=60)}."
        )
    spec = external_spec(name.strip(), measured)
    key = spec.key()
    results = Results(places.results)
    try:
        run_id = results.run_of(key)
        if run_id is None:
            recorder = Recorder(Tracker(places.tracking, code=code_revision()), results)
            with recorder.open_trial(spec) as run_id:
                result = external_result(spec, measured)
                recorder.finish(run_id, result)
    finally:
        results.close()
    return {"key": key, "run_id": run_id}


def external_spec(name: str, measured: MeasuredFolder) -> TrialSpec:
    """Return the spec of somebody else's system: its name, its scores, and the clips that these are of."""
    clips, part = measured.found.clips, DatasetPart(measured.year.name, measured.found.part)
    scores = hashlib.sha256(repr(list(zip(clips["clip_id"], clips["score"], strict=True))).encode()).hexdigest()
    labels = clips[LABEL_COLUMNS].astype(object).where(clips[LABEL_COLUMNS].notna(), None)
    return TrialSpec(
        kind=EXTERNAL,
        # name and scores make the key: other scores under the same name are another trial
        backbone=BackboneChoice(name, EXTERNAL, options=(("system", name),), weights_sha256=scores),
        m=None,
        k1=None,
        k2=None,
        fusion="composite",
        protocol=Protocol(f"{part} scores", train=(), score=(part,), summary="score files of other systems"),
        seed=0,
        recipe=FinetuneRecipe(epochs=0),
        min_confidence=0.0,
        below="drop",
        train_data="",
        test_data=digest({"clips": labels.to_numpy().tolist()}),
        scorers=(EXTERNAL,),
    )


def external_result(spec: TrialSpec, measured: MeasuredFolder) -> TrialResult:
    """Return somebody else's scores as a trial's result."""
    clips, h_means = measured.found.clips, machine_h_means(measured.metrics, measured.year.rule)
    scored = clips.drop(columns=["path", "score"]).assign(**{f"score_{EXTERNAL}": clips["score"]})
    pictures = score_pictures(scored, measured.metrics, EXTERNAL)
    return TrialResult(
        spec=spec,
        metrics={EXTERNAL: measured.metrics},
        official={EXTERNAL: measured.official},
        machines={EXTERNAL: {machine: value for (_, machine), value in h_means.items() if value is not None}},
        labels=(),
        epochs=(),
        seconds={},
        peak_mb={},
        scored=scored,
        pseudo_labels=pd.DataFrame(),
        pictures={f"{each}_{EXTERNAL}.png": png(figure) for each, figure in pictures.items()},
        intervals={EXTERNAL: measured.intervals},
    )
