"""The executor that params.yaml names."""

from __future__ import annotations

from typing import Final

from pocketaffect.errors import PocketAffectError
from pocketaffect.executor.interface import Executor

EXECUTORS: Final = ("local", "ray")
"""Names that params.yaml may give."""


def find_executor(name: str) -> Executor:
    """Finds the executor of that name.

    Raises:
        PocketAffectError: There is none, or what it needs is not there.
    """
    if name == "local":
        from pocketaffect.executor.local import LocalExecutor

        return LocalExecutor()
    if name == "ray":
        from pocketaffect.executor.ray_cluster import RayExecutor

        return RayExecutor()
    raise PocketAffectError("executor: unknown", found=name, allowed=", ".join(EXECUTORS))
