"""Processes of this machine: jobs in order, a few at a time, and workers; all with a clean end."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Final

from pocketaffect.errors import PocketAffectError

if TYPE_CHECKING:
    from pocketaffect.executor.interface import Accelerator, Job, Result

VISIBLE_GPUS: Final = "CUDA_VISIBLE_DEVICES"
ERROR_EXIT: Final = 1
INTERRUPTED_EXIT: Final = 130
ERROR_LETTERS: Final = 10_000
"""Letters of an error's text: what a pipe takes that nobody reads before the process has ended."""

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


class LocalWorker:
    """One spawned process."""

    def __init__(self, function: Callable[[], None], environment: Mapping[str, str] | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._errors, ours = context.Pipe(duplex=False)
        self._error: str | None = None
        self._process = context.Process(target=_call, args=(function, ours, dict(environment or {})))
        with blocked_interrupts():  # a worker leaves Ctrl-C to `stop`
            self._process.start()
        ours.close()
        self.name = f"process {self._process.pid}"

    def wait(self, seconds: float) -> bool:
        """Tells whether the process has ended."""
        self._process.join(seconds)
        return self._process.exitcode is not None

    def failure(self) -> str | None:
        """Says which signal or error ended it."""
        code = self._process.exitcode
        if not code:
            return None
        if code < 0 or code == INTERRUPTED_EXIT:
            return f"killed by signal {-code if code < 0 else signal.SIGTERM}"
        if self._error is None:
            try:
                self._error = str(self._errors.recv()) if self._errors.poll() else f"exit code {code}"
            except EOFError:
                self._error = f"exit code {code}"
        return self._error

    def stop(self) -> None:
        """Sends SIGTERM."""
        if self._process.is_alive():
            self._process.terminate()

    def kill(self) -> None:
        """Sends SIGKILL."""
        if self._process.is_alive():
            self._process.kill()


class LocalExecutor:
    """The default."""

    map_in_order = staticmethod(map_in_order)

    def __init__(self) -> None:
        self._workers: list[tuple[str, LocalWorker]] = []

    def start(self, function: Callable[[], None], *, accelerator: Accelerator = "cpu") -> LocalWorker:
        """Starts a spawned process; of several GPUs it sees the one that fewest others see."""
        gpus = [] if accelerator == "cpu" else list_gpus()
        if not gpus:
            return LocalWorker(function)
        self._workers = [(gpu, worker) for gpu, worker in self._workers if not worker.wait(0)]
        gpu = min(gpus, key=[gpu for gpu, _ in self._workers].count)
        worker = LocalWorker(function, {VISIBLE_GPUS: gpu})
        self._workers.append((gpu, worker))
        return worker

    def require_shared_folder(self, purpose: str) -> None:
        """Does nothing: one machine shares its folders with itself."""


def list_gpus() -> list[str]:
    """Lists the NVIDIA GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    if VISIBLE_GPUS in os.environ:
        return [name for name in os.environ[VISIBLE_GPUS].split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]  # does not begin to use any


def _call(
    function: Callable[[], None], errors: multiprocessing.connection.Connection, environment: dict[str, str]
) -> None:
    """Runs the call: SIGTERM is KeyboardInterrupt, an error's text goes home, and nobody outlives the parent."""
    signal.signal(signal.SIGTERM, _interrupt)
    os.environ |= environment
    leave_with_parent()
    try:
        function()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED_EXIT) from None
    except Exception as error:
        if not isinstance(error, PocketAffectError):
            traceback.print_exc()
        errors.send((str(error) or type(error).__name__)[:ERROR_LETTERS])
        raise SystemExit(ERROR_EXIT) from error


def _interrupt(number: int, frame: object) -> None:  # noqa: ARG001 - a handler's signature
    raise KeyboardInterrupt
