"""What the names of recordings say: read by their words, written as they are read."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from benchmarks.clips import ALLOWED
from benchmarks.contract import BenchmarkError, Condition, Domain, Split
from benchmarks.files import printable

NO_ATTRIBUTE = "noAttribute"  # stands in the names of clips whose attributes 2024 and 2025 withhold
DOMAINS: dict[str, Domain] = {"source": "source", "target": "target"}
SPLITS: dict[str, Split] = {"train": "train", "test": "test"}
CONDITIONS: dict[str, Condition] = {"normal": "normal", "anomaly": "anomaly"}
SECTION_RULE = "section_NN[_source|_target][_train|_test][_normal|_anomaly]_<index>[_<attribute>]"
ID_RULE = "[normal_|anomaly_]id_NN_<index>"
ID_NAME = re.compile(r"(?:(normal|anomaly)_)?id_([0-9]{2})_([0-9]{1,20})")
INDEX = re.compile("[0-9]{1,20}")  # the longest official one has 8 digits; Python reads no numbers of 5,000
SECTION = re.compile(r"[0-9]{2}")
# What programs write into the name of a second copy: ` (1)`, ` - Copy`, `_copy`, ` copy 2`, `~`, a second `.wav`. No
# official name holds a space or a bracket, so the rule is wider than the words that are known.
COPY_WORDS = "copy|copia|copie|kopie|kopi|kopia|コピー|副本|복사본"
COPY = re.compile(rf"[\s()\[\]~]|[_.-](?:{COPY_WORDS})[_.-]?[0-9]*$|\.(?:wav|flac)$", re.IGNORECASE)
# words that people write and what they mean: the nearest in letters to "abnormal" would be its opposite
MEANT = {
    **dict.fromkeys(("abnormal", "anomalous", "defect", "defective", "faulty", "fault", "bad", "ng", "nok"), "anomaly"),
    **dict.fromkeys(("ok", "good", "healthy", "fine"), "normal"),
    **dict.fromkeys(("training", "learn"), "train"),
    **dict.fromkeys(("testing", "eval", "evaluation"), "test"),
}
# word -> (column of an own csv, what the word says there)
SAID = {
    word: (column, meaning)
    for column in ("split", "domain", "condition")
    for word, meaning in {**{each: each for each in ALLOWED[column]}, **MEANT}.items()
    if meaning in ALLOWED[column]
}
# words that begin names of recordings and are no machine's
NO_MACHINE = {
    "audio", "channel", "clip", "file", "id", "memo", "mic", "new", "rec", "record", "recording", "sample", "section",
    "sound", "take", "track", "voice", "wav",
}  # fmt: skip
LETTERS = re.compile(r"[^\W\d_]+")
WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class ClipName:
    """What the name of a recording says; None where it is silent.

    Attributes:
        section: two digits; the machine ID in 2020.
        index: digits, without meaning (the base differs between machine types).
        split: train or test.
        domain: source or target.
        condition: normal or anomaly.
        attribute: everything behind the index, joined by "_"; None for `noAttribute` too.
    """

    section: str
    index: str
    split: Split | None = None
    domain: Domain | None = None
    condition: Condition | None = None
    attribute: str | None = None


def parse_name(stem: str, *, with_ids: bool = False) -> ClipName:
    """Read the name of a recording by its words, whatever their order and number.

    Args:
        stem: file name without its ending.
        with_ids: names of 2020, with `id` for `section`.

    Raises:
        BenchmarkError: if the name does not follow the rule.
    """
    if with_ids:
        match = ID_NAME.fullmatch(stem)
        if match is None:
            raise BenchmarkError(f"names must follow {ID_RULE}, but got {printable(stem)}.")
        return ClipName(section=match[2], index=match[3], condition=CONDITIONS.get(match[1]))
    if COPY.search(stem):
        raise BenchmarkError(
            f"names hold no space, bracket or word for a copy, but got {printable(stem)}; if it is a copy, remove it, "
            f"else rename it as {SECTION_RULE}."
        )
    tokens = stem.split("_")
    if not stem.isprintable() or len(tokens) < 3 or tokens[0] != "section" or SECTION.fullmatch(tokens[1]) is None:
        raise BenchmarkError(f"names must follow {SECTION_RULE}, but got {printable(stem)}.")
    domain: Domain | None = None
    split: Split | None = None
    condition: Condition | None = None
    for position, token in enumerate(tokens[2:], start=2):
        if token in DOMAINS and domain is None:
            domain = DOMAINS[token]
        elif token in SPLITS and split is None:
            split = SPLITS[token]
        elif token in CONDITIONS and condition is None:
            condition = CONDITIONS[token]
        elif INDEX.fullmatch(token):
            attribute = unicodedata.normalize("NFC", "_".join(tokens[position + 1 :]).rstrip("_"))
            known = attribute not in {"", NO_ATTRIBUTE}
            return ClipName(tokens[1], token, split, domain, condition, attribute if known else None)
        else:
            break
    raise BenchmarkError(f"names must follow {SECTION_RULE}, but got {printable(stem)}.")


def format_name(name: ClipName, *, with_ids: bool = False) -> str:
    """Write a name, without its ending, as `parse_name` reads it."""
    if with_ids:
        words: tuple[str | None, ...] = (name.condition, "id", name.section, name.index)
    else:
        words = ("section", name.section, name.domain, name.split, name.condition, name.index, name.attribute)
    return "_".join(word for word in words if word is not None)


def said_by(name: str) -> dict[str, str]:
    """Return what the words of a folder's or file's name say, by column: `pump_abnormal 3` says condition anomaly."""
    words = [word for word in map(str.casefold, WORD.findall(name)) if word in SAID]
    return {SAID[word][0]: SAID[word][1] for word in reversed(words)}


def machine_in(name: str) -> str:
    """Return a folder's name without the words that say something else; "" where nothing is left.

    `pump_normal` is the machine `pump`, and `source_test` none.
    """
    if all(word.casefold() not in SAID for word in WORD.findall(name)):
        return name.strip()
    kept = WORD.sub(lambda word: "" if word[0].casefold() in SAID else word[0], name)
    return re.sub(r"[\s_.-]{2,}", "_", kept).strip(" _.-")


def first_word(stem: str) -> str:
    """Return the letters that a file's name begins with, as `pump` of `pump_03`; "" where they name no machine."""
    found = LETTERS.match(stem)
    word = found[0] if found else ""
    return "" if word.casefold() in NO_MACHINE or word.casefold() in SAID else word
