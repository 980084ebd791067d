"""A training where `train.executor` says: in this process, or in several of a cluster, as torchrun would start them.

Lightning and torch.distributed read everything from torchrun's environment variables, so a few of these are all that
a cluster's processes need; Ray's own library for training would bring a second trainer, checkpoints and data path.
"""

import os
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from pocketaffect import paths
from pocketaffect.arithmetic import pin_arithmetic
from pocketaffect.config import Params
from pocketaffect.errors import PocketAffectError
from pocketaffect.executor.interface import LOOK_SECONDS, Accelerator, Executor, Worker, end_workers, find_executor
from pocketaffect.executor.ray_cluster import NODE_ADDRESS
from pocketaffect.files import write_atomically

MEETING_SECONDS: Final = 300
"""A rank may wait as long for the first one to say where it is."""


def launch_training(params: Params, *, progress: bool) -> None:
    """Trains from out/shards to out/model.

    Raises:
        PocketAffectError: What `training.fit.train_network` and `run_ranks` refuse.
        RuntimeError: torch was imported before the arithmetic was settled.
    """
    train = params.train
    if train.executor == "local":
        train_here(params, progress=progress)
        return
    ranks = train.devices * train.nodes
    alone = params.model_copy(update={"train": train.model_copy(update={"devices": 1, "nodes": ranks})})
    run_ranks(
        find_executor(train.executor),
        partial(train_here, alone, progress=False),
        ranks=ranks,
        accelerator=train.accelerator,
        work=paths.RANKS,
    )


def train_here(params: Params, *, progress: bool) -> None:
    """Trains in this process, which may be one of several (torchrun's variables or SLURM's say so)."""
    pin_arithmetic(threads=params.train.threads, instructions=params.train.instructions)
    from pocketaffect.training.fit import train_network

    train_network(
        paths.SHARDS, params.model, params.train, work=paths.CHECKPOINTS, target=paths.MODEL, progress=progress
    )


def run_ranks(
    executor: Executor, function: Callable[[], None], *, ranks: int, accelerator: Accelerator, work: Path
) -> None:
    """Calls `function` once in each of `ranks` processes that can find each other, and waits for all.

    Function and accelerator are as in `Executor.start`. All processes see folder `work`; there the first says its
    address.

    Raises:
        PocketAffectError: Fewer processors than ranks, or a rank that ended badly: the others are ended then.
        KeyboardInterrupt: Ctrl-C; all have ended.
    """
    executor.require_shared_folder("a training of several processes")
    work.mkdir(parents=True, exist_ok=True)
    meeting = work / f"meeting-{uuid.uuid4().hex}"
    workers: list[Worker] = []
    try:
        calls = (partial(call_as_rank, function, rank, ranks, meeting.resolve()) for rank in range(ranks))
        workers.extend(
            executor.start(call, accelerator=accelerator) for call in calls
        )  # keeps those that started before one that fails
        _wait(workers)
    except KeyboardInterrupt:
        end_workers(workers)
        raise
    finally:
        for worker in workers:
            worker.kill()
        meeting.unlink(missing_ok=True)


def call_as_rank(function: Callable[[], None], rank: int, ranks: int, meeting: Path) -> None:
    """Becomes one rank and calls the function.

    Raises:
        PocketAffectError: The first rank does not come.
    """
    address, port = _open_meeting(meeting) if rank == 0 else _join_meeting(meeting)
    # One process a "node": a GPU that the cluster gave is the only one that this process sees.
    os.environ |= {
        "TORCHELASTIC_RUN_ID": meeting.name,
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
        "WORLD_SIZE": str(ranks),
        "RANK": str(rank),
        "GROUP_RANK": str(rank),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
    }
    function()


def _wait(workers: Sequence[Worker]) -> None:
    running = dict(enumerate(workers))
    while running:
        next(iter(running.values())).wait(LOOK_SECONDS)
        for rank in [rank for rank, worker in running.items() if worker.wait(0)]:
            failure = running.pop(rank).failure()
            if failure is not None:
                raise PocketAffectError(
                    f"train: process {rank} of {len(workers)} ended",
                    found=failure,
                    todo="see the lines above; the same command goes on from the last finished epoch",
                )


def _open_meeting(meeting: Path) -> tuple[str, str]:
    address = os.environ.get(NODE_ADDRESS, "127.0.0.1")
    with socket.create_server(("", 0)) as free:
        port = str(free.getsockname()[1])
    with write_atomically(meeting) as draft:
        draft.write_text(f"{address} {port}", encoding="utf-8")
    return address, port


def _join_meeting(meeting: Path) -> tuple[str, str]:
    deadline = time.monotonic() + MEETING_SECONDS
    while not meeting.is_file():
        if time.monotonic() > deadline:
            raise PocketAffectError(
                f"train: the first process did not come within {MEETING_SECONDS} s",
                todo="look for its error above, and for a node without a free processor",
            )
        time.sleep(0.1)
    address, port = meeting.read_text(encoding="utf-8").split()
    return address, port
