"""Runs one pipeline stage: settings in, a message without a traceback out when the user can mend the problem."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Callable

from pocketaffect.config import Params, load_params
from pocketaffect.errors import PocketAffectError
from pocketaffect.telemetry import disable_telemetry


def run_stage(name: str, main: Callable[[Params], None]) -> None:
    """Calls `main` with the settings of params.yaml, and ends the process with 1 on a problem, 2 on bad settings.

    DVC removes a stage's outputs before it runs the stage. When the stage fails, the last good ones are brought
    back from DVC's cache, so that a bad input costs nothing.
    """
    disable_telemetry()
    logging.basicConfig(level=logging.INFO, format=f"{name}: %(message)s", stream=sys.stderr)
    for noisy in ("pytorch_lightning", "great_expectations", "coremltools", "mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        params = load_params()
    except PocketAffectError as error:
        _fail(name, error, code=2)
    try:
        main(params)
    except PocketAffectError as error:
        _fail(name, error, code=1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _fail(name, PocketAffectError(f"disk full: {error}", todo="free some space, then `dvc repro` again"), code=1)


def _fail(name: str, error: PocketAffectError, *, code: int) -> None:
    print(f"\nerror in stage {name}: {error}", file=sys.stderr)
    if os.environ.get("DVC_STAGE") == name:
        restored = subprocess.run(
            [sys.executable, "-m", "dvc", "checkout", "--quiet", "--force", name], capture_output=True, check=False
        )
        if restored.returncode == 0:
            print("  kept:    the last good outputs of this stage are back in place", file=sys.stderr)
    raise SystemExit(code)
