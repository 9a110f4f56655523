"""Hosts, each a network of its own with a Ray node, joined as the page "More than one machine" says."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness.engine.test_study_faults import MOST_SECONDS, wait_for
from tests.harness.toy_study import STUDY, counts, official
from tests.servers import free_port

pytestmark = pytest.mark.slow

RAY = str(Path(sys.executable).with_name("ray"))
NETWORK = "10.211.0."
WAIT = """import ray, sys, time
ray.init(address=sys.argv[1], logging_level="ERROR")
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    time.sleep(0.2)
"""  # `ray start` returns before the head knows of the node


class Hosts:
    """Network namespaces that hang on one switch, and what runs in each.

    Args:
        folder: for Ray's own files; its sockets want a short path.
        number: of hosts.
    """

    def __init__(self, folder: Path, number: int = 2) -> None:
        self.names = [f"asd{os.getpid()}h{host}" for host in range(number)]
        self.addresses = [f"{NETWORK}{host + 1}" for host in range(number)]
        self.address = f"{self.addresses[0]}:{free_port()}"
        self.environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        for name in ("MLFLOW_TRACKING_URI", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
            self.environment.pop(name, None)
        self.folder = folder

    def lay(self) -> None:
        """Make the namespaces, a switch in the first one, and a cable from it to each other one."""
        first = self.names[0]
        for name in self.names:
            network("netns", "add", name)
            network("-n", name, "link", "set", "lo", "up")
        network("-n", first, "link", "add", "switch", "type", "bridge")
        for place, name in enumerate(self.names[1:], start=1):
            cable = f"cable{place}"
            network("link", "add", cable, "netns", first, "type", "veth", "peer", "name", "cable", "netns", name)
            network("-n", first, "link", "set", cable, "master", "switch", "up")
        for place, (name, address) in enumerate(zip(self.names, self.addresses, strict=True)):
            device = "cable" if place else "switch"
            network("-n", name, "addr", "add", f"{address}/24", "dev", device)
            network("-n", name, "link", "set", device, "up")

    def begin(self, host: int, command: Sequence[str], *, log: Path, **environment: str) -> subprocess.Popen[bytes]:
        """Start a program on a host."""
        with log.open("ab") as file:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.names[host], *command], cwd=log.parent, stdout=file, stderr=file,
                env=self.environment | environment, start_new_session=True,
            )  # fmt: skip

    def start_ray(self, host: int, *, cores: int = 1, own: Path | None = None) -> None:
        """Start Ray's head on the first host, or a node on another one.

        Args:
            host: which.
            cores: that it says it has.
            own: folder that only this host shall see empty, as one of its own disk; the other hosts see it as it is.
        """
        head = ["--head", f"--port={self.address.partition(':')[2]}", "--include-dashboard=false",
                f"--temp-dir={self.folder}"]  # fmt: skip
        command = [RAY, "start", f"--node-ip-address={self.addresses[host]}", f"--num-cpus={cores}",
                   "--disable-usage-stats", *([f"--address={self.address}"] if host else head)]  # fmt: skip
        if own is not None:  # a network namespace is one of mounts, too
            command = ["sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(own), *command]
        log = self.folder / f"host{host}.txt"
        assert self.begin(host, command, log=log).wait(90) == 0, log.read_text()

    def wait_for_nodes(self, number: int) -> None:
        """Wait until the head knows of so many nodes: a study that begins before sees fewer."""
        log = self.folder / "wait.txt"
        waiting = self.begin(0, [sys.executable, "-c", WAIT, self.address, str(number)], log=log)
        assert waiting.wait(MOST_SECONDS) == 0, log.read_text()

    def cut_power(self, host: int) -> None:
        """Kill everything on a host at once."""
        listed = subprocess.run(["ip", "netns", "pids", self.names[host]], capture_output=True, text=True, check=False)
        for process in listed.stdout.split():
            os.kill(int(process), signal.SIGKILL)

    def clear(self) -> None:
        """Take everything away."""
        for host, name in enumerate(self.names):
            self.cut_power(host)
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@contextmanager
def laid_hosts(number: int = 2) -> Iterator[Hosts]:
    """Lay hosts, and take them away at the end."""
    with tempfile.TemporaryDirectory(prefix="asd", ignore_cleanup_errors=True) as folder:
        made = Hosts(Path(folder), number)
        try:
            made.lay()
            yield made
        finally:
            made.clear()


def network(*words: str) -> None:
    """Run ip, or skip the test where networks cannot be made."""
    try:
        done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("the program ip is not here")
    if done.returncode:
        pytest.skip(f"no network namespaces can be made here: {done.stderr.strip()}")


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Two hosts."""
    with laid_hosts() as made:
        yield made


def test_a_host_that_loses_power(hosts: Hosts, root: Path, undisturbed: dict[str, float], tmp_path: Path) -> None:
    """A study on two hosts, one of which dies in the middle, ends whole with the numbers of one on a single machine.

    A driver without the cluster's token is refused in one sentence.
    """
    for host in range(2):
        hosts.start_ray(host)
    both = tmp_path / "both"
    both.mkdir()
    (both / "toy.toml").write_text(STUDY % "1e-3")
    study = [sys.executable, "-m", "harness.cli.main", "study", "run", "toy.toml", "--data", str(root)]

    stranger, log = {"RAY_AUTH_TOKEN": secrets.token_hex(32)}, both / "stranger.txt"
    refused = hosts.begin(0, [*study, "--address", hosts.address], log=log, ASDBENCH_CACHE=str(both / "c"), **stranger)
    assert refused.wait(MOST_SECONDS) == 1, log.read_text()
    assert "Traceback" not in log.read_text()
    assert f"A Ray cluster must answer at {hosts.address}, but it did not" in log.read_text()
    assert "RAY_AUTH_TOKEN" in log.read_text()

    log = both / "log.txt"
    driver = hosts.begin(0, [*study, "--address", hosts.address], log=log, ASDBENCH_CACHE=str(both / "cache"))
    wait_for(both, driver, 2)
    hosts.cut_power(1)
    assert driver.wait(MOST_SECONDS) == 0, log.read_text()
    held = counts(both)
    assert held["tables"] == {"finished": 7}, held
    assert (held["mlflow"]["FINISHED"], held["mlflow"].get("RUNNING", 0)) == (7, 0), held
    assert (held["optuna"]["COMPLETE"], held["optuna"].get("RUNNING", 0)) == (4, 0), held

    assert official(both) == undisturbed


@pytest.mark.long
def test_a_host_with_a_disk_of_its_own(hosts: Hosts, root: Path, undisturbed: dict[str, float], tmp_path: Path) -> None:
    """A host whose cache is empty fetches the recordings from the share, once, and its trials give the same numbers.

    Without a share the host is named before a trial begins.
    """
    cache, share = tmp_path / "cache", tmp_path / "share"
    cache.mkdir()
    hosts.start_ray(0)
    hosts.start_ray(1, own=cache)
    hosts.wait_for_nodes(2)
    (tmp_path / "toy.toml").write_text(STUDY % "1e-3")
    study = [sys.executable, "-m", "harness.cli.main", "study", "run", "toy.toml", "--data", str(root), "--address",
             hosts.address]  # fmt: skip
    log = tmp_path / "log.txt"
    refused = hosts.begin(0, study, log=log, ASDBENCH_CACHE=str(cache))
    assert refused.wait(MOST_SECONDS) == 1, log.read_text()
    assert "name a share with --share, from which each fetches it" in " ".join(log.read_text().split())

    driver = hosts.begin(0, [*study, "--share", str(share)], log=log, ASDBENCH_CACHE=str(cache))
    assert driver.wait(MOST_SECONDS) == 0, log.read_text()
    assert counts(tmp_path)["tables"] == {"finished": 7}
    assert official(tmp_path) == undisturbed
    inside = subprocess.run(["ip", "netns", "pids", hosts.names[1]], capture_output=True, text=True, check=True)
    seen = Path("/proc") / inside.stdout.split()[0] / "root" / str(cache).lstrip("/")
    assert [path.name[:8] for path in (seen / "audio").iterdir()] == ["fetched-"]
    assert not list(cache.glob("audio/fetched-*"))
