"""From a trained network to a verified package: converted, executed, and written only when every check holds."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from torch import nn

from pocketaffect import __version__
from pocketaffect.config import ExportParams
from pocketaffect.coreml.choose import choose_precision, propose_precisions
from pocketaffect.coreml.convert import PackageDescription
from pocketaffect.coreml.measure import Faces
from pocketaffect.coreml.package import save_package
from pocketaffect.coreml.packages import Package, Packages
from pocketaffect.coreml.precisions import AUTO, find_precision, require_readable
from pocketaffect.coreml.verdict import Verification
from pocketaffect.coreml.verify import Verifier
from pocketaffect.data.shards.split import Split
from pocketaffect.errors import PocketAffectError
from pocketaffect.models.network import AffectNetwork
from pocketaffect.models.reparameterize import reparameterize

logger = logging.getLogger(__name__)

REJECTED: Final = "rejected.mlpackage"
FACES_TO_CHOOSE_BY: Final = 1024
"""More of them separate the precisions no better than the limits of the verification do; the choice's own metrics
are those of the whole split."""


def export_network(
    network: AffectNetwork,
    validation: Split,
    params: ExportParams,
    *,
    margin: float,
    lineage: Mapping[str, str],
    target: Path,
    rejects: Path,
    deployment_target: str = "iOS16",
    finetuned: nn.Module | None = None,
) -> Verification:
    """Writes the package `target` if it passes every check on the validation images.

    Args:
        network: The trained network.
        validation: Faces and labels that the package is executed on.
        params: Precision (or "auto"), byte budget and the limits of the verification.
        margin: Of the face crop, for the metadata.
        lineage: Further metadata: what the network was made from.
        target: The `.mlpackage`.
        rejects: Folder that keeps a refused package for a look at it.
        deployment_target: The oldest system that must read the package.
        finetuned: What `coreml.finetune` made of the network for this precision, to be converted in its place; the
            package then answers as this one does, within the limits on what `network` may lose.

    Raises:
        PocketAffectError: The precision needs a newer system, or is "auto" after fine-tuning; the package is over the
            budget; or a check does not hold, each of which is named with value and limit.
    """
    faces = Faces(validation.images(), validation.expression, validation.valence_arousal)
    wanted: str = params.precision
    if finetuned is not None and wanted == AUTO:
        raise PocketAffectError(
            "params.yaml: export.precision auto does not go with fine-tuning, which is for one precision",
            todo="name the precision, or export without fine-tuning",
        )
    shipped_form = reparameterize(network) if finetuned is None else finetuned
    with tempfile.TemporaryDirectory(prefix="pocketaffect-") as folder:
        description = _describe(network, params, margin, lineage)
        packages = Packages(shipped_form, network.spec.size, description, Path(folder))
        if wanted == AUTO:
            package, verification = _choose(network, shipped_form, packages, faces, params, deployment_target)
        else:
            precision = find_precision(wanted)
            require_readable(precision, deployment_target)
            package = packages.make(precision)
            if package.bytes > params.budget_bytes:
                raise _over_budget(package, packages, params, deployment_target, rejects)
            reference = network if finetuned is None else finetuned
            verifier = Verifier(
                reference, faces, shipped_form=shipped_form, baseline=None if finetuned is None else network
            )
            verification = verifier.verify(
                packages.make_reference(precision),
                package.path,
                params,
                precision=precision,
                deployment_target=deployment_target,
            )
    logger.info("%s: %d bytes, budget %d", package.precision.name, package.bytes, params.budget_bytes)
    if not verification.passed:
        save_package(package.model, rejects / REJECTED)
        raise PocketAffectError(
            f"export: the {package.precision.name} package is not fit to ship",
            found=verification.failures().replace("\n", "; "),
            allowed="the limits under export in params.yaml",
            todo=f"look at {rejects / REJECTED}; another export.precision changes what rounding costs",
        )
    save_package(package.model, target)
    return verification


def _describe(
    network: AffectNetwork, params: ExportParams, margin: float, lineage: Mapping[str, str]
) -> PackageDescription:
    spec = network.spec
    return PackageDescription(
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


def _choose(
    network: AffectNetwork,
    shipped_form: nn.Module,
    packages: Packages,
    faces: Faces,
    params: ExportParams,
    deployment_target: str,
) -> tuple[Package, Verification]:
    """The best package that fits, verified on all faces."""
    few = faces.thin_out(FACES_TO_CHOOSE_BY)
    verifier = Verifier(network, few, shipped_form=shipped_form)
    package, verification = choose_precision(packages, verifier, params, deployment_target)
    if len(few.images) == len(faces.images):
        return package, verification
    whole = Verifier(network, faces, shipped_form=shipped_form).verify(
        packages.make_reference(package.precision),
        package.path,
        params,
        precision=package.precision,
        deployment_target=deployment_target,
    )
    return package, replace(whole, candidates=verification.candidates)


def _over_budget(
    package: Package, packages: Packages, params: ExportParams, deployment_target: str, rejects: Path
) -> PocketAffectError:
    save_package(package.model, rejects / REJECTED)
    return PocketAffectError(
        f"export: the {package.precision.name} package is over the budget",
        found=f"{package.bytes:,} bytes, {package.bytes - params.budget_bytes:,} too many",
        allowed=f"export.budget_bytes: {params.budget_bytes:,}",
        todo=propose_precisions(packages, params, deployment_target),
    )
