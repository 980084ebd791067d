"""The gate between conversion and registry: the shipped file computes what the trained network computes.

Two steps. The float16 package against PyTorch shows that graph, preprocessing and outputs are right, with a
limit that a wrong scale or colour order cannot meet. The shipped package must then be that package with its
weights in another form: the same operations and constants, and, against the same network with the package's own
decoded weights, the same answers. Limits on agreement, accuracy and RMSE bound what the other form costs. Packages
are executed by `mlpackage.interpret`, not by Apple's runtime.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pocketaffect.config import ExportParams
from pocketaffect.export.finetune import IntegerNetwork
from pocketaffect.export.fold import fold_batchnorm
from pocketaffect.export.measure import (
    Faces,
    Predictions,
    compare,
    load_affect_program,
    predict_network,
    predict_program,
    score,
)
from pocketaffect.export.structure import (
    SAME,
    describe_storage,
    first_difference,
    large_tensor_storage,
    zero_share,
)
from pocketaffect.export.transplant import Transplant, transplant_weights
from pocketaffect.export.verdict import Check, Difference, Quality, Verification
from pocketaffect.labels import EXPRESSIONS, VALENCE_AROUSAL
from pocketaffect.mlpackage.package import package_bytes, read_metadata
from pocketaffect.mlpackage.program import Program
from pocketaffect.precisions import SPEC_VERSIONS, Precision

# Affect spans [-1, 1], twice the range of a probability, and is held to the same share of its range.
_VA_RANGE: Final = 2.0
INTEGER_NOISE: Final = 3.0
"""Float16's rounding moves some activations to the next of 256 steps; a network of ten such layers answered .0035 off
its simulation, one that reads blue first .03."""


class Verifier:
    """Verifies packages of one network on the same faces; what they have in common is computed once.

    Attributes:
        faces: As given.
        folded: The network as it was converted, with BatchNorm folded.

    Args:
        network: Maps float32 [n, 3, S, S] RGB in [0, 1] to (logits [n, 8], valence-arousal [n, 2]).
        faces: Best the whole validation split.
        shipped_form: The network as it was converted, where that is another module of the same function (see
            `models.reparameterize`).
        baseline: The network before it was fine-tuned for its package, whose metrics the package is held to; by
            default `network`.

    Raises:
        PocketAffectError: No labelled face.
    """

    def __init__(
        self,
        network: nn.Module,
        faces: Faces,
        *,
        shipped_form: nn.Module | None = None,
        baseline: nn.Module | None = None,
    ) -> None:
        faces.require_labels()
        self.faces = faces
        converted = network if shipped_form is None else shipped_form
        self.folded = converted if isinstance(converted, IntegerNetwork) else fold_batchnorm(converted)
        self._reference = predict_network(network, faces.images)
        before = self._reference if baseline is None else predict_network(baseline, faces.images)
        self._quality = score(before, faces)
        self._executed: dict[Path, tuple[Program, Predictions]] = {}

    def verify(
        self,
        fp16_path: Path,
        shipped_path: Path,
        limits: ExportParams,
        *,
        precision: Precision | None = None,
        deployment_target: str | None = None,
    ) -> Verification:
        """Compares the shipped package with the network that it was made of, in the two steps named above.

        Args:
            fp16_path: The network converted in fp16, for the same system; may be the shipped package itself.
            shipped_path: The package to ship.
            limits: `export` of params.yaml.
            precision: What was asked for, which the file must be; None holds it against nothing.
            deployment_target: The oldest system that must read the file; None for any.

        Returns:
            Every check with its value; `.passed` is the verdict.

        Raises:
            PocketAffectError: A package that cannot be read or executed or is not of this network, or images that
                do not fit it.
        """
        images = self.faces.images
        program, shipped = self.execute(shipped_path)
        plain, float16 = self.execute(fp16_path)
        on_grid = precision is not None and precision.integer_activations
        transplant = transplant_weights(self.folded, program, on_grid=on_grid)
        before, after = self._quality, score(shipped, self.faces)
        of_float16 = compare(float16, self._reference)
        of_decoded = compare(shipped, predict_network(transplant.network, images))
        of_shipped = compare(shipped, self._reference)
        size = package_bytes(shipped_path)
        limit = limits.max_mean_probability_difference
        if on_grid:
            limit *= INTEGER_NOISE
        checks = (
            # A scale of 1/256 shifts the probabilities of a robust network by less than float16 does.
            Check("factor on image bytes, times 255", round(program.image_scale() * 255, 4), 1.0, "=="),
            *parity_checks("fp16 package against PyTorch", of_float16, limit),
            Check("operations unlike the fp16 package's", first_difference(plain, program), SAME, "=="),
            *parity_checks("package against PyTorch with its weights", of_decoded, limit),
            *_weight_checks(transplant),
            *_storage_checks(program, precision),
            *_target_checks(program, deployment_target),
            *_cost_checks(of_shipped, before, after, limits),
            Check("bytes of the package", float(size), float(limits.budget_bytes), "<="),
            *convention_checks("metadata", read_metadata(shipped_path)),
            *_precision_checks(read_metadata(shipped_path), precision),
        )
        return Verification(
            checks=checks,
            images=len(images),
            expression_labels=int(self.faces.has_expression.sum()),
            valence_arousal_labels=int(self.faces.has_valence_arousal.sum()),
            package_bytes=size,
            float16=of_float16,
            decoded=of_decoded,
            shipped=of_shipped,
            pytorch_quality=before,
            shipped_quality=after,
            precision=None if precision is None else precision.name,
        )

    def execute(self, path: Path) -> tuple[Program, Predictions]:
        """A package and what it answers to the faces; executed once."""
        if path not in self._executed:
            program = load_affect_program(path)
            self._executed[path] = program, predict_program(program, self.faces.images)
        return self._executed[path]


def verify(
    network: nn.Module,
    fp16_path: Path,
    shipped_path: Path,
    images: NDArray[np.uint8],
    expression: NDArray[np.int64],
    valence_arousal: NDArray[np.float32],
    limits: ExportParams,
    *,
    precision: Precision | None = None,
    deployment_target: str | None = None,
) -> Verification:
    """Verifies one package; see `Verifier` for the network, `Verifier.verify` for the rest, `Faces` for the arrays."""
    verifier = Verifier(network, Faces(images, expression, valence_arousal))
    return verifier.verify(fp16_path, shipped_path, limits, precision=precision, deployment_target=deployment_target)


def parity_checks(what: str, difference: Difference, limit: float) -> tuple[Check, ...]:
    """Limits on the mean differences of both outputs; `limit` is that of the probabilities."""
    return (
        Check(f"{what}: mean probability difference", difference.mean_probability, limit, "<"),
        Check(
            f"{what}: mean valence-arousal difference",
            difference.mean_valence_arousal,
            limit * _VA_RANGE,
            "<",
        ),
    )


def _weight_checks(transplant: Transplant) -> tuple[Check, ...]:
    """Altered weights would pass the comparison with themselves, so they are held against the network's."""
    if transplant.rounding is None:
        return ()
    return (Check("largest weight error, in units of its rounding", transplant.rounding, 1.0, "<="),)


def _storage_checks(program: Program, precision: Precision | None) -> Iterator[Check]:
    """A tensor that was left out of the compression costs bytes that nobody sees."""
    if precision is None:
        return
    yield Check("storage of large tensors", large_tensor_storage(program, precision), describe_storage(precision), "==")
    if precision.sparsity:
        # Of a tensor with many equal weights a few more or less than the share may be the smallest.
        yield Check("share of zeros, least sparse tensor", zero_share(program), 0.99 * precision.sparsity, ">=")


def _target_checks(program: Program, deployment_target: str | None) -> Iterator[Check]:
    if deployment_target is not None:
        limit = SPEC_VERSIONS[deployment_target]
        yield Check(f"format version, for {deployment_target}", float(program.version), float(limit), "<=")


def _cost_checks(shipped: Difference, before: Quality, after: Quality, limits: ExportParams) -> tuple[Check, ...]:
    rises = (after.valence_rmse - before.valence_rmse, after.arousal_rmse - before.arousal_rmse)
    return (
        Check("agreement with PyTorch", shipped.agreement, limits.min_agreement, ">="),
        Check("drop in accuracy", before.accuracy - after.accuracy, limits.max_accuracy_drop, "<="),
        # np.max, unlike max, hands a NaN on.
        Check("rise in RMSE, worse dimension", float(np.max(rises)), limits.max_rmse_rise, "<="),
    )


def convention_checks(what: str, metadata: Mapping[str, str]) -> Iterator[Check]:
    """An app orders its classes by the metadata, which no comparison of numbers covers."""
    wanted = {"labels": ",".join(EXPRESSIONS), "valence_arousal_order": ",".join(VALENCE_AROUSAL)}
    for key, text in wanted.items():
        yield Check(f"{what}: {key}", metadata.get(key, ""), text, "==")


def _precision_checks(metadata: Mapping[str, str], precision: Precision | None) -> Iterator[Check]:
    if precision is not None:
        yield Check("metadata: precision", metadata.get("precision", ""), precision.name, "==")
