"""What the tests of a GPU share: the GPU itself, and arithmetic that can be compared with a processor's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from backbones.memory import AMPERE


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """The GPU; where there is none, the test is skipped."""
    if not torch.cuda.is_available():
        pytest.skip("this machine has no GPU that torch can use")
    if torch.cuda.get_device_capability() < AMPERE:
        pytest.skip(f"{torch.cuda.get_device_name()} has no bfloat16 units; it takes a GPU of the Ampere kind or newer")
    return torch.device("cuda")


@pytest.fixture
def exact() -> Iterator[None]:
    """Products and convolutions of float32 in float32: by default convolutions round their inputs to 10 bits (TF32)."""
    products, convolutions = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = products, convolutions
