"""Converts a matplotlib figure to inline SVG: in the page's colours, with text as text, without external files."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree as Xml

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from harness.pictures.candidates import CHANCE, CURVES

# colour -> class name: the page's style sheet defines the colours of these classes for light, dark and printed pages
NAMES = {colour.lower(): f"s{place}" for place, colour in enumerate(CURVES)} | {CHANCE.lower(): "soft"}
INK = "#000000"
FONT = re.compile(r"([\d.]+)px")
LEFT_OUT = ("metadata", "style", "clipPath")  # not needed; the page's content policy forbids <style>


def inline_svg(figure: Figure, *, name: str, title: str, description: str) -> Markup:
    """Return a figure as an element of the page.

    The page's content security policy forbids inline styles, so matplotlib's style attributes become presentation
    attributes and classes: `stroke-s0` strokes and `fill-s0` fills with the colour of the first series. The same figure
    always gives the same text.

    Args:
        figure: what is drawn.
        name: unique in the page; ids are made of it.
        title: of the figure.
        description: what it shows, for screen readers.
    """
    held = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(held, metadata={"Date": None})  # type: ignore[no-untyped-call]  # as its PNG
    root = Xml.fromstring(held.getvalue())  # noqa: S314 - written by matplotlib in the line above
    for element in root.iter():
        for child in [child for child in element if _local(child.tag) in LEFT_OUT]:
            element.remove(child)
    used = {value[1:] for element in root.iter() for key, value in element.items() if _local(key) == "href"}
    for element in root.iter():
        element.tag = _local(element.tag)
        _restyle(element, name=name, used=used)
    view_box = root.get("viewBox") or ""
    root.attrib.clear()
    root.attrib |= {
        "viewBox": view_box, "class": "chart", "role": "img", "aria-labelledby": f"{name}-title {name}-text",
    }  # fmt: skip
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        said = Xml.Element(tag, id=f"{name}-{'title' if tag == 'title' else 'text'}")
        said.text = text
        root.insert(place, said)
    return Markup(Xml.tostring(root, encoding="unicode", short_empty_elements=False))  # noqa: S704 - escaped by ElementTree


def _local(tag: str) -> str:
    """Return a name without its namespace, as HTML has it."""
    return tag.rpartition("}")[2]


def _restyle(element: Xml.Element, *, name: str, used: set[str]) -> None:
    """Replace an element's style by attributes and classes, and make its ids unique."""
    said = {_local(key): value for key, value in element.attrib.items()}
    style = said.pop("style", "")
    for rule in filter(None, map(str.strip, style.split(";"))):
        key, _, value = rule.partition(":")
        said[key.strip()] = value.strip()
    said.pop("clip-path", None)
    said.pop("font-family", None)  # the page has its own
    if font := said.pop("font", None):
        size = FONT.search(font)
        said |= {"font-size": size[1]} if size else {}
    if (own := said.pop("id", None)) in used:
        said["id"] = f"{name}-{own}"
    if "href" in said:
        said["href"] = f"#{name}-{said['href'][1:]}"
    classes = []
    for paint in ("stroke", "fill"):
        colour = said.get(paint, "").lower()
        if colour in NAMES:
            classes.append(f"{paint}-{NAMES[colour]}")
        elif colour == INK:
            said[paint] = "currentColor"
    if classes:
        said["class"] = " ".join(classes)
    element.attrib.clear()
    element.attrib |= said
