"""The documentation holds together: links, anchors, navigation, verbs, settings, files that it names."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from harness.cli.main import app
from harness.errors import HarnessError
from harness.studies.study_file import checked_study
from tests.docs.pages import DOCS, PAGES, ROOT, WRITTEN, Page

MOST_LINES = 110  # of the README
FILES = re.compile(r"^(?:harness|backbones|labeling|benchmarks|tests|docs|\.github)/[\w./-]*$")
BASE = {"name": "page", "protocol": "demo", "space": {"backbone": ["tiny"], "m": [1]}}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Page) -> None:
    """A link to a file has a file, and where it names a heading, the page has that heading."""
    for target in page.links():
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        path = (page.path.parent / file).resolve() if file else page.path
        assert path.exists(), f"{page.name}: {target}"
        assert path.is_relative_to(ROOT), f"{page.name}: {target}"
        if page in DOCS:
            assert path.is_relative_to(ROOT / "docs"), f"{page.name}: {target} is no part of the site"
        if anchor:
            assert anchor in Page(path).anchors(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Page) -> None:
    """What is written like a path of the repository is one."""
    for code in page.inline_code():
        if FILES.match(code):
            assert (ROOT / code).exists(), f"{page.name}: {code}"


def test_every_page_is_found_from_the_front_page_and_in_the_site() -> None:
    """The README's table and the site's navigation name every page."""
    front = (ROOT / "README.md").read_text(encoding="utf-8")
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    for page in DOCS:
        assert f": {page.path.name}\n" in navigation, page.name
        assert page.path.name == "index.md" or f"({page.name}" in front, page.name


def test_the_front_page_is_one_page() -> None:
    """The README has about a hundred lines; what needs more has a page of its own."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_every_verb_is_explained() -> None:
    """Each verb of the command line stands on a page that somebody wrote, beside the list of all commands."""
    text = "\n".join(page.text for page in WRITTEN)
    missing = [name for name in verbs_of(typer.main.get_command(app)) if f"asdbench {name}" not in text]
    assert not missing, f"no page says what these are for: {', '.join(missing)}"


def verbs_of(command: Any, name: str = "") -> list[str]:
    """Return the names of a group's verbs, "study run" for one in a group of its own."""
    if not hasattr(command, "commands"):
        return [name]
    return [verb for inner, each in command.commands.items() for verb in verbs_of(each, f"{name} {inner}".strip())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_study_files_on_pages_are_right(page: Page) -> None:
    """A study file, or some tables of one, has keys and values that a study may have."""
    for block in page.blocks("toml"):
        said = tomllib.loads(block.text)
        if "project" in said:  # of a package's pyproject.toml
            groups = said["project"]["entry-points"]
            assert all(group.startswith("asdbench.") for group in groups), f"{page.name}:{block.line}"
            continue
        known = {**BASE, **said, "space": {**BASE["space"], **said.get("space", {})}}  # type: ignore[dict-item]
        try:
            checked_study(known, source=f"{page.name}:{block.line}")
        except HarnessError as error:
            pytest.fail(str(error))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_other_blocks_can_be_read(page: Page) -> None:
    """Blocks of Python and YAML have no mistake in them, and every block says what it is."""
    for block in page.blocks("python"):
        ast.parse(block.text)
    for block in page.blocks("yaml"):
        yaml.safe_load(block.text)
    assert not page.blocks(""), f"{page.name}: a block of code without its language"


def test_pages_that_are_made_are_up_to_date() -> None:
    """The pages of all settings and all commands say what the tables and verbs say."""
    made = load(ROOT / "docs" / "reference_pages.py")
    for name, page in made.PAGES.items():
        stands = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert stands == page(), f"docs/{name} is out of date; run python docs/reference_pages.py"


def load(path: Path) -> Any:
    """Import a file that is in no package."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
