"""The gate between conversion and registry: the shipped files compute what the trained network computes.

Two steps. The float16 package against PyTorch shows that graph, preprocessing and outputs are right, with a
limit that a wrong scale or colour order cannot meet. The shipped package must then answer as the same network does with
the package's own decoded weights; limits on agreement, accuracy and RMSE bound what their rounding costs. Packages
are executed by `mlpackage.program`, not by Apple's runtime, but on a Mac by both. The forms beside the package are held
to its answers.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from torch import nn

from pocketaffect.config import ExportParams
from pocketaffect.errors import PocketAffectError
from pocketaffect.export import measure
from pocketaffect.export.convert import Package
from pocketaffect.export.layers import fold_batchnorm, transplant_weights
from pocketaffect.export.session import load_twin
from pocketaffect.export.verdict import Check, Form, Verification, convention_checks, parity_checks
from pocketaffect.files import hash_file
from pocketaffect.labels import EXPRESSION_OUTPUT, EXPRESSIONS, IMAGE, PROBABILITIES, VALENCE_AROUSAL_OUTPUT
from pocketaffect.mlpackage.package import package_bytes, package_digest
from pocketaffect.mlpackage.program import Program
from pocketaffect.mlpackage.quiet import import_coremltools
from pocketaffect.precisions import COMPRESSED_ABOVE, SPEC_VERSIONS, Precision

_SAME_WEIGHTS: Final = 1e-3
"""Two float32 runtimes with the same weights: sums in another order gave up to 2e-6 on trained networks."""
_DIGITS: Final = 4
"""Decimals of what onnxruntime answers, whose arithmetic depends on the processor: reports shall not."""
_NATIVE_FACES: Final = 256
"""Core ML takes them one by one."""


class Verifier:
    """Verifies packages of one network on the same faces; what they have in common is computed once.

    Args:
        network: As it was converted; maps float32 [n, 3, S, S], RGB in [0, 1], to (logits [n, 8], valence-arousal
            [n, 2]).
        faces: Best the whole validation split.
        limits: What packages and their forms are held to, their bytes included.
        trained: What `network` was made of (see `layers.reparameterize`); by default `network` itself. Packages are
            held to its metrics, and to its answers unless `tuned`.
        tuned: Whether `network` was trained on, and packages are to answer as it does.

    Raises:
        PocketAffectError: No labelled face.
    """

    def __init__(
        self,
        network: nn.Module,
        faces: measure.Faces,
        limits: ExportParams,
        *,
        trained: nn.Module | None = None,
        tuned: bool = False,
    ) -> None:
        faces.require_labels()
        self.faces, self.limits = faces, limits
        self._network, self._trained, self._tuned = network, network if trained is None else trained, tuned
        self._folded = fold_batchnorm(network)
        before = measure.predict_network(self._trained, faces.images)
        self._quality = measure.score(before, faces)
        self._reference = measure.predict_network(network, faces.images) if tuned else before
        self._executed: dict[Path, tuple[Program, measure.Predictions]] = {}

    def on(self, faces: measure.Faces) -> Verifier:
        """Makes a verifier of the same network, held to the same limits, on other faces."""
        if faces is self.faces:
            return self
        return Verifier(self._network, faces, self.limits, trained=self._trained, tuned=self._tuned)

    def verify(self, package: Package) -> Verification:
        """Compares a package with the network that it was made of, in the two steps named above.

        Returns:
            Every check with its value; `.passed` is the verdict.

        Raises:
            PocketAffectError: A package that cannot be read or executed or is not of this network, or images that
                do not fit it.
        """
        program, shipped = self.execute(package.path)
        decoded = measure.predict_network(self.decode(program), self.faces.images)
        wanted, before, after = package.precision, self._quality, measure.score(shipped, self.faces)
        of_float16 = measure.compare(self.execute(package.reference)[1], self._reference)
        of_decoded = measure.compare(shipped, decoded)
        of_shipped = measure.compare(shipped, self._reference)
        limits, limit = self.limits, self.limits.max_mean_probability_difference
        newest = float(SPEC_VERSIONS[limits.deployment_target])
        checks = (
            # A scale of 1/256 shifts the probabilities of a robust network by less than float16 does.
            Check("factor on image bytes, times 255", round(program.image_scale() * 255, 4), 1.0, "=="),
            *parity_checks("fp16 package against PyTorch", of_float16, limit),
            *parity_checks("package against PyTorch with its weights", of_decoded, limit),
            # A tensor that was left out of the compression costs bytes that nobody sees.
            Check("storage of large tensors", large_tensor_storage(program, wanted), wanted.storage, "=="),
            Check(f"format version, for {limits.deployment_target}", float(program.version), newest, "<="),
            *self._cost_checks(of_shipped, after),
            Check("bytes of the package", float(package.bytes), float(limits.budget_bytes), "<="),
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

    def execute(self, path: Path) -> tuple[Program, measure.Predictions]:
        """Opens a package and gives what it answers to the faces; executed once."""
        if path not in self._executed:
            program = measure.load_affect_program(path)
            self._executed[path] = program, measure.predict_program(program, self.faces.images)
        return self._executed[path]

    def decode(self, program: Program) -> nn.Module:
        """Copies the network with the program's decoded weights."""
        return transplant_weights(self._folded, program)

    def _cost_checks(self, shipped: measure.Difference, after: measure.Quality) -> Iterator[Check]:
        """Bounds what the package may lose; where no face has a task's labels, only agreement can say it."""
        limits, before = self.limits, self._quality
        yield Check("agreement with PyTorch", shipped.agreement, limits.min_agreement, ">=")
        if self.faces.has_expression.any():
            yield Check("drop in accuracy", before.accuracy - after.accuracy, limits.max_accuracy_drop, "<=")
        if self.faces.has_valence_arousal.any():
            rises = (after.valence_rmse - before.valence_rmse, after.arousal_rmse - before.arousal_rmse)
            # np.max, unlike max, hands a NaN on.
            yield Check("rise in RMSE, worse dimension", float(np.max(rises)), limits.max_rmse_rise, "<=")

    def verify_classifier(self, path: Path, plain: measure.Predictions) -> Form:
        """Executes the classifier form, which must answer exactly as the plain package did, under the right names.

        Raises:
            PocketAffectError: A package that cannot be read or executed, or whose outputs are others.
        """
        program = measure.load_affect_program(path)
        outputs = program.predict(self.faces.images)
        labels = outputs.get(EXPRESSION_OUTPUT)
        likeliest = np.array(EXPRESSIONS)[plain.probabilities.argmax(axis=1)]
        wrong = len(likeliest) if labels is None else int((labels != likeliest).sum())
        difference, size = measure.compare(measure.arrange(outputs, program.classes), plain), package_bytes(path)
        checks = (
            Check("classifier: class names", ",".join(program.classes), ",".join(EXPRESSIONS), "=="),
            Check("classifier: output that Vision reads", program.label, EXPRESSION_OUTPUT, "=="),
            Check("classifier: faces with another label", float(wrong), 0.0, "=="),
            Check("classifier: largest probability difference", difference.max_probability, 0.0, "=="),
            Check("classifier: largest valence-arousal difference", difference.max_valence_arousal, 0.0, "=="),
            Check("classifier: bytes of the package", float(size), float(self.limits.budget_bytes), "<="),
            *convention_checks("classifier: metadata", program.metadata),
        )
        return Form("classifier", size, package_digest(path), difference, checks)

    def verify_twin(self, file: Path, plain: measure.Predictions, decoded: nn.Module) -> Form:
        """Executes the ONNX twin with onnxruntime, against `decoded` in PyTorch and against the package.

        Raises:
            PocketAffectError: The file cannot be opened, or has other inputs and outputs.
        """
        twin = load_twin(file)
        outputs = twin.predict(self.faces.images)
        answers = measure.Predictions(outputs[PROBABILITIES], outputs[VALENCE_AROUSAL_OUTPUT])
        to_network, difference = (
            measure.compare(answers, measure.predict_network(decoded, self.faces.images)),
            measure.compare(answers, plain),
        )
        difference = replace(difference, **{name: round(value, _DIGITS) for name, value in vars(difference).items()})
        largest = round(float(np.max([to_network.max_probability, to_network.max_valence_arousal])), _DIGITS)
        checks = (
            Check("twin against PyTorch with its weights: largest difference", largest, _SAME_WEIGHTS, "<"),
            *parity_checks("twin against the package", difference, self.limits.max_mean_probability_difference),
            Check("twin: agreement with the package", difference.agreement, self.limits.min_agreement, ">="),
            *convention_checks("twin: metadata", twin.metadata),
        )
        return Form("twin", file.stat().st_size, hash_file(file), difference, checks)

    def verify_natively(self, path: Path, plain: measure.Predictions) -> Form:
        """Executes the plain package with Core ML, on every kind of unit that it chooses, on evenly spread faces.

        Written from Apple's documentation, and never run so far.

        Raises:
            PocketAffectError: Core ML does not load the package.
        """
        from PIL import Image

        images = self.faces.images
        try:
            model = import_coremltools().models.MLModel(str(path))
            rows = self.faces.spread_rows(_NATIVE_FACES)
            answers = [model.predict({IMAGE: Image.fromarray(images[row])}) for row in rows]
        except Exception as error:  # its exception types are those of Objective-C
            raise PocketAffectError(f"{path}: Core ML cannot run the package", found=error) from None
        outputs = [
            np.concatenate([np.asarray(answer[name], np.float32).reshape(1, -1) for answer in answers])
            for name in (PROBABILITIES, VALENCE_AROUSAL_OUTPUT)
        ]
        difference = measure.compare(
            measure.Predictions(*outputs), measure.Predictions(plain.probabilities[rows], plain.valence_arousal[rows])
        )
        limits = self.limits
        checks = (
            *parity_checks("Core ML against the interpreter", difference, limits.max_mean_probability_difference),
            Check("Core ML: agreement with the interpreter", difference.agreement, limits.min_agreement, ">="),
        )
        return Form("core_ml", package_bytes(path), package_digest(path), difference, checks)


def has_core_ml() -> bool:
    """Tells whether this system has Apple's runtime."""
    return sys.platform == "darwin"


def large_tensor_storage(program: Program, precision: Precision) -> str:
    """Says how a package holds its tensors of more than `COMPRESSED_ABOVE` weights.

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
