"""Candidate attributes of the training clips, machine type by machine type: routed, checked, ranked."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from backbones.training.projection import learn_projection, project
from backbones.training.recipe import PROJECTION
from benchmarks.recordings.packed import SilentClips
from harness import plugins
from harness.cache import Cache
from harness.errors import HarnessError
from harness.keys import digest
from harness.told import tell
from harness.trials.checkpoints import forget_training, training_checkpoint
from harness.trials.choices import PAPER, TRUTH, first_round
from harness.trials.contract import METHOD, TrialSpec
from harness.trials.limits import waiting
from harness.trials.recordings import Recordings, objects
from harness.trials.stages import clip_ids, clip_samples, embed_ids, finetune_encoder, pretrained_encoder, rows
from labeling.clusters import cluster
from labeling.contract import FINETUNED, RankedCandidates, RankRequest, Strategy
from labeling.distances import standardise
from labeling.fusion import fuse_top_m
from labeling.mfcc import mfcc_statistics
from labeling.routing import CASE_STRATEGY, Route, route
from labeling.view import plane

MOST_FINETUNED_BYTES = 2 * 2**30  # of all first rounds' latents together; the oldest make room


@dataclass(frozen=True)
class RankedMachine:
    """A machine type's candidates and why they were ranked as they were.

    Attributes:
        candidates: of its training clips.
        why: one sentence.
        plane: (n, 2) the clips in the plane of the features that were read, for a picture; (0, 2) where none were.
    """

    candidates: RankedCandidates
    why: str
    plane: NDArray[np.float32]


def rank_machines(spec: TrialSpec, recordings: Recordings, cache: Cache) -> dict[str, RankedMachine]:
    """Rank candidate attributes of every training clip; made once for all M.

    Labels of a second round train a first one here, unless another trial has done so.

    Returns:
        machine type -> its ranked candidates.
    """
    ids = {str(machine): clip_ids(clips) for machine, clips in recordings.train.groupby("machine", sort=True)}

    def fits(kept: dict[str, RankedMachine]) -> bool:
        return kept.keys() == ids.keys() and all(_is_ranked(kept[machine], ids[machine]) for machine in ids)

    with _alone_in_first_round(spec, recordings, cache):
        ranked: dict[str, RankedMachine] = cache.get(
            "ranking",
            spec.ranking_key(),
            lambda: _rank_machines(spec, recordings, cache),
            of=(RankedMachine, RankedCandidates),
            fits=fits,
        )
    return ranked


def planned_ranking(spec: TrialSpec, recordings: Recordings, cache: Cache) -> tuple[dict[str, RankedMachine], bool]:
    """Return the ranked candidates of a trial that has not begun, at little cost, and whether they are the trial's own.

    Those that the cache has are; else clips are clustered by their MFCC in place of the encoder's latents, for which
    every clip would have to be embedded: as many clusters, of other clips.
    """
    ids = {str(machine): clip_ids(clips) for machine, clips in recordings.train.groupby("machine", sort=True)}
    kept = cache.find(
        "ranking", spec.ranking_key(), of=(RankedMachine, RankedCandidates),
        fits=lambda found: found.keys() == ids.keys() and all(_is_ranked(found[each], ids[each]) for each in ids),
    )  # fmt: skip
    return (kept, True) if kept is not None else (_rank_machines(spec, recordings, cache, latents=False), False)


def _is_ranked(kept: RankedMachine, ids: NDArray[np.str_]) -> bool:
    """Tell whether kept candidates have a row for each of a machine type's clips."""
    found = kept.candidates
    rows = (found.names, found.confidence, found.retained, found.labeled)
    alike = found.names.shape == found.confidence.shape and all(len(each) == len(ids) for each in rows)
    return alike and np.array_equal(found.ids, ids) and kept.plane.shape in ((len(ids), 2), (0, 2))


def _rank_machines(
    spec: TrialSpec, recordings: Recordings, cache: Cache, *, latents: bool = True
) -> dict[str, RankedMachine]:
    ranked = {}
    machines = list(recordings.train.groupby("machine", sort=True))
    for done, (machine, clips) in enumerate(machines):
        tell("ranking candidates of machines", done, len(machines))
        attributes = _attributes(spec, recordings, clips)
        chosen = route_machine(spec, str(machine), recordings, cache)
        if spec.labels == TRUTH and all(attribute is None for attribute in attributes):
            chosen = Route("direct", "machine", "No attribute is known, released or not: the machine type alone.")
        strategy: Strategy = plugins.load("strategy", chosen.strategy)
        heard = latents or strategy.features == "none"
        features = _features(strategy, spec, recordings, clips, cache) if heard else _mfcc(recordings, clips, cache)
        request = RankRequest(
            ids=clip_ids(clips),
            features=features,
            attributes=attributes,
            case=chosen.case,
            k1=spec.k1 or 1,  # a spec leaves out those that its labels do not read
            k2=spec.k2 or 1,
            min_confidence=spec.min_confidence,
            seed=spec.seed,
            domains=objects(clips["domain"]),
            memo=cache.memo(features, salt=f"{METHOD}:{_attributes_digest(clips)}", of=_kept_by(strategy)),
        )
        try:
            candidates = strategy.rank(request)
        except ValueError as error:
            raise HarnessError(f"{machine}, {chosen.case}: {error}") from error
        if spec.labels == TRUTH:  # a withheld attribute counts as a pseudo-label, not as the own one
            candidates = replace(candidates, labeled=candidates.labeled & clips["attribute"].notna().to_numpy(bool))
        drawn = plane(features) if features.shape[1] else np.zeros((0, 2), dtype=np.float32)
        ranked[str(machine)] = RankedMachine(candidates, chosen.why, drawn)
    tell("ranking candidates of machines", len(machines), len(machines))
    return ranked


def check_candidates(specs: Iterable[TrialSpec], recordings: Recordings, cache: Cache, *, workers: int = 1) -> None:
    """Refuse K1 and K2 that a machine type's clips cannot fill, before any trial starts.

    On the way the MFCC statistics, which routing and sample-wise labeling read, are computed and cached on all cores. A
    trial has one core, and all trials would wait for the first to compute them.

    Args:
        specs: the trials.
        recordings: that they label.
        cache: keeps the MFCC.
        workers: threads that make them.

    Raises:
        HarnessError: K1 is above the labeled clips of a sample-wise machine type, or K2 above the clips of a
            cluster-wise one.
    """
    learning = [spec for spec in specs if spec.kind == "trial"]
    learning += [first_round(spec) for spec in learning if spec.rounds > 1]
    different = {(spec.k1, spec.k2, spec.labels): spec for spec in learning}
    for done, ((k1, k2, _), spec) in enumerate(different.items()):
        tell("reading sound statistics for labeling", done, len(different))
        for machine, clips in recordings.train.groupby("machine", sort=True):
            chosen = route_machine(spec, str(machine), recordings, cache, workers=workers)
            strategy: Strategy = plugins.load("strategy", chosen.strategy)
            if strategy.features == "mfcc":
                _mfcc(recordings, clips, cache, workers=workers)
            labeled = int(clips["attribute"].notna().sum())
            paper = chosen.strategy == CASE_STRATEGY[chosen.case]
            for name, value, cases, there, what in (
                ("k1", k1, ("sample-wise",), labeled, "labeled training clips"),
                ("k2", k2, ("fragmented", "partial", "unlabeled"), len(clips), "training clips"),
            ):
                read = chosen.case in cases if paper else name in strategy.choices
                if read and value is not None and not 1 <= value <= there:
                    raise HarnessError(
                        f"{name} must be between 1 and {there}, the {what} of {machine} ({chosen.case}), but got "
                        f"{value}; lower {name}, or let the protocol fix another case for {machine}."
                    )
    tell("reading sound statistics for labeling", len(different), len(different))


def route_machine(spec: TrialSpec, machine: str, recordings: Recordings, cache: Cache, *, workers: int = 1) -> Route:
    """Choose a machine type's case from what its training clips show, or as the protocol fixes it.

    Whether labels and clusters conflict (rule 3 of `labeling.routing.route`) is decided with clusters of the clips'
    MFCC statistics, as many as there are attributes. So the case does not depend on the backbone, K1, K2 or the seed.
    If the trial's labels are a baseline, such as "gmm", its strategy replaces the one that routing would choose, except
    for a machine type that the protocol trains under its name alone.
    """
    clips = recordings.train[recordings.train["machine"] == machine]

    def clusters() -> NDArray[np.int64]:
        count = int(clips["attribute"].nunique())
        features = standardise(_mfcc(recordings, clips, cache, workers=workers))
        members: NDArray[np.int64] = cache.memo(features, salt=f"{METHOD}")(
            f"routing k={count}", lambda: cluster(features, k2=count, seed=0).members
        )
        return members

    shown = route(
        objects(clips["attribute"]),
        domains=objects(clips["domain"]),
        years=objects(clips["dataset"]),
        clusters=clusters,
        fixed=spec.protocol.cases.get(machine),
    )
    strategy = spec.protocol.strategies.get(machine)
    if spec.labels == TRUTH:
        return Route("direct", "direct", "Every attribute that is known is used, released ones too: an upper bound.")
    if spec.labels != PAPER and strategy != "machine":
        return Route(shown.case, spec.labels, f"The baseline {spec.labels} labels every machine type.")
    return shown if strategy is None else Route(shown.case, strategy, f"The protocol fixes the strategy {strategy}.")


def pretrained_latents(
    spec: TrialSpec, recordings: Recordings, cache: Cache, *, ids: NDArray[np.str_] | None = None
) -> dict[str, NDArray[np.float32]]:
    """Return the pre-trained encoder's latents: clip id -> (d,); made once for all trials.

    Args:
        spec: names the backbone, and how clips become its input.
        recordings: the clips.
        cache: keeps the latents.
        ids: of which clips; None is all training clips.
    """
    backbone = spec.backbone
    if backbone is None:
        raise HarnessError("Latents need a backbone, but this trial has none; name one with --backbone.")
    others = (
        {} if ids is None else {"samples": clip_samples(spec, recordings)}
    )  # training clips alone say it themselves
    ids = clip_ids(recordings.train) if ids is None else ids
    key = digest(
        {
            "method": METHOD,
            "backbone": backbone.content(),
            "seed": None if backbone.weights else spec.seed,
            "audio": recordings.packed.fingerprint(ids),  # not the labels: what is withheld changes no latent
            "input": [spec.recipe.clip_seconds, spec.recipe.fit],
            **others,
        }
    )
    ordered = np.sort(ids)

    def make() -> NDArray[np.float32]:
        encoder = pretrained_encoder(backbone, seed=spec.seed)
        return embed_ids(spec, encoder, recordings, ordered)

    vectors = cache.get("latent", key, make, fits=lambda kept: kept.ndim == 2 and len(kept) == len(ids))
    return dict(zip(ordered.tolist(), vectors, strict=True))


def _kept_by(strategy: Strategy) -> list[type[Any]]:
    """Return the dataclasses that a strategy's memo may keep: all that are defined in or imported into its file."""
    named = vars(sys.modules[strategy.rank.__module__]).values()
    return [each for each in named if isinstance(each, type) and is_dataclass(each)]


def _attributes(spec: TrialSpec, recordings: Recordings, clips: pd.DataFrame) -> NDArray[np.object_]:
    """Return what strategies see of a machine type's attributes: (n,), None where withheld.

    This is the only place where withheld attributes can reach labeling, and only if the trial's `labels` are "truth".
    """
    attributes = objects(clips["attribute"])
    if spec.labels != TRUTH:
        return attributes
    pairs = zip(clip_ids(clips).tolist(), attributes, strict=True)
    return np.array([recordings.truth.get(clip_id) if own is None else own for clip_id, own in pairs], dtype=object)


def _features(
    strategy: Strategy, spec: TrialSpec, recordings: Recordings, clips: pd.DataFrame, cache: Cache
) -> NDArray[Any]:
    if strategy.features == "none":
        return np.zeros((len(clips), 0), dtype=np.float32)
    if strategy.features == "mfcc":
        return _mfcc(recordings, clips, cache)
    make = finetuned_latents if strategy.features == FINETUNED else pretrained_latents
    return rows(make(spec, recordings, cache), clip_ids(clips))


def finetuned_latents(spec: TrialSpec, recordings: Recordings, cache: Cache) -> dict[str, NDArray[np.float32]]:
    """Return the training clips' latents of the encoder that a first round fine-tunes: clip id -> (d,).

    They are made once for all M. What learns in the first round is what learns in the second (`train` of the recipe):
    the encoder, or a projection, whose output then is the latents. A process that is killed goes on from its checkpoint
    when the trial is run again. Test clips are not heard.

    Args:
        spec: of a trial whose labels are made in two rounds.
        recordings: the clips.
        cache: keeps the latents, and the checkpoint while the first round lasts.
    """
    ids, key = np.sort(clip_ids(recordings.train)), _first_round_key(spec, recordings)

    def fits(kept: NDArray[np.float32]) -> bool:
        return kept.ndim == 2 and len(kept) == len(ids)

    vectors = cache.find(FINETUNED, key, fits=fits)
    if vectors is None:
        vectors = _train_first_round(spec, recordings, cache, ids)
        cache.put(FINETUNED, key, vectors, most_bytes=MOST_FINETUNED_BYTES)
        forget_training(cache.folder, key)
    return dict(zip(ids.tolist(), vectors, strict=True))


def _train_first_round(
    spec: TrialSpec, recordings: Recordings, cache: Cache, ids: NDArray[np.str_]
) -> NDArray[np.float32]:
    """Label, fine-tune and embed the training clips: (n,) ids -> (n, d)."""
    first = first_round(spec)
    if first.backbone is None:
        raise HarnessError("A first round needs a backbone, but this trial has none; name one with --backbone.")
    candidates = {machine: each.candidates for machine, each in rank_machines(first, recordings, cache).items()}
    labels = fuse_top_m(
        candidates, m=1, fusion=first.fusion, below=first.below, widest=max(first.k1 or 1, first.k2 or 1)
    )
    if first.recipe.train == PROJECTION:
        latents = pretrained_latents(first, recordings, cache)
        projection = learn_projection(
            rows(latents, labels.ids), labels.targets, n_classes=len(labels.classes), recipe=first.recipe,
            seed=first.seed,
        )  # fmt: skip
        return project(projection, rows(latents, ids))
    encoder = pretrained_encoder(first.backbone, seed=first.seed)
    cut = training_checkpoint(cache.folder, _first_round_key(spec, recordings))
    return embed_ids(
        first, finetune_encoder(first, encoder, recordings, labels, on_epoch=None, checkpoint=cut), recordings, ids
    )


def _first_round_key(spec: TrialSpec, recordings: Recordings) -> str:
    """Return a digest of all that a first round's latents depend on."""
    first = first_round(spec)
    return digest(
        {
            "ranking": first.ranking_key(),
            "recipe": first.recipe.content(),
            "below": first.below,
            "audio": recordings.packed.fingerprint(clip_ids(recordings.train)),
        }
    )


@contextmanager
def _alone_in_first_round(spec: TrialSpec, recordings: Recordings, cache: Cache) -> Iterator[None]:
    """Let other trials with the same first round wait for it. Waiting does not count towards their limit of minutes."""
    with ExitStack() as held:
        if spec.rounds > 1:
            with waiting():
                held.enter_context(cache.alone(FINETUNED, _first_round_key(spec, recordings)))
        yield


def _mfcc(recordings: Recordings, clips: pd.DataFrame, cache: Cache, *, workers: int = 1) -> NDArray[np.float32]:
    """Return the MFCC statistics (n, 40) of clips, made once for all trials; without sound, their embeddings."""
    packed, ids = recordings.packed, clip_ids(clips)
    if isinstance(packed, SilentClips):
        return packed.of(ids)
    key = digest({"method": METHOD, "audio": packed.fingerprint(ids)})
    ordered = np.sort(ids)

    def make() -> NDArray[np.float32]:
        return mfcc_statistics(lambda i: packed.waveform(ordered[i]), len(ordered), workers=workers)

    rows = cache.get("mfcc", key, make, fits=lambda kept: kept.ndim == 2 and len(kept) == len(ids))
    return np.asarray(rows[np.searchsorted(ordered, ids)])


def _attributes_digest(clips: pd.DataFrame) -> str:
    pairs = zip(clip_ids(clips).tolist(), objects(clips["attribute"]).tolist(), strict=True)
    return digest({"attributes": list(pairs)})
