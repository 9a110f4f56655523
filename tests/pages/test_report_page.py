"""The report page in a browser: silent, alone, sortable, legible in both lights, on a phone and on paper."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.pages.conftest import Browser

pytestmark = pytest.mark.slow

PHONE, DESK = 360, 1200  # pixels
TEXT_CONTRAST, SHAPE_CONTRAST = 4.5, 3.0  # WCAG 2.1, success criteria 1.4.3 and 1.4.11, level AA
SMALLEST = 9.0  # pixels of a chart's letters on a phone

# contrast as WCAG 2.1 defines it, of what is drawn in a colour against the first background behind it
CONTRAST = """
const parsed = (text) => {
  const numbers = text.match(/[\\d.]+/g).map(Number);
  return {rgb: numbers.slice(0, 3), alpha: numbers.length > 3 ? numbers[3] : 1};
};
const luminance = (rgb) => {
  const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let each = element; each; each = each.parentElement) {
    const found = parsed(getComputedStyle(each).backgroundColor);
    if (found.alpha === 1) return found.rgb;
  }
  return [255, 255, 255];
};
const ratio = (element, colour) => {
  const [a, b] = [luminance(parsed(colour).rgb), luminance(behind(element))];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
};
const seen = (element) => element.getClientRects().length > 0;
const found = [];
if (arguments[0] === "text") {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, style = getComputedStyle(element);
    if (!walker.currentNode.data.trim() || !seen(element)) continue;
    if (["SCRIPT", "STYLE", "title", "desc"].includes(element.tagName)) continue;
    found.push([ratio(element, element.closest("svg") ? style.fill : style.color), walker.currentNode.data.trim()]);
  }
} else {
  for (const element of document.querySelectorAll("[class*=stroke-s], [class*=fill-s]")) {
    const style = getComputedStyle(element);
    const paint = style.stroke === "none" ? style.fill : style.stroke;
    if (paint !== "none") found.push([ratio(element, paint), element.outerHTML]);
  }
}
return found;
"""
COLUMN = """
const table = [...document.querySelectorAll("table")].find((each) => each.caption.textContent.includes(arguments[0]));
const heading = [...table.tHead.rows[0].cells].find((each) => each.textContent === arguments[1]);
const cells = [...table.tBodies[0].rows].map((row) => row.cells[heading.cellIndex].textContent);
return {heading, button: heading.querySelector("button"), cells, order: heading.getAttribute("aria-sort")};
"""


def column(browser: Browser, table: str, heading: str) -> dict[str, Any]:
    """A table's column, found by a part of the caption and its heading."""
    found: dict[str, Any] = browser.ask(COLUMN, table, heading)
    return found


def numbers(cells: list[str]) -> list[float]:
    """The numbers that cells begin with."""
    return [float(cell.split()[0]) for cell in cells]


@pytest.mark.parametrize("dark", [False, True])
def test_no_complaint_and_no_request(browser: Browser, address: str, dark: bool) -> None:
    """The page opens without a word in the console and asks for nothing but itself."""
    browser.open(address, dark=dark)
    assert browser.ask("return document.querySelectorAll('table').length") == 9
    assert browser.complaints() == []
    assert {each for each in browser.requests() if not each.startswith("data:")} == {address}
    assert browser.ask("return performance.getEntriesByType('resource').length") == 0


def test_policy_stops_what_was_not_there(browser: Browser, address: str) -> None:
    """A script or a picture that somebody brings into the page is neither run nor loaded."""
    browser.open(address)
    browser.ask(
        "document.body.insertAdjacentHTML('beforeend', "
        '\'<img src="http://127.0.0.1:9/x.png" onerror="window.ran = 1">\');'
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s);"
    )
    assert browser.ask("return window.ran") is None
    assert any("Content Security Policy" in each for each in browser.complaints())


def test_sorting_by_click(browser: Browser, address: str) -> None:
    """A click on a heading sorts its column, best first, a second click the other way; missing numbers stay last."""
    browser.open(address)
    name = ("Every row that is recorded", "official %")
    column(browser, *name)["button"].click()
    first = column(browser, *name)
    assert first["order"] == "descending"
    assert numbers(first["cells"]) == sorted(numbers(first["cells"]), reverse=True)
    first["button"].click()
    second = column(browser, *name)
    assert second["order"] == "ascending"
    assert numbers(second["cells"]) == sorted(numbers(second["cells"]))
    column(browser, "Every row that is recorded", "M")["button"].click()
    assert column(browser, *name)["order"] == "none"
    values = column(browser, "Every row that is recorded", "M")["cells"]
    assert values[:6] == ["7", "7", "3", "3", "1", "1"]
    assert set(values[6:]) == {"–"}
    assert "sorted by M, descending" in browser.ask("return document.getElementById('said').textContent")


def test_sorting_by_keyboard(browser: Browser, address: str) -> None:
    """Headings are reached with Tab and sort on Enter and Space."""
    from selenium.webdriver.common.keys import Keys

    browser.open(address)
    before = column(browser, "Every row that is recorded", "backbone")
    before["button"].send_keys(Keys.ENTER)
    after = column(browser, "Every row that is recorded", "backbone")
    assert (after["order"], after["cells"]) == ("ascending", sorted(before["cells"]))
    after["button"].send_keys(Keys.SPACE)
    assert column(browser, "Every row that is recorded", "backbone")["order"] == "descending"
    after["button"].send_keys(Keys.TAB)
    assert browser.ask("return document.activeElement.closest('th').cellIndex") == 1 + browser.ask(
        "return arguments[0].cellIndex", after["heading"]
    )


@pytest.mark.parametrize("dark", [False, True])
def test_contrast(browser: Browser, address: str, dark: bool) -> None:
    """Every text reaches 4.5 to 1 against what is behind it and every drawn shape 3 to 1, in the light and the dark."""
    browser.open(address, dark=dark)
    texts = browser.ask(CONTRAST, "text")
    assert len(texts) > 300
    assert [each for each in texts if each[0] < TEXT_CONTRAST] == []
    shapes = browser.ask(CONTRAST, "shapes")
    assert len(shapes) > 30
    assert [each for each in shapes if each[0] < SHAPE_CONTRAST] == []
    page = browser.ask("return getComputedStyle(document.body).backgroundColor")
    assert (page == "rgb(255, 255, 255)") != dark


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_nothing_stands_out_of_the_page(browser: Browser, address: str, width: int) -> None:
    """The page is never wider than its window: wide tables scroll inside their boxes, charts shrink and can be read."""
    browser.open(address, width=width)
    assert browser.ask("return document.documentElement.scrollWidth") <= width
    wide = browser.ask(
        "return [...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll, pre, svg') && "
        "e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 200))"
    )
    assert wide == []
    sizes = browser.ask(
        "return [...document.querySelectorAll('.chart text')].map((e) => "
        "parseFloat(getComputedStyle(e).fontSize) * e.closest('svg').getBoundingClientRect().width / "
        "e.closest('svg').viewBox.baseVal.width)"
    )
    assert min(sizes) >= SMALLEST
    captions = browser.ask(
        "return [...document.querySelectorAll('.scroll caption span')].map((e) => e.getBoundingClientRect().right - "
        "e.closest('.scroll').getBoundingClientRect().right)"
    )
    assert max(captions) <= 0
    clipped = browser.ask(
        "return [...document.querySelectorAll('.scroll')].filter((e) => (e.scrollWidth > e.clientWidth + 1) !== "
        "(e.parentNode.querySelector('.more').textContent !== '')).length"
    )
    assert clipped == 0  # a table says so where it goes on beyond its box, and nowhere else


def test_print(browser: Browser, address: str) -> None:
    """On paper the page is light, tables are whole, and details are unfolded; configuration and buttons are gone."""
    browser.open(address, dark=True, media="print", width=794)  # A4 at 96 dots an inch
    assert browser.ask("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.ask("return getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.ask("return getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    browser.ask("dispatchEvent(new Event('beforeprint'))")
    assert browser.ask("return [...document.querySelectorAll('details:not(.screen)')].every((each) => each.open)")
    assert browser.ask("return getComputedStyle(document.querySelector('details.screen')).display") == "none"
    printed = base64.b64decode(browser.told("Page.printToPDF", printBackground=True)["data"])
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") >= 2
