"""Sockets where a file is expected."""

from __future__ import annotations

import socket
from contextlib import chdir
from pathlib import Path


def listening(path: Path) -> None:
    """Make a socket; from its own folder, since a socket's path may have no more than 107 bytes."""
    with chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
