"""Released files come whole or not at all: drops, wrong sums, pages, missing mirrors, no network, full disks."""

from __future__ import annotations

import errno
from collections import namedtuple
from pathlib import Path

import pytest

from backbones.contract import BackboneError
from backbones.released import download, hub
from backbones.released.download import bring
from backbones.weights import find_checkpoint
from tests.backbones.released.conftest import CONTENT, SUM
from tests.backbones.released.hub_server import COMMIT, Hub

PAGE = b"<!DOCTYPE html><html><body>Sign in to your account</body></html>"


def _left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".BEATs_small.pt.lock"}


def test_a_released_file_comes_by_its_name(server: Hub, tmp_path: Path) -> None:
    """It lands whole under its own name, with its sum and the commit that it came from, and is found by name."""
    found = bring("BEATs_small", tmp_path / "to")
    assert found.path.read_bytes() == CONTENT
    assert (found.sha256, found.source, found.fetched) == (SUM, f"org/first@{COMMIT}", True)
    assert _left(tmp_path / "to") == {"BEATs_small.pt"}


def test_where_it_lands_studies_look(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder it goes to `weights` of the cache, or to ASDBENCH_WEIGHTS; a study finds it by its name."""
    with pytest.raises(BackboneError, match=r"are not here.*asdbench weights download BEATs_small$"):
        find_checkpoint("BEATs_small")
    assert bring("BEATs_small").path == tmp_path / "cache" / "weights" / "BEATs_small.pt"
    assert find_checkpoint("BEATs_small") == tmp_path / "cache" / "weights" / "BEATs_small.pt"
    monkeypatch.setenv("ASDBENCH_WEIGHTS", str(tmp_path / "mine"))
    assert bring("BEATs_small.pt").path == tmp_path / "mine" / "BEATs_small.pt"
    assert find_checkpoint("BEATs_small").parent == tmp_path / "mine"


def test_what_is_there_is_not_fetched_again(server: Hub, tmp_path: Path) -> None:
    """A second call asks nobody."""
    bring("BEATs_small", tmp_path)
    asked = len(server.asked)
    assert bring("BEATs_small", tmp_path).fetched is False
    assert len(server.asked) == asked


def test_a_connection_that_breaks_is_taken_up(server: Hub, tmp_path: Path) -> None:
    """Each broken answer is gone on from the byte where it broke, in one call."""
    server.drops = [100_000, 50_000, 1]
    told: list[int] = []
    assert bring("BEATs_small", tmp_path, told=lambda there, _total: told.append(there)).path.read_bytes() == CONTENT
    assert server.got() == ["", "bytes=100000-", "bytes=150000-", "bytes=150001-"]
    assert told[-1] == len(CONTENT)


def test_a_download_that_was_stopped_goes_on(server: Hub, tmp_path: Path) -> None:
    """A call that gives up keeps what came, under no released name; the next one asks for the rest alone."""
    server.drops = [200_000] + [0] * 20
    with pytest.raises(BackboneError, match="The same command goes on"):
        bring("BEATs_small", tmp_path)
    assert not (tmp_path / "BEATs_small.pt").exists()
    server.drops, server.asked = [], []
    assert bring("BEATs_small", tmp_path).path.read_bytes() == CONTENT
    assert server.got() == ["bytes=200000-"]


def test_a_server_without_ranges_sends_all_again(server: Hub, tmp_path: Path) -> None:
    """A part that cannot be gone on from is begun anew, not sewn together."""
    server.drops, server.ranges = [100_000], False
    assert bring("BEATs_small", tmp_path).path.read_bytes() == CONTENT


@pytest.mark.parametrize("there", [b"other bytes", CONTENT + b"more", bytes(len(CONTENT))])
def test_a_part_of_something_else_is_begun_anew(server: Hub, tmp_path: Path, there: bytes) -> None:
    """What an earlier source left is no beginning of this file: it is fetched again from its first byte."""
    (tmp_path / ".BEATs_small.pt.part").write_bytes(there)
    assert bring("BEATs_small", tmp_path).path.read_bytes() == CONTENT


def test_another_file_is_refused_before_it_is_fetched(server: Hub, tmp_path: Path) -> None:
    """A file whose sum or size the hub says to be another costs no download."""
    for other in (CONTENT[:-1], CONTENT[:-1] + b"x"):
        server.files["org/first", "BEATs_small.pt"] = other
        with pytest.raises(BackboneError, match=r"is not the released BEATs_small.*nothing was downloaded"):
            bring("BEATs_small", tmp_path, "org/first@main")
    assert server.got() == []


@pytest.mark.parametrize(
    ("sent", "said"),
    [(PAGE, "a web page"), (CONTENT[:-1] + b"x", "with the sum"), (b"version https://git-lfs.github.com/x", "Git LFS")],
)
def test_what_came_must_have_the_sum(server: Hub, tmp_path: Path, sent: bytes, said: str) -> None:
    """Bytes that are not the file's are thrown away, and the sentence says what they were."""
    server.instead, server.says = sent + bytes(len(CONTENT) - len(sent)), CONTENT
    with pytest.raises(BackboneError, match=f"is not the released BEATs_small.*{said}"):
        bring("BEATs_small", tmp_path, "org/first@main")
    assert _left(tmp_path) == set()


def test_no_more_is_taken_than_the_file_has(server: Hub, tmp_path: Path) -> None:
    """A server that goes on sending is stopped."""
    server.instead, server.says = CONTENT + bytes(10_000_000), CONTENT
    with pytest.raises(BackboneError, match="sends more than the 256,000 bytes"):
        bring("BEATs_small", tmp_path, "org/first@main")
    assert not (tmp_path / "BEATs_small.pt").exists()


def test_mirrors_are_asked_in_turn(server: Hub, tmp_path: Path) -> None:
    """A mirror that lost the file is passed over; where all did, the sentence says so of each."""
    server.files = {("org/second", "BEATs_small.pt"): CONTENT}
    assert bring("BEATs_small", tmp_path).source == f"org/second@{COMMIT}"
    server.files = {("org/other", "x"): b""}
    with pytest.raises(BackboneError, match=r"None of the known mirrors.*org/first.*org/second.*--from"):
        bring("BEATs_small", tmp_path / "again")


def test_another_place_can_be_named(server: Hub, tmp_path: Path) -> None:
    """--from takes a repository at a revision, of data sets too."""
    server.files = {("datasets/me/mine", "BEATs_small.pt"): CONTENT}
    assert bring("BEATs_small", tmp_path, f"datasets/me/mine@{COMMIT}").source == f"datasets/me/mine@{COMMIT}"


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (401, "GatedRepo", "is gated: accept its conditions"),
        (401, "RepoNotFound", "has no repository org/first, or it is private"),
        (404, "RevisionNotFound", "org/first has no revision main"),
        (404, "EntryNotFound", "has no BEATs_small.pt of org/first@main"),
        (404, "", "has no BEATs_small.pt of org/first@main"),
        (503, "", "with status 503; try again later"),
        (403, "", "with status 403"),
    ],
)
def test_refusals_are_one_sentence(server: Hub, tmp_path: Path, status: int, code: str, said: str) -> None:
    """What the hub refuses is said in one line, and nothing is left behind."""
    server.status = {"org/first": (status, code)}
    with pytest.raises(BackboneError, match=said) as error:
        bring("BEATs_small", tmp_path, "org/first@main")
    assert "\n" not in str(error.value)
    assert _left(tmp_path) == set()


def test_a_server_that_is_no_hub_is_named(server: Hub, tmp_path: Path) -> None:
    """A page of the network, or a wrong HF_ENDPOINT, answers without the hub's headers."""
    server.quiet = True
    with pytest.raises(BackboneError, match="does not answer as the hub does"):
        bring("BEATs_small", tmp_path, "org/first@main")


def test_the_network_can_be_forbidden(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE=1 asks nobody, whenever it was set; what is here is still found."""
    bring("BEATs_small", tmp_path / "here")
    server.asked = []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert bring("BEATs_small", tmp_path / "here").fetched is False
    with pytest.raises(BackboneError, match=r"HF_HUB_OFFLINE forbids the network.*copy the file"):
        bring("BEATs_small", tmp_path / "there")
    assert server.asked == []


def test_no_network_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address where nobody listens, and one that is none, are said to be that."""
    pytest.importorskip("huggingface_hub", reason="the hub needs the extra asdbench[hf]")
    for address in ("http://127.0.0.1:9", "no address"):
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(BackboneError, match="could not be brought from") as error:
            bring("BEATs_small", tmp_path, "org/first@main")
        assert "\n" not in str(error.value)


def test_an_unknown_name_has_a_nearest_one(tmp_path: Path) -> None:
    """A misspelt name is answered with the right one."""
    with pytest.raises(BackboneError, match=r"got BEATs_smal\. Did you mean 'BEATs_small'\?"):
        bring("BEATs_smal", tmp_path)


@pytest.mark.parametrize(
    "place", ["org/first", "first@main", "org/first@", "a/b/c@main", "org/../first@main", "o/f@../x"]
)
def test_a_place_is_a_repository_at_a_revision(tmp_path: Path, place: str) -> None:
    """--from without a revision, or with a way out of the address, is refused before anybody is asked."""
    with pytest.raises(BackboneError, match="must be ORG/NAME@REVISION"):
        bring("BEATs_small", tmp_path, place)


def test_a_file_that_the_hub_has_not_says_where_it_is(tmp_path: Path) -> None:
    """An official file on somebody's drive cannot be downloaded; the sentence says where to put it."""
    with pytest.raises(BackboneError, match=r"it is on a drive; save it as .*on_a_drive.pth"):
        bring("on_a_drive", tmp_path)
    with pytest.raises(BackboneError, match="the hub does not have them: it is on a drive"):
        find_checkpoint("on_a_drive")


def test_another_file_of_that_name_stays(server: Hub, tmp_path: Path) -> None:
    """What stands under the name and is something else is named, not replaced."""
    for content, what in ((PAGE, "a web page"), (b"weights of mine", "a file of 15 bytes")):
        (tmp_path / "BEATs_small.pt").write_bytes(content)
        with pytest.raises(BackboneError, match=f"is not the released BEATs_small, but {what}.*move it away"):
            bring("BEATs_small", tmp_path)
        assert (tmp_path / "BEATs_small.pt").read_bytes() == content


def test_a_disk_without_room_is_said_before_and_while(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is too small is refused at once; one that fills up keeps what came for the next call."""
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patched:
        patched.setattr(download.shutil, "disk_usage", lambda _path: usage(1, 1, 1))
        with pytest.raises(BackboneError, match=r"needs .* MB more.*name another folder"):
            bring("BEATs_small", tmp_path)
    stream = hub._stream

    def fills(url: str, file: object, *, most: int, told: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(hub, "_stream", fills)
        with pytest.raises(BackboneError, match=r"is full.*goes on where this one stopped"):
            bring("BEATs_small", tmp_path)
    assert hub._stream is stream
    assert bring("BEATs_small", tmp_path).fetched


def test_a_folder_that_cannot_be_written_to_is_named(server: Hub, tmp_path: Path) -> None:
    """A file where the folder should be is said to be one."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BackboneError, match=r"file.* must be one that can be written to"):
        bring("BEATs_small", tmp_path / "file")


def test_a_file_whose_sum_nobody_published_has_the_hubs(server: Hub, tmp_path: Path) -> None:
    """Where no sum is known the hub's own is held to, so that no page becomes weights."""
    server.files["org/open", "model.safetensors"] = CONTENT
    assert bring("open_model", tmp_path).sha256 == SUM
    assert bring("open_model", tmp_path).fetched is False
    server.instead = PAGE + bytes(len(CONTENT) - len(PAGE))
    with pytest.raises(BackboneError, match="a web page"):
        bring("open_model", tmp_path / "again")
