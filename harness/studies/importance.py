"""Importance of a study's choices as Optuna computes it, for trials read from the results tables."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

MOST = 20_000  # trials for which `asdbench importance` has it: their copies in Optuna's form grow faster than they do


def ped_anova(
    settings: Sequence[Mapping[str, Any]], scores: Sequence[float], *, most: int | None = None
) -> dict[str, float]:
    """Return the PED-ANOVA importance of each choice: how well it separates the best tenth of the trials from the rest.

    Watanabe, Bansal and Hutter 2023, PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
    Subspaces, as Optuna computes it. Unlike a share of variance, it is 0 for a choice that only makes a difference
    among poor trials.

    Args:
        settings: choice -> value for each trial; at least two trials, all with the same choices.
        scores: higher is better.
        most: with more trials than that nothing is computed, since Optuna takes seconds for 10,000; None has no limit.

    Returns:
        choice -> importance, which sum to 1; all 0 where nothing tells the best trials from the rest. Nothing
        above `most`.
    """
    if most is not None and len(scores) > most:
        return {}
    import optuna  # noqa: PLC0415 - its importances bring scikit-learn, 1.5 s that a page of many trials does without
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # noqa: PLC0415

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it tells of each study that is made; this one is a detail
    values = {name: list(dict.fromkeys(row[name] for row in settings)) for name in settings[0]}
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        name: optuna.distributions.CategoricalDistribution([str(each) for each in found])
        for name, found in values.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(direction="maximize")
        study.add_trials([
            optuna.trial.create_trial(
                params={name: str(value) for name, value in row.items()}, distributions=distributions, value=score
            )
            for row, score in zip(settings, scores, strict=True)
        ])  # fmt: skip
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
