"""The forms in which a package may store its weights, and the oldest system that reads each of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from pocketaffect.errors import PocketAffectError

Target = Literal["iOS16", "iOS17", "iOS18"]

SPEC_VERSIONS: Final[dict[str, int]] = {"iOS16": 7, "iOS17": 8, "iOS18": 9}
"""Deployment target to the version of Core ML's file format, oldest first; macOS 13, 14 and 15 read the same."""

AUTO: Final = "auto"
"""In params.yaml, in place of a precision: the best that fits the budget (see `choose`)."""

COMPRESSED_ABOVE: Final = 2048
"""Tensors of more weights than this are compressed. The smaller ones make 2.5 % of the bytes of a MobileNet and a
third of the accuracy that compressing them all would cost (evidence-coreml, 1)."""


@dataclass(frozen=True)
class Precision:
    """One form of storage.

    Attributes:
        name: As params.yaml gives it.
        target: The oldest deployment target that reads it; packages are made for this one.
        bits: Of each weight in a compressed tensor, scales and palettes apart.
        description: One line for people.
        kind: "float": not compressed. "linear": integers with scales. "palette": indices into tables of values.
        group: Neighbouring output channels that share a palette; 0: the whole tensor does.
        block: Neighbouring input channels that share a scale; 0: a whole output channel does.
        sparsity: Share of the weights, the smallest, that is set to zero and left out.
        integer_activations: Whether activations are 8 bits too, which only fine-tuning can prepare.
    """

    name: str
    target: Target
    bits: int
    description: str
    kind: Literal["float", "linear", "palette"]
    group: int = 0
    block: int = 0
    sparsity: float = 0.0
    integer_activations: bool = False

    @property
    def storage(self) -> str:
        """What holds a compressed tensor: fp32, fp16, or MIL operations, those before a reader's last."""
        if self.kind == "float":
            return self.name
        if self.kind == "palette":
            return "constexpr_lut_to_sparse, constexpr_sparse_to_dense" if self.sparsity else "constexpr_lut_to_dense"
        return "constexpr_blockwise_shift_scale" if self.target == "iOS18" else "constexpr_affine_dequantize"


def _palette(bits: int) -> Precision:
    return Precision(f"palette{bits}", "iOS16", bits, f"each tensor from a palette of {1 << bits} values", "palette")


def _grouped(bits: int) -> Precision:
    text = f"each 16 output channels of a tensor from a palette of {1 << bits} values"
    return Precision(f"palette{bits}-grouped", "iOS18", bits, text, "palette", group=16)


def _pruned(percent: int, bits: int) -> Precision:
    text = f"the smallest {percent} % of each tensor zero, the rest from a palette of {1 << bits} values"
    return Precision(f"pruned{percent}-palette{bits}", "iOS18", bits, text, "palette", sparsity=percent / 100)


PRECISIONS: Final[dict[str, Precision]] = {
    precision.name: precision
    for precision in (
        Precision("fp32", "iOS16", 32, "weights and arithmetic in float32", "float"),
        Precision("fp16", "iOS16", 16, "weights and arithmetic in float16", "float"),
        Precision("int8", "iOS16", 8, "8-bit integers, a scale for each output channel", "linear"),
        _palette(8),
        _grouped(6),
        _palette(6),
        Precision("int4-block", "iOS18", 4, "4-bit integers, a scale for each 32 input channels", "linear", block=32),
        _grouped(4),
        _palette(4),
        _pruned(50, 6),
        _pruned(50, 4),
        _pruned(75, 6),
        _pruned(75, 4),
        _palette(2),
        Precision(
            "int8-activations", "iOS17", 8, "int8 weights and activations, fine-tuned for it", "linear",
            integer_activations=True,
        ),
    )
}  # fmt: skip
"""Name to precision, roughly from the most faithful to the smallest."""


def find_precision(name: str) -> Precision:
    """The precision of that name.

    Raises:
        PocketAffectError: There is none.
    """
    if name not in PRECISIONS:
        raise PocketAffectError("params.yaml: export.precision: unknown", found=name, allowed=", ".join(PRECISIONS))
    return PRECISIONS[name]


def known_precision(name: str) -> str:
    """The name itself, of a precision or "auto"; for a field of params.yaml.

    Raises:
        ValueError: There is none of that name; the message lists them.
    """
    if name != AUTO and name not in PRECISIONS:
        raise ValueError(f"needs one of {AUTO}, {', '.join(PRECISIONS)}")
    return name


def is_readable(precision: Precision, target: str) -> bool:
    """Whether systems of the deployment target read the precision.

    Raises:
        PocketAffectError: An unknown target.
    """
    if target not in SPEC_VERSIONS:
        raise PocketAffectError(
            "params.yaml: export.deployment_target: unknown", found=target, allowed=", ".join(SPEC_VERSIONS)
        )
    return SPEC_VERSIONS[precision.target] <= SPEC_VERSIONS[target]


def readable_precisions(target: str) -> list[Precision]:
    """Every precision that conversion alone can make and that systems of the deployment target read."""
    return [one for one in PRECISIONS.values() if is_readable(one, target) and not one.integer_activations]


def require_readable(precision: Precision, target: str) -> None:
    """Refuses a precision that needs a newer system than the deployment target.

    Raises:
        PocketAffectError: It does; or an unknown target.
    """
    if not is_readable(precision, target):
        raise PocketAffectError(
            f"params.yaml: export.precision {precision.name} needs {precision.target}",
            found=f"export.deployment_target: {target}",
            allowed=f"for {target}: {list_names(readable_precisions(target))}",
            todo=f"choose one of these, or set export.deployment_target: {precision.target}",
        )


def list_names(precisions: Iterable[Precision]) -> str:
    """Names in one line."""
    return ", ".join(one.name for one in precisions)
