"""Log-mel features that a process keeps from one trial to the next."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from backbones.contract import Encoder, ReadClips, pick_device
from backbones.features.prepared import Features, FeatureStore
from harness.keys import digest
from harness.trials.contract import TrialSpec
from harness.trials.recordings import Recordings

MOST_BYTES = 2**30  # of all that is kept; more would be made quickly beside the training of so many clips

_stores: OrderedDict[str, FeatureStore] = OrderedDict()
_keeping = [True]


def kept_features(
    spec: TrialSpec,
    encoder: Encoder,
    recordings: Recordings,
    ids: NDArray[np.str_],
    *,
    read: ReadClips,
    samples: int,
) -> Features | None:
    """Return the log-mel features of clips, as earlier trials of this process left them and as others are made.

    Args:
        spec: of the trial; trials with the same backbone and input share features.
        encoder: whose features are wanted, fine-tuned or not.
        recordings: of the trial.
        ids: (k,) of the clips.
        read: from positions in `ids` to waveforms.
        samples: of each waveform.

    Returns:
        Features by position in `ids`; None where keeping them would not help: on a GPU, which makes them in no time,
        where they take too much memory, or where the encoder does not embed by `fbank`, `tokens` and `pool` alone.
    """
    if not _keeping[0] or spec.backbone is None or pick_device().type != "cpu" or not _is_plain(encoder):
        return None
    key = digest(
        {
            "place": str(recordings.place),
            "backbone": spec.backbone.content(),
            "seed": None if spec.backbone.weights else spec.seed,
            "input": [samples, spec.recipe.fit],
        }
    )
    every = np.unique(np.concatenate([recordings.train["clip_id"], recordings.test["clip_id"]]).astype(np.str_))
    store = _stores.pop(key, None) or FeatureStore(len(every), MOST_BYTES)
    features = store.features(encoder, read, np.searchsorted(every, ids), make_room=_make_room)
    _stores[key] = store  # last: the most recently used
    return features


def _make_room(size: int) -> None:
    """Let go of the longest unused before as many bytes are taken."""
    while _stores and size + sum(each.size for each in _stores.values()) > MOST_BYTES:
        _stores.popitem(last=False)


def keep_features(keep: bool) -> None:
    """Say whether this process keeps features: not where what a trial takes is limited, to which they would add."""
    _keeping[0] = keep
    if not keep:
        _stores.clear()


def _is_plain(encoder: Encoder) -> bool:
    """Tell whether an encoder's embeddings come from `fbank`, `tokens` and `pool` alone."""
    hooked = encoder._forward_hooks or encoder._forward_pre_hooks or "forward" in vars(encoder)
    return type(encoder).forward is Encoder.forward and not hooked
