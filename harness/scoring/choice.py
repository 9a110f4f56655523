"""A scorer with its options, as a study or a flag names it: `knn:k=5,metric=euclidean`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.plugins import join_options, split_options, typed
from harness import plugins
from harness.errors import HarnessError
from harness.scoring.contract import Scorer, ScoreRequest
from harness.scoring.layers import EMBEDDING, OPTIONS, WORDS, LayerChoice, read_layers, score_layers

LONGEST = 64  # characters of the results tables' column for a scorer
ILLEGAL = re.compile(r"[^\w. -]")  # MLflow's names are of letters, digits, _ . - / and blanks; a file has no /


@dataclass(frozen=True)
class ScorerChoice:
    """A scorer and the options that differ from its defaults.

    Attributes:
        name: the plugin's name.
        options: (option, value) pairs, sorted; one that has its default is left out.
        version: the plugin's.
        heard: which layers of the encoder it reads (`harness.scoring.layers`).
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()
    version: int = 1
    heard: LayerChoice = EMBEDDING

    def __str__(self) -> str:
        """Return the canonical text, equal for equal choices: `knn:k=5`, or `gmm@2:components=8` from version 2 on."""
        name = self.name if self.version == 1 else f"{self.name}@{self.version}"
        return join_options(name, sorted((*self.options, *self.heard.options())))

    @property
    def scorer(self) -> Scorer:
        """The plugin."""
        return load_scorer(self.name)

    def score(self, request: ScoreRequest) -> NDArray[np.float64]:
        """Score with these options: (q,), higher = more anomalous.

        Raises:
            HarnessError: this scorer cannot score the request.
        """
        if len(request.parts) > 1:
            return score_layers(replace(self, heard=EMBEDDING), request, self.heard.merge)
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
    heard = {option: value for option, value in said.items() if option in _layer_options(scorer)}
    given = {option: _value(scorer, option, value) for option, value in said.items() if option not in heard}
    settled = scorer.settle({**scorer.options, **given})
    options = tuple(sorted((option, value) for option, value in settled.items() if value != scorer.options[option]))
    choice = ScorerChoice(name, options, scorer.version, read_layers(name, heard))
    if len(str(choice)) > LONGEST:
        raise HarnessError(
            f"A scorer with its options must have at most {LONGEST} characters, for the results tables, but "
            f"{str(choice)!r} has {len(str(choice))}; name fewer options."
        )
    return choice


def canonical_scorers(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the scorers' canonical texts, each once, in the order in which they were named.

    Raises:
        HarnessError: one of them is no scorer.
    """
    return tuple(dict.fromkeys(str(parse_scorer(text)) for text in texts))


def settle_members(scorer: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options of a composite scorer with its members sorted, or refuse those that cannot be one."""
    return {**options, "of": joined_members(scorer, options["of"])}


def joined_members(scorer: str, text: str) -> str:
    """Return the canonical text of the members of a composite scorer, such as `knn+mahalanobis`: sorted, each once.

    Args:
        scorer: name of the composite scorer, for the error.
        text: names of scorers, joined by +.

    Raises:
        HarnessError: a member is unknown, is composite itself, has options or reads no embeddings; or there are fewer
            than two.
    """
    choices = [parse_scorer(name) for name in text.split("+")]
    for choice in choices:
        bare = ScorerChoice(choice.name, version=choice.version)
        if choice != bare or "of" in choice.scorer.options or choice.scorer.reads != "embedding":
            raise HarnessError(
                f"{scorer}:of takes scorers of embeddings without options, joined by +, but {choice} is none."
            )
    members = sorted(set(map(str, choices)))
    if len(members) < 2:
        raise HarnessError(f"{scorer}:of must name at least two scorers joined by +, but got {text!r}.")
    return "+".join(members)


def with_layers(texts: Iterable[str], layers: Iterable[int | str]) -> tuple[str, ...]:
    """Return each scorer once for each layer: `knn` with 6 and 14 gives `knn:layer=6` and `knn:layer=14`.

    A scorer that names its layer already, or that reads no embeddings, is returned as it is.

    Raises:
        HarnessError: a scorer or a layer is not valid.
    """
    named = list(layers)
    found = []
    for text in texts:
        choice = parse_scorer(text)
        if choice.heard != EMBEDDING or "layer" not in _layer_options(choice.scorer):
            found.append(str(choice))
            continue
        for layer in named or [OPTIONS["layer"]]:
            whole = replace(choice, heard=read_layers(choice.name, {"layer": str(layer)}))
            found.append(str(parse_scorer(str(whole))))
    return tuple(dict.fromkeys(found))


def is_computed(text: str) -> bool:
    """Tell whether this installation computes the scores that are recorded under a text.

    It does not if the plugin is missing, or has another version: scores under "gmm" are of version 1, and the plugin is
    now "gmm@2".
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
    """Return a scorer's text as a name for files and MLflow metrics; different scorers have different names.

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
    words = {**WORDS, **scorer.words}
    return {
        option: {"default": default, "words": list(words[option])} if option in words
        else {"default": default}
        for option, default in {**scorer.options, **_layer_options(scorer)}.items()
    }  # fmt: skip


def _layer_options(scorer: Scorer) -> dict[str, str]:
    """Return the options that choose layers, with their defaults; none for a scorer that reads no embeddings."""
    if scorer.reads != "embedding":
        return {}
    known = "frequency" if scorer.keeps_frequency else ""
    return {name: default for name, default in OPTIONS.items() if name not in scorer.options and name != known}


def _value(scorer: Scorer, option: str, text: str) -> Any:
    if option not in scorer.options:
        known = {**scorer.options, **_layer_options(scorer)}
        if not known:
            raise HarnessError(f"The scorer {scorer.name} takes no options, but got {option}={text}.")
        raise HarnessError(plugins.unknown(f"An option of the scorer {scorer.name}", option, known))
    if option in scorer.words and text not in scorer.words[option]:
        raise HarnessError(plugins.unknown(f"{scorer.name}:{option}", text, scorer.words[option]))
    default = scorer.options[option]
    value = typed(text, default)
    if isinstance(default, float) and not (value is not None and value > 0):
        raise HarnessError(f"{scorer.name}:{option} must be a number above 0, but got {text!r}.")
    if isinstance(default, int) and not (value is not None and value >= 1):
        raise HarnessError(f"{scorer.name}:{option} must be a whole number of at least 1, but got {text!r}.")
    return value
