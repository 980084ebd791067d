"""One function over many jobs in worker processes: results in the jobs' order, few jobs at a time, a clean end."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Final, TypeVar

from pocketaffect.errors import PocketAffectError

Job = TypeVar("Job")
Result = TypeVar("Result")

IN_FLIGHT_PER_WORKER: Final = 2
"""Jobs handed out and not yet taken back: one being worked on, one waiting. Bounds memory whatever the data size."""


def map_in_order(
    function: Callable[[Job], Result], jobs: Iterable[Job], *, workers: int
) -> Generator[Result, None, None]:
    """Calls `function` on each job and yields the results in the jobs' order, whatever the number of workers.

    `jobs` is read as far as results are taken, and no further than `IN_FLIGHT_PER_WORKER` jobs a worker ahead. With
    one worker everything happens in this process. When the iteration ends early (an error, Ctrl-C, `close()`), the
    workers are ended at once and with them the jobs they are at: a job must write its files atomically. Use
    `contextlib.closing` where an error of the caller's own may end the loop.

    Args:
        function: Found by name in an importable module (or a `functools.partial` of such), since workers are spawned.
        jobs: The arguments to call it with; each is pickled.
        workers: Processes, each with one thread.

    Raises:
        PocketAffectError: A worker was killed, mostly for lack of memory. What `function` raises comes through.
    """
    if workers == 1:
        yield from map(function, jobs)
        return
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _settle_worker)
    pending: deque[Future[Result]] = deque()
    finished = False
    try:
        for job in jobs:
            with blocked_interrupts():  # submitting starts the processes
                pending.append(pool.submit(function, job))
            if len(pending) == IN_FLIGHT_PER_WORKER * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
        finished = True
    except BrokenProcessPool:
        raise PocketAffectError(
            f"one of {workers} worker processes was killed",
            found="no error of its own: mostly the system ends a process so when memory runs out (`dmesg` tells)",
            todo="lower preprocess.workers in params.yaml, or give the machine or container more memory",
        ) from None
    finally:
        if not finished:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def blocked_interrupts() -> Iterator[None]:
    """Starts the processes inside deaf to Ctrl-C.

    A terminal's reaches every process, and they inherit the mask: each would print a traceback. This process gets its
    own when the mask is lifted, and then ends them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _settle_worker() -> None:
    import cv2

    cv2.setNumThreads(1)  # there is a worker for each core
    leave_with_parent()


def leave_with_parent() -> None:
    """Ends this process with its parent: a killed one cannot, and the queue that it waits on stays open for ever."""

    def leave() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=leave, daemon=True).start()
