"""What `pocketaffect models` shows: every design at a few widths, with what it costs on the phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from torch import nn

from pocketaffect.designs import CATALOGUE, Design
from pocketaffect.models.network import AffectNetwork, NetworkSpec, count_macs, count_parameters
from pocketaffect.models.reparameterize import reparameterize
from pocketaffect.tables import render_table

WIDTHS: Final = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class ModelRow:
    """One network.

    Attributes:
        design: The architecture.
        spec: The network, with width and size.
        trained_parameters: Numbers in the checkpoint.
        shipped_parameters: Numbers that remain in the package: branches merged, batch normalisation folded.
        macs: Multiply-accumulates of one image in the shipped form.
        shipped: That form, but for timm's modules that normalise and activate in one.
    """

    design: Design
    spec: NetworkSpec
    trained_parameters: int
    shipped_parameters: int
    macs: int
    shipped: AffectNetwork


def list_models(size: int, widths: Sequence[float] = WIDTHS, *, full_resolution_stem: bool = False) -> list[ModelRow]:
    """Builds every design at every width (random weights, about 0.1 s each) and counts.

    Args:
        size: Pixels a side of the input.
        widths: Width multipliers.
        full_resolution_stem: See `models.network.build_backbone`.

    Raises:
        PocketAffectError: A width or size that a network cannot have.
    """
    return [
        _measure(design, NetworkSpec(name, width, size, "prototype", full_resolution_stem=full_resolution_stem))
        for name, design in CATALOGUE.items()
        for width in widths
    ]


def count_shipped_parameters(shipped: nn.Module) -> int:
    """Counts numbers that remain when `shipped`, from `reparameterize`, has its normalisations folded.

    Of a normalisation's four numbers per channel, one survives: as the bias of the layer before it, none of which
    has one of its own.
    """
    norms = [layer for layer in shipped.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    return count_parameters(shipped) - 3 * sum(norm.num_features for norm in norms)


def render_models(rows: Sequence[ModelRow], further: Mapping[str, Sequence[object]] | None = None) -> str:
    """Renders the rows as text with aligned columns, and below it where each design comes from.

    Args:
        rows: The rows of `list_models`.
        further: More columns by title, one value per row: the predicted package bytes. They stand after the
            multiplications.
    """
    further = further or {}
    if any(len(values) != len(rows) for values in further.values()):
        raise ValueError("a further column needs one value for each row")
    header = ["model", "width", "pixels", "trained", "shipped", "MMACs", *further, "licence"]
    table = [
        [
            row.spec.architecture,
            f"{row.spec.width:g}",
            f"{row.spec.size}",
            f"{row.trained_parameters:,}",
            f"{row.shipped_parameters:,}",
            f"{row.macs / 1e6:.1f}",
            *(_cell(values[number]) for values in further.values()),
            row.design.licence,
        ]
        for number, row in enumerate(rows)
    ]
    align = "l" + "r" * (len(header) - 2) + "l"
    return "\n".join([render_table([header, *table], align), "", *_origins(rows)])


def _measure(design: Design, spec: NetworkSpec) -> ModelRow:
    network = AffectNetwork(spec).eval()
    # The others' copies have the same numbers, and copying is most of the time.
    shipped = reparameterize(network) if design.reparameterised else network
    return ModelRow(
        design,
        spec,
        trained_parameters=count_parameters(network),
        shipped_parameters=count_shipped_parameters(shipped),
        macs=count_macs(shipped, spec.size),
        shipped=shipped,
    )


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _origins(rows: Sequence[ModelRow]) -> list[str]:
    lines = []
    for design in {row.design.name: row.design for row in rows}.values():
        merged = "; branches are merged before export" if design.reparameterised else ""
        weights = f"; ImageNet weights: {design.weights}" if design.weights else ""
        lines.append(
            f"{design.name}: {design.citation}; from {design.smallest_size} pixels{merged}{weights}; {design.source}"
        )
    return lines
