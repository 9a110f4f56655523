"""Whether recordings are others than those that a frozen choice was made on."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.contract import Protocol
from harness.errors import HarnessError
from harness.gate.frozen_choice import FrozenChoice
from harness.trials.contract import protocol_content
from harness.trials.recordings import Recordings


def demand_other_recordings(
    frozen: FrozenChoice, protocol: Protocol, *, train_data: str, test_data: str, named: str
) -> None:
    """Refuse recordings on which a frozen choice cannot be checked.

    Args:
        frozen: the choice.
        protocol: which recordings train and are scored; its name and what it scores may differ.
        train_data: fingerprint of the training recordings.
        test_data: fingerprint of the test recordings.
        named: what these are called in the error.

    Raises:
        HarnessError: other rules of the protocol, other training recordings, or test recordings that were seen before.
    """
    rules, theirs = (
        {name: value for name, value in protocol_content(each).items() if name != "score"}
        for each in (frozen.spec.protocol, protocol)
    )
    if differ := sorted(name for name in rules.keys() | theirs.keys() if rules.get(name) != theirs.get(name)):
        raise HarnessError(
            f"A frozen choice is checked under the same protocol, of which only what is scored may differ, but {named} "
            f"has another {differ[0]}; name a protocol with the same {differ[0]} by --protocol."
        )
    if train_data != frozen.content.train_data:
        raise HarnessError(
            f"A frozen choice is checked with the same training recordings, but {named} has {train_data} instead of "
            f"{frozen.content.train_data}; put the training clips there that it was chosen with."
        )
    if test_data == frozen.content.test_data:
        raise HarnessError(
            f"A frozen choice is checked on other test recordings than it was chosen on, but {named} has the very same "
            f"({test_data}); name the folder of the new ones with --data."
        )
    if test_data in frozen.content.seen:
        raise HarnessError(
            f"A frozen choice is checked on test recordings that nobody had scored before, but {named} ({test_data}) "
            f"had been when it was frozen on {frozen.content.date}; name the folder of new ones with --data."
        )


def clip_sounds(recordings: Recordings) -> dict[str, str]:
    """Return test clip id -> digest of its samples; "" where only embeddings are at hand, which differ by encoder."""
    packed, clips = recordings.packed, recordings.test["clip_id"].astype(str).tolist()
    if not packed.heard:
        return dict.fromkeys(clips, "")
    digests = dict(zip(packed.ids.tolist(), packed.hashes.tolist(), strict=True))
    return {clip: str(digests[clip]) for clip in clips}


def seen_clips(frozen: FrozenChoice, clips: Mapping[str, str]) -> list[str]:
    """Return which of these test clips the choice was made on, by what stands in its file.

    Samples are compared where both sides have them: a copy counts under any name, and another clip of an equal name
    does not. Otherwise ids are compared.

    Args:
        frozen: the choice.
        clips: id -> digest of the samples, "" where they are not at hand.
    """
    before, sounds = frozen.content.clips, frozen.sounds()
    return [clip for clip, sound in clips.items() if (sound in sounds if sound and sounds else clip in before)]


def demand_other_clips(frozen: FrozenChoice, clips: Mapping[str, str], *, named: str) -> None:
    """Refuse test recordings of which any clip is one that the choice was made on, before anything is run there.

    Args:
        frozen: the choice.
        clips: id -> digest of the samples, see `clip_sounds`.
        named: what the recordings are called in the error.

    Raises:
        HarnessError: some clips were seen, or have the names of such and samples cannot be compared.
    """
    seen = seen_clips(frozen, clips)
    if not seen:
        return
    compared = bool(frozen.sounds() and clips[seen[0]])
    what = "sound as" if compared else "have the names of"
    unknown = "" if compared else ", and samples cannot be compared, since those are not in its file or not at hand"
    raise HarnessError(
        f"A frozen choice is checked on clips that it was not chosen on, but {len(seen)} of {len(clips)} test clips of "
        f"{named} {what} clips that it was chosen on (first {seen[0]}){unknown}; name the folder of new ones with "
        "--data."
    )
