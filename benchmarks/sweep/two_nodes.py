"""A Ray cluster of two nodes on this machine, for the benchmark and the tests."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

from pocketaffect.telemetry import disable_telemetry

STORE_BYTES = 80 * 2**20
ATTEMPTS = 4
PAUSE_SECONDS = 10


@contextlib.contextmanager
def run_two_nodes() -> Iterator[Any]:
    """Yields a `ray.cluster_utils.Cluster` with a CPU on each of two nodes, and sets RAY_ADDRESS to it."""
    disable_telemetry()
    os.environ["RAY_raylet_start_wait_time_s"] = "120"  # noqa: SIM112 - so Ray spells it
    import ray
    from ray.cluster_utils import Cluster

    before = os.environ.get("RAY_ADDRESS")
    os.environ.pop("RAY_ADDRESS", None)
    cluster = Cluster()
    try:
        for _ in ("head", "second"):
            add_node(cluster)
        os.environ["RAY_ADDRESS"] = cluster.address
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        os.environ.pop("RAY_ADDRESS", None)
        if before is not None:
            os.environ["RAY_ADDRESS"] = before


def add_node(cluster: Any) -> None:
    """Adds a node. Ray ends one whose helpers take over 15 s to start, as on a busy machine: then once more."""
    for attempt in range(ATTEMPTS):
        try:
            cluster.add_node(**node_settings(), include_dashboard=False)
        except Exception:  # a plain one
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(PAUSE_SECONDS)
        else:
            return


def node_settings() -> dict[str, Any]:
    """One CPU, and ports named beforehand: Ray ends a node whose helpers take over 15 s to find their own."""
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("", 0))) for _ in names]
        ports = {name: one.getsockname()[1] for name, one in zip(names, sockets, strict=True)}
    return {"num_cpus": 1, "object_store_memory": STORE_BYTES, **ports}
