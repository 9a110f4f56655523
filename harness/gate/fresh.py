"""Whether recordings are others than those that a frozen choice was made on."""

from __future__ import annotations

from benchmarks.contract import Protocol
from harness.errors import HarnessError
from harness.gate.frozen_choice import FrozenChoice
from harness.trials.contract import protocol_content


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
