"""Makes a stage run the sources of the checkout that it stands in; imported by every stage before all else.

An editable install points at one checkout. In a git worktree, a copy, or a DVC experiment's temporary folder, DVC
would hash the sources that lie there while those of the installed checkout run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType

SOURCES = str(Path(__file__).resolve().parents[1] / "src")
TODO = "`. .venv/bin/activate`, then the same command; or `make repro`, which also makes .venv where there is none"


def _describe(problem: str) -> str:
    return f"error: {problem}\n  found:   {sys.executable}\n  do:      {TODO}"


def _name_missing_package(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Says what a Python without our packages lacks; any other error keeps its traceback."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    if name is None or name.partition(".")[0] == "pocketaffect":
        sys.__excepthook__(kind, error, trace)
    else:
        print(_describe(f"the `python` that runs this stage has no package {name}"), file=sys.stderr)


if sys.version_info < (3, 11):  # noqa: UP036  whatever `python` PATH has
    sys.exit(_describe("the `python` that runs this stage is older than 3.11"))
sys.excepthook = _name_missing_package
# First in this process, and in those that it starts.
sys.path[:] = dict.fromkeys([SOURCES, *sys.path])
known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, [SOURCES, *known])))

import pocketaffect  # noqa: E402

if Path(pocketaffect.__file__).resolve().parents[1] != Path(SOURCES):
    sys.exit(_describe(f"{pocketaffect.__file__} would run, not this checkout's {SOURCES}/pocketaffect"))
