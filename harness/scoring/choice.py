"""A scorer with its options, as a study or a flag names it: `knn:k=5,metric=euclidean`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.plugins import join_options, split_options, typed
from harness import plugins
from harness.errors import HarnessError
from harness.scoring.contract import Scorer, ScoreRequest

LONGEST = 64  # characters that the results tables have for a scorer
ILLEGAL = re.compile(r"[^\w. -]")  # MLflow's names are of letters, digits, _ . - / and blanks; a file has no /


@dataclass(frozen=True)
class ScorerChoice:
    """A scorer and the options that differ from its defaults.

    Attributes:
        name: the plugin's name.
        options: (option, value) pairs, sorted; one that has its default is left out.
        version: the plugin's.
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()
    version: int = 1

    def __str__(self) -> str:
        """Return the canonical text: equal choices, equal text. A first version goes without saying: `knn:k=5`."""
        name = self.name if self.version == 1 else f"{self.name}@{self.version}"
        return join_options(name, self.options)

    @property
    def scorer(self) -> Scorer:
        """The plugin."""
        return load_scorer(self.name)

    def score(self, request: ScoreRequest) -> NDArray[np.float64]:
        """Score with these options: (q,), higher = more anomalous.

        Raises:
            HarnessError: the request is one that this scorer cannot work with.
        """
        return self.scorer.score(request, **dict(self.options))


def parse_scorer(text: str) -> ScorerChoice:
    """Read `NAME` or `NAME:option=value,option=value`; NAME may be `NAME@VERSION`, as results have it.

    Raises:
        HarnessError: there is no such scorer or option, a value is not one that the option takes, or the version is not
            the one that is computed here.
    """
    called, said = split_options("scorer", text, refuse=HarnessError)
    name, at, version = called.partition("@")
    scorer = load_scorer(name)
    if at and version != str(scorer.version):
        raise HarnessError(
            f"The scorer {name} is computed as its version {scorer.version} here, but got {called!r}; name it {name}."
        )
    given = {option: _value(scorer, option, value) for option, value in said.items()}
    settled = scorer.settle({**scorer.options, **given})
    options = tuple(sorted((option, value) for option, value in settled.items() if value != scorer.options[option]))
    choice = ScorerChoice(name, options, scorer.version)
    if len(str(choice)) > LONGEST:
        raise HarnessError(
            f"A scorer with its options must have at most {LONGEST} characters, for the results tables, but "
            f"{str(choice)!r} has {len(str(choice))}; name fewer options."
        )
    return choice


def canonical_scorers(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the scorers' canonical texts, each once, in the order in which they were named.

    Raises:
        HarnessError: one of them is none.
    """
    return tuple(dict.fromkeys(str(parse_scorer(text)) for text in texts))


def is_computed(text: str) -> bool:
    """Tell whether scores recorded under a text would be computed alike today.

    Not where the plugin is not installed, or has a higher version: "gmm" was recorded before "gmm@2".
    """
    try:
        return str(parse_scorer(text)) == text
    except HarnessError:
        return False


def load_scorer(name: str) -> Scorer:
    """Return the plugin of a name.

    Raises:
        HarnessError: there is none of that name.
    """
    scorer: Scorer = plugins.load("scorer", name)
    return scorer


def plain_name(text: str) -> str:
    """Return a scorer's text as a name that files and MLflow's metrics may have; those of two scorers differ.

    `knn:k=5,metric=euclidean` becomes `knn-k.5-metric.euclidean`, and `gmm@2` becomes `gmm-v2`.
    """
    plain = text.replace("@", "-v").replace(":", "-").replace(",", "-").replace("=", ".").replace("+", " ")
    return ILLEGAL.sub("_", plain).replace(" ", "_and_")


def list_scorers(summaries: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return one row a scorer: its name, summary and options with their defaults.

    Args:
        summaries: name -> one line.
    """
    return [
        {"kind": "scorer", "name": name, "summary": said, "options": _shown(load_scorer(name))}
        for name, said in summaries.items()
    ]


def _shown(scorer: Scorer) -> dict[str, Any]:
    return {
        option: {"default": default, "words": list(scorer.words[option])} if option in scorer.words
        else {"default": default}
        for option, default in scorer.options.items()
    }  # fmt: skip


def _value(scorer: Scorer, option: str, text: str) -> Any:
    if option not in scorer.options:
        if not scorer.options:
            raise HarnessError(f"The scorer {scorer.name} takes no options, but got {option}={text}.")
        raise HarnessError(plugins.unknown(f"An option of the scorer {scorer.name}", option, scorer.options))
    if option in scorer.words and text not in scorer.words[option]:
        raise HarnessError(plugins.unknown(f"{scorer.name}:{option}", text, scorer.words[option]))
    default = scorer.options[option]
    value = typed(text, default)
    if isinstance(default, float) and not (value is not None and value > 0):
        raise HarnessError(f"{scorer.name}:{option} must be a number above 0, but got {text!r}.")
    if isinstance(default, int) and not (value is not None and value >= 1):
        raise HarnessError(f"{scorer.name}:{option} must be a whole number of at least 1, but got {text!r}.")
    return value
