"""Numbers in a column of a csv: read as programs and spreadsheets of any country write them, where that is no guess."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Sequence

from benchmarks.files import printable

POINT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+(?:[eE][+-]?[0-9]+)?")
THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+")  # 1,234 can be twelve hundred or one and a bit
NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
# Full-width signs of Asian keyboards mean the same as ASCII's; the true minus of tables means a minus.
SIGNS = string.digits + string.ascii_letters + "+-.,"  # letters are those of 1e5, nan and infinity
SAME = {0xFEE0 + ord(sign): sign for sign in SIGNS} | {0x2212: "-"}


def read_column(texts: Sequence[str]) -> tuple[list[float], dict[int, str]]:
    """Read the numbers of a column.

    Decimal commas are read where the whole column has them: no cell has a point, and one at least cannot be a number
    whose comma parts thousands. Not read are hexadecimal digits, underscores, thousands, and what no float can hold.

    Args:
        texts: the column's cells.

    Returns:
        The numbers, NaN where a cell holds none; and by the position of such a cell what is wrong with it.
    """
    plain = [text.translate(SAME) for text in texts]
    commas = [text for text in plain if "," in text]
    decimal = (
        all(COMMA.fullmatch(text) for text in commas)
        and not any("." in text for text in plain)
        and any(not THOUSANDS.fullmatch(text) for text in commas)
    )
    numbers, wrong = [], {}
    for position, text in enumerate(plain):
        number, why = _read(text.replace(",", ".") if decimal else text)
        numbers.append(number)
        if math.isnan(number):
            wrong[position] = f"{printable(texts[position], most=40) or 'nothing'}{why}"
    return numbers, wrong


def is_number(text: str) -> bool:
    """Tell whether a cell was meant as a number, also one that cannot be used, instead of as a word."""
    plain = text.translate(SAME)
    return any(rule.fullmatch(plain) is not None for rule in (POINT, COMMA, THOUSANDS, NOT_FINITE))


def _read(text: str) -> tuple[float, str]:
    """Return a cell's number and "", or NaN and what is wrong beyond that the cell holds no finite number."""
    if POINT.fullmatch(text) is None:
        return math.nan, ", which may be decimals or thousands" if "," in text else ""
    number = float(text)
    if number == 0 and re.search("[1-9]", re.split("[eE]", text)[0]):
        return math.nan, ", which is nearer to zero than any float"
    if math.isinf(number):
        return math.nan, ", which is larger than any float"
    return number, ""
