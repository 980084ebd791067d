"""How long a package's program is: fitted to 108 conversions by coremltools 9.0 on 2026-11-22, worst miss 62 bytes.

Nine designs, widths 0.1 to 0.6, both heads, 32 to 64 pixels; `tests/coreml/test_size.py` holds it to new conversions.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Form(NamedTuple):
    """Bytes that a precision adds: once, for each compressed tensor, and for each letter of its name."""

    ios18: bool
    fixed: float = 0.0
    each: float = 0.0
    letter: float = 0.0


class Program(NamedTuple):
    """Bytes of a design's program: in float16 for iOS 16, what float32 adds, and what iOS 18's dialect adds."""

    float16: int
    float32: int
    ios18: int = 0


_PALETTE: Final = Form(False, -241.6, 147.5)
_GROUPED: Final = Form(True, -247.7, 147.0, 0.12)
_PRUNED: Final = Form(True, -253.8, 603.5, 5.37)

FORMS: Final = {
    "fp32": Form(False),
    "fp16": Form(False),
    "int8": Form(False, -261.8, 218.7),
    "palette8": _PALETTE,
    "palette6": _PALETTE,
    "palette4": _PALETTE,
    "palette2": Form(False, -241.6, 124.6),
    "palette6-grouped": _GROUPED,
    "palette4-grouped": _GROUPED,
    "int4-block": Form(True, -254.6, 141.1, 0.12),
    "pruned50-palette6": _PRUNED,
    "pruned50-palette4": _PRUNED,
    "pruned75-palette6": _PRUNED,
    "pruned75-palette4": _PRUNED,
}

PROGRAMS: Final = {
    "alexnet": Program(19898, -1948),
    "vgg": Program(27648, -2461),
    "mobilenet": Program(48861, -4003),
    "mobilenetv3_small": Program(118823, -10316, -1670),
    "mobilenetv3_large": Program(135881, -11483, -1811),
    "mobilenetv4_conv_small": Program(81740, -5967),
    "efficientnet_lite0": Program(95912, -7625),
    "repvit_m0_9": Program(187403, -11839),
    "mobileone_s0": Program(78855, -5707),
}

PLAIN_HEAD: Final = -667
"""Without the prototypes."""
WIDE_DIMENSION: Final = 3.21
"""For each dimension of 128 and more, counted once for a tensor."""
INLINE_ARRAY: Final = -15.09
"""For each array too small for the weight file."""
ALLOWANCE: Final = 64
"""Rather over the truth than under it."""
