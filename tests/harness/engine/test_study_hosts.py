"""Two hosts, each a network of its own with a Ray node, joined as the page "More than one machine" says."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.harness.engine.test_study_faults import MOST_SECONDS, wait_for
from tests.harness.toy_study import STUDY, counts, official
from tests.servers import free_port

pytestmark = pytest.mark.slow

RAY = str(Path(sys.executable).with_name("ray"))
FIRST, SECOND = "10.211.0.1", "10.211.0.2"


class Hosts:
    """Two network namespaces with a cable between them, and what runs in each.

    Args:
        folder: for Ray's own files; its sockets want a short path.
    """

    def __init__(self, folder: Path) -> None:
        self.names = [f"asd{os.getpid()}{side}" for side in "ab"]
        self.address = f"{FIRST}:{free_port()}"
        self.environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        for name in ("MLFLOW_TRACKING_URI", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
            self.environment.pop(name, None)
        self.folder = folder

    def lay(self) -> None:
        """Make the namespaces and the cable."""
        first, second = self.names
        for name in self.names:
            network("netns", "add", name)
            network("-n", name, "link", "set", "lo", "up")
        network("link", "add", "cable", "netns", first, "type", "veth", "peer", "name", "cable", "netns", second)
        for name, address in zip(self.names, (FIRST, SECOND), strict=True):
            network("-n", name, "addr", "add", f"{address}/24", "dev", "cable")
            network("-n", name, "link", "set", "cable", "up")

    def begin(self, host: int, command: Sequence[str], *, log: Path, **environment: str) -> subprocess.Popen[bytes]:
        """Start a program on a host."""
        with log.open("ab") as file:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.names[host], *command], cwd=log.parent, stdout=file, stderr=file,
                env=self.environment | environment, start_new_session=True,
            )  # fmt: skip

    def start_ray(self) -> None:
        """Start a head on the first host and a node on the second, each with one core."""
        common = ["--num-cpus=1", "--disable-usage-stats"]
        head = ["--head", f"--port={self.address.partition(':')[2]}", "--include-dashboard=false",
                f"--temp-dir={self.folder}"]  # fmt: skip
        for host, (address, options) in enumerate([(FIRST, head), (SECOND, [f"--address={self.address}"])]):
            log = self.folder / f"host{host}.txt"
            command = [RAY, "start", f"--node-ip-address={address}", *common, *options]
            assert self.begin(host, command, log=log).wait(90) == 0, log.read_text()

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
    """Two hosts with a Ray node each."""
    with tempfile.TemporaryDirectory(prefix="asd", ignore_cleanup_errors=True) as folder:
        made = Hosts(Path(folder))
        try:
            made.lay()
            made.start_ray()
            yield made
        finally:
            made.clear()


def test_a_host_that_loses_power(hosts: Hosts, root: Path, undisturbed: dict[str, float], tmp_path: Path) -> None:
    """A study on two hosts, one of which dies in the middle, ends whole with the numbers of one on a single machine.

    A driver without the cluster's token is refused in one sentence.
    """
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
