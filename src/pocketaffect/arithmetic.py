"""Pins the arithmetic of the numeric libraries, so that a run can be repeated bit for bit.

Sums of floats depend on the order of addition, and that on the number of threads and on the instructions that
oneDNN, MKL and PyTorch choose for the processor they meet. Both are settled here, by environment variables that the
libraries read once, when they are imported. (OpenCV's resize and warpAffine give the same bytes with AVX2, AVX-512 and
IPP on or off; without AVX2 the warp does not.)
"""

from __future__ import annotations

import os
import sys
from typing import Final, Literal

THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
AVX2_VARIABLES: Final = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    # The one branch of MKL that is the same on processors of every maker.
    "MKL_CBWR": "COMPATIBLE",
}
DETERMINISM_VARIABLES: Final = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def pin_arithmetic(*, threads: int, instructions: Literal["avx2", "native"]) -> None:
    """Settles thread count and instruction set for this process and the ones it starts.

    Args:
        threads: Of PyTorch, MKL and OpenCV, each.
        instructions: "avx2" uses what every x86-64 processor since about 2013 has, "native" all of this one's.

    Raises:
        RuntimeError: torch or cv2 was imported already, and would not see the settings.
    """
    early = [name for name in ("torch", "cv2") if name in sys.modules]
    if early:
        raise RuntimeError(f"pin_arithmetic must come before the import of {' and '.join(early)}")
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    os.environ.update(DETERMINISM_VARIABLES)
    if instructions == "avx2":
        os.environ.update(AVX2_VARIABLES)
    import cv2
    import torch

    cv2.setNumThreads(threads)
    torch.set_num_threads(threads)
