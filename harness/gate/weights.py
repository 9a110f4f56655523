"""The weights that a frozen choice was made with, found where it is checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from backbones.contract import BackboneError
from harness.errors import HarnessError
from harness.trials.choices import choose_backbone
from harness.trials.contract import BackboneChoice


def weights_here(chosen: BackboneChoice | None) -> BackboneChoice | None:
    """Return a frozen choice's backbone with its weights as they lie here; its key stays, since that has their sum.

    They are looked for under the path that they had, then by the file's name in the folders of weights, then as the
    model of the hub that they came from. What has another sum is passed over.

    Raises:
        HarnessError: nothing found has their sum.
        BackboneError: nothing is found at all.
    """
    if chosen is None or not chosen.weights:
        return chosen
    other, missing = "", None
    for named in filter(None, (chosen.weights, Path(chosen.weights).name, chosen.source)):
        try:
            there = choose_backbone(chosen.name, chosen.encoder, weights=named, options=dict(chosen.options))
        except BackboneError as error:
            missing = missing or error
            continue
        if there.weights_sha256 == chosen.weights_sha256:
            return replace(chosen, weights=there.weights)
        other = other or f"{there.weights} has the sum {there.weights_sha256[:12]}"
    if not other and missing is not None:
        raise missing
    raise HarnessError(
        f"A frozen choice is checked with the same weights, but {other} instead of {chosen.weights_sha256[:12]}; put "
        f"the file that it was chosen with there, or as {Path(chosen.weights).name} into the folder that "
        "ASDBENCH_WEIGHTS names."
    )
