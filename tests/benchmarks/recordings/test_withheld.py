"""What a protocol hides on purpose, as a TOML file writes it."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.contract import BenchmarkError, Withheld
from benchmarks.protocols import PROTOCOLS, parse_protocol


def parse(withhold: Any) -> tuple[Withheld, ...]:
    """Read a protocol that withholds."""
    parts = ["dcase2023/dev"]
    return parse_protocol({"name": "toy", "train": parts, "score": parts, "withhold": withhold}).withhold


def test_a_machine_a_domain_or_a_share() -> None:
    """Each table hides a machine type's, a domain's or a share of the attributes, or a share of theirs."""
    assert parse([{"machine": "ToyCar", "share": 0.8, "seed": 3}, {"domain": "target"}, {"share": 1}]) == (
        Withheld("ToyCar", None, 0.8, 3),
        Withheld("", "target", 1.0, 0),
        Withheld("", None, 1.0, 0),
    )


def test_named_protocols_hide_nothing() -> None:
    """No protocol that ships withholds anything on purpose."""
    assert all(protocol.withhold == () for protocol in PROTOCOLS.values())


@pytest.mark.parametrize(
    ("withhold", "said"),
    [
        ({"machine": "fan"}, "must be a list of tables"),
        (["fan"], "must be a list of tables"),
        ([{}], "must name a machine, a domain or a share"),
        ([{"seed": 1}], "must name a machine, a domain or a share"),
        ([{"machin": "fan"}], r"got machin\. Did you mean machine\?"),
        ([{"machine": 3}], "machine of withhold must be a machine type, but got 3"),
        ([{"domain": "sauce"}], "domain of withhold must be source or target, but got 'sauce'"),
        ([{"share": 0}], "share of withhold must be over 0 and at most 1, but got 0"),
        ([{"share": 80}], "share of withhold must be over 0 and at most 1, but got 80"),
        ([{"share": True}], "share of withhold must be over 0 and at most 1, but got True"),
        ([{"share": 0.5, "seed": -1}], "seed of withhold must be a whole number from 0, but got -1"),
    ],
)
def test_mistakes_are_one_sentence(withhold: Any, said: str) -> None:
    """A wrong table is answered with the key, the rule and the value."""
    with pytest.raises(BenchmarkError, match=said):
        parse(withhold)
