"""The stages that clips go through, each in a process of its own: `python -m tests.scale.clip_stages FOLDER CLIPS`.

A folder holds one size's tree, cache and stores; a stage finds there what the stages before it left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import librosa.feature
import numpy as np
import pandas as pd
import pyarrow.parquet  # noqa: F401 - as the others, imported before anything is measured
import sklearn.cluster
import sklearn.ensemble  # noqa: F401
import torch

from backbones.features.embedding_file import packed_embeddings
from benchmarks.protocols import find_protocol
from harness import verbs
from harness.cache import Cache
from harness.places import find_places
from harness.stores.records import read_record
from harness.studies.plan import make_plan
from harness.studies.study_file import StudyFile
from harness.trials.candidates import check_candidates, pretrained_latents, rank_machines
from harness.trials.contract import TrialSpec
from harness.trials.labels import fuse_labels
from harness.trials.measures import measure_scorers, scorer_intervals
from harness.trials.recordings import Recordings, index_datasets, open_recordings, prepare_recordings
from harness.trials.stages import clip_ids, embedded_ids, score_machines
from harness.trials.trial import run_trial
from harness.verbs.stores import open_recorder
from tests.scale.measured import Private, serve_stages
from tests.scale.tree import RATE, SAMPLES, write_tree, years

DIM = 768  # numbers of an embedding, as BEATs and AudioMAE have
BATCH = 64
M = (1, 3, 5, 7, 10, 13, 15)  # the paper's


@dataclass(frozen=True)
class Place:
    """One size's folder.

    Attributes:
        folder: its path.
        clips: training clips that were asked for.
    """

    folder: Path
    clips: int

    @property
    def tree(self) -> Path:
        """Return the recordings' root."""
        return self.folder / "tree"

    @property
    def cache(self) -> Cache:
        """Return the cache."""
        return Cache(self.folder / "cache")

    @property
    def recordings(self) -> Recordings:
        """Open what packing prepared, as a worker does."""
        return open_recordings(Path((self.folder / "place.txt").read_text()))


@dataclass(frozen=True)
class Cells:
    """The paper's cells on two small backbones, for one size's recordings."""

    recordings: Recordings

    @cached_property
    def specs(self) -> list[TrialSpec]:
        """Return 14 cells: two backbones, seven M, K1 = K2 = 15, one seed."""
        backbones = {name: {"encoder": "tiny", "options": {"dim": dim}} for name, dim in (("one", 64), ("other", 96))}
        file = {
            "name": "scale", "protocol": "paper", "seeds": [0], "frozen": False, "level": False,
            "backbones": backbones, "space": {"backbone": list(backbones), "m": list(M), "k1": [15], "k2": [15]},
            "recipe": {"epochs": 1, "batch_size": 256, "clip_seconds": SAMPLES / RATE},
        }  # fmt: skip
        plan = make_plan(StudyFile.model_validate(file))
        return plan.specs(train_data=self.recordings.train_data, test_data=self.recordings.test_data)

    @property
    def of_each_backbone(self) -> list[TrialSpec]:
        """Return one cell of each backbone."""
        return [spec for spec in self.specs if spec.m == 1]


def tree(place: Place) -> Callable[[Private], Mapping[str, float]]:
    """Write the tree; its cost is no stage of the product's."""
    return lambda _: {"training clips": write_tree(place.tree, place.clips)}


def index(place: Place) -> Callable[[Private], Mapping[str, float]]:
    """Names and attribute tables to a clip table."""
    names = tuple(dataset.name for dataset in years())
    return lambda _: {"clips": len(index_datasets(place.tree, names).clips)}


def doctor(place: Place) -> Callable[[Private], Mapping[str, float]]:
    """Every recording read and compared, by one process."""

    def run(_: Private) -> Mapping[str, float]:
        found = verbs.data_doctor(place.tree, protocol="paper", workers=1)
        assert found["protocol"]["runs"], found["protocol"]["why"]
        return {"problems": len(found["problems"])}

    return run


def prepare(place: Place) -> None:
    """Index, split, pack and place the tree's recordings."""
    found = prepare_recordings(place.tree, find_protocol("paper"), place.cache)
    (place.folder / "place.txt").write_text(str(found.place))


def packing(place: Place) -> Callable[[Private], None]:
    """Recordings decoded into packs by one process, for the first time."""
    return lambda _: prepare(place)


def packed(place: Place) -> Callable[[Private], None]:
    """The same at a second start, which finds them packed."""
    return lambda _: prepare(place)


def opening(place: Place) -> Callable[[Private], None]:
    """A worker opens the prepared recordings."""

    def run(private: Private) -> None:
        found = place.recordings
        private()
        assert len(found.train)

    return run


def streaming(place: Place) -> Callable[[Private], None]:
    """All clips read in batches in a worker that has opened them: its own memory must not grow."""
    recordings = place.recordings
    ids = clip_ids(recordings.train)

    def run(private: Private) -> None:
        for start in range(0, len(ids), BATCH):
            recordings.packed.read(ids[start : start + BATCH], SAMPLES)
            if start % (BATCH * 16) == 0:
                private()

    return run


def statistics(place: Place) -> Callable[[Private], None]:
    """MFCC statistics of the machine types whose routing or labels read them, and the check of K1 and K2."""
    recordings = place.recordings
    cells = Cells(recordings).specs
    librosa.feature.mfcc(S=np.zeros((128, 4), dtype=np.float32))
    return lambda _: check_candidates(cells, recordings, place.cache)


def latents(place: Place) -> Callable[[Private], None]:
    """Latents of two pre-trained encoders, as small as encoders get."""
    recordings = place.recordings
    cells = Cells(recordings).of_each_backbone

    def run(_: Private) -> None:
        for spec in cells:
            pretrained_latents(spec, recordings, place.cache)

    return run


def labels(place: Place) -> Callable[[Private], Mapping[str, float]]:
    """Labels of the paper's 14 cells: candidates ranked for each backbone, fused for each M."""
    recordings = place.recordings
    cells = Cells(recordings).specs

    def run(_: Private) -> Mapping[str, float]:
        classes = 0
        for spec in cells:
            made, _, _ = fuse_labels(spec, rank_machines(spec, recordings, place.cache))
            classes = max(classes, len(made.classes))
        return {"classes at most": classes}

    return run


def embeddings(place: Place) -> Callable[[Private], None]:
    """A file of embeddings read and prepared as recordings; it is written before."""
    recordings = place.recordings
    path = place.folder / "embeddings.npz"
    both = pd.concat([recordings.train, recordings.test])[["dataset", "machine", "split", "clip_id"]]
    clips = list(both.itertuples(index=False, name=None))
    names = [f"{year}t2/{machine}/{split}/{clip.rsplit('/', 1)[1]}.wav" for year, machine, split, clip in clips]
    vectors = np.random.default_rng(0).standard_normal((len(names), DIM), dtype=np.float32)
    path.write_bytes(packed_embeddings(names, vectors))
    del recordings, both, clips, names, vectors
    return lambda _: (
        (place.folder / "silent.txt").write_text(
            str(prepare_recordings(path, find_protocol("paper"), place.cache).place)
        )
        and None
    )


def embeddings_opened(place: Place) -> Callable[[Private], None]:
    """A worker opens what a file of embeddings was prepared to."""

    def run(private: Private) -> None:
        found = open_recordings(Path((place.folder / "silent.txt").read_text()))
        private()
        assert len(found.train)

    return run


def scoring(place: Place) -> Callable[[Private], None]:
    """Test clips scored by two scorers on embeddings of 768 numbers, measured, with intervals."""
    recordings = place.recordings
    ids = embedded_ids(recordings).tolist()
    drawn = np.random.default_rng(0).standard_normal((len(ids), DIM), dtype=np.float32)
    vectors = dict(zip(ids, drawn, strict=True))
    spec = replace(Cells(recordings).specs[0], scorers=("knn", "mahalanobis"))

    def run(_: Private) -> None:
        scored = score_machines(spec, vectors, recordings)
        measure_scorers(spec, scored)
        scorer_intervals(scored, spec.scorers)

    return run


def trial(place: Place) -> Callable[[Private], None]:
    """One trial in a worker: M = 3, one epoch of a tiny encoder, from opening the recordings to its result."""

    def run(private: Private) -> None:
        torch.set_num_threads(1)
        recordings = place.recordings
        spec = next(each for each in Cells(recordings).specs if each.m == 3)
        result = run_trial(spec, recordings, place.cache, on_epoch=lambda _: private())
        private()
        result.pseudo_labels.to_parquet(place.folder / "pseudo_labels.parquet")

    return run


def records(place: Place) -> Callable[[Private], None]:
    """The driver records a trial in MLflow and the tables, and reads it back from its artifacts."""
    import pickle  # as Ray sends it

    recordings = place.recordings
    spec = next(each for each in Cells(recordings).specs if each.m == 3)
    result = run_trial(spec, recordings, place.cache)
    sent = pickle.dumps(result)
    del recordings, result
    places = find_places(tracking=f"sqlite:///{place.folder / 'mlflow.db'}")

    def run(private: Private) -> Mapping[str, float]:
        with open_recorder(places) as recorder:
            run_id = recorder.begin(spec)
            recorder.finish(run_id, pickle.loads(sent))
            private()
            folder = Path(recorder.tracker.client.download_artifacts(run_id, ""))
            assert read_record(folder, key=spec.key()).result is not None
        return {"MB sent to the driver": len(sent) / 2**20}

    return run


STAGES: dict[str, Callable[[Place], Callable[[Private], Any]]] = {
    each.__name__: each
    for each in (
        tree, index, doctor, packing, packed, opening, streaming, statistics, latents, labels, embeddings,
        embeddings_opened, scoring, trial, records,
    )
}  # fmt: skip
NEEDS = {
    "index": "tree", "doctor": "tree", "packing": "tree", "packed": "packing", "opening": "packing",
    "streaming": "packing", "statistics": "packing", "latents": "statistics", "labels": "latents",
    "embeddings": "packing", "embeddings_opened": "embeddings", "scoring": "packing", "trial": "labels",
    "records": "trial",
}  # fmt: skip


if __name__ == "__main__":
    serve_stages(STAGES, Place)
