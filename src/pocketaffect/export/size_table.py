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
_PRUNED: Final = Form(-271.0, 404.0)

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
    "int4-block": Form(-254.6, 145.0),
    "pruned50-palette6": _PRUNED,
    "pruned50-palette4": _PRUNED,
    "pruned75-palette6": _PRUNED,
    "pruned75-palette4": _PRUNED,
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


class Longer(NamedTuple):
    """Bytes that a design's program has as coremltools writes it: more than compact, then for float32 and iOS 18."""

    float16: int
    float32: int
    ios18: int = 0


LONGER: Final = {
    "alexnet": Longer(8318, -1948),
    "vgg": Longer(12853, -2461),
    "mobilenet": Longer(23592, -4003),
    "mobilenetv3_small": Longer(65112, -10316, -1670),
    "mobilenetv3_large": Longer(74697, -11483, -1811),
    "mobilenetv4_conv_small": Longer(41001, -5967),
    "efficientnet_lite0": Longer(52438, -7625),
    "repvit_m0_9": Longer(99603, -11839),
    "mobileone_s0": Longer(40109, -5707),
}
"""With `export.compact: false`: fitted to 108 conversions by coremltools 9.0 on 2026-11-22, worst miss 62 bytes."""
LONGER_PLAIN_HEAD: Final = -230
LONGER_PRUNED: Final = Form(17.2, 199.5)
LONGER_PRUNED_LETTER: Final = 5.37
"""For each letter of a pruned tensor's name, which its parts' names repeat."""
