"""How long a package's compact program is: fitted to conversions by coremltools 9.0 on 2026-11-26.

`benchmarks/export/fit_size.py` fits it anew, `size.py` beside it and `tests/export/test_size.py` hold it to others.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Form(NamedTuple):
    """Bytes that a precision adds: once, and for each compressed tensor."""

    fixed: float = 0.0
    each: float = 0.0


_PALETTE: Final = Form(-241.6, 147.5)
_GROUPED: Final = Form(-247.7, 150.0)

FORMS: Final = {
    "fp32": Form(),
    "fp16": Form(),
    "int8": Form(-261.8, 218.7),
    "palette8": _PALETTE,
    "palette6": _PALETTE,
    "palette4": _PALETTE,
    "palette2": Form(-241.6, 124.6),
    "palette6-grouped": _GROUPED,
    "palette4-grouped": _GROUPED,
}

PROGRAMS: Final = {
    "alexnet": 11580,
    "vgg": 14795,
    "mobilenet": 25269,
    "mobilenetv3_small": 53711,
    "mobilenetv3_large": 61184,
    "mobilenetv4_conv_small": 40739,
    "efficientnet_lite0": 43474,
    "repvit_m0_9": 87800,
    "mobileone_s0": 38746,
}
"""Design to the bytes of its program in float16, with the prototype head."""

PLAIN_HEAD: Final = -437
"""Without the prototypes."""
FLOAT32: Final = Form(-268.0, -17.7)
"""In float32: no casts, and for each matrix or kernel a shorter name."""
WIDE_DIMENSION: Final = 3.21
"""For each dimension of 128 and more, counted once for a tensor."""
INLINE_ARRAY: Final = -15.09
"""For each array too small for the weight file."""
ALLOWANCE: Final = 64
"""Rather over the truth than under it."""
