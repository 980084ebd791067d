"""Runs one pipeline stage: settings in, a message without a traceback out when the user can mend the problem."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from pocketaffect.config import Params, load_params
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import read_yaml
from pocketaffect.telemetry import disable_telemetry


def require_dependency(path: str | None, key: str) -> None:
    """Refuses a file or folder that decides a stage's result and that DVC does not know: a change would go unseen.

    Outside of a stage that DVC runs, everything is accepted.

    Args:
        path: As params.yaml names it; None for none.
        key: Of params.yaml.

    Raises:
        PocketAffectError: It is not among the stage's `deps`, nor below one of them.
    """
    stage = os.environ.get("DVC_STAGE")
    if path is None or stage is None:
        return
    wanted = Path(os.path.normpath(path))
    dependencies = read_yaml(Path("dvc.yaml"))["stages"][stage].get("deps", [])
    if not any(wanted.is_relative_to(os.path.normpath(dependency)) for dependency in dependencies):
        raise PocketAffectError(
            f"params.yaml: {key}: {path} is no dependency of the stage {stage}: DVC would not see it change",
            todo=f"add `- {wanted}` to the deps of {stage} in dvc.yaml, and have DVC keep it: `dvc add {wanted}`",
        )


def run_stage(name: str, main: Callable[[Params], None]) -> None:
    """Calls `main` with the settings of params.yaml.

    DVC removes a stage's outputs before it runs the stage. When the stage fails, the last good ones are brought
    back from DVC's cache, so that a bad input costs nothing.

    Raises:
        SystemExit: 1 on a problem, 2 on bad settings, 130 on Ctrl-C, each after a message.
        Exception: A mistake in this program comes through as it is, with its traceback.
    """
    disable_telemetry()
    logging.basicConfig(level=logging.INFO, format=f"{name}: %(message)s", stream=sys.stderr)
    for noisy in ("pytorch_lightning", "great_expectations", "coremltools", "mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        params = load_params()
    except PocketAffectError as error:
        _fail(name, f"error in stage {name}: {error}", code=2)
    try:
        main(params)
    except PocketAffectError as error:
        _fail(name, f"error in stage {name}: {error}", code=1)
    except KeyboardInterrupt:
        _fail(name, f"stage {name} was interrupted\n  {'do:':<9}`dvc repro` goes on", code=130)
    except Exception as error:
        if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            _bring_back_outputs(name)
            raise
        full = PocketAffectError(f"disk full: {error}", todo="free some space, then `dvc repro` again")
        _fail(name, f"error in stage {name}: {full}", code=1)


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
