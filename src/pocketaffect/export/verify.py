"""The gate between conversion and registry: the shipped file computes what the trained network computes.

Two steps. The float16 package against PyTorch shows that graph, preprocessing and outputs are right, with a
limit that a wrong scale or colour order cannot meet. The shipped package must then answer as the same network does with
the package's own decoded weights; limits on agreement, accuracy and RMSE bound what their rounding costs. Packages
are executed by `mlpackage.program`, not by Apple's runtime.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import nn

from pocketaffect.config import ExportParams
from pocketaffect.export.convert import Package
from pocketaffect.export.layers import fold_batchnorm, transplant_weights
from pocketaffect.export.measure import (
    Difference,
    Faces,
    Predictions,
    Quality,
    compare,
    load_affect_program,
    predict_network,
    predict_program,
    score,
)
from pocketaffect.export.verdict import Check, Verification, convention_checks, parity_checks
from pocketaffect.mlpackage.program import Program
from pocketaffect.precisions import COMPRESSED_ABOVE, SPEC_VERSIONS, Precision


class Verifier:
    """Verifies packages of one network on the same faces; what they have in common is computed once.

    Attributes:
        faces: As given.

    Args:
        network: As it was converted; maps float32 [n, 3, S, S], RGB in [0, 1], to (logits [n, 8], valence-arousal
            [n, 2]).
        faces: Best the whole validation split.
        trained: What `network` was made of (see `layers.reparameterize`); by default `network` itself. Packages are
            held to its metrics, and to its answers unless `tuned`.
        tuned: Whether `network` was trained on, and packages are to answer as it does.

    Raises:
        PocketAffectError: No labelled face.
    """

    def __init__(
        self, network: nn.Module, faces: Faces, *, trained: nn.Module | None = None, tuned: bool = False
    ) -> None:
        faces.require_labels()
        self.faces = faces
        self._network, self._trained, self._tuned = network, network if trained is None else trained, tuned
        self._folded = fold_batchnorm(network)
        before = predict_network(self._trained, faces.images)
        self._quality = score(before, faces)
        self._reference = predict_network(network, faces.images) if tuned else before
        self._executed: dict[Path, tuple[Program, Predictions]] = {}

    def on_fewer(self, count: int) -> Verifier:
        """A verifier of the same network on at most `count` of the faces, spread evenly over all."""
        if len(self.faces.images) <= count:
            return self
        return Verifier(self._network, self.faces.thin_out(count), trained=self._trained, tuned=self._tuned)

    def verify(self, package: Package, export: ExportParams) -> Verification:
        """Compares a package with the network that it was made of, in the two steps named above.

        Args:
            package: The file to ship, and its float16 form.
            export: The section of params.yaml: the limits, and the oldest system that must read the file.

        Returns:
            Every check with its value; `.passed` is the verdict.

        Raises:
            PocketAffectError: A package that cannot be read or executed or is not of this network, or images that
                do not fit it.
        """
        program, shipped = self.execute(package.path)
        decoded = predict_network(self.decode(program), self.faces.images)
        wanted, before, after = package.precision, self._quality, score(shipped, self.faces)
        of_float16 = compare(self.execute(package.reference)[1], self._reference)
        of_decoded = compare(shipped, decoded)
        of_shipped = compare(shipped, self._reference)
        newest, limit = SPEC_VERSIONS[export.deployment_target], export.max_mean_probability_difference
        checks = (
            # A scale of 1/256 shifts the probabilities of a robust network by less than float16 does.
            Check("factor on image bytes, times 255", round(program.image_scale() * 255, 4), 1.0, "=="),
            *parity_checks("fp16 package against PyTorch", of_float16, limit),
            *parity_checks("package against PyTorch with its weights", of_decoded, limit),
            # A tensor that was left out of the compression costs bytes that nobody sees.
            Check("storage of large tensors", large_tensor_storage(program, wanted), wanted.storage, "=="),
            Check(f"format version, for {export.deployment_target}", float(program.version), float(newest), "<="),
            *_cost_checks(of_shipped, before, after, export, self.faces),
            Check("bytes of the package", float(package.bytes), float(export.budget_bytes), "<="),
            *convention_checks("metadata", program.metadata),
            Check("metadata: precision", program.metadata.get("precision", ""), wanted.name, "=="),
        )
        return Verification(
            checks=checks,
            images=len(self.faces.images),
            expression_labels=int(self.faces.has_expression.sum()),
            valence_arousal_labels=int(self.faces.has_valence_arousal.sum()),
            package_bytes=package.bytes,
            float16=of_float16,
            decoded=of_decoded,
            shipped=of_shipped,
            pytorch_quality=before,
            shipped_quality=after,
            precision=wanted.name,
        )

    def execute(self, path: Path) -> tuple[Program, Predictions]:
        """A package and what it answers to the faces; executed once."""
        if path not in self._executed:
            program = load_affect_program(path)
            self._executed[path] = program, predict_program(program, self.faces.images)
        return self._executed[path]

    def decode(self, program: Program) -> nn.Module:
        """The network with the program's decoded weights."""
        return transplant_weights(self._folded, program)


def large_tensor_storage(program: Program, precision: Precision) -> str:
    """How a package holds its tensors of more than `COMPRESSED_ABOVE` weights.

    Returns:
        `precision.storage` if all are held so and no smaller one is compressed; otherwise the forms that there are,
        with their numbers of tensors.
    """
    forms: Counter[str] = Counter()
    for name, array in program.decoded_weights().items():
        storage = program.storage(name)
        if array.ndim > 1 and (array.size > COMPRESSED_ABOVE or storage.startswith("constexpr_")):
            forms[storage] += 1
    if set(forms) <= {precision.storage}:
        return precision.storage
    return "; ".join(f"{form} in {count} tensors" for form, count in sorted(forms.items()))


def _cost_checks(
    shipped: Difference, before: Quality, after: Quality, export: ExportParams, faces: Faces
) -> Iterator[Check]:
    """What the package may lose; where no face has a task's labels, only agreement can say it."""
    yield Check("agreement with PyTorch", shipped.agreement, export.min_agreement, ">=")
    if faces.has_expression.any():
        yield Check("drop in accuracy", before.accuracy - after.accuracy, export.max_accuracy_drop, "<=")
    if faces.has_valence_arousal.any():
        rises = (after.valence_rmse - before.valence_rmse, after.arousal_rmse - before.arousal_rmse)
        # np.max, unlike max, hands a NaN on.
        yield Check("rise in RMSE, worse dimension", float(np.max(rises)), export.max_rmse_rise, "<=")
