"""The released files of BEATs and AudioMAE: names, sizes, sums, licences, mirrors; and where weights are looked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backbones.contract import BackboneError
from backbones.files import is_file
from backbones.plugins import did_you_mean

WEIGHTS_FOLDER = "ASDBENCH_WEIGHTS"  # environment variable: a folder of weights
CACHE_FOLDER = "ASDBENCH_CACHE"  # environment variable: what is kept between trials, .asdbench unless it says another
SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors", ".h5", ".onnx", ".onnx.zip")  # that a name may leave out
PRE_TRAINED, FINE_TUNED = 361_499_833, 363_145_291  # bytes of BEATs' files
MIT, NON_COMMERCIAL = "MIT", "CC BY-NC 4.0"  # of microsoft/unilm; of facebookresearch/AudioMAE by its LICENSE file
# Mirrors of BEATs on the hub. None of them is Microsoft's, whose links are dead; the sum tells that a file is.
LPEPINO = "lpepino/beats_ckpts"
AS2M_MIRRORS = (
    f"{LPEPINO}@a2ddb6b0411c39942ae144a6414872e14e5a4329",
    "mooneyko/BEATs@18cfdf9d43820b2db86c6dfde4ae2f7531d1f5ad",
    "datasets/Bencr/beats-checkpoints@082fb1849d55bef1ee52ee8d8910b3adc69d4bc8",
)
TIMM = "gaunernst/vit_base_patch16_1024_128.audiomae_as2m"
DRIVE = "facebookresearch/AudioMAE links it on Google Drive"


@dataclass(frozen=True)
class Released:
    """A file that the authors of a backbone released, or that people take in its place.

    Attributes:
        name: by which a study names it.
        backbone: that loads it.
        stage: "pre-trained" without labels, or "fine-tuned" on AudioSet's.
        suffix: of the file under its name.
        bytes: its size; None where nobody has published it.
        sha256: its sum; None where nobody has published it, so that the one that the hub states is taken.
        licence: as its authors state it.
        sources: where the hub has it, `ORG/NAME@REVISION`, tried in this order; empty where it has not.
        path: of the file in those repositories.
        elsewhere: where to get it if the hub has it not.
    """

    name: str
    backbone: str
    stage: Literal["pre-trained", "fine-tuned"]
    suffix: str
    bytes: int | None
    sha256: str | None
    licence: str
    sources: tuple[str, ...]
    path: str
    elsewhere: str = ""

    @property
    def file(self) -> str:
        """The name of the file."""
        return self.name + self.suffix


def _beats(name: str, sha256: str, *mirrors: str) -> Released:
    tuned = "_finetuned_" in name
    return Released(
        name=name,
        backbone="beats",
        stage="fine-tuned" if tuned else "pre-trained",
        suffix=".pt",
        bytes=FINE_TUNED if tuned else PRE_TRAINED,
        sha256=sha256,
        licence=MIT,
        sources=mirrors or (f"{LPEPINO}@main",),
        path=f"{name}.pt",
    )


# fmt: off
RELEASED = (
    _beats("BEATs_iter1", "b5f4cc10bcbff63a437c695f33389e6411513b3f7d5cdae8fb62b5005f4a1fcd"),
    _beats("BEATs_iter1_finetuned_on_AS2M_cpt1", "e0e739e3670bfbb93c51adefb1d02981621397addc979d392aefd3dc53c22cab"),
    _beats("BEATs_iter1_finetuned_on_AS2M_cpt2", "2f3a7b65ab232c4f75570d4d17e21e5ebc34b3c40fe1a074f27d199e81354960"),
    _beats("BEATs_iter2", "81a23e00aa4878d7e8627ded87ea697fb347c8ceffed21223e0398ed0fa34ad8"),
    _beats("BEATs_iter2_finetuned_on_AS2M_cpt1", "3a120810c0f6dbfd50a7f48dc03ed077971a50cb2dbb7999695d5c700d03da45"),
    _beats("BEATs_iter2_finetuned_on_AS2M_cpt2", "08363b9b5eabeb47b0879c84145b27c603e7e50c116a633fa5b98ade119fc354"),
    _beats("BEATs_iter3", "8d1b234032a9ccff353612dc6c20982346dc2968b205b79d97303eb5e77bfb34"),
    _beats(
        "BEATs_iter3_finetuned_on_AS2M_cpt1", "379369a41d0b3749f746cdcea8036de506cb3aedecce84de7db0a75fda2a4fe7",
        f"{LPEPINO}@5b53b0404df452a3a607d7e67687227730e5bad1",
    ),
    _beats("BEATs_iter3_finetuned_on_AS2M_cpt2", "08374f1cbd49143900b351bc81cd307de386a11f8e609eb3862634e992068b55"),
    _beats("BEATs_iter3_plus_AS20K", "8008b126bb5e8ab08912c60c58847ed676d32e64a5864c922356b7c2522fb2f8"),
    _beats(
        "BEATs_iter3_plus_AS20K_finetuned_on_AS2M_cpt1",
        "2c366278dcf835e9bdefad4f7147b0edba4b940c59146fd05dc49a401fa82ff8",
    ),
    _beats(
        "BEATs_iter3_plus_AS20K_finetuned_on_AS2M_cpt2",
        "6d28b32bfa7bcaaf84ab834186581c2a360c6669e372e808d054cf0ef4d5c2d2",
    ),
    _beats(
        "BEATs_iter3_plus_AS2M", "d43cbfad4d7b56381c061d7a24774f908d4d94c72961f6eb1d9090ff18cd8d34", *AS2M_MIRRORS
    ),
    _beats(
        "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt1",
        "7f9362028ac6e5c049e8dc314d87e90e4f82a15a8e472deb56af55d7f9b34d6a",
    ),
    _beats(
        "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2",
        "e5815275a04b6885e7b8af63d120b29bffae2cd2225cf4915e1ec6d819d3022c",
    ),
    Released(
        "AudioMAE_pretrained", "audiomae", "pre-trained", ".pth", None, None, NON_COMMERCIAL, (), "pretrained.pth",
        elsewhere=DRIVE,
    ),
    Released(
        "vit_base_patch16_1024_128.audiomae_as2m", "audiomae", "pre-trained", ".safetensors", None, None,
        NON_COMMERCIAL, (f"{TIMM}@main",), "model.safetensors",
    ),
    Released(
        "vit_base_patch16_1024_128.audiomae_as2m_ft_as20k", "audiomae", "fine-tuned", ".safetensors", None, None,
        NON_COMMERCIAL, (f"{TIMM}_ft_as20k@49cfdfa4663a9c689e7ee5184df2d5660f730233",), "model.safetensors",
    ),
)
# fmt: on


def find_released(name: str) -> Released:
    """Return a released file by its name, suffix or not.

    Raises:
        BackboneError: there is none, with the nearest one.
    """
    found = released_called(name)
    if found is None:
        hint = did_you_mean(name, [each.name for each in RELEASED])
        raise BackboneError(
            f"The name of released weights must be one that `asdbench weights ls` lists, but got {name}.{hint}"
        )
    return found


def released_called(name: str) -> Released | None:
    """Return the released file of a name, suffix or not; None where there is none."""
    return next((each for each in RELEASED if name in (each.name, each.file)), None)


def released_with(sha256: str) -> Released | None:
    """Return the released file whose sum this is; None where it is none's."""
    return next((each for each in RELEASED if each.sha256 == sha256), None)


def kept_folder() -> Path:
    """Return the folder `weights` of the cache."""
    return Path(os.environ.get(CACHE_FOLDER) or ".asdbench").absolute() / "weights"


def own_folder() -> Path:
    """Return the folder that downloads go to: ASDBENCH_WEIGHTS, else `weights` of the cache (ASDBENCH_CACHE)."""
    named = os.environ.get(WEIGHTS_FOLDER)
    return expanded(named) if named else kept_folder()


def weights_folders() -> list[Path]:
    """Return where weights are looked for by name: ASDBENCH_WEIGHTS, then `weights` of the cache."""
    named = os.environ.get(WEIGHTS_FOLDER)
    return [*([expanded(named)] if named else []), kept_folder()]


def places_of(name: str | Path) -> Iterator[Path]:
    """Yield under which paths weights may lie, in the order in which they are looked for.

    A path stands for itself. A name that is no absolute path is looked for in the folders of weights too, as it is and
    with each suffix that it may leave out.
    """
    asked = expanded(name)
    yield asked
    if asked.is_absolute():
        return
    for folder in weights_folders():
        yield folder / asked
        if asked.name:
            for suffix in SUFFIXES:
                yield (folder / asked).with_name(asked.name + suffix)


def where(released: Released) -> Path | None:
    """Return where a released file lies by name; None where it does not."""
    return next((each for each in places_of(released.file) if is_file(each)), None)


def how_to_bring(name: str) -> str:
    """Say that a released file is not here, and the one command that brings it."""
    released = find_released(name)
    looked = " and ".join(map(str, weights_folders()))
    if not released.sources:
        return (
            f"The weights {released.name} are not here (looked in {looked}), and the hub does not have them: "
            f"{released.elsewhere}; save the file there as {own_folder() / released.file}."
        )
    return (
        f"The weights {released.name} are not here (looked in {looked}); bring them: "
        f"asdbench weights download {released.name}"
    )


def expanded(path: str | Path) -> Path:
    """Return a path with the user's folder in place of ~.

    Raises:
        BackboneError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise BackboneError(f"weights must name a file or a folder, but got {path}: {error}.") from error
