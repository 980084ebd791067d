"""From a trained network to verified files: converted, executed, and written only when every check holds."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from torch import nn

from pocketaffect import __version__, paths
from pocketaffect.config import ExportParams
from pocketaffect.data.shards.split import Split
from pocketaffect.errors import PocketAffectError, UnfitError
from pocketaffect.evaluation import tables
from pocketaffect.evaluation.prediction_table import PredictionTable, write_predictions
from pocketaffect.export.choose import choose_precision, propose_precisions
from pocketaffect.export.classifier import make_classifier
from pocketaffect.export.describe import PackageDescription
from pocketaffect.export.forms import verify_classifier, verify_twin
from pocketaffect.export.measure import Faces, Predictions
from pocketaffect.export.native import has_core_ml, verify_natively
from pocketaffect.export.packages import Package, Packages
from pocketaffect.export.transplant import transplant_weights
from pocketaffect.export.twin import save_twin
from pocketaffect.export.verdict import Form, Verification, describe_results
from pocketaffect.export.verify import INTEGER_NOISE, Verifier
from pocketaffect.files import write_json
from pocketaffect.mlpackage.package import program_digest, read_metadata, save_package
from pocketaffect.models.network import AffectNetwork
from pocketaffect.models.reparameterize import reparameterize
from pocketaffect.precisions import AUTO, find_precision, require_readable

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
    folder: Path,
    rejects: Path,
    finetuned: nn.Module | None = None,
) -> Verification:
    """Writes the package, its classifier form, its ONNX twin, their verification and the package's answers.

    Args:
        network: The trained network.
        validation: Faces and labels that the files are executed on.
        params: Precision (or "auto"), deployment target, byte budget and the limits of the verification.
        margin: Of the face crop, for the metadata.
        lineage: Further metadata: what the network was made from.
        folder: Where the files go, under their names in `paths`; when a check fails it is to be thrown away.
        rejects: Folder that keeps a refused package for a look at it.
        finetuned: What `export.finetune` made of the network for this precision, to be converted in its place; the
            package then answers as this one does, within the limits on what `network` may lose.

    Raises:
        PocketAffectError: The precision needs a newer system, or is "auto" after fine-tuning.
        UnfitError: The package is over the budget; or a check does not hold, each of which is named with value and
            limit.
    """
    if finetuned is not None and params.precision == AUTO:
        raise PocketAffectError(
            "params.yaml: export.precision auto does not go with fine-tuning, which is for one precision",
            todo="name the precision, or export without fine-tuning",
        )
    if params.precision != AUTO:
        require_readable(find_precision(params.precision), params.deployment_target)
    faces = Faces(validation.images(), validation.expression, validation.valence_arousal)
    shipped_form = reparameterize(network) if finetuned is None else finetuned
    with tempfile.TemporaryDirectory(prefix="pocketaffect-") as scratch:
        waiting = {**lineage, **describe_results(None, images=len(faces.images))}
        description = _describe(network, params, margin, waiting)
        packages = Packages(shipped_form, network.spec.size, description, Path(scratch), compact=params.compact)
        verifier = Verifier(
            network if finetuned is None else finetuned,
            faces,
            shipped_form=shipped_form,
            baseline=None if finetuned is None else network,
        )
        if params.precision == AUTO:
            package, verification = _choose(network, shipped_form, packages, verifier, params)
        else:
            package, verification = _make(packages, verifier, params, rejects)
        logger.info("%s: %d bytes, budget %d", package.precision.name, package.bytes, params.budget_bytes)
        _refuse_failures(verification, package, params, rejects)
        verification = _write(package, verification, verifier, params, folder)
    _refuse_failures(verification, package, params, rejects)
    shipped = verifier.execute(package.path)[1]
    answers = PredictionTable(
        tuple(validation.paths),
        tables.Predictions(shipped.probabilities, shipped.valence_arousal),
        tables.Labels(faces.expression, faces.valence_arousal),
    )
    write_predictions(folder / paths.SHIPPED_PREDICTIONS.name, answers)
    write_json(folder / paths.VERIFICATION.name, verification.to_dict())
    return verification


def _make(packages: Packages, verifier: Verifier, params: ExportParams, rejects: Path) -> tuple[Package, Verification]:
    """The package of the named precision, verified."""
    package = packages.make(find_precision(params.precision))
    if package.bytes > params.budget_bytes:
        raise _over_budget(package, packages, params, rejects)
    return package, _verify(package, packages, verifier, params)


def _verify(package: Package, packages: Packages, verifier: Verifier, params: ExportParams) -> Verification:
    return verifier.verify(
        packages.make_reference(package.precision),
        package.path,
        params,
        precision=package.precision,
        deployment_target=params.deployment_target,
    )


def _choose(
    network: AffectNetwork, shipped_form: nn.Module, packages: Packages, verifier: Verifier, params: ExportParams
) -> tuple[Package, Verification]:
    """The best package that fits, verified on all faces."""
    few = verifier.faces.thin_out(FACES_TO_CHOOSE_BY)
    all_of_them = len(few.images) == len(verifier.faces.images)
    chooser = verifier if all_of_them else Verifier(network, few, shipped_form=shipped_form)
    package, verification = choose_precision(packages, chooser, params, params.deployment_target)
    if all_of_them:
        return package, verification
    whole = _verify(package, packages, verifier, params)
    return package, replace(whole, candidates=verification.candidates)


def _write(
    package: Package, verification: Verification, verifier: Verifier, params: ExportParams, folder: Path
) -> Verification:
    """Puts the results into the metadata and writes all forms; the verification with theirs."""
    faces = verifier.faces
    program, predictions = verifier.execute(package.path)
    target = folder / paths.PACKAGE.name
    package.model.user_defined_metadata.update(describe_results(verification, images=len(faces.images)))
    save_package(package.model, target, compact=params.compact)
    if program_digest(target) != program_digest(package.path):
        raise RuntimeError("the package with its results computes something else than the verified one")
    forms = [_write_classifier(package, predictions, faces, params, folder)]
    integers = package.precision.integer_activations
    decoded = transplant_weights(verifier.folded, program, on_grid=integers).network
    twin = folder / paths.TWIN.name
    texts = {key: text for key, text in read_metadata(target).items() if not key.startswith("com.github.apple.")}
    save_twin(decoded, program.size, texts, twin)
    noise = INTEGER_NOISE if integers else 1.0
    forms.append(verify_twin(twin, predictions, decoded, faces, params, noise=noise))
    if has_core_ml():
        forms.append(verify_natively(target, predictions, faces, params))
    return replace(verification, forms=tuple(forms))


def _write_classifier(
    package: Package, predictions: Predictions, faces: Faces, params: ExportParams, folder: Path
) -> Form:
    path = folder / paths.CLASSIFIER.name
    save_package(make_classifier(package.model), path, compact=params.compact)
    return verify_classifier(path, predictions, faces, params)


def _refuse_failures(verification: Verification, package: Package, params: ExportParams, rejects: Path) -> None:
    if verification.passed:
        return
    save_package(package.model, rejects / REJECTED, compact=params.compact)
    raise UnfitError(
        f"export: the {package.precision.name} package is not fit to ship",
        found=verification.failures().replace("\n", "; "),
        allowed="the limits under export in params.yaml",
        todo=f"look at {rejects / REJECTED}; another export.precision changes what rounding costs",
    )


def _describe(
    network: AffectNetwork, params: ExportParams, margin: float, texts: Mapping[str, str]
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
        metadata=texts,
        crop_margin=margin,
    )


def _over_budget(package: Package, packages: Packages, params: ExportParams, rejects: Path) -> UnfitError:
    save_package(package.model, rejects / REJECTED, compact=params.compact)
    return UnfitError(
        f"export: the {package.precision.name} package is over the budget",
        found=f"{package.bytes:,} bytes, {package.bytes - params.budget_bytes:,} too many",
        allowed=f"export.budget_bytes: {params.budget_bytes:,}",
        todo=propose_precisions(packages, params, params.deployment_target),
    )
