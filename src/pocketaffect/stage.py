"""Runs one pipeline stage: settings in, a message without a traceback out when the user can mend the problem."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from pocketaffect.errors import PocketAffectError
from pocketaffect.telemetry import disable_telemetry

if TYPE_CHECKING:
    from pocketaffect.config import Params


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
