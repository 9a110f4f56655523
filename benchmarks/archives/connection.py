"""A connection to an archive server: it tries again, goes on where it stopped, and takes no more than was announced."""

from __future__ import annotations

import http.client
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias, TypeVar

import requests
import urllib3

from benchmarks.archives.patience import answer_within, watched
from benchmarks.contract import BenchmarkError
from benchmarks.files import printable
from benchmarks.folders import writing

logger = logging.getLogger(__name__)

BLOCK_BYTES = 2**15  # a connection that breaks loses the block that was on its way
LEAST_BYTES = 2**15  # that a try must bring to count as progress, and a time-out's seconds to be waited for
MOST_BYTES = 8 * 2**30  # of one archive; the largest official one, ToyConveyor of 2020, has some 2 GiB
GONE = (401, 403, 404, 410)
NO_HEAD = (405, 501)  # the server knows no HEAD, or not of this file

T = TypeVar("T")
Told: TypeAlias = Callable[[str, int, int], None]
"""Told while an archive comes in: (its name, bytes that are there, bytes in all; 0 where nobody announced them)."""


class Connection:
    """A connection that tries again.

    Attributes:
        session: whose connections are used.
        tries: requests in a row that may fail without bringing anything.
        pause: seconds before the second try; doubled before each further one, a minute at most.
        timeout: seconds to connect, and between two blocks.
        progress: told while an archive comes in.
    """

    def __init__(
        self,
        session: requests.Session,
        *,
        tries: int,
        pause: float,
        timeout: tuple[float, float],
        progress: Told | None = None,
    ) -> None:
        self._session = session
        self._tries = tries
        self._silent = False  # whether the last archive was given up for a server that did not answer
        self._pause = pause
        self._timeout = timeout
        self._progress = progress
        session.headers["Accept-Encoding"] = "identity"  # ranges count the bytes of the file itself

    def size(self, url: str) -> int | None:
        """Return an archive's size in bytes; None where the server does not announce it."""

        def ask() -> int | None:
            with self._answer("HEAD", url, {}) as response:
                if response.status_code in NO_HEAD:
                    return None
                _check_status(response, url)
                return announced_bytes(response.headers, url)

        return self._insist(ask, url, lambda: 0)

    def fetch(self, url: str, path: Path, *, size: int | None, most: int, name: str) -> None:
        """Fetch what a file lacks; it grows at its end alone, so that it can be gone on with whenever this stops.

        Args:
            url: of the archive.
            path: of the file; what stands there is gone on with, if the size is known.
            size: that the archive was announced with.
            most: bytes that are taken where no size was announced.
            name: for progress.

        Raises:
            BenchmarkError: if the server does not answer, or sends what cannot be the archive.
        """
        ranges = size is not None

        def go_on() -> None:
            nonlocal ranges
            there = _bytes_there(path)
            if size is None or there > size:  # nobody could say whether what is there is whole
                path.unlink(missing_ok=True)
                there = 0
            if there == size:
                return
            headers = {"Range": f"bytes={there}-"} if there and ranges else {}
            ranges = size is not None
            with self._answer("GET", url, headers) as response:
                resumed = response.status_code == requests.codes.partial_content
                lacks = response.status_code == requests.codes.requested_range_not_satisfiable
                if lacks or (resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {there}-")):
                    ranges = False  # the next try asks for all of it
                    raise requests.RequestException(f"asked from byte {there}, got another range")
                _check_status(response, url)
                total = announced_bytes(response.headers, url) if size is None else size
                self._take(response, path, resumed=resumed, total=total, most=most, url=url, name=name)
            came = _bytes_there(path)
            if came < (total or 1):
                raise requests.RequestException(f"only {came} of {total or 'some'} bytes came")

        self._insist(go_on, url, lambda: _bytes_there(path))

    def _take(
        self,
        response: requests.Response,
        path: Path,
        *,
        resumed: bool,
        total: int | None,
        most: int,
        url: str,
        name: str,
    ) -> None:
        """Write what a server sends, no more than it announced, as long as it sends at least a trickle."""
        bound = most if total is None else total
        # no link is followed, and a fifo is not waited for
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_APPEND if resumed else os.O_TRUNC)
        with writing(path.parent):
            # without a buffer: what a full disk did not take would be tried once more when the file is closed
            out = os.fdopen(os.open(path, flags, 0o666), "ab", buffering=0)
        with out, watched(response, seconds=self._timeout[1], least=LEAST_BYTES) as came:
            while block := response.raw.read1(BLOCK_BYTES, decode_content=False):
                came(len(block))
                if out.tell() + len(block) > bound:
                    with writing(path.parent):
                        path.unlink()
                    said = "it announced" if total is not None else "such an archive may have; it announced no size"
                    raise BenchmarkError(
                        f"{url} must send at most the {bound:,} bytes that {said}, but sends more; what came was "
                        "removed, so try again later, or fetch the archive by hand and unzip it."
                    )
                with writing(path.parent):
                    left = memoryview(block)
                    while left:
                        left = left[out.write(left) :]
                if self._progress is not None:
                    self._progress(name, out.tell(), total or 0)

    def _answer(self, method: str, url: str, headers: Mapping[str, str]) -> requests.Response:
        """Return the head of an answer."""

        def ask() -> requests.Response:
            return self._session.request(
                method, url, headers=dict(headers), stream=True, allow_redirects=True, timeout=self._timeout
            )

        return answer_within(2 * sum(self._timeout), ask)

    def _insist(self, attempt: Callable[[], T], url: str, gained: Callable[[], int]) -> T:
        """Try until it works, or until too little was gained too many times in a row."""
        failures, best = 0, gained()
        while True:
            try:
                answer = attempt()
            except BenchmarkError:
                raise
            # the errors of requests, of what is below it, and of sockets; files are written inside `writing`
            except (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException, ValueError) as error:
                if isinstance(error, requests.exceptions.InvalidHeader | urllib3.exceptions.InvalidHeader):
                    raise BenchmarkError(
                        f"{url} must announce its size as one number of bytes, but its answer contradicts itself "
                        f"({_why(error)}); try again later, or fetch the archive by hand and unzip it."
                    ) from error
                if isinstance(error, ValueError | requests.TooManyRedirects):  # an address that cannot be
                    raise BenchmarkError(
                        f"{url} must lead to the archive, but leads to no address that can be asked "
                        f"({_why(error)}); try again later, or fetch the archive by hand and unzip it."
                    ) from error
                now = gained()
                failures = 1 if now >= best + LEAST_BYTES else failures + 1
                best = max(best, now)
                if failures >= (1 if self._silent else self._tries):  # it was waited for before, for another archive
                    self._silent = True
                    raise BenchmarkError(
                        f"{url} must answer, but failed {failures} times in a row ({_why(error)}); try again later, "
                        "what came is kept."
                    ) from error
                seconds = min(60.0, self._pause * 2 ** (failures - 1))
                logger.warning("%s: %s; trying again in %.0f s.", url, _why(error), seconds)
                time.sleep(seconds)
            else:
                self._silent = False
                return answer


def announced_bytes(headers: Mapping[str, str], url: str) -> int | None:
    """Return the size that an answer announces; None where it announces none.

    Args:
        headers: of the answer; several of one name are joined by commas.
        url: of the archive, for sentences.

    Raises:
        BenchmarkError: if it is no number, several numbers, or none that an archive can have.
    """
    told = headers.get("Content-Length")
    if told is None:
        return None
    values = {value.strip() for value in told.split(",")}
    value = values.pop()
    if values or re.fullmatch("[0-9]{1,15}", value) is None or not 0 < int(value) <= MOST_BYTES:
        raise BenchmarkError(
            f"{url} must announce its size as one number from 1 to {MOST_BYTES:,} bytes, but announces "
            f"{printable(told, most=60)!r}; try again later, or fetch the archive by hand and unzip it."
        )
    return int(value)


def _check_status(response: requests.Response, url: str) -> None:
    """Raise BenchmarkError where asking again is no use, RequestException where it may be."""
    status = f"{response.status_code} {printable(response.reason or '', most=60)}"
    if response.status_code in GONE:
        raise BenchmarkError(
            f"{url} must exist, but the server answers {status}; fetch the archive by hand and unzip it."
        )
    if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
        raise requests.RequestException(f"the server answers {status}")
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise BenchmarkError(
            f"{url} must be sent as it is, but the server packs it once more ({printable(encoding, most=60)}); fetch "
            "the archive by hand and unzip it."
        )


def _bytes_there(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _why(error: Exception) -> str:
    return printable(str(error)) or type(error).__name__
