"""The grid as a plain script has it: fourteen cells one after the other, scikit-learn, the same training loop.

Every cell reads the recordings, labels each machine type as the paper does (attributes of the nearest labeled clips
ranked by a forest in MFCC space, or clusters of the pre-trained encoder's latents), fine-tunes, scores and measures;
nothing is kept between cells, as a script has it that takes a backbone and M. Prints one JSON object: cell -> official
score.

Backbones are the demonstration's; learning rate and M are the paper's. Clips of a second gain little from torch's
second thread, which the script has to itself; the longer the clips and the larger the backbone, the more it gains, and
the less is left for running two trials side by side.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import soundfile
import torch
from scipy.stats import hmean
from sklearn.cluster import KMeans
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from backbones import load_encoder
from backbones.embed import embed
from backbones.training.finetune import finetune
from backbones.training.recipe import FinetuneRecipe

CASES = {"ToyCar": "unlabeled", "bearing": "sample-wise", "fan": "unlabeled", "slider": "sample-wise"}
MACHINES = tuple(CASES)
SECONDS = 1.0
M = (1, 3, 5, 7, 10, 13, 15)  # paper, section 3.2, with K1 and K2
K1 = K2 = 15
MIN_CONFIDENCE = 0.5
RATE = 16_000
BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "beats-small": ("beats", {
        "embed_dim": 64, "encoder_embed_dim": 64, "encoder_ffn_embed_dim": 256, "encoder_layers": 2,
        "encoder_attention_heads": 4, "conv_pos": 32,
    }),
    "audiomae-small": ("audiomae", {"embed_dim": 64, "layers": 3, "heads": 4, "frames": 112}),
}  # fmt: skip
RECIPE: dict[str, Any] = {
    "epochs": 20, "batch_size": 16, "learning_rate": 2e-4, "warmup_epochs": 1, "clip_seconds": SECONDS,
    "time_mask": 10, "mel_mask": 4,
}  # fmt: skip


def read(paths: list[Path]) -> torch.Tensor:
    """Read clips: (n, samples) in -1..1."""
    return torch.from_numpy(np.stack([soundfile.read(path, dtype="float32")[0] for path in paths]))


def attribute_of(path: Path) -> str | None:
    """Return a clip's attribute from its name; those of the target domain are withheld."""
    return None if "_target_" in path.name else "_".join(path.stem.split("_")[6:])


def sample_wise(clips: torch.Tensor, paths: list[Path], machine: str, m: int) -> list[str | None]:
    """Name each clip by its own attribute, or the M likeliest of its K1 nearest labeled clips; None where unsure."""
    found = [librosa.feature.mfcc(y=clip, sr=RATE) for clip in clips.numpy()]
    features = np.stack([np.concatenate([each.mean(axis=1), each.std(axis=1)]) for each in found])  # (n, 40)
    attributes = np.array([attribute_of(path) or "" for path in paths])
    labeled = attributes != ""
    scaled = StandardScaler().fit_transform(features.astype(np.float64))
    far, near = NearestNeighbors(n_neighbors=K1).fit(scaled[labeled]).kneighbors(scaled[~labeled])
    forest = RandomForestClassifier(100, random_state=0).fit(features[labeled], attributes[labeled])
    likely = forest.predict_proba(features[~labeled])
    rows = iter(range(len(far)))
    names: list[str | None] = []
    for attribute in attributes.tolist():
        if attribute:
            names.append(f"{machine}|{attribute}")
            continue
        row = next(rows)
        there = attributes[labeled][near[row]]
        chance = {name: likely[row, forest.classes_.tolist().index(name)] for name in set(there.tolist())}
        order = sorted(chance, key=lambda name: (-chance[name], far[row][there == name].min(), name))
        sure = chance[order[0]] >= MIN_CONFIDENCE
        names.append(f"{machine}|" + "_".join(order[:m]) if sure else None)
    return names


def cluster_wise(latents: np.ndarray, machine: str, m: int) -> list[str]:
    """Name each clip of a machine type by its M nearest clusters, clusters numbered by their first clip."""
    centred = latents - latents.mean(axis=0, dtype=np.float64).astype(latents.dtype)
    found = KMeans(K2, n_init=10, random_state=0).fit(centred).labels_
    order = list(dict.fromkeys(found.tolist()))
    members = np.array([order.index(label) for label in found])
    centroids = np.stack([centred[members == label].mean(axis=0, dtype=np.float64) for label in range(len(order))])
    distances = np.linalg.norm(centred.astype(np.float64)[:, None] - centroids, axis=2)  # (n, k2)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :m]
    return [f"{machine}|" + "_".join(f"cluster_{label:02d}" for label in row) for row in nearest.tolist()]


def cell(root: Path, name: str, m: int) -> float:
    """Run one cell and return its official score, a fraction."""
    encoder_name, options = BACKBONES[name]
    encoder = load_encoder(encoder_name, seed=0, **options)
    train = {machine: sorted(root.rglob(f"{machine}/train/*.wav")) for machine in MACHINES}
    clips = read([path for paths in train.values() for path in paths])
    latents = embed(encoder, lambda at: clips[at], len(clips))
    names: list[str | None] = []
    for machine, paths in train.items():
        own = slice(len(names), len(names) + len(paths))
        if CASES[machine] == "sample-wise":
            names += sample_wise(clips[own], paths, machine, m)
        else:
            names += cluster_wise(latents[own], machine, m)
    kept = np.array([place for place, name in enumerate(names) if name is not None])
    classes, targets = np.unique([name for name in names if name is not None], return_inverse=True)
    tuned = finetune(
        encoder, lambda at: clips[kept[at]], targets, n_classes=len(classes), recipe=FinetuneRecipe(**RECIPE), seed=0
    )
    references, values = embed(tuned, lambda at: clips[at], len(clips)), []
    for place, (machine, paths) in enumerate(train.items()):
        first = sum(len(train[other]) for other in MACHINES[:place])
        test = sorted(root.rglob(f"{machine}/test/*.wav"))
        heard = read(test)
        queries = embed(tuned, lambda at, heard=heard: heard[at], len(heard))
        near = NearestNeighbors(n_neighbors=1, metric="cosine").fit(
            references[first : first + len(paths)].astype(float)
        )
        values += measure(near.kneighbors(queries.astype(float))[0][:, 0], [path.name for path in test])
    return float(hmean(values))


def measure(scores: np.ndarray, files: list[str]) -> list[float]:
    """Return the source's and the target's AUC and the pAUC, as the official evaluator of 2023 has them."""
    anomaly = np.array(["_anomaly_" in name for name in files])
    source = np.array(["_source_" in name for name in files])
    areas = [float(roc_auc_score(anomaly[kept], scores[kept])) for kept in (anomaly | source, anomaly | ~source)]
    return [*areas, float(roc_auc_score(anomaly, scores, max_fpr=0.1))]


def main(root: Path) -> None:
    """Run the grid."""
    found = {f"{name} M={m}": cell(root, name, m) for name in BACKBONES for m in M}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
