"""The pages of the documentation, read: links, headings, commands, study files, programs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
MADE = ("settings.md", "commands.md")  # by docs/reference_pages.py
NOT_RUN = re.compile(r"<!-- parsed, not run: .+ -->")
GLUED = re.compile(r"[^\w\- ]")  # what a heading's anchor leaves out


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        language: behind the fence.
        text: what is in it.
        line: of the fence, from 1.
        run: whether its commands may be run here; a comment above the fence says why not.
    """

    language: str
    text: str
    line: int
    run: bool


@dataclass(frozen=True)
class Page:
    """A page of Markdown."""

    path: Path

    @property
    def name(self) -> str:
        """Where it is in the repository."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        """What it says."""
        return self.path.read_text(encoding="utf-8")

    def blocks(self, *languages: str) -> list[Block]:
        """Return its blocks of code in some languages."""
        return [block for block in blocks_of(self.path) if block.language in languages]

    def commands(self) -> Iterator[tuple[list[str], bool]]:
        """Yield the words of each command that it shows, and whether it may be run here."""
        for block in self.blocks("console"):
            for line in block.text.splitlines():
                if line.startswith("$ "):
                    yield shlex.split(line[2:], comments=True), block.run

    def inline_code(self) -> Iterator[str]:
        """Yield what stands between single backticks."""
        for token in _inlines(self.path):
            if token.type == "code_inline":
                yield token.content

    def links(self) -> Iterator[str]:
        """Yield the targets of links and pictures."""
        for token in _inlines(self.path):
            target = token.attrGet("href") or token.attrGet("src")
            if target:
                yield str(target)

    def anchors(self) -> set[str]:
        """Return the anchors of its headings."""
        tokens = tokens_of(self.path)
        headings = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
        return {GLUED.sub("", heading.lower()).strip().replace(" ", "-") for heading in headings}


@cache
def tokens_of(path: Path) -> list[Token]:
    """Parse a page."""
    return MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))


@cache
def blocks_of(path: Path) -> list[Block]:
    """Return all blocks of code of a page."""
    found, before = [], ""
    for token in tokens_of(path):
        if token.type == "fence":
            line = token.map[0] + 1 if token.map else 0
            found.append(Block(token.info.strip(), token.content, line, not NOT_RUN.search(before)))
        before = token.content if token.type == "html_block" else ""
    return found


def _inlines(path: Path) -> Iterator[Token]:
    for token in tokens_of(path):
        yield from token.children or ()


DOCS = [Page(path) for path in sorted((ROOT / "docs").glob("*.md"))]
FRONT = [Page(ROOT / "README.md"), *(Page(path) for path in sorted((ROOT / ".github").glob("*.md")))]
PAGES = [*FRONT, *DOCS]
WRITTEN = [page for page in PAGES if page.path.name not in MADE]
