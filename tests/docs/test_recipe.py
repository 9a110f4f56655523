"""The backbone that the documentation prints is one."""

from __future__ import annotations

from typing import Any

from backbones.check import check_encoder
from tests.docs.pages import ROOT, Page


def test_the_printed_backbone_meets_the_contract() -> None:
    """The code of the page, as it is printed, declares a backbone that passes every line of `check-backbone`."""
    blocks = Page(ROOT / "docs" / "backbones.md").blocks("python")
    (code,) = (block.text for block in blocks if "BACKBONE" in block.text)
    said: dict[str, Any] = {}
    exec(compile(code, "asdbench_gru.py", "exec"), said)
    backbone = said["BACKBONE"]
    lines = list(check_encoder(lambda seed: backbone.build(weights=None, seed=seed, **backbone.options), seconds=1))
    assert not [line for line in lines if line.status == "fail"]
    assert {line.name for line in lines if line.status == "pass"} >= {"builds", "shapes", "padding", "determinism"}
