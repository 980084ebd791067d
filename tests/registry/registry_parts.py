"""A package to register, and processes that register at the same time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path


def make_package(path: Path, content: bytes) -> Path:
    weights = path / "Data" / "com.apple.CoreML" / "weights"
    weights.mkdir(parents=True)
    (path / "Manifest.json").write_text("{}")
    (weights / "weight.bin").write_bytes(content)
    return path


def in_processes(count: int, work: Callable[[int], None]) -> list[int]:
    """Exit codes of `count` processes that ran work(0), work(1), ... at the same time.

    Forked, so that each need not import MLflow for seconds first.
    """
    context = multiprocessing.get_context("fork")
    start = context.Barrier(count)

    def run(number: int) -> None:
        try:
            start.wait(60)
            work(number)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    processes = [context.Process(target=run, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode if process.exitcode is not None else -signal.SIGKILL for process in processes]
