"""Pre-training over a protocol's training clips: from recordings to a checkpoint file, recorded in MLflow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.interrupts import opened
from harness.places import Places, code_revision, find_places
from harness.pretraining.plan import Pretraining, checked_out, resolve

if TYPE_CHECKING:
    from backbones.contract import MaskedEncoder
    from backbones.training.pretrain import PretrainReport

logger = logging.getLogger(__name__)

FOLDER = "pretraining"  # of the cache; a state stays there until its run has ended, however long that takes
MOST_PICTURED = 4  # clips, each of another machine type
CURVE = "pretrain/loss"


def pretrain(
    root: Path,
    *,
    protocol: str,
    backbone: str,
    out: Path,
    weights: str = "",
    options: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    seed: int = 0,
    threads: int | None = None,
    ground_truth: Path | None = None,
    skip_bad: bool = False,
    places: Places | None = None,
    told: Callable[[str, int, int], None] = lambda _what, _done, _all: None,
    every_seconds: float = 30.0,
) -> dict[str, Any]:
    """Pre-train a backbone by masked reconstruction of a protocol's training clips, and write its checkpoint.

    Killed at any moment and called again with the same arguments, it goes on where it was, and on a CPU writes the
    same file, byte for byte. Once the file is there, the same call does nothing.

    Args:
        root: folder with recordings, in the official layout or your own with their csv.
        protocol: by name; its test clips are not heard.
        backbone: by name, one with a decoder.
        out: the checkpoint file, in the backbone's official format.
        weights: a checkpoint to start from; empty is random weights from the seed.
        options: of the backbone and its decoder.
        recipe: what differs from `PretrainRecipe`'s defaults.
        seed: of new weights, order and masks.
        threads: of torch; None is one a core. Another number may change the last digits.
        ground_truth: the user's copy of the official files about evaluation clips.
        skip_bad: go on without files that cannot be used.
        places: of the stores.
        told: progress.
        every_seconds: between two writes of the state, see `backbones.training.checkpoint.TrainingCheckpoint`.

    Returns:
        `status` ("finished", or "already" where the file was there), `key`, `run_id`, `out`, `sha256`, `backbone`,
        `protocol`, `clips`, `epochs`, `loss` of the last epoch, `padding` (share of the input).
    """
    import os  # noqa: PLC0415 - a verb imports what it needs

    import torch  # noqa: PLC0415
    from filelock import FileLock, Timeout  # noqa: PLC0415

    from backbones.training.pretrain import load_masked_encoder, padding_share  # noqa: PLC0415

    torch.set_num_threads(threads or os.cpu_count() or 1)
    places = places or find_places()
    model, plan = resolve(
        root, protocol, backbone, weights=weights, options=options, recipe=recipe, seed=seed,
        ground_truth=ground_truth, skip_bad=skip_bad, places=places, told=told, load=load_masked_encoder,
    )  # fmt: skip
    out = checked_out(out)
    lock = places.cache / FOLDER / f"{plan.key()}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            answer = _carry_out(plan, model, out, places=places, told=told, every_seconds=every_seconds)
    except Timeout:
        raise HarnessError(
            f"Only one process can be at one pre-training, but another is at {plan.key()} already; wait for it."
        ) from None
    return {**answer, "padding": padding_share(model, plan.recipe.clip_seconds)}


def _carry_out(
    plan: Pretraining,
    model: MaskedEncoder,
    out: Path,
    *,
    places: Places,
    told: Callable[[str, int, int], None],
    every_seconds: float,
) -> dict[str, Any]:
    from backbones.training.checkpoint import TrainingCheckpoint  # noqa: PLC0415
    from harness.stores.results import Results  # noqa: PLC0415

    key = plan.key()
    said = _what_is_there(out, key)
    state = TrainingCheckpoint(places.cache / FOLDER / f"{key}.pt", every_seconds)
    with closing(Results(places.results)):  # it makes or checks the database, as every writer's start does
        from harness.stores.tracker import Tracker  # noqa: PLC0415

        tracker = Tracker(places.tracking, code=code_revision())
    if said is not None and tracker.finished_run("pretrain", key) is not None:
        state.remove()
        return _answer(plan, out, said, run_id=str(tracker.finished_run("pretrain", key)), status="already")
    status, reason = "KILLED", "it was interrupted"

    def begin() -> str:
        return tracker.start_run(
            "pretrain", key, f"pretrain {plan.choice.name} seed={plan.seed}",
            tags={"asd.train_data": plan.data}, params=plan.params(model),
        )  # fmt: skip

    with opened(begin, lambda run_id: tracker.finish(run_id, status, reason=reason)) as run_id:
        try:
            if said is None:
                model, said = _train(plan, model, out, tracker=tracker, run_id=run_id, told=told, state=state)
            _log_end(plan, out, said, tracker=tracker, run_id=run_id)
            status, reason = "FINISHED", ""
        except ValueError as error:
            status, reason = "FAILED", str(error)
            raise
    state.remove()
    return _answer(plan, out, said, run_id=run_id, status="finished")


def _train(
    plan: Pretraining,
    model: MaskedEncoder,
    out: Path,
    *,
    tracker: Any,
    run_id: str,
    told: Callable[[str, int, int], None],
    state: Any,
) -> tuple[MaskedEncoder, dict[str, Any]]:
    """Train, write the file, and return the model with what the file says of its making."""
    from backbones.training.checkpoint import save_whole  # noqa: PLC0415
    from backbones.training.pretrain import pretrain as run  # noqa: PLC0415

    logged = tracker.logged_steps(run_id, CURVE)

    def on_epoch(report: PretrainReport) -> None:
        if report.epoch not in logged:
            values = {CURVE: report.loss, "pretrain/learning_rate": report.learning_rate}
            tracker.log_step(run_id, values, step=report.epoch)

    trained, reports = run(
        model, _reader(plan), len(plan.recordings.train), recipe=plan.recipe, seed=plan.seed, on_epoch=on_epoch,
        on_step=lambda done, total: told("pre-training steps", done, total), checkpoint=state,
    )  # fmt: skip
    said = {
        "key": plan.key(),
        "protocol": plan.protocol,
        "data": plan.data,
        "clips": len(plan.recordings.train),
        "seed": plan.seed,
        "recipe": asdict(plan.recipe),
        "losses": [report.loss for report in reports],
        "precision": reports[-1].precision,
    }
    try:
        save_whole({**trained.checkpoint(), "epoch": len(reports), "pretraining": said}, out)
    except (OSError, RuntimeError) as error:  # torch's writer raises the latter when a disk is full
        raise HarnessError(
            f"The checkpoint must be written to {out}, but: {str(error).splitlines()[0]}; make room there and run the "
            "same command again: nothing is trained twice."
        ) from error
    return trained, said


def _reader(plan: Pretraining) -> Any:
    import torch  # noqa: PLC0415

    from benchmarks.recordings.audio import SAMPLE_RATE  # noqa: PLC0415
    from harness.trials.stages import clip_ids  # noqa: PLC0415

    ids, packed = clip_ids(plan.recordings.train), plan.recordings.packed
    samples = round(plan.recipe.clip_seconds * SAMPLE_RATE)
    return lambda positions: torch.from_numpy(packed.read(ids[positions], samples, plan.recipe.fit))


def _log_end(plan: Pretraining, out: Path, said: Mapping[str, Any], *, tracker: Any, run_id: str) -> None:
    """Log the checkpoint's sum, and a picture of input, mask and reconstruction made from the file itself."""
    import json  # noqa: PLC0415

    from backbones.training.pretrain import load_masked_encoder, reconstruct  # noqa: PLC0415
    from backbones.weights import sha256_of  # noqa: PLC0415
    from harness.pictures.candidates import png  # noqa: PLC0415
    from harness.pictures.spectrograms import reconstruction_picture  # noqa: PLC0415

    model = load_masked_encoder(plan.choice.encoder, weights=out).eval()
    first = plan.recordings.train.drop_duplicates("machine").head(MOST_PICTURED)
    waveforms = _reader(plan)(first.index.to_numpy())
    _, panels = reconstruct(model, waveforms, mask_ratio=plan.recipe.mask_ratio, seed=plan.seed)
    picture = reconstruction_picture(first["machine"].tolist(), [panel.numpy() for panel in panels])
    record = {**said, "sha256": sha256_of(out), "out": str(out)}
    tracker.set_tags(run_id, {"asd.weights_sha256": sha256_of(out), "asd.precision": str(said["precision"])})
    tracker.log_study(run_id, {"loss": float(said["losses"][-1])})
    texts = {"reconstruction.png": png(picture), "pretraining.json": json.dumps(record, indent=1, sort_keys=True)}
    tracker.log_text(run_id, texts)


def _what_is_there(out: Path, key: str) -> dict[str, Any] | None:
    """Return what the file at `out` says of its making; None where there is no file.

    Raises:
        HarnessError: it is something else.
    """
    from backbones.contract import BackboneError  # noqa: PLC0415
    from backbones.weights import read_checkpoint  # noqa: PLC0415

    if not out.exists():
        return None
    try:
        said = read_checkpoint(out).content.get("pretraining")
    except BackboneError:
        said = None
    if not isinstance(said, Mapping) or said.get("key") != key:
        raise HarnessError(
            f"--out must name a new file, or the one that this very command wrote, but {out} is another; "
            "move it away or name another file."
        )
    return dict(said)


def _answer(plan: Pretraining, out: Path, said: Mapping[str, Any], *, run_id: str, status: str) -> dict[str, Any]:
    from backbones.weights import sha256_of  # noqa: PLC0415

    return {
        "status": status,
        "key": plan.key(),
        "run_id": run_id,
        "out": str(out),
        "sha256": sha256_of(out),
        "backbone": plan.choice.encoder,
        "protocol": plan.protocol,
        "clips": len(plan.recordings.train),
        "epochs": len(said["losses"]),
        "loss": said["losses"][-1],
    }
