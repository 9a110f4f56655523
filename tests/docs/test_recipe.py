"""The package that the documentation prints is a backbone's, and whole."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from setuptools.config.pyprojecttoml import apply_configuration
from setuptools.dist import Distribution

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


def test_the_printed_package_is_whole(tmp_path: Path) -> None:
    """The page's pyproject.toml, as it is printed, builds a package of the page's module and names its backbone."""
    page = Page(ROOT / "docs" / "backbones.md")
    (text,) = (block.text for block in page.blocks("toml") if "entry-points" in block.text)
    table = tomllib.loads(text)
    assert table["build-system"]["build-backend"] == "setuptools.build_meta"
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    package = apply_configuration(Distribution(), str(tmp_path / "pyproject.toml"))
    assert (package.get_name(), package.py_modules) == ("asdbench-gru", ["asdbench_gru"])
    (point,) = table["project"]["entry-points"]["asdbench.backbones"].items()
    assert point == ("gru", "asdbench_gru:BACKBONE")
    assert any("asdbench_gru.py" in block.text and "BACKBONE =" in block.text for block in page.blocks("python"))
