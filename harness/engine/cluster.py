"""Where trials run: Ray on this machine or a cluster, what its nodes have, and whether they can reach the data."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.engine.own_ray import connect, own_ray
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.studies.study_file import ResourcesTable

KNOCK_SECONDS = 10  # a head node that takes longer to accept a connection counts as absent; Ray would wait for minutes
ANSWER_SECONDS = 60  # a node that takes longer to answer counts as unable to run trials
PLACELESS = {"auto", "local"}  # Ray's words for a cluster of this machine
SIGNS_OF_MEMORY = ("low on memory", "out of memory", "outofmemory", "memory pressure")
SIGNS_OF_A_NODE = ("node was terminated", "node has died", "node died", "owner's node has crashed")

Node = Mapping[str, float]


@contextmanager
def ray_cluster(address: str | None) -> Iterator[list[Node]]:
    """Start Ray on this machine or join a cluster, and yield each node's resources; disconnect or stop Ray at the end.

    Args:
        address: of the cluster to join; None starts Ray on this machine. If this process is connected to Ray already,
            that connection is used, and stays open afterwards.

    Raises:
        HarnessError: Ray does not start, or the cluster does not answer.
    """
    if ray.is_initialized():
        where: AbstractContextManager[None] = nullcontext()
    else:
        where = own_ray() if address is None else _joined(address)
    with where:
        yield [_resources(node) for node in _nodes()]


def gpu_share(asked: float | str, nodes: Sequence[Node]) -> float:
    """Return the number of GPUs of one trial: as the study says; for "auto" 1 if some node has a GPU, else 0."""
    if asked != "auto":
        return float(asked)
    return 1.0 if any(node.get("GPU", 0) >= 1 for node in nodes) else 0.0


def find_room(nodes: Sequence[Node], *, cpus: float, gpus: float) -> int:
    """Return how many trials the nodes hold at once; a trial runs on one node, and a share of a GPU is of one GPU.

    Raises:
        HarnessError: none of them can hold a single one, or Ray cannot give so many GPUs.
    """
    if gpus > 1 and gpus != int(gpus):
        raise HarnessError(
            f"resources.gpus of a study must be a share of one GPU or a whole number of them, but got {gpus:g}."
        )
    wanted = {name: amount for name, amount in (("CPU", cpus), ("GPU", gpus)) if amount > 0}
    room = sum(min(_fit(name, node.get(name, 0.0), amount) for name, amount in wanted.items()) for node in nodes)
    if room:
        return room
    asks = " and ".join(f"{amount:g} {name}" for name, amount in wanted.items())
    there = "; ".join(f"CPU {node.get('CPU', 0):g}, GPU {node.get('GPU', 0):g}" for node in nodes) or "none"
    raise HarnessError(
        f"A trial asks for {asks}, but no node of the cluster has that (nodes: {there}); "
        "lower resources.cpus or resources.gpus in the study."
    )


def _fit(name: str, there: float, amount: float) -> int:
    """Count how often an amount of a resource fits into what a node has."""
    if name == "GPU" and amount < 1:
        return int(there) * int(1 / amount + 1e-9)  # two GPUs hold two shares of 0.6, not three
    return int(there / amount + 1e-9)


def trials_at_once(asked: ResourcesTable, workers: int | None, *, room: int) -> int:
    """Return how many trials run at once: as many as asked for, but at most `room`."""
    return max(1, min(workers or asked.workers or room, room))


def check_places(folders: Sequence[Path]) -> None:
    """Check that every node can see the folders that a trial reads. Trials on a node that cannot would all fail.

    Raises:
        HarnessError: a node does not see a folder, or cannot run asdbench.
    """
    nodes = _nodes()
    if len(nodes) < 2:
        return
    look = ray.remote(num_cpus=0, max_retries=0)(missing_folders)
    asked = {
        str(node["NodeManagerHostname"]): look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote([str(folder) for folder in folders])
        for node in nodes
    }
    for host, answer in asked.items():
        try:
            missing = ray.get(answer, timeout=ANSWER_SECONDS)
        except ray.exceptions.RayError as error:
            raise HarnessError(
                f"Every node must be able to run asdbench, but {host} answered: {last_line(str(error))}; "
                "install the same asdbench there, or take the node out of the cluster."
            ) from error
        if missing:
            raise HarnessError(
                f"Every node must have the folder {missing[0]}, with the prepared recordings, but {host} has not; "
                "let ASDBENCH_CACHE name a folder that all nodes share, or name a share with --share, from which each "
                "fetches it."
            )


def missing_folders(folders: Sequence[str]) -> list[str]:
    """Return the folders that are not on this machine."""
    return [folder for folder in folders if not Path(folder).is_dir()]


def reason_of_death(error: str) -> str:
    """Say why a worker died, in words, from what Ray says.

    Args:
        error: Ray's error as text; "" if there is none.
    """
    low = error.lower()
    if any(sign in low for sign in SIGNS_OF_MEMORY):
        return (
            "Ray ended its worker because the memory of the machine ran low; "
            "take fewer workers, or a smaller recipe.micro_batch"
        )
    if any(sign in low for sign in SIGNS_OF_A_NODE):
        return "the node that it ran on went away"
    return "its worker process died; the system may have run out of memory"


def last_line(text: str) -> str:
    """Return the last line of a text that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"


@contextmanager
def _joined(address: str) -> Iterator[None]:
    remedy = "start it with `ray start --head`, or leave --address out"
    try:
        if address not in PLACELESS:
            _knock(address)  # so somebody listens there
            remedy = "a cluster takes only drivers with its own RAY_AUTH_MODE, RAY_AUTH_TOKEN and version of Ray"
        connect(address=address)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise HarnessError(
            f"A Ray cluster must answer at {address}, but it did not: {last_line(str(error)).rstrip('.')}; {remedy}."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Check that something accepts connections at HOST:PORT or ray://HOST:PORT.

    Raises:
        OSError: nobody does.
        ValueError: it is no such address.
    """
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.hostname is None or place.port is None:
        raise ValueError("an address is HOST:PORT, ray://HOST:PORT or auto")
    socket.create_connection((place.hostname, place.port), timeout=KNOCK_SECONDS).close()


def _nodes() -> list[Any]:
    return [node for node in ray.nodes() if node["Alive"]]


def _resources(node: Any) -> Node:
    return {name: float(value) for name, value in node["Resources"].items()}
