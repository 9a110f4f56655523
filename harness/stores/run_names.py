"""What MLflow shows: the names of a trial's parameters and metrics, and how its pages present the experiment."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict
from typing import Any

from benchmarks.metrics.rules import EPSILON
from harness.scoring.choice import plain_name
from harness.statistics.intervals import ScoreIntervals
from harness.trials.axes import AXES
from harness.trials.contract import TrialResult, TrialSpec

EXPERIMENT = "asdbench"
OFFICIAL = "official_score"
OVERALL = ("auc", "s_auc", "t_auc", "p_auc")  # also without a machine's name: harmonic means over all sections
VIEW = "asdbench"  # of MLflow's pages: the columns that matter
# how MLflow's pages open it among trained models: they begin with language models whatever the experiment's kind is
VIEW_LINK = "#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={view}"
COLUMNS = (
    *(f"metrics.`{name}`" for name in (OFFICIAL, "s_auc", "t_auc", "p_auc")),
    *(f"params.`{name}`" for name in ("backbone", "m", "k1", "k2", "fusion", "labels", "seed")),
)
NOTE = """\
[The columns that matter, best score first]({link}). A run's number that counts is **official_score**, a fraction.
Each study is a run; its trials stand below it. `s_auc` and `t_auc` are the AUC in the source and target domain, `p_auc`
the partial AUC: harmonic means over machine types and sections; names such as `s_auc/fan` are of one machine type. Runs
called *interrupted* were given up and run again; they do not count. A study's description has its answer, and
`report.html` among its artifacts shows it.
"""


def experiment_tags(experiment: str) -> dict[str, str]:
    """Return the tags by which MLflow's pages show the experiment as one of trained models, the official score first.

    Args:
        experiment: its id.
    """
    view = {
        "orderByKey": f"metrics.`{OFFICIAL}`", "orderByAsc": False, "searchFilter": "attributes.status != 'KILLED'",
        "selectedColumns": list(COLUMNS),
    }  # fmt: skip
    return {
        "mlflow.experimentKind": "custom_model_development",  # else it opens in the view of language models
        "mlflow.experiment.primaryMetric.name": OFFICIAL,
        "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
        f"mlflow.sharedViewState.{VIEW}": json.dumps(view),
        "mlflow.note.content": NOTE.format(link=VIEW_LINK.format(experiment=experiment, view=VIEW)),
    }


# metrics of pseudo-labels against the withheld attributes, per machine type, if these are known
QUALITY = ("purity", "nmi", "ari", "recall_at_m", "recall_at_m_retained", "entropy", "judged_left_out")
PLAIN = re.compile(r"[\w -]{1,64}")  # MLflow's names may also have . and /, which join ours, and : except on Windows
ILLEGAL = re.compile(r"[^\w -]")


def spec_params(spec: TrialSpec) -> dict[str, Any]:
    """Return a trial's choices as MLflow parameters, so that MLflow's compare view shows them side by side."""
    recipe = {f"recipe.{name}": value for name, value in asdict(spec.recipe).items()}  # its axes among them
    axes = {axis.name: axis.value(spec) for axis in AXES if axis.of == "spec"}
    backbone = spec.backbone
    return {
        "kind": spec.kind,
        "backbone": axes["backbone"],
        "encoder": backbone.encoder if backbone else None,
        "weights_sha256": backbone.weights_sha256 if backbone else None,
        "weights_source": (backbone.source or None) if backbone else None,
        **{f"encoder.{name}": value for name, value in (backbone.options if backbone else ())},
        **axes,
        "labels": spec.labels if spec.kind == "trial" else None,
        "truth_data": spec.truth_data or None,
        "min_confidence": spec.min_confidence,
        "below": spec.below,
        "protocol": spec.protocol.name,
        "seed": spec.seed,
        **(recipe if spec.kind == "trial" else {}),
    }


def result_metrics(result: TrialResult) -> dict[str, float]:
    """Return a trial's numbers by metric name. Names start with the scorer's, except for the first scorer."""
    values: dict[str, float | None] = {}
    years = len({part.dataset for part in result.spec.protocol.score})  # several stand before a machine type's name
    for place, (scorer, metrics) in enumerate(result.metrics.items()):
        front = "" if place == 0 else f"{plain_name(scorer)}/"
        values[f"{front}{OFFICIAL}"] = result.official[scorer]
        for metric in OVERALL:
            known = [value for each in metrics if (value := getattr(each, metric)) is not None]
            values[f"{front}{metric}"] = len(known) / sum(1 / max(one, EPSILON) for one in known) if known else None
        values |= _interval_metrics(front, result.intervals.get(scorer))
        for found in result.thresholds.get(scorer, ()):
            values[f"{front}threshold/{joined_name(found.dataset, found.machine, found.section)}"] = found.value
        for machine, h_mean in result.machines[scorer].items():
            parts = machine.split("/", 1) if years > 1 else [machine]
            values[f"{front}h_mean/{joined_name(*parts)}"] = h_mean
        many = len({each.dataset for each in metrics}) > 1
        sections = len({(each.dataset, each.machine) for each in metrics}) < len(metrics)
        for each in metrics:
            parts = [*([each.dataset] if many else ()), each.machine, *([each.section] if sections else ())]
            name = joined_name(*parts)
            for metric in ("auc", "s_auc", "t_auc", "p_auc"):
                values[f"{front}{metric}/{name}"] = getattr(each, metric)
    for name in ("clips", "classes", "singletons", "left_out", "pseudo_labeled"):
        if result.labels:
            values[f"labels/{name}"] = float(sum(int(row[name]) for row in result.labels))
    for row in result.labels:
        for name in QUALITY:
            values[f"labels/{name}/{joined_name(str(row['machine']))}"] = row.get(name)
    values |= {f"seconds/{stage}": value for stage, value in result.seconds.items()}
    values |= {f"peak_mb/{stage}": value for stage, value in result.peak_mb.items()}
    return {name: float(value) for name, value in values.items() if value is not None}


def joined_name(*parts: str) -> str:
    """Join names of a year, machine type and section into a valid part of an MLflow metric's name.

    In a part with characters that MLflow refuses, or that are used to join parts, each of them becomes "_", and a
    digest of the original is appended so that different names stay different: `A&B <x>` becomes `A_B _x_-31c896d6`.
    """
    return ".".join(part if PLAIN.fullmatch(part) else _plainer(part) for part in parts)


def _plainer(part: str) -> str:
    told_apart = hashlib.blake2b(part.encode(), digest_size=4).hexdigest()
    return f"{ILLEGAL.sub('_', part[:48])}-{told_apart}"


def _interval_metrics(front: str, intervals: ScoreIntervals | None) -> dict[str, float | None]:
    """Return the ends of the official score's intervals by metric name."""
    ends: dict[str, float | None] = {}
    if intervals is not None:
        for name, found in (("ci", intervals.official), ("machines_ci", intervals.official_machines)):
            low, high = found or (None, None)
            ends |= {f"{front}official_score_{name}_low": low, f"{front}official_score_{name}_high": high}
    return ends
