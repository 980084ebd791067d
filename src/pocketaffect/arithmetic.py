"""Pins the arithmetic of the numeric libraries, so that a run can be repeated bit for bit.

Sums of floats depend on the order of addition, and that on the number of threads and on the instructions that
oneDNN, MKL and PyTorch choose for the processor they meet. Both are settled here, by environment variables that the
libraries read once, when they are imported. (OpenCV's resize and warpAffine give the same bytes with AVX2, AVX-512 and
IPP on or off; without AVX2 the warp does not.)
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Final, Literal

Instructions = Literal["avx2", "native"]

THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
AVX2_VARIABLES: Final = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    # The one branch of MKL that is the same on processors of every maker.
    "MKL_CBWR": "COMPATIBLE",
}
DETERMINISM_VARIABLES: Final = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def pin_arithmetic(*, threads: int, instructions: Instructions) -> None:
    """Settles thread count and instruction set for this process and the ones it starts.

    PyTorch, MKL and OpenCV get so many threads each. "avx2" uses what every x86-64 processor since about 2013 has,
    "native" all of this one's.

    Raises:
        RuntimeError: torch or cv2 was imported already, and has not seen the settings.
    """
    if not may_pin_arithmetic(threads=threads, instructions=instructions):
        early = [name for name in ("torch", "cv2") if name in sys.modules]
        raise RuntimeError(f"pin_arithmetic must come before the import of {' and '.join(early)}")
    _set(_list_variables(threads, instructions))
    import cv2
    import torch

    cv2.setNumThreads(threads)
    torch.set_num_threads(threads)


@contextlib.contextmanager
def pinned_children(*, threads: int, instructions: Instructions) -> Iterator[None]:
    """Settles the same for processes that are started inside, and leaves this one as it is.

    A spawned process imports the script that its parent was started by, and with it maybe torch: by then it is too
    late for anything but variables that it was born with.
    """
    variables = _list_variables(threads, instructions)
    before = {name: os.environ.get(name) for name in variables}
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def may_pin_arithmetic(*, threads: int, instructions: Instructions) -> bool:
    """Tells whether `pin_arithmetic` would not refuse."""
    return not {"torch", "cv2"} & sys.modules.keys() or _is_set(_list_variables(threads, instructions))


def _list_variables(threads: int, instructions: Instructions) -> dict[str, str | None]:
    """Lists what each variable must be; None: it must not be there."""
    avx2 = AVX2_VARIABLES if instructions == "avx2" else dict.fromkeys(AVX2_VARIABLES)
    return {**dict.fromkeys(THREAD_VARIABLES, str(threads)), **DETERMINISM_VARIABLES, **avx2}


def _is_set(variables: dict[str, str | None]) -> bool:
    return all(os.environ.get(name) == value for name, value in variables.items())


def _set(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
