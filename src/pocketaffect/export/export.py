"""From a trained network to verified files: converted, executed, and written only when every check holds."""

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from pocketaffect import __version__, paths
from pocketaffect.config import ExportParams, TrainParams
from pocketaffect.data.shards.split import Split
from pocketaffect.errors import UnfitError
from pocketaffect.evaluation import tables
from pocketaffect.evaluation.prediction_table import PredictionTable, write_predictions
from pocketaffect.export.calibrate import calibrate, choose_confidence, describe_confidence, measure_confidence
from pocketaffect.export.choose import choose_package, propose_precisions
from pocketaffect.export.convert import Package, PackageDescription, Packages
from pocketaffect.export.finetune import finetune_for_export
from pocketaffect.export.forms import make_classifier, save_twin
from pocketaffect.export.layers import reparameterize
from pocketaffect.export.measure import Faces
from pocketaffect.export.verdict import Verification, describe_results
from pocketaffect.export.verify import Verifier, has_core_ml
from pocketaffect.files import write_atomically, write_json
from pocketaffect.mlpackage.package import program_digest, save_package
from pocketaffect.models.network import READS_LUMA, AffectNetwork, NetworkSpec
from pocketaffect.precisions import AUTO, require_usable

logger = logging.getLogger(__name__)

REJECTED: Final = "rejected.mlpackage"


def export_network(
    network: AffectNetwork,
    training: Split,
    choosing: Split,
    validation: Split,
    *,
    export: ExportParams,
    train: TrainParams,
    margin: float,
    lineage: Mapping[str, str],
    target: Path,
    rejects: Path,
) -> Verification:
    """Writes the package, its classifier form, its ONNX twin, their verification and the package's answers.

    Args:
        network: The trained network.
        training: What it was trained on, for `export.finetune`.
        choosing: Faces that choose the temperature of the probabilities, below which of them an answer is unsure, and
            the precision where it is "auto"; may be those of `validation`.
        validation: Faces and labels that the files are executed on.
        export: The section of params.yaml.
        train: The section of params.yaml, for `export.finetune`.
        margin: Added at each end of the face box, as a share of it; for the metadata.
        lineage: Further metadata: what the network was made from.
        target: Folder of the files, under their names in `paths`; it appears whole, and only if every check holds.
        rejects: Folder that keeps a refused package for a look at it.

    Raises:
        PocketAffectError: The precision needs a newer system, or does not go with the fine-tuning.
        UnfitError: The package is over the budget; or a check does not hold, each of which is named with value and
            limit.
    """
    require_usable(export.precision, export.deployment_target, export.finetune)
    tuned = None if export.finetune == "none" else finetune_for_export(network, training, export, train)
    shipping = reparameterize(network) if tuned is None else tuned
    confidence = choose_confidence(shipping, choosing, calibrate=export.calibrate)
    faces = _read(validation)
    apart = _read(choosing) if export.precision == AUTO and choosing.paths != validation.paths else None
    texts = {**lineage, **describe_confidence(confidence), **describe_results(None, images=len(faces.images))}
    with tempfile.TemporaryDirectory(prefix="pocketaffect-") as scratch, write_atomically(target) as folder:
        folder.mkdir()
        packages = Packages(
            calibrate(shipping, confidence),
            network.spec.size,
            _describe(network.spec, export, margin, texts),
            Path(scratch),
        )
        known = calibrate(network, confidence)
        verifier = Verifier(packages.network, faces, export, trained=known, tuned=tuned is not None)
        package, verification = choose_package(packages, verifier, apart)
        logger.info("%s: %d bytes, budget %d", package.precision.name, package.bytes, export.budget_bytes)
        if verification.passed:
            verification = _write(package, verification, verifier, folder)
        if not verification.passed:
            raise _refuse(package, verification, packages, verifier, rejects)
        shipped = verifier.execute(package.path)[1]
        verification = replace(verification, confidence=measure_confidence(confidence, shipped, faces))
        answers = PredictionTable(
            tuple(validation.paths),
            tables.Predictions(shipped.probabilities, shipped.valence_arousal),
            tables.Labels(faces.expression, faces.valence_arousal),
        )
        write_predictions(folder / paths.SHIPPED_PREDICTIONS.name, answers)
        write_json(folder / paths.VERIFICATION.name, verification.to_dict())
    return verification


def _read(split: Split) -> Faces:
    return Faces(split.images(), split.expression, split.valence_arousal)


def _describe(spec: NetworkSpec, export: ExportParams, margin: float, texts: Mapping[str, str]) -> PackageDescription:
    return PackageDescription(
        author=export.author,
        licence=export.licence,
        version=__version__,
        short_description=(
            f"Facial expression (eight classes), valence and arousal from a face of {spec.size} x {spec.size} pixels; "
            f"{spec.architecture} at width {spec.width:g}."
        ),
        metadata=texts if spec.colour == "rgb" else {**texts, "colour": READS_LUMA},
        crop_margin=margin,
    )


def _write(package: Package, verification: Verification, verifier: Verifier, folder: Path) -> Verification:
    """Puts the results into the metadata and writes all forms; returns the verification with theirs."""
    program, predictions = verifier.execute(package.path)
    target = folder / paths.PACKAGE.name
    results = describe_results(verification, images=verification.images)
    package.model.user_defined_metadata.update(results)
    save_package(package.model, target)
    if program_digest(target) != program_digest(package.path):
        raise RuntimeError("the package with its results computes something else than the verified one")
    save_package(make_classifier(package.model), folder / paths.CLASSIFIER.name)
    forms = [verifier.verify_classifier(folder / paths.CLASSIFIER.name, predictions)]
    decoded = verifier.decode(program)
    told = {key: text for key, text in program.metadata.items() if not key.startswith("com.github.apple.")}
    save_twin(decoded, program.size, {**told, **results}, folder / paths.TWIN.name)
    forms.append(verifier.verify_twin(folder / paths.TWIN.name, predictions, decoded))
    if has_core_ml():
        forms.append(verifier.verify_natively(target, predictions))
    return replace(verification, forms=tuple(forms))


def _refuse(
    package: Package, verification: Verification, packages: Packages, verifier: Verifier, rejects: Path
) -> UnfitError:
    save_package(package.model, rejects / REJECTED)
    budget = verifier.limits.budget_bytes
    if (over := package.bytes - budget) > 0:
        return UnfitError(
            f"export: the {package.precision.name} package is over the budget",
            found=f"{package.bytes:,} bytes, {over:,} too many",
            allowed=f"export.budget_bytes: {budget:,}",
            todo=propose_precisions(packages, verifier),
        )
    return UnfitError(
        f"export: the {package.precision.name} package is not fit to ship",
        found=verification.failures().replace("\n", "; "),
        allowed="the limits under export in params.yaml",
        todo=f"look at {rejects / REJECTED}; another export.precision changes what rounding costs",
    )
