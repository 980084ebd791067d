"""The forms in which a package may store its weights, and the oldest system that reads each of them."""

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
        target: The oldest deployment target that reads it; packages are made for this one.
        bits: Bits of each weight in a compressed tensor, scales and palettes apart.
        kind: "float": not compressed. "linear": integers, a scale for each output channel. "palette": indices into
            tables of values.
        group: Neighbouring output channels that share a palette; 0: the whole tensor does.
    """

    name: str
    target: Target
    bits: int
    description: str
    kind: Literal["float", "linear", "palette"]
    group: int = 0

    @property
    def storage(self) -> str:
        """Says how a package holds a compressed tensor, in the words of `mlpackage.program.Program.storage`."""
        held = {"float": self.name, "linear": "constexpr_affine_dequantize", "palette": "constexpr_lut_to_dense"}
        return f"{held[self.kind]}, {self.bits} bits"

    @property
    def system(self) -> str:
        """Says who opens it, and what is not known of that."""
        return f"{self.target} and later" + (", not seen on a device" if self.target == "iOS18" else "")


def _palette(bits: int) -> Precision:
    return Precision(f"palette{bits}", "iOS16", bits, f"each tensor from a palette of {1 << bits} values", "palette")


def _grouped(bits: int) -> Precision:
    text = f"each 16 output channels of a tensor from a palette of {1 << bits} values"
    return Precision(f"palette{bits}-grouped", "iOS18", bits, text, "palette", group=16)


PRECISIONS: Final[dict[str, Precision]] = {
    precision.name: precision
    for precision in (
        Precision("fp32", "iOS16", 32, "weights and arithmetic in float32", "float"),
        Precision("fp16", "iOS16", 16, "weights and arithmetic in float16", "float"),
        Precision("int8", "iOS16", 8, "8-bit integers, a scale for each output channel", "linear"),
        _palette(8),
        _grouped(6),
        _palette(6),
        _grouped(4),
        _palette(4),
        _palette(2),
    )
}
"""Name to precision, roughly from the most faithful to the smallest."""


def find_precision(name: str) -> Precision:
    """Finds the precision of that name.

    Raises:
        PocketAffectError: There is none.
    """
    if name not in PRECISIONS:
        raise PocketAffectError("params.yaml: export.precision: unknown", found=name, allowed=", ".join(PRECISIONS))
    return PRECISIONS[name]


def known_precision(name: str) -> str:
    """Returns the name itself, of a precision or "auto"; for a field of params.yaml.

    Raises:
        ValueError: There is none of that name; the message lists them.
    """
    if name != AUTO and name not in PRECISIONS:
        raise ValueError(f"needs one of {AUTO}, {', '.join(PRECISIONS)}")
    return name


def readable_precisions(target: str) -> list[Precision]:
    """Lists every precision that systems of the deployment target read.

    Raises:
        PocketAffectError: An unknown target.
    """
    if target not in SPEC_VERSIONS:
        raise PocketAffectError(
            "params.yaml: export.deployment_target: unknown", found=target, allowed=", ".join(SPEC_VERSIONS)
        )
    return [one for one in PRECISIONS.values() if SPEC_VERSIONS[one.target] <= SPEC_VERSIONS[target]]


def require_usable(precision: str, target: str, finetune: str) -> None:
    """Refuses a precision that needs a newer system than the deployment target, or one that fine-tuning is not for.

    The three are those of `export` in params.yaml: a name or "auto", a target, and "none" or "dkm".

    Raises:
        PocketAffectError: It does, or is not; or an unknown name or target.
    """
    readable = readable_precisions(target)
    if precision != AUTO and find_precision(precision) not in readable:
        needed = PRECISIONS[precision].target
        raise PocketAffectError(
            f"params.yaml: export.precision {precision} needs {needed}",
            found=f"export.deployment_target: {target}",
            allowed=f"for {target}: {', '.join(one.name for one in readable)}",
            todo=f"choose one of these, or set export.deployment_target: {needed}",
        )
    palettes = [one.name for one in readable if one.kind == "palette"]
    if finetune != "none" and precision not in palettes:
        raise PocketAffectError(
            f"params.yaml: export.finetune {finetune} does not go with export.precision {precision}",
            allowed=f"with export.finetune: {finetune} a palette: {', '.join(palettes)}",
            todo="change one of the two; export.finetune: none goes with every precision",
        )
