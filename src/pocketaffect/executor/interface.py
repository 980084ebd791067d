"""What an executor can do: jobs in order, and workers that run until they are done or stopped.

`find_executor` gives the one that params.yaml names. Two verbs carry everything that runs in parallel: `map_in_order`
(the shards of `preprocess`), and `start` (workers of a sweep, ranks of a distributed training). A function is found by
name in an importable module, or is a `functools.partial` of such; it and its arguments are pickled. Results must not
depend on which executor ran it.
"""

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Final, Literal, Protocol, TypeVar

from pocketaffect.errors import PocketAffectError

Accelerator = Literal["cpu", "gpu", "auto"]
Job = TypeVar("Job")
Result = TypeVar("Result")

LOOK_SECONDS: Final = 0.5
"""Time between two looks at workers."""

STOP_SECONDS: Final = 60


class Worker(Protocol):
    """One running call of a function, in a process of its own."""

    name: str
    """The process and its machine, for messages."""

    def wait(self, seconds: float) -> bool:
        """Tells whether the call has ended; waits up to `seconds` for it, 0 only looks."""

    def failure(self) -> str | None:
        """Says why the ended call did not end well: "killed by signal 9", an error's text; None where it did."""

    def stop(self) -> None:
        """Raises KeyboardInterrupt in the call, which ends cleanly; returns at once. Harmless when it has ended."""

    def kill(self) -> None:
        """Ends the process at once."""


class Executor(Protocol):
    """A place with processes."""

    def map_in_order(
        self, function: Callable[[Job], Result], jobs: Iterable[Job], *, workers: int
    ) -> Generator[Result, None, None]:
        """Calls `function` on each job and yields the results in the jobs' order.

        `workers` processes are at work at once, each with one thread. `jobs` is read little further than results are
        taken. Closing the generator ends what runs.

        Raises:
            PocketAffectError: A process was lost and its job cannot be repeated. The function's own errors come
                through.
        """

    def start(self, function: Callable[[], None], *, accelerator: Accelerator = "cpu") -> Worker:
        """Calls `function` in a new process and returns at once.

        The process is fresh (torch is not imported, so that `pin_arithmetic` may be called), has the environment of
        this one, and ends when this one ends.

        `accelerator` "gpu", or "auto" where the place has GPUs, gives it one: a cluster to itself, this machine the one
        that fewest of its workers have.

        Raises:
            PocketAffectError: The place has not as many processors.
        """

    def require_shared_folder(self, purpose: str) -> None:
        """Refuses work whose files would not be seen by all of its processes; `purpose` names it in the message.

        Raises:
            PocketAffectError: Some of the machines do not share the repository's folder.
        """


def end_workers(workers: Sequence[Worker]) -> None:
    """Stops what still runs; a second Ctrl-C, or too long a wait, kills it."""
    for worker in workers:
        worker.stop()
    deadline = time.monotonic() + STOP_SECONDS
    try:
        for worker in workers:
            worker.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for worker in workers:
            worker.kill()


def find_executor(name: str) -> Executor:
    """Finds the executor that params.yaml names.

    Raises:
        PocketAffectError: There is none, or what it needs is not there.
    """
    if name == "local":
        from pocketaffect.executor.local import LocalExecutor

        return LocalExecutor()
    if name == "ray":
        from pocketaffect.executor.ray_cluster import RayExecutor

        return RayExecutor()
    raise PocketAffectError("executor: unknown", found=name, allowed="local, ray")
