"""Starts a private Ray on this machine: its files are in a temporary folder, and it accepts local connections only."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import ray

from harness import shadows
from harness.errors import HarnessError
from harness.interrupts import whole

logger = logging.getLogger(__name__)

# keeps freed memory in the process: without it, a third of the time of batched convolutions goes into returning pages
WORKER_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107  # longest path of a unix socket
LONGEST_SOCKET = "/asd-12345678/ray/session_2026-11-28_01-22-52_610258_1234567/sockets/plasma_store"
LOOPBACK = ("127.0.0.1", "::1")
PREFIX, LOCK = "asd-", "lock"  # of the folder's name; name of the file in it that the driver locks while it lives
STARTS = 3  # a machine with more to do than it has cores for takes longer than the half minute that Ray waits
TOO_SLOW = "timed out during startup"  # in what Ray says then
REMOVAL_SECONDS = 5.0  # to retry removing Ray's folder, since workers that are ending may still write into it


@contextmanager
def own_ray() -> Iterator[None]:
    """Start Ray on this machine, and stop it and remove its files at the end.

    Raises:
        HarnessError: it does not start.
    """
    folder = short_folder()
    clear_leftovers(folder.parent)
    with ExitStack() as held:
        _hold(folder, held)
        with _running(folder):
            yield


@contextmanager
def _running(folder: Path) -> Iterator[None]:
    try:
        _start(folder)
        yield
    finally:
        started = ray.is_initialized()
        ray.shutdown()
        if started:  # otherwise keep it: Ray's log in it says why it did not start
            _remove(folder)


def short_folder() -> Path:
    """Make a folder, private and short enough for Ray's sockets: in TMPDIR where that is, else in /tmp.

    Raises:
        HarnessError: there is none that can be written.
    """
    longest = SOCKET_BYTES - len(LONGEST_SOCKET)
    asked = [os.environ.get(name, "") for name in ("RAY_TMPDIR", "TMPDIR")]
    for name in dict.fromkeys([*asked, "/tmp", "/var/tmp", os.environ.get("XDG_RUNTIME_DIR", "")]):  # noqa: S108
        place = Path(name).absolute()
        if name and len(os.fsencode(place)) <= longest:
            with suppress(OSError):
                return Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    raise HarnessError(
        f"Ray keeps its sockets in a folder whose path has at most {longest} bytes, but neither TMPDIR nor /tmp is one "
        "that can be written; set TMPDIR to a short folder."
    )


def clear_leftovers(place: Path) -> None:
    """Remove the folders that killed drivers left behind: those of this user whose lock no process holds.

    Args:
        place: where such folders are made.
    """
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError), ExitStack() as held:  # another user's, or gone meanwhile
            if folder.lstat().st_uid == os.getuid() and not folder.is_symlink() and (folder / LOCK).is_file():
                _hold(folder, held)
                shutil.rmtree(folder, ignore_errors=True)


def _hold(folder: Path, held: ExitStack) -> None:
    """Lock a folder for as long as this process lives: the operating system releases the lock even if it is killed.

    Raises:
        OSError: another process holds it.
    """
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    held.callback(os.close, handle)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def keep_token_private() -> None:
    """Create Ray's authentication token, ~/.ray/auth_token, readable for its owner only.

    If there is none, Ray creates it itself, but readable for everybody.
    """
    if os.environ.get("RAY_AUTH_MODE", "token") != "token" or {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & {*os.environ}:
        return
    path = Path.home() / ".ray" / "auth_token"
    if path.exists():
        if path.stat().st_mode & 0o077 and path.stat().st_uid == os.getuid():
            path.chmod(0o600)
        return
    path.parent.mkdir(mode=0o700, exist_ok=True)
    number, made = tempfile.mkstemp(dir=path.parent)  # for its owner alone
    with os.fdopen(number, "w") as file:
        file.write(secrets.token_hex(32))
    with suppress(FileExistsError):  # another process made one meanwhile
        os.link(made, path)
    Path(made).unlink()


def connect(**options: Any) -> None:
    """Start Ray, or join one; see `ray.init`. What only took too long is tried again.

    Raises:
        RuntimeError: it took too long every time.
    """
    # Ray puts the working directory, and the folder of the program that runs, first on its workers' path. A worker
    # that imports ours before costs three seconds a start, so it is asked for only where something has our names
    program = Path(sys.argv[0]).resolve().parent
    if shadows([Path.cwd(), *([program] if str(program) in sys.path else [])]):
        options["runtime_env"] = {"worker_process_setup_hook": "asdbench.settle"}
    for left in reversed(range(STARTS)):
        try:
            with whole():  # a signal during the start crashes Ray, which also installs its own SIGTERM handler
                ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
        except Exception as error:  # of no narrower class
            if TOO_SLOW not in str(error):
                raise
            ray.shutdown()
            if not left:
                raise RuntimeError(f"it took longer than {STARTS} times the half minute that Ray waits") from error
        else:
            return


def _start(folder: Path) -> None:
    for name, value in WORKER_MALLOC.items():
        os.environ.setdefault(name, value)
    try:
        keep_token_private()
        with _environment({"RAY_TMPDIR": str(folder)}):
            # "local": without it Ray joins whatever cluster runs on this machine
            connect(address="local", num_cpus=os.cpu_count(), include_dashboard=False)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise HarnessError(
            f"Ray must start on this machine, but it did not: {reason.rstrip('.')}; "
            f"its log, in {folder}/ray/session_latest/logs, says more."
        ) from error
    for node in ray.nodes():
        if node["NodeManagerAddress"] not in LOOPBACK:
            logger.warning(
                "Ray listens on %s, which others on the network can reach, as it was imported before asdbench; set "
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 before Python starts.",
                node["NodeManagerAddress"],
            )


def _remove(folder: Path) -> None:
    until = time.monotonic() + REMOVAL_SECONDS
    while folder.exists() and time.monotonic() < until:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _environment(added: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
