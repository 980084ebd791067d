"""Kill -9 at random moments of register and promote: the store is sound after each, and the same command finishes.

    python benchmarks/registry/kill.py [--kills 50] [--seed 1]

Half of the kills fall into a registration, half into a promotion, at a moment drawn evenly over its length. Exits
with 1 where anything does not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mlflow.pyfunc
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
from parts import NAME, find_faults, make_params, make_version, register

from pocketaffect.registry.promotion.log import look
from pocketaffect.registry.promotion.promote import promote
from pocketaffect.registry.store.store import open_store


def main() -> None:
    """Runs it and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    draw, params, faults, interrupted, ahead = random.Random(chosen.seed), make_params(), [], 0, 0
    with tempfile.TemporaryDirectory(prefix="pocketaffect-benchmark-") as folder:
        root = Path(folder)
        store = open_store(root)
        register(store, make_version(root / "made", 0))
        promote(store, params)
        lengths = {True: 0.3, False: 0.3}
        for kill in range(chosen.kills):
            promoting = bool(kill % 2)
            place = make_version(root / "made", kill + 1)
            if promoting:
                register(store, place)

            def command(promoting: bool = promoting, place: Path = place) -> None:
                promote(store, params) if promoting else register(store, place)

            interrupted += kill_after(draw.uniform(0, lengths[promoting]), command)
            log, _, remark = look(store, NAME)
            ahead += bool(log.entries and not log.entries[-1].applied)
            if remark:
                faults.append(f"kill {kill}: {remark}")
            started = time.perf_counter()
            command()
            lengths[promoting] = 0.5 * (lengths[promoting] + time.perf_counter() - started)
            if not promoting:
                promote(store, params)
            faults += [f"kill {kill}: {fault}" for fault in find_faults(store, root / "made", kill + 2)]
    print(
        f"{chosen.kills} kills, {interrupted} of them before the command's end, {ahead} between log and alias; "
        f"{len(faults)} faults"
    )
    print("\n".join(faults) or "sound after each, and the repeated command finished each")
    sys.exit(1 if faults else 0)


def kill_after(seconds: float, command: Callable[[], None]) -> bool:
    """Whether the kill came before the command's end."""
    process = os.fork()
    if process == 0:
        try:
            command()
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


if __name__ == "__main__":
    main()
