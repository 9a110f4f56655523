"""The conformance report of a backbone, by its name as studies write it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError

if TYPE_CHECKING:
    from backbones.check import CheckLine
    from backbones.contract import Encoder

SHORTEST = 0.5  # seconds: enough frames for the patches of every encoder here
LONGEST = 60.0


def check_backbone(
    name: str,
    *,
    weights: str = "",
    options: Mapping[str, Any] | None = None,
    seconds: float = 10.0,
    threads: int = 1,
    listen: Callable[[CheckLine], None] = lambda _line: None,
) -> dict[str, Any]:
    """Check a backbone against the contract that studies rely on.

    Args:
        name: as in a study: a built-in backbone, one of an installed package's entry points, or hf:FOLDER.
        weights: path of a checkpoint; "" means random weights.
        options: of the backbone, option -> value.
        seconds: length of the clips that most checks use.
        threads: number of torch's threads, for the check of speed.
        listen: called with the result of each check as soon as it is known.

    Returns:
        `backbone`; `passed`, whether no check failed; and `rows`, one for each check, with `name`, `status`, `found`
        and `why`.

    Raises:
        HarnessError: there is no such backbone, or no clip can have that length.
        BackboneError: the weights are not there, or cannot be used; or an option is wrong.
    """
    from backbones.check import check_encoder
    from harness.trials.choices import choose_backbone
    from harness.trials.limits import hold_threads
    from harness.trials.stages import pretrained_encoder

    if not SHORTEST <= seconds <= LONGEST:
        raise HarnessError(f"--seconds must be between {SHORTEST:g} and {LONGEST:g}, but got {seconds:g}.")
    hold_threads(threads)
    choice = choose_backbone(name, name, weights=weights, options=options)

    def build(seed: int) -> Encoder:
        return pretrained_encoder(choice, seed=seed)

    if choice.weights:
        build(0)  # a file that cannot be used says nothing about the backbone: one sentence, and no report
    rows = []
    for line in check_encoder(build, seconds=seconds):
        listen(line)
        rows.append(asdict(line))
    return {"backbone": name, "passed": all(row["status"] != "fail" for row in rows), "rows": rows}
