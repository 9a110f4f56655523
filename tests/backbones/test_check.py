"""The conformance report: what keeps the contract passes, and each way of breaking it fails its own line."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from backbones import load_encoder
from backbones.check import LINES, check_encoder
from backbones.contract import Encoder
from backbones.encoders.tiny import Tiny, TinyConfig
from tests.backbones.conftest import SMALL

SECONDS = 1.0


def report(build, **options):
    return {line.name: line for line in check_encoder(build, seconds=SECONDS, **options)}


def failed(lines) -> set[str]:
    return {name for name, line in lines.items() if line.status == "fail"}


@pytest.mark.parametrize("name", sorted(SMALL))
def test_own_backbones_meet_the_contract(name):
    """BEATs, AudioMAE and tiny pass every line, at a small size, and each line says why it matters."""
    lines = report(lambda seed: load_encoder(name, seed=seed, **SMALL[name]))
    assert failed(lines) == set(), {name: lines[name].found for name in failed(lines)}
    assert list(lines) == [name for name, _, _ in LINES]
    assert all(line.found and line.why for line in lines.values())


class Plain(Encoder):
    """A small encoder that meets the contract, for others to break."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 8
        self.linear = nn.Linear(128, 8)

    def fbank(self, waveforms: Tensor) -> Tensor:
        return Tiny(TinyConfig()).fbank(waveforms)

    def tokens(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        return self.linear(fbank / 20)


class SeesTheBatch(Plain):
    def pool(self, tokens: Tensor) -> Tensor:
        pooled = tokens.mean(dim=1)
        return pooled - pooled.mean(dim=0)


class NeverLearns(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.forgotten = nn.Parameter(torch.zeros(3))


class NotANumber(Plain):
    def tokens(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        return super().tokens(fbank) / (fbank.std(dim=(1, 2), keepdim=True) > 1e-3)


class Draws(Plain):
    def tokens(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        return super().tokens(fbank) + 1e-5 * torch.randn(1)


class HearsPadding(Plain):
    def tokens(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        return super().tokens(fbank - fbank.mean(dim=1, keepdim=True))


class WrongSize(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.dim = 9


class StaysOnTheCpu(Plain):
    def tokens(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        return super().tokens(fbank + torch.arange(128.0))


class Double(Plain):
    def tokens(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        return super().tokens(fbank).double()


class OnlyShort(Plain):
    def tokens(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        if fbank.shape[1] > 1100:
            raise RuntimeError("position table is too short")
        return super().tokens(fbank)


class ForgetsState(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.rand(1)

    def tokens(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        return super().tokens(fbank) + self.shift


class OutsideItsLayers(Plain):
    def layer_index(self, name: str) -> int:
        return 5


def built(kind):
    def build(seed: int) -> Encoder:
        torch.manual_seed(seed)
        return kind()

    return build


BROKEN = {
    SeesTheBatch: {"a batch equals its rows"},
    NeverLearns: {"gradients"},
    NotANumber: {"finite values"},
    Draws: {"determinism", "state round-trip", "device"},
    HearsPadding: {"padding"},
    WrongSize: {"shapes", "clip lengths"},
    StaysOnTheCpu: {"device"},
    Double: {"dtype"},
    OnlyShort: {"clip lengths"},
    ForgetsState: {"state round-trip", "device"},
    OutsideItsLayers: {"layers"},
}


def test_the_plain_encoder_passes():
    """What the broken ones are made from has nothing wrong with it."""
    assert failed(report(built(Plain))) == set()


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_each_fault_fails_its_line(kind):
    """A batch-dependent norm, a dead parameter, NaN, noise, heard padding and the like fail where they should alone."""
    if kind is StaysOnTheCpu and torch.cuda.is_available():
        pytest.skip("on a machine with a GPU the fault is an error of CUDA")
    assert failed(report(built(kind))) == BROKEN[kind]


def test_what_cannot_be_built_is_one_line():
    """An encoder that does not build leaves one failed line with the reason, and no traceback."""

    def build(_seed: int) -> Encoder:
        raise ValueError("weights are missing")

    (line,) = check_encoder(build)
    assert (line.name, line.status) == ("builds", "fail")
    assert "weights are missing" in line.found


class LayerWithoutFrequency(Tiny):
    def grid(self, output: Tensor) -> Tensor:
        return output


class LayerNotANumber(Tiny):
    def grid(self, output: Tensor) -> Tensor:
        return super().grid(output).log()


@pytest.mark.parametrize(
    ("broken", "said"), [(LayerWithoutFrequency, "layer 4 gave"), (LayerNotANumber, "has NaN or infinite numbers")]
)
def test_a_broken_layer_fails_its_line(broken, said):
    """Layers must be (clips, time, bands, width) and finite; a backbone without layers skips the line."""

    def build(seed: int) -> Encoder:
        encoder = broken(TinyConfig(dim=16, width=4))
        encoder.load_state_dict(load_encoder("tiny", seed=seed, **SMALL["tiny"]).state_dict())
        return encoder

    lines = report(build)
    assert failed(lines) == {"layers heard"}
    assert said in lines["layers heard"].found
    assert report(lambda _: Plain())["layers heard"].status == "skip"
