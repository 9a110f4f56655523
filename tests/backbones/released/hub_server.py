"""A server that stands in for the Hugging Face hub: addresses, headers and errors as the hub has them."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server has and how it behaves.

    Attributes:
        files: (repository, path) -> content; repositories of data sets begin with datasets/.
        commits: revision -> commit.
        drops: after how many bytes each further answer breaks off; -1 is a whole one.
        ranges: whether it sends parts of files.
        status: (repository) -> (status, the hub's error code) of every answer.
        instead: content that is sent for every file in its place.
        says: content of which size and sum are told, where they are not the true ones.
        quiet: no header of the hub's own, as a page of another server.
        asked: (method, path, range header) of every request.
    """

    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=lambda: {"main": COMMIT, COMMIT: COMMIT})
    drops: list[int] = field(default_factory=list)
    ranges: bool = True
    status: dict[str, tuple[int, str]] = field(default_factory=dict)
    instead: bytes | None = None
    says: bytes | None = None
    quiet: bool = False
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    address: str = ""

    def got(self) -> list[str]:
        """Return the ranges of the requests for content."""
        return [byte_range for method, path, byte_range in self.asked if method == "GET" and "/resolve/" in path]


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve a hub on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_arguments: object) -> None:
            """Keep the tests' output free of requests."""

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append((self.command, path, self.headers.get("Range", "")))
            if path.startswith("/api/models/"):
                self._api(path.removeprefix("/api/models/"))
                return
            repository, _, rest = path.strip("/").partition("/resolve/")
            revision, _, name = rest.partition("/")
            if repository in hub.status:
                self._refuse(*hub.status[repository])
            elif not any(each == repository for each, _ in hub.files):
                self._refuse(401, "RepoNotFound")
            elif revision not in hub.commits:
                self._refuse(404, "RevisionNotFound")
            elif (repository, name) not in hub.files:
                self._refuse(404, "EntryNotFound")
            else:
                self._file(hub.files[repository, name], hub.commits[revision])

        def _file(self, content: bytes, commit: str) -> None:
            said = hub.says or content
            sent = content if hub.instead is None else hub.instead
            asked = self.headers.get("Range", "")
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and hub.ranges else 0
            if self.command == "GET" and start >= len(sent) and start:
                self._send(416, b"", {})
                return
            headers = {"ETag": f'"{hashlib.sha256(said).hexdigest()}"', "X-Repo-Commit": commit}
            if self.command == "HEAD":
                headers["Content-Length"] = str(len(said))
                self._send(200, b"", {} if hub.quiet else headers)
                return
            status = 206 if start else 200
            stop = hub.drops.pop(0) if hub.drops else -1
            body = sent[start:]
            headers["Content-Length"] = str(len(body))
            self._send(status, body[:stop] if stop >= 0 else body, headers)
            if stop >= 0:
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()

        def _api(self, rest: str) -> None:
            repository, _, tail = rest.partition("/revision/")
            if tail:
                repository_files = {name for each, name in hub.files if each == repository}
            else:
                repository, _, tail = rest.partition("/tree/")
                repository_files = {name for each, name in hub.files if each == repository}
            if repository in hub.status:
                self._refuse(*hub.status[repository])
            elif not repository_files:
                self._refuse(401, "RepoNotFound")
            elif tail not in hub.commits:
                self._refuse(404, "RevisionNotFound")
            elif "/tree/" in rest:
                tree = [
                    {
                        "type": "file", "path": name, "size": len(hub.files[repository, name]),
                        "oid": hashlib.sha1(hub.files[repository, name]).hexdigest(),
                    }
                    for name in sorted(repository_files)
                ]  # fmt: skip
                self._json(tree)
            else:
                siblings = [{"rfilename": name} for name in sorted(repository_files)]
                self._json({"id": repository, "sha": hub.commits[tail], "siblings": siblings, "private": False})

        def _json(self, content: object) -> None:
            self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

        def _refuse(self, status: int, code: str) -> None:
            self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                with suppress(ConnectionError):  # whoever has seen enough goes
                    self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
