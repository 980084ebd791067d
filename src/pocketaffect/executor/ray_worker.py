"""One process on a node of a Ray cluster, and the actor that starts, minds and ends it there."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from pocketaffect.errors import PocketAffectError
from pocketaffect.executor.local import LocalWorker
from pocketaffect.telemetry import disable_telemetry

NODE_ADDRESS: Final = "POCKETAFFECT_NODE_ADDRESS"
"""Set in each worker: this node's address, as other nodes reach it."""


@dataclass(frozen=True)
class Place:
    """Where the work was started from, for a process on another node."""

    folder: Path
    environment: dict[str, str]

    def enter(self) -> None:
        """Goes there.

        Raises:
            PocketAffectError: This node has no such folder.
        """
        import ray

        os.environ.update(self.environment)
        os.environ[NODE_ADDRESS] = ray.util.get_node_ip_address()
        disable_telemetry()
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise PocketAffectError(f"{self.folder}: not on this node", found=error) from None


class RayWorker:
    """One process on some node, and the actor that minds it there."""

    def __init__(self, cluster: Any, place: Place, function: Callable[[], None], *, gpu: bool) -> None:
        self._ray = cluster
        options = {"num_cpus": 1, "num_gpus": int(gpu), "max_concurrency": 2, "scheduling_strategy": "SPREAD"}
        self._minder = cluster.remote(_Minder).options(**options).remote(place)
        self._end = self._minder.run.remote(pickle.dumps(function))
        self._failure: str | None = None
        self._ended = False
        self.name = f"Ray actor {self._minder._ray_actor_id.hex()[:12]}"

    def wait(self, seconds: float) -> bool:
        """Tells whether the call has ended, or its node is gone."""
        if not self._ended and self._ray.wait([self._end], timeout=seconds)[0]:
            self._failure = self._ask()
            self._ended = True
            self.kill()  # the actor would hold a CPU as long as this object lives
        return self._ended

    def failure(self) -> str | None:
        """Says the call's error, or that the node was lost."""
        return self._failure

    def stop(self) -> None:
        """Asks the worker to end the call: it sends SIGTERM."""
        if not self._ended:
            self._minder.stop.remote()

    def kill(self) -> None:
        """Kills the call, also a worker that still waits for a free CPU."""
        self._ray.kill(self._minder)

    def _ask(self) -> str | None:
        from ray.exceptions import RayActorError, RayError

        try:
            return self._ray.get(self._end)  # type: ignore[no-any-return]
        except RayActorError:
            return "killed, or its node was lost"
        except RayError as error:
            return " ".join(str(error).split())[-400:]


class _Minder:
    """Runs on the node."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._worker: LocalWorker | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def run(self, function: bytes) -> str | None:
        """Calls the function in a fresh process, which ends with this one; what was wrong."""
        self._place.enter()
        with self._lock:
            if self._stopped:
                return "stopped before it began"
            self._worker = LocalWorker(partial(_call_pickled, function))
        while not self._worker.wait(1):
            pass
        return self._worker.failure()

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._worker is not None:
                self._worker.stop()


def _call_pickled(function: bytes) -> None:
    pickle.loads(function)()  # noqa: S301 - from the executor itself
