"""Pre-training by masked reconstruction: what it learns, and what must not change its result."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from backbones import load_encoder
from backbones.contract import BackboneError
from backbones.memory import MicroBatch, arithmetic
from backbones.training.checkpoint import TrainingCheckpoint, save_whole
from backbones.training.pretrain import (
    PretrainRecipe,
    load_masked_encoder,
    padding_share,
    pretrain,
    reconstruct,
)
from tests.backbones.conftest import ORACLES, SMALL, reader, tones
from tests.backbones.training.test_finetune import farthest

CPU = torch.device("cpu")
DECODER = {"decoder_dim": 16, "decoder_layers": 1, "decoder_heads": 2}
OPTIONS = {**SMALL["audiomae"], **DECODER}
QUICK = PretrainRecipe(epochs=3, batch_size=8, base_learning_rate=0.1, warmup_epochs=0.5, micro_batch=4)


def model_of(**options):
    """A small AudioMAE with a decoder."""
    return load_masked_encoder("audiomae", **{**OPTIONS, **options})


def run(model, waveforms, recipe=QUICK, **options):
    """Pre-train on waveforms in memory."""
    return pretrain(model, reader(waveforms), len(waveforms), recipe=recipe, **{"device": CPU, **options})


def changed(recipe, **values):
    """Return the recipe with other values."""
    return PretrainRecipe(**{**vars(recipe), **values})


def test_learns():
    """The loss falls well below 1, what a patch's own mean would give, and the reports tell the learning rate."""
    recipe = changed(QUICK, epochs=25)
    model = model_of()
    trained, reports = run(model, tones(16, seconds=1.0), recipe)
    assert [report.epoch for report in reports] == list(range(1, 26))
    assert reports[-1].loss < 0.95 and reports[0].loss > 1.0
    assert max(report.learning_rate for report in reports) <= 0.1 * 8 / 256
    assert farthest(trained, model) > 1e-3 and not trained.training
    assert all(parameter.grad is None for parameter in trained.parameters())


def test_micro_batches_do_not_matter():
    """Micro-batches of 1, 4 and 16 end within 1e-5 of one another, stochastic depth included."""
    model = model_of(drop_path=0.3)
    trained = [run(model, tones(11), changed(QUICK, micro_batch=size))[0] for size in (1, 4, 16)]
    assert farthest(trained[0], model) > 1e-4
    assert farthest(trained[0], trained[1]) < 1e-5
    assert farthest(trained[0], trained[2]) < 1e-5


def cut_at(step):
    """Return a listener that ends the run after so many steps."""

    def on_step(done, _all):
        if done == step:
            raise KeyboardInterrupt

    return on_step


def test_cut_and_resumed(tmp_path):
    """A run that is cut after any step and goes on ends with the same weights and reports as an uncut one."""
    model = model_of(drop_path=0.3)
    waveforms = tones(20)
    whole, whole_reports = run(model, waveforms)
    steps = 3 * 3

    for stop in sorted(random.sample(range(1, steps), 2)):
        with pytest.raises(KeyboardInterrupt):
            run(model, waveforms, on_step=cut_at(stop), checkpoint=TrainingCheckpoint(tmp_path / "run.pt", 0))
    told = []
    resumed, reports = run(model, waveforms, on_epoch=told.append, checkpoint=TrainingCheckpoint(tmp_path / "run.pt"))
    assert farthest(whole, resumed) == 0
    assert told == reports
    assert [report.loss for report in reports] == [report.loss for report in whole_reports]


def test_a_run_that_was_cut_repeats_no_step(tmp_path):
    """It goes on with the next step, reports the epochs before again, and starts anew where anything differs."""
    model, waveforms, recipe = model_of(), tones(6), changed(QUICK, batch_size=2, micro_batch=2)  # 3 epochs of 3 steps
    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        run(model, waveforms, recipe, on_step=cut_at(5), checkpoint=TrainingCheckpoint(path, 0))
    kept = path.read_bytes()

    def steps_of(of=recipe, **options):
        path.write_bytes(kept)
        done, told = [], []
        options = {"on_epoch": told.append, "checkpoint": TrainingCheckpoint(path), **options}
        _, reports = run(model, waveforms, of, on_step=lambda step, _all: done.append(step), **options)
        assert options["on_epoch"] is None or told == reports
        return done

    assert steps_of()[0] == steps_of(on_epoch=None)[0] in (5, 6), "the step during which it was cut, or the one after"
    assert steps_of()[-1] == 9
    assert steps_of(seed=1) == steps_of(changed(recipe, mask_ratio=0.5)) == list(range(1, 10))


def test_one_clip_is_enough():
    """A single clip is learnt from, on the device that is found where none is named; none at all is refused."""
    assert len(run(model_of(), tones(1), device=None)[1]) == 3
    with pytest.raises(BackboneError, match="at least one clip and a seed of 0 or more, but got 0 and 0"):
        pretrain(model_of(), reader(tones(1)), 0, recipe=QUICK, device=CPU)


def test_weights_are_drawn_from_the_seed():
    """A model without a file differs by its seed alone."""
    assert farthest(model_of(seed=3), model_of(seed=3)) == 0 < farthest(model_of(seed=3), model_of())


def test_seeded():
    """Another seed draws other masks and another order."""
    model = model_of()
    assert farthest(run(model, tones(8))[0], run(model, tones(8), seed=1)[0]) > 0
    assert farthest(run(model, tones(8))[0], run(model, tones(8))[0]) == 0


def test_file_loads_everywhere(tmp_path):
    """What is written loads by shapes and heads from the file alone, as encoder and with its decoder."""
    trained, _ = run(model_of(), tones(4), changed(QUICK, epochs=1))
    save_whole(trained.checkpoint(), tmp_path / "made.pt")
    encoder = load_encoder("audiomae", tmp_path / "made.pt")
    with torch.no_grad():
        assert torch.equal(encoder(tones(2)), trained(tones(2)))
    assert farthest(load_masked_encoder("audiomae", weights=tmp_path / "made.pt"), trained) == 0
    with pytest.raises(BackboneError, match="heads must be 4"):
        load_encoder("audiomae", tmp_path / "made.pt", heads=8)
    official = set(torch.load(ORACLES / "audiomae_small.pt", weights_only=False)["model"])
    strip = {name for name in official if "blocks." not in name}
    assert strip == {name for name in trained.checkpoint()["model"] if "blocks." not in name}


def test_starting_from_a_file(tmp_path):
    """A file without the plain decoder brings the encoder, and the decoder is new; a fine-tuned one is refused."""
    content = torch.load(ORACLES / "audiomae_small.pt", weights_only=False)["model"]
    bare = {name: value for name, value in content.items() if not name.startswith(("decoder", "mask_token"))}
    torch.save({"model": bare}, tmp_path / "bare.pt")
    model = load_masked_encoder("audiomae", weights=tmp_path / "bare.pt", heads=6, **DECODER)
    assert torch.equal(model.state_dict()["norm.weight"], content["norm.weight"])
    assert model.weights_sha256 is not None
    whole = load_masked_encoder("audiomae", weights=ORACLES / "audiomae_small.pt", heads=6, decoder_heads=6)
    assert torch.equal(whole.state_dict()["mask_token"], content["mask_token"])
    bare["fc_norm.weight"], bare["fc_norm.bias"] = bare.pop("norm.weight"), bare.pop("norm.bias")
    torch.save({"model": bare}, tmp_path / "finetuned.pt")
    with pytest.raises(BackboneError, match="fine-tuned file"):
        load_masked_encoder("audiomae", weights=tmp_path / "finetuned.pt", heads=6)


def test_panels():
    """In the picture visible patches are the input's, masked ones are missing in the middle and filled on the right."""
    model = model_of().eval()
    masked, (shown, hidden, filled) = reconstruct(model, tones(2, seconds=1.0), mask_ratio=0.8)
    assert shown.shape == hidden.shape == filled.shape == (2, 96, 128)
    gone = torch.isnan(hidden)
    assert gone.float().mean().item() == pytest.approx(masked.mask.mean().item())
    assert torch.equal(filled[~gone], shown[~gone]) and torch.isfinite(filled).all()
    assert torch.equal(model.join(model.cut(shown)), shown)


def test_padding():
    """Clips that fill the model's input leave no padding; half as long ones leave half."""
    model = model_of()
    assert padding_share(model, (model.n_frames - 1) * 0.01 + 0.025) == 0
    assert padding_share(model, 48 * 0.01 + 0.015) == 0.5
    large: Any = SimpleNamespace(sample_rate=16000, n_frames=1024)
    assert padding_share(large, 4.015) == 1 - 400 / 1024, (
        "4.015 * 16000 is a little below the 64,240 samples of 400 frames"
    )


@pytest.mark.parametrize("name", ["beats", "tiny"])
def test_backbones_without_a_decoder(name):
    """A backbone that cannot be pre-trained so is refused in one sentence that names one that can."""
    with pytest.raises(BackboneError, match=rf"\(audiomae\), but got {name}"):
        load_masked_encoder(name)


@pytest.mark.parametrize("options", [{"decoder": False}, {"pooling": "fc_norm"}])
def test_options_that_pretraining_has_no_use_for(options):
    """Leaving the decoder or the final norm away is refused."""
    with pytest.raises(BackboneError, match="must be left out"):
        model_of(**options)


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"base_learning_rate": 0.0},
        {"base_learning_rate": float("inf")},
        {"beta2": 1.0},
        {"mask_ratio": 0.0},
        {"mask_ratio": 1.0},
        {"clip_seconds": 0.01},
        {"gradient_clip": 0.0},
        {"precision": "float16"},
        {"fit": "cut"},
    ],
)
def test_wrong_recipes(values):
    """A recipe out of range is refused, naming the setting."""
    with pytest.raises(BackboneError, match=next(iter(values))):
        run(model_of(), tones(2), changed(QUICK, **values))


def test_loss_that_is_not_finite():
    """A recording with NaN stops the run in its first epoch, saying so."""
    waveforms = tones(8)
    waveforms[3, 100] = torch.nan
    with pytest.raises(BackboneError, match=r"Loss became nan in epoch 1 of 3.*check the recordings"):
        run(model_of(), waveforms)


def test_gradient_clip():
    """A small largest norm of the gradient changes the result; an infinite one does not."""
    model = model_of()
    free = run(model, tones(8))[0]
    assert farthest(free, run(model, tones(8), changed(QUICK, gradient_clip=1e9))[0]) == 0
    assert farthest(free, run(model, tones(8), changed(QUICK, gradient_clip=1e-6))[0]) > 0


def test_memory_that_does_not_suffice():
    """The size halves until a run fits, stays there, and one clip that does not fit is told in a sentence."""
    micro = MicroBatch(None, 64, CPU, way_out="buy more")
    tried = []

    def fits(most):
        def attempt():
            tried.append(micro.size)
            if micro.size > most:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return micro.size

        return attempt

    assert micro.fitting(fits(2)) == 2 and tried == [8, 4, 2]
    assert micro.fitting(fits(8)) == 2
    with pytest.raises(BackboneError, match="does not suffice to train on one clip; buy more"):
        micro.fitting(fits(0))


def test_bfloat16(monkeypatch):
    """Automatic precision is bfloat16 where there are matrix units for it, and float32 elsewhere."""
    for there, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda there=there: there)
        assert arithmetic("auto", CPU) == dtype
        assert arithmetic("float32", CPU) == torch.float32
    for capability, dtype in (((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device, found=capability: found)
        assert arithmetic("auto", torch.device("cuda")) == dtype
    reports = run(model_of(), tones(4), changed(QUICK, precision="bfloat16"))[1]
    assert {report.precision for report in reports} == {"bfloat16"}
    assert all(np.isfinite(report.loss) for report in reports)
