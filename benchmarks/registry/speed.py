"""Seconds of register, promote, load by alias and list, beside plain MLflow calls that keep the same files.

    python benchmarks/registry/speed.py [--turns 7]

Medians of one process with everything imported. "plain MLflow" logs the same files to a run, makes a version and sets
an alias: no digests, no list of contents, no lock, no check of what was written, no policy and no log.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mlflow.pyfunc
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
from parts import NAME, make_params, make_version, register

from pocketaffect.registry.promotion.log import survey
from pocketaffect.registry.promotion.promote import promote
from pocketaffect.registry.store.store import open_store
from pocketaffect.registry.store.versions import get_version, package_path


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    turns = parser.parse_args().turns
    params = make_params()
    with tempfile.TemporaryDirectory(prefix="pocketaffect-benchmark-") as folder:
        root = Path(folder)
        store = open_store(root)
        client = store.client()
        client.create_registered_model("plain")
        experiment = store.experiment_id("plain")

        def plain(place: Path) -> None:
            run = client.create_run(experiment)
            client.log_artifacts(run.info.run_id, str(place), "model")
            version = client.create_model_version("plain", f"{run.info.artifact_uri}/model", run.info.run_id)
            client.set_terminated(run.info.run_id)
            client.set_registered_model_alias("plain", "champion", str(version.version))

        places = iter([make_version(root / "made", number) for number in range(3 * turns + 3)])
        rows: dict[str, list[float]] = {}
        for turn in range(turns + 1):
            place, other = next(places), next(places)
            seconds = {
                "register": clock(lambda place=place: register(store, place)),
                "register the same bytes again": clock(lambda place=place: register(store, place)),
                "promote": clock(lambda: promote(store, params)),
                "plain MLflow: log, version, alias": clock(lambda other=other: plain(other)),
                "package by alias, bytes checked": clock(
                    lambda: package_path(store, get_version(store, NAME, "champion"))
                ),
                "list the registry": clock(lambda: survey(store, NAME)),
            }
            for name, value in seconds.items():
                if turn:  # the first fills caches
                    rows.setdefault(name, []).append(value)
        for name, values in rows.items():
            print(f"{name:<36}{statistics.median(values):.3f} s")


def clock(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
