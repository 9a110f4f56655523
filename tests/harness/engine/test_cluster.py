"""Where trials run: a cluster that does not answer, one that is not meant."""

from __future__ import annotations

import socket
import time

import pytest

from harness.engine.cluster import ray_cluster
from harness.errors import HarnessError

ANSWER_SECONDS = 60  # a busy machine; Ray would try for longer


@pytest.fixture
def nobody() -> str:
    """HOST:PORT where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_head_that_does_not_answer(scheme: str, nobody: str) -> None:
    """An address where no head listens is refused in one sentence, in seconds."""
    began = time.monotonic()
    with (
        pytest.raises(HarnessError, match=rf"must answer at {scheme}{nobody}, but it did not: .*refused.*ray start"),
        ray_cluster(f"{scheme}{nobody}"),
    ):
        pass
    assert time.monotonic() - began < ANSWER_SECONDS


@pytest.mark.parametrize("address", ["somewhere", "somewhere:ray", "ray://", "127.0.0.1:99999"])
def test_what_is_no_address(address: str) -> None:
    """What is no HOST:PORT is refused for that."""
    reason = "an address is HOST:PORT|Port"
    with (
        pytest.raises(HarnessError, match=f"must answer at {address}, but it did not: ({reason})"),
        ray_cluster(address),
    ):
        pass


@pytest.mark.slow
def test_own_ray_beside_another_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an address Ray is started anew, even where another cluster runs and the environment names it."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 7, "include_dashboard": False})
    try:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        with ray_cluster(None) as nodes:
            assert [node["CPU"] for node in nodes] != [7]
            assert ray.get_runtime_context().gcs_address != cluster.address
    finally:
        cluster.shutdown()
