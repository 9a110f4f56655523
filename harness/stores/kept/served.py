"""A kept trial as an MLflow model: waveforms in, score, threshold and decision out.

MLflow runs this file where a model is loaded (`mlflow.pyfunc.load_model`, `mlflow models serve`); what the model holds
is read without running code of its own. An input is a table with a row a clip:

- `waveform`: numbers within -1..1, a list or (samples,) array; where the trial hears other channels than the first, a
  list of channels or (channels, samples) array.
- `sampling_rate`: Hz.
- `machine`, `section`: where the trial knows several; else they may be left out.

The parameter `scorer` chooses another scorer of the trial than its first. An output has a row a clip: `score`,
`threshold`, `decision` (anomalous or normal), `machine`, `section`, `nearest`, and `error`, a sentence where the clip
could not be scored.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel
from numpy.typing import NDArray

import asdbench  # noqa: F401 - first: makes `benchmarks` and `harness` ours where the working directory has others
from benchmarks.recordings.audio import from_memory
from benchmarks.recordings.packed import HeldClips
from harness.detection.bundle import read_detector
from harness.detection.detector import Detector, Unit
from harness.detection.new_clips import demand_sound
from harness.errors import HarnessError

COLUMNS = ("score", "threshold", "decision", "machine", "section", "nearest", "error")


# MLflow warns that `predict` has no types, which it would take for the input's schema; it sets filters of its own
with warnings.catch_warnings(record=True):

    class KeptTrial(PythonModel):  # type: ignore[misc]  # mlflow ships no types
        """A trial that scores waveforms."""

        detector: Detector

        def load_context(self, context: Any) -> None:
            """Read the trial from the model's artifacts."""
            self.detector = read_detector(Path(context.artifacts["detector"]))

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            """Score waveforms; see this file's docstring."""
            table = model_input if isinstance(model_input, pd.DataFrame) else pd.DataFrame(model_input)
            if missing := {"waveform", "sampling_rate"} - set(table.columns):
                raise HarnessError(
                    f"The table must have the columns waveform and sampling_rate, but lacks {min(missing)}."
                )
            return score_table(self.detector, table, scorer=(params or {}).get("scorer") or None)


def score_table(detector: Detector, table: pd.DataFrame, *, scorer: str | None = None) -> pd.DataFrame:
    """Score a table of waveforms, a row each; one that cannot be scored says why under `error`."""
    detector.scorer(scorer)  # a wrong one is an error of the whole table
    rows: list[dict[str, Any]] = []
    for place, row in enumerate(table.to_dict("records")):
        name, found = f"clip {place}", dict.fromkeys(COLUMNS)
        try:
            unit = _unit(detector, row, name)
            samples = _samples(row["waveform"])
            sound = from_memory(samples, int(row["sampling_rate"]), detector.hearing.mixes[unit[0]], name=name)
            demand_sound(sound, name, detector)
            channels = 2 if "both" in detector.hearing.mixes.values() else 1
            held = HeldClips({name: sound.samples}, channels=channels)
            (one,) = detector.detect({name: unit}, held, scorer=scorer)
        except (ValueError, TypeError) as error:
            found["error"] = str(error)
        else:
            found |= {each: getattr(one, each) for each in COLUMNS if each != "error"}
        rows.append(found)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _samples(waveform: Any) -> NDArray[np.float64]:
    """Return a waveform as (samples,) or (samples, channels)."""
    many = isinstance(waveform, list | tuple | np.ndarray) and len(waveform) > 0
    if many and isinstance(waveform[0], list | tuple | np.ndarray):  # a list of channels
        return np.stack([np.asarray(channel, dtype=np.float64) for channel in waveform], axis=1)
    return np.asarray(waveform, dtype=np.float64)


def _unit(detector: Detector, row: Mapping[Any, Any], name: str) -> Unit:
    """Return the section that a row names; the trial's only one where it names none."""
    said = {each: row.get(each) for each in ("machine", "section")}
    given = {each: str(value) for each, value in said.items() if isinstance(value, str) and value}
    among = [
        unit for unit in detector.units
        if unit[1] == given.get("machine", unit[1]) and unit[2] == given.get("section", unit[2])
    ]  # fmt: skip
    if len(among) != 1:
        known = ", ".join(" ".join(unit) for unit in detector.units)
        raise HarnessError(
            f"{name} must be of one section, named by machine and section, but {len(among)} fit; there are {known}."
        )
    return among[0]


mlflow.models.set_model(KeptTrial())
