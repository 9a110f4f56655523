"""Files of embeddings come from strangers: whatever they hold, the answer is one sentence, and nothing in them runs."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbones.contract import BackboneError
from backbones.features.embedding_file import EmbeddingFile, packed_embeddings, read_embeddings

GOOD = "fan/train/section_00_source_train_normal_0000_m-n_X.wav"
OTHER = "fan/test/section_00_source_test_anomaly_0001_m-n_Y.wav"
ONES = np.ones((2, 3), dtype=np.float32)


def saved(**arrays: Any) -> Callable[[Path], None]:
    """Write arrays as numpy does."""
    arrays = {"files": np.array([GOOD, OTHER]), "vectors": ONES, **arrays}
    return lambda path: np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


def member(descr: str, shape: tuple[int, ...], data: bytes) -> bytes:
    """Return an array's bytes with a header that may lie."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


def zipped(vectors: bytes) -> Callable[[Path], None]:
    """Write a zip whose vectors are these bytes."""

    def write(path: Path) -> None:
        names = io.BytesIO()
        np.save(names, np.array([GOOD, OTHER]))
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("files.npy", names.getvalue())
            archive.writestr("vectors.npy", vectors)

    return write


def with_value(value: float, dtype: str = "f4") -> Callable[[Path], None]:
    """Write embeddings with one number that is something else."""
    vectors = ONES.astype(dtype)
    vectors[1, 2] = value
    return saved(vectors=vectors)


def truncated(path: Path) -> None:
    """Write half a file."""
    saved()(path)
    path.write_bytes(path.read_bytes()[:-200])


def flipped(path: Path) -> None:
    """Write a file in which a bit of a number fell over, which its own sum tells."""
    saved(vectors=np.ones((2, 400), dtype=np.float32))(path)
    data = bytearray(path.read_bytes())
    data[data.index(b"vectors.npy") + 600] ^= 64
    path.write_bytes(bytes(data))


class Runs:
    """A pickle of this runs what it likes."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch pwned",)


CASES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "objects": (saved(vectors=np.array([[Runs(), 1], [2, 3]], dtype=object)), "Python objects"),
    "names as objects": (saved(files=np.array([GOOD, Runs()], dtype=object)), "Python objects"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps(Runs())), "could not be read as an npz"),
    "truncated": (truncated, "could not be read as an npz"),
    "a fallen bit": (flipped, "could not be read as an npz"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "a web page": (lambda path: path.write_text("<!DOCTYPE html>"), "is a text file"),
    "a pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
    "an npy": (lambda path: path.write_bytes(member("<f4", (1,), b"0000")), "could not be read as an npz"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "a pipe": (os.mkfifo, "is a named pipe"),
    "no vectors": (saved(vectors=None, embeddings=ONES), "lacks vectors and has embeddings, files"),
    "huge": (zipped(member("<f4", (2, 10**12), b"0000")), "declares the shape"),
    "negative": (zipped(member("<f4", (-2, -3), bytes(24))), "must hold a vector a name"),
    "endless": (zipped(member("<f4", (2, 2**31), b"") + bytes(64)), "declares the shape"),
    "code in the header": (zipped(member("<f4", (2, 3), bytes(24)).replace(b"(2, 3)", b"open()")), "could not be read"),
    "a long header": (zipped(member("<f4" + " " * 40_000, (2, 3), bytes(24))), "could not be read"),
    "integers": (saved(vectors=ONES.astype(np.int8)), "is of int8"),
    "complex": (saved(vectors=ONES.astype(np.complex64)), "is of complex64"),
    "truth values": (saved(vectors=ONES > 0), "is of bool"),
    "long floats": (saved(vectors=ONES.astype(np.longdouble)), "is of float128"),
    "records": (saved(vectors=np.zeros(2, dtype="f4,f4")), "must be of float16"),
    "one number a clip": (saved(vectors=ONES[:, 0]), r"must have the shape \(n, d\)"),
    "four axes": (saved(vectors=ONES[:, None, None]), r"must have the shape \(n, d\)"),
    "no numbers": (saved(vectors=ONES[:, :0]), r"must have the shape \(n, d\)"),
    "no tokens": (saved(vectors=ONES[:, None][:, :0]), r"must have the shape \(n, d\)"),
    "more names": (saved(vectors=ONES[:1]), "has 2 files and 1 vectors"),
    "no clips": (saved(files=np.array([], dtype="U9"), vectors=ONES[:0]), "must name 1 to"),
    "numbers as names": (saved(files=np.arange(2)), "hold texts"),
    "names in a table": (saved(files=np.array([[GOOD], [OTHER]])), r"shape \(n,\)"),
    "NaN": (with_value(np.nan), f"be finite.*{OTHER}"),
    "infinite": (with_value(-np.inf), f"be finite.*{OTHER}"),
    "infinite in half": (with_value(np.inf, "f2"), f"be finite.*{OTHER}"),
    "beyond float32": (with_value(1e300, "f8"), f"be finite.*{OTHER}"),
    "beyond squares": (with_value(1e30), f"larger ones.*{OTHER}"),
    "zeros": (saved(vectors=ONES * [[0], [1]]), f"nothing but zeros is in that of {GOOD}"),
    "doubled": (saved(files=np.array([GOOD, GOOD])), "stands in row 0 and in row 1"),
    "doubled in another folder": (saved(files=np.array([GOOD, f"x/{GOOD}"])), "stands in row 0 and in row 1"),
    "doubled by ending": (saved(files=np.array([GOOD, GOOD[:-3] + "FLAC"])), "stands in row 0 and in row 1"),
    "doubled by accents": (
        saved(files=np.array([GOOD.replace("X", "\u00e9"), GOOD.replace("X", "e\u0301")])), "stands in row 0",
    ),
    "no folder": (saved(files=np.array([GOOD, "section_00_source_train_normal_0001.wav"])), "MACHINE/train/NAME"),
    "another folder": (saved(files=np.array([GOOD, GOOD.replace("train/", "supplemental/")])), "MACHINE/train/NAME"),
    "no machine": (saved(files=np.array([GOOD, "train/a.wav"])), "MACHINE/train/NAME"),
    "an empty name": (saved(files=np.array([GOOD, ""])), "MACHINE/train/NAME"),
    "no name": (saved(files=np.array([GOOD, "fan/train/.wav"])), "MACHINE/train/NAME"),
    "bytes that are no text": (saved(files=np.array([GOOD.encode(), b"fan/train/\xff.wav"])), "could not be read"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_is_one_sentence(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pickles, lies about sizes, other types, and clips doubled, misnamed or not finite are refused by name."""
    monkeypatch.chdir(tmp_path)
    write, said = CASES[case]
    path = tmp_path / "x.npz"
    write(path)
    with pytest.raises(BackboneError, match=said) as refused:
        read_embeddings(path)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "pwned").exists()


def read(tmp_path: Path, **arrays: Any) -> EmbeddingFile:
    """Write and read a file."""
    saved(**arrays)(tmp_path / "x.npz")
    return read_embeddings(tmp_path / "x.npz")


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_floats_of_every_kind(tmp_path: Path, dtype: str, order: Any) -> None:
    """Half, single and double precision, of either byte order and axis order, become the same float32."""
    vectors = np.arange(1, 7).reshape(2, 3)
    found = read(tmp_path, vectors=np.array(vectors, dtype=dtype, order=order)).vectors
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, vectors)


def test_packed_and_with_more_beside(tmp_path: Path) -> None:
    """A compressed file, names as bytes, and arrays that nobody asked for are fine."""
    names = np.array([GOOD.encode(), OTHER.encode()])
    np.savez_compressed(tmp_path / "x.npz", files=names, vectors=ONES, note=np.array("from a cluster"))
    assert [place.machine for place in read_embeddings(tmp_path / "x.npz").places] == ["fan", "fan"]


@pytest.mark.parametrize("order", ["C", "F"])
def test_tokens_become_their_mean(tmp_path: Path, order: Any) -> None:
    """A clip's tokens are reduced to one embedding, as encoders' are."""
    tokens = np.random.default_rng(0).normal(size=(2, 7, 3)).astype(np.float32)
    found = read(tmp_path, vectors=np.array(tokens, order=order))
    np.testing.assert_allclose(found.vectors, tokens.mean(axis=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "clip_id"),
    [
        (GOOD, "dcase2025/dev/fan/train/section_00_source_train_normal_0000_m-n_X"),
        (f"dcase2023t2/dev_data/raw/{GOOD}", "dcase2023/dev/fan/train/section_00_source_train_normal_0000_m-n_X"),
        (GOOD.replace("/", "\\"), "dcase2025/dev/fan/train/section_00_source_train_normal_0000_m-n_X"),
        (f"/home/me/train/dcase2024/{GOOD[:-4]}", "dcase2024/dev/fan/train/section_00_source_train_normal_0000_m-n_X"),
        ("fan/source_test/section_03_source_test_0001.flac", "dcase2021/eval/fan/test/section_03_source_test_0001"),
        ("fan/train/caf\u00e9_0.5.WAV", "own/dev/fan/train/cafe\u0301_0.5"),
    ],
)  # fmt: skip
def test_clips_are_found_by_their_ids(tmp_path: Path, name: str, clip_id: str) -> None:
    """Folders in front, separators, endings, accents and 2021's test folders make no difference."""
    found = read(tmp_path, files=np.array([OTHER, name]))
    assert found.rows([clip_id]).tolist() == [1]


def test_a_year_is_a_year(tmp_path: Path) -> None:
    """A name of one year is none of another's, and one without a year serves one year alone."""
    ids = [f"{year}/dev/fan/train/section_00_source_train_normal_0000_m-n_X" for year in ("dcase2023", "dcase2024")]
    both = read(tmp_path, files=np.array([f"dcase2023t2/{GOOD}", f"dcase2024t2/{GOOD}"]))
    assert both.rows(ids).tolist() == [0, 1]
    with pytest.raises(BackboneError, match=r"lacks dcase2025/dev/fan/train/.* \(it has 2\)"):
        both.rows([ids[0].replace("2023", "2025")])
    bare = read(tmp_path, files=np.array([GOOD, OTHER]))
    with pytest.raises(BackboneError, match="must say their year"):
        bare.rows(ids)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """What was read is kept by its content, not by its name."""
    first, second = (read(tmp_path, vectors=ONES * factor) for factor in (1, 2))
    assert second.vectors.max() == 2 * first.vectors.max()
    assert first.sha256 != second.sha256


def test_the_same_embeddings_make_the_same_bytes() -> None:
    """A file's sum is part of trials' keys, so writing it again on another day must not change it."""
    made = packed_embeddings([GOOD, OTHER], ONES)
    assert made == packed_embeddings([GOOD, OTHER], ONES)
    assert b"\x00\x00\x21\x00" in made  # the date of its members: 1980-01-01
