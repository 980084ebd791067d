"""Runs one pipeline stage: settings in, a message without a traceback out when the user can fix the problem."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pocketaffect.checkout import find_home
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import explain_failed_write, read_yaml
from pocketaffect.paths import PIPELINE_FILE
from pocketaffect.telemetry import disable_telemetry

if TYPE_CHECKING:
    from pocketaffect.config import Params


def require_networks(params: Params, pipeline: Path = PIPELINE_FILE, *, searched: bool = False) -> None:
    """Refuses a network that a stage's trainings would read and that DVC does not know, as `require_dependency` does.

    Those that `sweep.space` names count too where they are `searched`.
    """
    from pocketaffect.config import list_networks

    for key, path in list_networks(params, searched=searched):
        require_dependency(path, key, pipeline)


def require_dependency(path: str | None, key: str, pipeline: Path = PIPELINE_FILE) -> None:
    """Refuses a file or folder that decides a stage's result and that DVC does not know: a change would go unseen.

    Outside of a stage that DVC runs, everything is accepted.

    Raises:
        PocketAffectError: It is not among the stage's `deps`, nor below one of them.
    """
    address = os.environ.get("DVC_STAGE")
    if path is None or address is None:
        return
    stage = address.rpartition(":")[2]  # before it, the file as seen from where `dvc` was called
    wanted = Path(os.path.normpath(path))
    dependencies = read_yaml(pipeline)["stages"][stage].get("deps", [])
    if not any(wanted.is_relative_to(os.path.normpath(dependency)) for dependency in dependencies):
        raise PocketAffectError(
            f"params.yaml: {key}: {path} is no dependency of the stage {stage}: DVC would not see it change",
            todo=f"add `- {wanted}` to the deps of {stage} in {pipeline}, and have DVC keep it: `dvc add {wanted}`",
        )


def run_stage(name: str, main: Callable[[Params], None]) -> None:
    """Calls `main` with the settings of params.yaml.

    DVC removes a stage's outputs before it runs the stage. When the stage fails, the last good ones are brought
    back from DVC's cache, so that a bad input costs nothing.

    Raises:
        SystemExit: 1 on a problem, 2 on bad settings, 130 on Ctrl-C, each after a message.
        Exception: A mistake in this program comes through as it is, with its traceback.
    """
    from pocketaffect.config import load_params

    disable_telemetry()
    logging.basicConfig(level=logging.INFO, format=f"{name}: %(message)s", stream=sys.stderr)
    for noisy in ("pytorch_lightning", "great_expectations", "coremltools", "mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        params = load_params()
    except PocketAffectError as error:
        _fail(name, f"error in stage {name}: {error}", code=2)
    try:
        _refuse_unaddressable_store()
        before = _read_inputs(name)
        main(params)
        _refuse_edits(before, _read_inputs(name))
    except PocketAffectError as error:
        _fail(name, f"error in stage {name}: {error}", code=1)
    except KeyboardInterrupt:
        again = "`dvc repro`" if "DVC_STAGE" in os.environ else "the same command"  # torchrun's, or SLURM's
        _fail(name, f"stage {name} was interrupted\n  {'do:':<9}{again} goes on", code=130)
    except Exception as error:
        refused = explain_failed_write(error, Path(getattr(error, "filename", None) or "."))
        if refused is None:
            _bring_back_outputs(name)
            raise
        _fail(name, f"error in stage {name}: {refused}", code=1)


def _refuse_unaddressable_store() -> None:
    """Stops the first stage where the last one could not register: after the training."""
    from pocketaffect.registry.store.database import find_address_problem

    if not os.environ.get("MLFLOW_TRACKING_URI", "").strip() and (problem := find_address_problem(find_home(Path()))):
        raise problem


def _read_inputs(name: str) -> dict[str, object]:
    """Reads what DVC will record of code and settings: a digest, and values; nothing outside of DVC."""
    from pocketaffect.provenance.code import hash_code

    if os.environ.get("DVC_STAGE") != name:
        return {}
    settings, script = read_yaml(Path("params.yaml")), Path(sys.argv[0])
    declared = [key for key in read_yaml(PIPELINE_FILE)["stages"][name].get("params", ()) if isinstance(key, str)]
    return {str(script): hash_code(script)} | {key: _pick(settings, key) for key in declared}


def _pick(settings: object, key: str) -> object:
    for part in key.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    return settings


def _refuse_edits(before: Mapping[str, object], after: Mapping[str, object]) -> None:
    """Keeps DVC from recording what was edited meanwhile as what the result was made of."""
    edited = [key for key, value in before.items() if after.get(key) != value]
    if edited:
        raise PocketAffectError(
            "code or settings were edited while the stage ran: nobody could say what its result was made of",
            found=f"another {', '.join(edited)} than at its start",
            todo="`dvc repro` again; to go on editing meanwhile, run `dvc exp run --temp` (docs/experiments.md)",
        )


def _fail(name: str, message: str, *, code: int) -> NoReturn:
    print(f"\n{message}", file=sys.stderr, flush=True)
    _bring_back_outputs(name)
    raise SystemExit(code)


def _bring_back_outputs(name: str) -> None:
    """Checks the stage's outputs out of DVC's cache, as dvc.lock names them; nothing where DVC did not start it.

    DVC gives its lock free while a stage's command runs, so that the command may call it.
    """
    if os.environ.get("DVC_STAGE") != name:
        return
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "checkout", "--quiet", "--force", name], capture_output=True, check=False
    )
    if done.returncode == 0:
        print("  kept:    the last good outputs of this stage are back in place", file=sys.stderr, flush=True)
