"""From a trained network to a verified package: converted, executed, and written only when every check holds."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pocketaffect import __version__
from pocketaffect.config import ExportParams
from pocketaffect.coreml.convert import PackageDescription, convert
from pocketaffect.coreml.package import package_bytes, save_package
from pocketaffect.coreml.verdict import Verification
from pocketaffect.coreml.verify import verify
from pocketaffect.data.shards import Split
from pocketaffect.errors import PocketAffectError
from pocketaffect.models.network import AffectNetwork

logger = logging.getLogger(__name__)

REJECTED: Final = "rejected.mlpackage"


def export_network(
    network: AffectNetwork,
    validation: Split,
    params: ExportParams,
    *,
    margin: float,
    lineage: Mapping[str, str],
    target: Path,
    rejects: Path,
) -> Verification:
    """Writes the package `target` if it passes every check on the validation images.

    Args:
        network: The trained network.
        validation: Faces and labels that the package is executed on.
        params: Precision, byte budget and the limits of the verification.
        margin: Of the face crop, for the metadata.
        lineage: Further metadata: what the network was made from.
        target: The `.mlpackage`.
        rejects: Folder that keeps a refused package for a look at it.

    Raises:
        PocketAffectError: A check does not hold; each is named with value and limit.
    """
    spec = network.spec
    description = PackageDescription(
        author=params.author,
        licence=params.licence,
        version=__version__,
        short_description=(
            f"Facial expression (eight classes), valence and arousal from a face of {spec.size} x {spec.size} pixels; "
            f"{spec.architecture} at width {spec.width:g}."
        ),
        metadata=lineage,
        crop_margin=margin,
    )
    with tempfile.TemporaryDirectory(prefix="pocketaffect-") as folder:
        reference = Path(folder) / "fp16.mlpackage"
        save_package(convert(network, size=spec.size, precision="fp16", description=description), reference)
        candidate = convert(network, size=spec.size, precision=params.precision, description=description)
        draft = Path(folder) / "candidate.mlpackage"
        save_package(candidate, draft)
        logger.info("%s: %d bytes, budget %d", params.precision, package_bytes(draft), params.budget_bytes)
        verification = verify(
            network,
            reference,
            draft,
            validation.images(),
            validation.expression,
            validation.valence_arousal,
            params,
        )
    if not verification.passed:
        save_package(candidate, rejects / REJECTED)
        raise PocketAffectError(
            f"export: the {params.precision} package is not fit to ship",
            found=verification.failures().replace("\n", "; "),
            allowed="the limits under export in params.yaml",
            todo=f"look at {rejects / REJECTED}; a smaller model.width or another export.precision changes the bytes",
        )
    save_package(candidate, target)
    return verification
