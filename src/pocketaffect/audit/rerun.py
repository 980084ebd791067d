"""Runs the pipeline again in the scratch place."""

from __future__ import annotations

import logging
import re
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pocketaffect import paths
from pocketaffect.audit.scratch import Scratch

log = logging.getLogger(__name__)

_RUNNING: Final = re.compile(r"^Running stage '([^']+)'")
_LAST_LINES: Final = 12


@dataclass(frozen=True)
class Rerun:
    """How it went.

    Attributes:
        seconds: Of each stage that was started.
        failed: The stage that failed, "" for none.
        said: The last lines it printed.
    """

    seconds: Mapping[str, float]
    failed: str
    said: str


def run_again(scratch: Scratch, targets: Sequence[str]) -> Rerun:
    """Runs these stages and all that they stand on; each of them runs, since nothing could answer for it.

    The commit's dvc.lock is removed first, and the scratch's DVC cache holds the user's data at most.
    """
    (scratch.root / paths.LOCK_FILE).unlink(missing_ok=True)
    command = [str(scratch.python), "-u", "-m", "dvc", "repro", "--no-run-cache", *targets]
    started: dict[str, float] = {}
    lines: deque[str] = deque(maxlen=_LAST_LINES)
    with subprocess.Popen(
        command,
        cwd=scratch.root,
        env=scratch.environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            log.debug(line.rstrip())
            if found := _RUNNING.match(line):
                started[found[1]] = time.monotonic()
                log.info("%s …", found[1])
    ended = time.monotonic()
    names, moments = list(started), [*started.values(), ended]
    seconds = {name: moments[place + 1] - moments[place] for place, name in enumerate(names)}
    failed = "" if process.returncode == 0 else (names[-1] if names else targets[0])
    return Rerun(seconds, failed, "\n".join(line for line in lines if line))
