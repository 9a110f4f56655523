"""A finished trial as something that hears: new clips in, score, threshold and decision out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from backbones.contract import Encoder
from backbones.layers import Heard
from backbones.training.projection import Projection, project
from benchmarks.contract import Mix
from benchmarks.recordings.audio import FULL_SCALE, SAMPLE_RATE
from benchmarks.recordings.packed import Fit, HeldClips
from harness import plugins
from harness.errors import HarnessError
from harness.scoring.choice import ScorerChoice, parse_scorer
from harness.scoring.contract import ScoreRequest
from harness.scoring.neighbours import nearest
from harness.scoring.thresholds import Threshold, training_scores
from harness.trials.contract import BackboneChoice
from harness.trials.recordings import objects
from harness.trials.stages import Layers, Vectors, embed_packed, heard_layers, read_by_scorer

Unit: TypeAlias = tuple[str, str, str]
"""(dataset, machine type, section)."""
UNIT = ["dataset", "machine", "section"]
PROBE_SEED = 20_230_601  # of the noise by which a rebuilt encoder is compared with the one that was kept
CLOSE = 1e-3  # relative: processors and batches of other sizes round differently


@dataclass(frozen=True)
class Hearing:
    """How a trial turns a recording into a score: all of it but weights and references.

    Attributes:
        key: of the trial.
        label: that tells people what the trial is.
        kind: trial, frozen or level.
        backbone: None for a level trial.
        seed: of random weights, and of scorers that draw.
        samples: length of an input at 16 kHz.
        fit: what becomes of a shorter clip.
        whole: whether a longer clip is heard window by window.
        mixes: dataset -> which sound of several channels counts.
        scorers: canonical texts.
        projection: numbers of a projected embedding and of the hidden layer; None where none was learned.
    """

    key: str
    label: str
    kind: str
    backbone: BackboneChoice | None
    seed: int
    samples: int
    fit: Fit
    whole: bool
    mixes: Mapping[str, Mix]
    scorers: tuple[str, ...]
    projection: tuple[int, int] | None = None


@dataclass(frozen=True)
class References:
    """The normal training clips that new ones are compared with.

    Attributes:
        clips: a row each: `clip_id dataset machine section domain file digest`; `file` is below the folder of all.
        vectors: clip id -> embedding.
        layers: layer -> clip id -> its output.
        levels: (n,) dB re full scale; NaN where there is no sound.
    """

    clips: pd.DataFrame = field(repr=False)
    vectors: Vectors = field(repr=False)
    layers: Layers = field(repr=False)
    levels: NDArray[np.float64] = field(repr=False)

    def levels_db(self, ids: NDArray[np.str_]) -> NDArray[np.float64]:
        """Return the level of clips: (n,) dB."""
        places = dict(zip(self.clips["clip_id"], range(len(self.clips)), strict=True))
        return self.levels[[places[clip_id] for clip_id in ids.tolist()]]


@dataclass(frozen=True)
class Detection:
    """What a detector says of a clip.

    Attributes:
        clip_id: of the clip.
        machine: machine type.
        section: section.
        score: higher = more anomalous.
        threshold: above which a clip of this section is called anomalous, from training clips alone; None if none is.
        decision: "anomalous" or "normal"; None without a threshold.
        why: why there is no threshold; empty if there is one.
        nearest: file of the normal training clip that sounds most alike.
        in_training: whether the clip is one of these itself; its score then leaves out itself and a fifth of the
            others, as the scores do that the threshold comes from.
    """

    clip_id: str
    machine: str
    section: str
    score: float
    threshold: float | None
    decision: str | None
    why: str
    nearest: str
    in_training: bool


@dataclass(frozen=True)
class Detector:
    """A trial that scores new clips.

    Attributes:
        hearing: how.
        references: what new clips are compared with.
        thresholds: scorer -> section -> its threshold.
        encoder: None for a level trial.
        projection: of its embeddings; None where none was learned.
    """

    hearing: Hearing
    references: References
    thresholds: Mapping[str, Mapping[Unit, Threshold]]
    encoder: Encoder | None = None
    projection: Projection | None = None

    @property
    def units(self) -> list[Unit]:
        """Return the sections that can be scored, sorted."""
        return sorted(set(self.references.clips[UNIT].itertuples(index=False, name=None)))

    @property
    def least_samples(self) -> int:
        """Return how long a clip must be: a tenth of an input, since the rest would be repetitions or silence."""
        return max(1, self.hearing.samples // 10)

    def scorer(self, name: str | None = None) -> str:
        """Return a scorer of the trial in canonical form; the trial's first where none is named.

        Raises:
            HarnessError: the trial has no such scorer.
        """
        known = self.hearing.scorers
        wanted = known[0] if name is None else str(parse_scorer(name))
        if wanted not in known:
            raise HarnessError(plugins.unknown(f"scorer of trial {self.hearing.key}", wanted, known))
        return wanted

    def embed(self, packed: HeldClips) -> tuple[Vectors, Layers]:
        """Embed clips as the trial embedded its own: clip id -> (d,), and the layers that its scorers hear."""
        if self.encoder is None:
            return {}, {}
        heard = heard_layers(self.hearing.scorers)
        made, layers = embed_packed(
            self.encoder, packed, packed.ids, samples=self.hearing.samples, fit=self.hearing.fit,
            whole=self.hearing.whole, heard=heard,
        )  # fmt: skip
        if self.projection is not None:
            made = project(self.projection, made)
        names = packed.ids.tolist()
        return dict(zip(names, made, strict=True)), {
            each: dict(zip(names, values, strict=True)) for each, values in zip(heard, layers, strict=True)
        }

    def detect(self, units: Mapping[str, Unit], packed: HeldClips, *, scorer: str | None = None) -> list[Detection]:
        """Score new clips.

        Args:
            units: clip id -> the section that it belongs to.
            packed: their sound.
            scorer: by which; None is the trial's first.

        Returns:
            One each, in the order of `units`.

        Raises:
            HarnessError: a section is none of the trial's, or the scorer cannot score the clips.
        """
        choice, name = parse_scorer(self.scorer(scorer)), self.scorer(scorer)
        vectors, layers = self.embed(packed)
        digests = dict(zip(packed.ids.tolist(), packed.hashes.tolist(), strict=True))
        found: dict[str, Detection] = {}
        for unit in dict.fromkeys(units.values()):
            ids = np.array([clip_id for clip_id, one in units.items() if one == unit], dtype=np.str_)
            queries = read_by_scorer(choice, ids, vectors, layers, packed)[0]
            own = [digests[one] for one in ids.tolist()]
            for each in self._section(unit, ids, queries, digests=own, choice=choice, name=name):
                found[each.clip_id] = each
        return [found[clip_id] for clip_id in units]

    def _section(
        self,
        unit: Unit,
        ids: NDArray[np.str_],
        queries: NDArray[np.float32],
        *,
        digests: Sequence[str],
        choice: ScorerChoice,
        name: str,
    ) -> list[Detection]:
        known, all_clips = self.references, self.references.clips
        clips = all_clips[(all_clips[UNIT] == list(unit)).all(axis=1)]
        if clips.empty:
            raise HarnessError(f"Clips must be of a section of trial {self.hearing.key}, but got {' '.join(unit)}.")
        own = clips["clip_id"].to_numpy(dtype=str)
        references, parts = read_by_scorer(choice, own, known.vectors, known.layers, known)
        request = ScoreRequest(references, objects(clips["domain"]), queries, seed=self.hearing.seed, parts=parts)
        places = dict(zip(clips["digest"], range(len(clips)), strict=True))
        self_places = np.array([places.get(each, -1) for each in digests])
        try:
            scores = choice.score(request)
            if (self_places >= 0).any():
                scores = np.where(self_places >= 0, training_scores(choice, request)[self_places], scores)
        except ValueError as error:
            raise HarnessError(f"{' '.join(unit)}, scorer {name}: {error}") from error
        near = _nearest_files(
            queries, references, clips["file"].tolist(), self_places, level=choice.scorer.reads == "level"
        )
        threshold = self.thresholds.get(name, {}).get(unit)
        value = threshold.value if threshold else None
        why = "" if value is not None else threshold.why if threshold else "the trial was recorded without thresholds"
        return [
            Detection(
                clip_id=str(clip_id), machine=unit[1], section=unit[2], score=float(score), threshold=value,
                decision=None if value is None else "anomalous" if score > value else "normal", why=why, nearest=file,
                in_training=bool(place >= 0),
            )
            for clip_id, score, file, place in zip(ids, scores, near, self_places, strict=True)
        ]  # fmt: skip

    def probe(self) -> NDArray[np.float32]:
        """Embed a second of noise that is the same everywhere: (d,), equal for equal encoders."""
        noise = np.random.default_rng(PROBE_SEED).normal(0.0, 0.1, size=SAMPLE_RATE)
        samples = np.clip(np.rint(noise * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
        both = "both" in self.hearing.mixes.values()
        held = HeldClips({"probe": np.concatenate([samples, samples]) if both else samples}, channels=2 if both else 1)
        vectors, _ = replace(self, hearing=replace(self.hearing, whole=False)).embed(held)
        return np.asarray(vectors["probe"], dtype=np.float32)


def _nearest_files(
    queries: NDArray[np.float32],
    references: NDArray[np.float32],
    files: Sequence[str],
    self_places: NDArray[Any],
    *,
    level: bool,
) -> list[str]:
    """Return the file of each query's nearest reference, which is never the query itself; "" where there is none."""
    found = []
    for row, place in enumerate(self_places.tolist()):
        if len(files) < 1 + (place >= 0):
            found.append("")
            continue
        exclude = np.array([place]) if place >= 0 else None
        metric = "euclidean" if level else "cosine"
        _, at = nearest(queries[row : row + 1], references, k=1, metric=metric, exclude=exclude)
        found.append(files[int(at[0, 0])])
    return found


def layer_names(heard: Sequence[Heard]) -> list[str]:
    """Return a name for each layer, by which a file keeps it."""
    return [f"layer {each.layer}{' by frequency' if each.frequency else ''}" for each in heard]
