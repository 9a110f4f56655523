"""A verdict as a JUnit file, which continuous integration reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as Xml

from harness.errors import HarnessError
from harness.files import write_whole
from harness.gate.regression import Verdict, VerdictRow
from harness.tables import in_percent

SUITE = "asdbench regress"
# what XML 1.0 has no way to write, not even escaped
FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def verdict_cases(document: Verdict) -> Xml.Element:
    """Return a test case for each row of a verdict: each setting and year's official score, then its machine types.

    The case of an official score fails if that score is not accepted. The case of a machine type fails if, in addition,
    the machine type itself is significantly worse by more than the margin. So the suite has failures exactly if the
    candidate is not accepted.
    """
    sentences = iter(document["sentences"])
    cases, refused = [], False
    for row in document["rows"]:
        place = ".".join((document["protocol"], str(row["dataset"]), row["setting"].replace(".", "_")))
        case = Xml.Element("testcase", classname=_text(place), name=_text(row["machine"] or "official score"))
        if row["machine"] is None:
            refused = row["verdict"] != "accepted"
            said = next(sentences)
            failed = refused
        else:
            said = f"{row['machine']}: {_numbers(row)}, {row['verdict']}"
            failed = refused and row["verdict"] == "worse"
        if failed:
            Xml.SubElement(case, "failure", type=row["verdict"], message=_text(said)).text = _text(_numbers(row))
        else:
            Xml.SubElement(case, "system-out").text = _text(said)
        cases.append(case)
    return _suite(cases)


def error_case(sentence: str) -> Xml.Element:
    """Return the one case of a comparison that could not be made: an error, not a failure."""
    case = Xml.Element("testcase", classname="asdbench", name="regress")
    Xml.SubElement(case, "error", type="error", message=_text(sentence)).text = _text(sentence)
    return _suite([case])


def write_junit(suite: Xml.Element, path: Path) -> None:
    """Write a suite to a file, whole or not at all.

    Raises:
        HarnessError: the file cannot be written.
    """
    try:
        write_whole(path, Xml.tostring(suite, encoding="utf-8", xml_declaration=True))
    except OSError as error:
        raise HarnessError(
            f"A JUnit file must be written to a place that takes it, but {path}: {error.strerror}."
        ) from error


def _suite(cases: Sequence[Xml.Element]) -> Xml.Element:
    counts = {
        "tests": len(cases),
        "failures": sum(case.find("failure") is not None for case in cases),
        "errors": sum(case.find("error") is not None for case in cases),
    }
    attributes = {name: str(value) for name, value in counts.items()}
    suites = Xml.Element("testsuites", attributes)
    suite = Xml.SubElement(suites, "testsuite", {"name": SUITE, **attributes})
    suite.extend(cases)
    return suites


def _numbers(row: VerdictRow) -> str:
    before, now = (in_percent(score) for score in (row["baseline_score"], row["candidate_score"]))
    delta, low, high = (in_percent(value, signed=True) for value in (row["delta"], row["low"], row["high"]))
    return f"{before} before, {now} now, {delta} points (90 % interval {low} to {high})"


def _text(value: str) -> str:
    return FORBIDDEN.sub("�", value)
