from __future__ import annotations

import pandas as pd
import pytest

from benchmarks.clips import COLUMNS, check_clips, count_clips, make_clips
from benchmarks.contract import BenchmarkError
from benchmarks.suggestions import did_you_mean

ROW = ("a", "/a.wav", "dcase2023", "dev", "fan", "00", "train", "source", "normal", "m-n_W")


def test_a_good_table_passes() -> None:
    """A table that follows every rule comes back as it is."""
    clips = make_clips([ROW])
    assert check_clips(clips) is clips
    assert list(clips.columns) == list(COLUMNS)


def test_unknown_values_are_na() -> None:
    """Domain, condition and attribute may be unknown, and are NA then."""
    clips = make_clips([(*ROW[:7], None, None, None)])
    assert clips.loc[0, ["domain", "condition", "attribute"]].isna().all()


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("part", "test", "part must be one of dev, additional, eval, but is test for clip a"),
        ("split", "valid", "split must be one of"),
        ("domain", "Source", "domain must be one of"),
        ("condition", "abnormal", "condition must be one of"),
        ("machine", None, "machine must always be known"),
    ],
)
def test_a_wrong_value_is_named(column: str, value: str | None, words: str) -> None:
    """A value that is not allowed is an error that says the column, the rule and the value."""
    row = dict(zip(COLUMNS, ROW, strict=True)) | {column: value}
    with pytest.raises(BenchmarkError, match=words):
        make_clips([tuple(row.values())])


def test_a_repeated_id_names_both_files() -> None:
    """The same id twice, as of a WAV and a FLAC file side by side, is an error with both paths."""
    with pytest.raises(BenchmarkError, match=r"/a\.wav and of /a\.flac"):
        make_clips([ROW, ("a", "/a.flac", *ROW[2:])])


def test_a_missing_column_is_named() -> None:
    """A table without one of the columns is refused."""
    with pytest.raises(BenchmarkError, match="lack attribute"):
        check_clips(make_clips([ROW]).drop(columns="attribute"))


def test_a_column_of_another_type_is_named() -> None:
    """Columns of plain objects are refused: NA would not be told from None and NaN."""
    with pytest.raises(BenchmarkError, match="section must be of pandas' string type"):
        check_clips(make_clips([ROW]).astype({"section": object}))


def test_counts_keep_unknown_groups() -> None:
    """Clips without a domain or condition are counted in groups of their own."""
    rows = [
        ROW,
        ("b", "/b.wav", *ROW[2:9], None),
        ("c", "/c.wav", "dcase2023", "eval", "Vacuum", "00", "test", None, None, None),
    ]
    counts = count_clips(make_clips(rows))
    assert counts[["machine", "clips", "labeled"]].values.tolist() == [["Vacuum", 1, 0], ["fan", 2, 1]]
    assert pd.isna(counts.loc[0, "condition"])
    assert list(counts.columns) == [
        "dataset", "machine", "part", "section", "split", "domain", "condition", "clips", "labeled",
    ]  # fmt: skip


def test_nearest_name() -> None:
    """A misspelt name is answered with the nearest known one, whatever its case, and a strange one with nothing."""
    assert did_you_mean("toycar", ["ToyCar", "fan"]) == " Did you mean ToyCar?"
    assert did_you_mean("zzz", ["ToyCar", "fan"]) == ""
