"""Processes that register and promote at once: no version lost or doubled, one champion, the log complete.

Each process registers a package of its own and promotes it, again and again; every second package is also registered
by its neighbour at the same time. A promotion that another one overtook is told so and counted, not repeated.

    python benchmarks/registry/concurrency.py [--processes 8] [--turns 25]

Exits with 1 where anything does not hold.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

import mlflow.pyfunc
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
from parts import NAME, find_faults, make_params, make_version, register

from pocketaffect.errors import PocketAffectError
from pocketaffect.registry.promotion.log import read_log
from pocketaffect.registry.promotion.promote import promote
from pocketaffect.registry.store.store import open_store


def main() -> None:
    """Runs it and prints one row of figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--turns", type=int, default=25)
    chosen = parser.parse_args()
    processes, turns = chosen.processes, chosen.turns
    params = make_params()
    with tempfile.TemporaryDirectory(prefix="pocketaffect-benchmark-") as folder:
        root = Path(folder)
        store = open_store(root)
        places = [make_version(root / "made", number) for number in range(processes * turns)]

        def work(number: int) -> None:
            won = told = 0
            for turn in range(turns):
                mine = number * turns + turn
                version = register(store, places[mine])
                if turn % 2:
                    register(store, places[(mine + turns) % len(places)])  # the neighbour's, perhaps at this moment
                try:
                    won += promote(store, params, version.version).outcome == "promoted"
                except PocketAffectError as error:
                    if "another promotion came first" not in str(error):
                        raise
                    told += 1
            (root / f"count{number}").write_text(f"{won} {told}")

        started = time.perf_counter()
        codes = run(processes, work)
        seconds = time.perf_counter() - started
        faults = [f"process {number} failed" for number, code in enumerate(codes) if code]
        if not faults:
            counts = [
                [int(text) for text in (root / f"count{number}").read_text().split()] for number in range(processes)
            ]
            won, told = (sum(column) for column in zip(*counts, strict=True))
            entries = len(read_log(store, NAME).entries)
            if entries != won:
                faults.append(f"{won} promotions took place, {entries} entries in the log")
            print(
                f"{processes} processes x {turns} turns in {seconds:.0f} s: {len(places)} versions, "
                f"{won} promotions, {told} told that another came first, {entries} log entries"
            )
        faults += find_faults(store, root / "made", len(places))
    print("\n".join(faults) or "every version there once, one champion, log complete and in chain")
    sys.exit(1 if faults else 0)


def run(count: int, work: object) -> list[int]:
    """Exit codes of forked processes that ran work(0), work(1), … at once."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(count)

    def guarded(number: int) -> None:
        try:
            start.wait(60)
            work(number)  # type: ignore[operator]
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    processes = [context.Process(target=guarded, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [int(process.exitcode or 0) for process in processes]


if __name__ == "__main__":
    main()
