"""How fast BEATs and AudioMAE are on a GPU, beside transformers' AST and openbeats on the same GPU in one run."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path

import pytest
import torch

from tests.gpu.speed import AIM, Row, matrix_rate, measure, other_models, our_models, written

pytestmark = pytest.mark.gpu

CLIPS = 32  # the paper's batch, section 4.2
SIDE = 8192
TABLE = Path(os.environ.get("ASDBENCH_GPU_JSON", ".asdbench/gpu_speed.json"))


def shown(row: Row) -> str:
    """Return a row as a line."""
    return (
        f"{row.model:18}{row.work:15}{row.way:10}{row.clips_per_second:9.0f} clips/s "
        f"{row.share:6.1%} of the matrix rate {row.peak_gb:7.2f} GiB"
    )


def test_speed(gpu: torch.device) -> None:
    """Forward and training steps on 10 s clips in bfloat16 are faster than openbeats', and written down as a table.

    The aim is 40 % of the matrix rate in training; what is reached is printed, and in the file.
    """
    rate = matrix_rate(gpu, side=SIDE)
    print(f"\n{torch.cuda.get_device_name(gpu)}: {rate / 1e12:.0f}e12 operations a second in bfloat16")  # noqa: T201
    rows: list[Row] = []
    for model in chain(our_models(gpu), other_models(gpu)):
        for row in measure(model, gpu, clips=CLIPS, rate=rate):
            rows.append(row)
            print(shown(row))  # noqa: T201
    written(rows, gpu, rate=rate, path=TABLE)
    training = max(row.share for row in rows if row.model == "beats" and row.work == "training step")
    print(f"BEATs reaches {training:.0%} of the matrix rate in training; the aim is {AIM:.0%}")  # noqa: T201
    fastest = {
        (row.model, row.work): row.clips_per_second for row in sorted(rows, key=lambda row: row.clips_per_second)
    }
    for work in ("forward", "training step"):
        if ("openbeats", work) in fastest:
            assert fastest["beats", work] > fastest["openbeats", work]
