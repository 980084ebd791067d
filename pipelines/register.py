"""Logs the run to MLflow and registers the package as a version under the alias `candidate`."""

from pathlib import Path

import own_sources  # noqa: F401

from pocketaffect import paths
from pocketaffect.config import Params
from pocketaffect.stage import run_stage


def main(params: Params) -> None:
    """out/ to mlruns/, and out/registered.json: which bytes are registered under which name."""
    from pocketaffect.files import write_json
    from pocketaffect.registry.store.publish import publish

    version = publish(Path(), params.register_, params)
    # Not the version's number: that depends on what the store held before, and this file must not.
    write_json(paths.REGISTERED, {"model_name": version.model_name, "package_sha256": version.digest})


if __name__ == "__main__":
    run_stage("register", main)
