"""Readers of checkpoints under chance: whatever the bytes are, they load or are refused in a sentence."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.hostile import fuzz_weights

SEEDS = fuzz_weights.seeds()


@pytest.mark.parametrize("kind", SEEDS)
@settings(max_examples=50, deadline=None, derandomize=True)
@given(number=st.integers(0, 2**32))
def test_mutated_files(kind, number):
    """A whole file with a few bytes changed raises nothing but the project's own error."""
    read, data = SEEDS[kind]
    read(fuzz_weights.mutated(data, random.Random(number)))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(data=st.binary(max_size=200))
@example(data=b"PK\x03\x04")
@example(data=b"\x80\x02.")
@example(data=b"\x8a\xff" + bytes(255) + b".")
def test_bytes_of_chance(data):
    """Bytes of chance raise nothing but the project's own error, as any kind of file."""
    fuzz_weights.fuzz_checkpoint(data)
    fuzz_weights.fuzz_pickle(data)
    fuzz_weights.fuzz_safe_tensors(data)
    fuzz_weights.fuzz_header(data)
