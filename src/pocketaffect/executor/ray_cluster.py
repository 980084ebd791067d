"""A Ray cluster's processes, behind the same two verbs as this machine's.

Each node needs the same environment and finds the repository at the same path. Work that passes files from node to
node (shards, a journal, checkpoints) asks `require_shared_folder` first. A worker of `start` is a fresh process that an
actor on the node starts as the local executor does, so both forms begin, fail and stop alike; Ray only chooses where.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import signal
import socket
import threading
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pocketaffect.errors import PocketAffectError
from pocketaffect.executor.local import IN_FLIGHT_PER_WORKER, LocalWorker
from pocketaffect.paths import WORK
from pocketaffect.provenance.code import hash_code
from pocketaffect.telemetry import QUIET, TELEMETRY_OFF, disable_telemetry

if TYPE_CHECKING:
    from pocketaffect.executor.interface import Accelerator, Job, Result

NODE_ADDRESS: Final = "POCKETAFFECT_NODE_ADDRESS"
"""Environment variable of each worker: its node's address, as other nodes reach it."""

ADDRESS: Final = "RAY_ADDRESS"
DEFAULT_ADDRESS: Final = "127.0.0.1:6379"
"""Address that `ray start --head` listens at."""

CONNECT_SECONDS: Final = 5
GREETING_SECONDS: Final = 120
"""A node's first process may come from a slow file system."""

JOB_RETRIES: Final = 3
"""Number of times that a job may lose its node."""

PASSED_ON: Final = ("MLFLOW_", "POCKETAFFECT_", "GLOO_", "NCCL_")
"""Environment variables that workers get from here; the rest is the node's own."""


@dataclass(frozen=True)
class Greeting:
    """What a node answers before it is given work."""

    name: str
    problem: str | None
    sources: str = ""
    sees_token: bool = False


class RayExecutor:
    """The cluster that RAY_ADDRESS names.

    Raises:
        PocketAffectError: Ray is not installed, no cluster answers, or a node has not what the work needs.
    """

    def __init__(self) -> None:
        self._ray = _connect()
        environment = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        environment |= {name: os.environ[name] for name in TELEMETRY_OFF | QUIET if name in os.environ}
        self._place = Place(Path.cwd(), environment)
        self._workers: list[RayWorker] = []
        self._apart = self._greet_nodes()

    def require_shared_folder(self, purpose: str) -> None:
        """Refuses a cluster whose nodes do not all see this repository's files.

        Raises:
            PocketAffectError: Names the nodes that do not.
        """
        if self._apart:
            raise PocketAffectError(
                f"executor: ray: {purpose} needs the repository on a file system that all nodes share",
                found=f"{', '.join(self._apart)}: {self._place.folder} is there, but is another folder",
                todo="put the repository on a shared file system, or set executor: local in params.yaml",
            )

    def map_in_order(
        self, function: Callable[[Job], Result], jobs: Iterable[Job], *, workers: int
    ) -> Generator[Result, None, None]:
        """Calls `function` on each job; a job whose node was lost is repeated on another."""
        call = self._ray.remote(_call_job).options(num_cpus=1, max_retries=JOB_RETRIES, scheduling_strategy="SPREAD")
        pending: deque[Any] = deque()
        try:
            for job in jobs:
                pending.append(call.remote(self._place, function, job))
                if len(pending) == IN_FLIGHT_PER_WORKER * workers:
                    yield self._take(pending)
            while pending:
                yield self._take(pending)
        finally:
            for left in pending:
                self._ray.cancel(left, force=True)

    def start(self, function: Callable[[], None], *, accelerator: Accelerator = "cpu") -> RayWorker:
        """Starts a worker on a node with a free CPU.

        Raises:
            PocketAffectError: The cluster has fewer CPUs (or GPUs) than workers at once: one would wait for ever.
        """
        self._workers = [worker for worker in self._workers if not worker.wait(0)]
        resources = self._ray.cluster_resources()
        gpu = accelerator == "gpu" or (accelerator == "auto" and resources.get("GPU", 0) > 0)
        kind = "GPU" if gpu else "CPU"
        have = int(resources.get(kind, 0))
        if len(self._workers) >= have:
            raise PocketAffectError(
                f"executor: ray: more workers at once than the cluster has {kind}s",
                found=f"{len(self._workers) + 1} workers, {have} {kind}s on {len(self._alive())} nodes",
                todo=f"ask for at most {have} workers in params.yaml, or add nodes to the cluster",
            )
        worker = RayWorker(self._ray, self._place, function, gpu=gpu)
        self._workers.append(worker)
        return worker

    def _take(self, pending: deque[Any]) -> Any:
        from ray.exceptions import RayError

        try:
            failed, answer = self._ray.get(pending[0])
        except RayError as error:
            raise PocketAffectError(
                "executor: ray: a job was lost",
                found=" ".join(str(error).split())[:400],
                todo="look at the node's memory and at its logs below /tmp/ray, and repeat: finished work is kept",
            ) from None
        pending.popleft()
        if failed:
            raise answer
        return answer

    def _alive(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _greet_nodes(self) -> list[str]:
        """Lists the names of the nodes that have a folder of their own here.

        Raises:
            PocketAffectError: A node has no such folder or environment, other code, or does not answer.
        """
        from ray.exceptions import RayError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        token = self._place.folder / WORK / f"ray-{uuid.uuid4().hex}"
        token.parent.mkdir(exist_ok=True)
        token.touch()
        try:
            greetings = [
                self._ray.remote(_greet)
                .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
                .remote(self._place, token)
                for node in self._alive()
            ]
            answers: list[Greeting] = self._ray.get(greetings, timeout=GREETING_SECONDS)
        except (RayError, ImportError) as error:
            raise PocketAffectError(
                "executor: ray: a node cannot run pocketaffect",
                found=" ".join(str(error).split())[-400:],
                todo="install the same environment on every node, and start Ray from it (docs/scaling.md)",
            ) from None
        finally:
            token.unlink()
        for answer in answers:
            problem = answer.problem
            if problem is None and answer.sources != hash_code():
                problem = "another version of pocketaffect's code"
            if problem is not None:
                raise PocketAffectError(
                    f"executor: ray: node {answer.name} cannot take part",
                    found=problem,
                    todo="put the repository, at this commit, at the same path on every node",
                )
        return [answer.name for answer in answers if not answer.sees_token]


def _connect() -> Any:
    """Connects, and returns the module `ray`.

    A TCP connection is tried first: where nothing answers, Ray itself waits for minutes and may then end the process.
    """
    disable_telemetry()
    if importlib.util.find_spec("ray") is None:
        raise PocketAffectError(
            "executor: ray: Ray is not installed", todo='pip install "pocketaffect[ray]", or set executor: local'
        )
    address = os.environ.get(ADDRESS, "").strip() or DEFAULT_ADDRESS
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise PocketAffectError(f"{ADDRESS}: not a cluster's address", found=address, allowed="host:port of the head")
    todo = f"ray start --head on one machine, ray start --address HEAD:6379 on the others, {ADDRESS}=HEAD:6379 here"
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise PocketAffectError(f"executor: ray: no cluster answers at {address}", found=error, todo=todo) from None
    import ray

    if ray.is_initialized():
        return ray
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, logging_level="WARNING", namespace="pocketaffect")
    except Exception as error:  # of many types: versions, this machine not a node, a timeout
        raise PocketAffectError(
            f"executor: ray: the cluster at {address} cannot be used",
            found=" ".join(str(error).split())[:400],
            todo=f"{todo}; this machine must be one of its nodes, with the same Python and Ray",
        ) from None
    finally:
        with contextlib.suppress(ValueError):  # not in the main thread, where Ray sets none either
            signal.signal(signal.SIGTERM, before)
    return ray


def _greet(place: Place, token: Path) -> Greeting:
    import ray

    name = str(ray.util.get_node_ip_address())
    try:
        place.enter()
    except PocketAffectError as error:
        return Greeting(name, str(error))
    return Greeting(name, None, hash_code(), token.exists())


def _call_job(place: Place, function: Callable[[Any], Any], job: Any) -> tuple[bool, Any]:
    import cv2

    cv2.setNumThreads(1)  # there is a worker for each core
    place.enter()
    try:
        return False, function(job)
    except Exception as error:
        return True, error


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
