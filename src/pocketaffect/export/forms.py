"""The files beside the plain package, each executed against it: the classifier form and the ONNX twin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from torch import nn

from pocketaffect.config import ExportParams
from pocketaffect.export.describe import EXPRESSION_OUTPUT, PROBABILITIES, VALENCE_AROUSAL_OUTPUT
from pocketaffect.export.measure import (
    Faces,
    Predictions,
    arrange,
    compare,
    load_affect_program,
    predict_network,
)
from pocketaffect.export.twin import load_twin
from pocketaffect.export.verdict import Check, Difference, Form
from pocketaffect.export.verify import convention_checks, parity_checks
from pocketaffect.files import hash_file
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.mlpackage.package import package_bytes, package_digest, read_metadata, read_spec

_SAME_WEIGHTS: Final = 1e-3
"""Two float32 runtimes with the same weights: sums in another order gave up to 2e-6 on trained networks."""
_INTEGER_STEP: Final = 0.05
"""Instead, with integer activations: where the sums differ by a hair, an activation takes the next of 256 steps."""
_DIGITS: Final = 4
"""Of what onnxruntime answers, whose arithmetic follows the processor: reports shall not."""


def verify_classifier(path: Path, plain: Predictions, faces: Faces, limits: ExportParams) -> Form:
    """Executes the classifier form, which must answer exactly as the plain one does, under the right names.

    Args:
        path: The classifier's package.
        plain: What the plain package answered to the faces.
        faces: The same.
        limits: `export` of params.yaml.

    Raises:
        PocketAffectError: A package that cannot be read or executed, or whose outputs are others.
    """
    program = load_affect_program(path)
    outputs = program.predict(faces.images)
    answers = arrange(outputs, program.classes)
    labels = outputs.get(EXPRESSION_OUTPUT)
    likeliest = np.array(EXPRESSIONS)[plain.probabilities.argmax(axis=1)]
    wrong = len(likeliest) if labels is None else int((labels != likeliest).sum())
    difference = compare(answers, plain)
    description = read_spec(path).description
    size = package_bytes(path)
    checks = (
        Check("classifier: class names", ",".join(program.classes), ",".join(EXPRESSIONS), "=="),
        Check("classifier: output that Vision reads", description.predictedFeatureName, EXPRESSION_OUTPUT, "=="),
        Check("classifier: faces with another label", float(wrong), 0.0, "=="),
        Check("classifier: largest probability difference", difference.max_probability, 0.0, "=="),
        Check("classifier: largest valence-arousal difference", difference.max_valence_arousal, 0.0, "=="),
        Check("classifier: bytes of the package", float(size), float(limits.budget_bytes), "<="),
        *convention_checks("classifier: metadata", read_metadata(path)),
    )
    return Form("classifier", size, package_digest(path), difference, checks)


def verify_twin(
    file: Path, plain: Predictions, decoded: nn.Module, faces: Faces, limits: ExportParams, *, noise: float = 1.0
) -> Form:
    """Executes the ONNX twin with onnxruntime, against PyTorch with the package's weights and against the package.

    Args:
        file: The `.onnx` file.
        plain: What the plain package answered to the faces.
        decoded: The network with the package's weights.
        faces: The same as for `plain`.
        limits: `export` of params.yaml.
        noise: Factor on the limits, for a package with integer activations.

    Raises:
        PocketAffectError: The file cannot be opened, or has other inputs and outputs.
    """
    twin = load_twin(file)
    outputs = twin.predict(faces.images)
    answers = Predictions(outputs[PROBABILITIES], outputs[VALENCE_AROUSAL_OUTPUT])
    to_network = compare(answers, predict_network(decoded, faces.images))
    difference = _rounded(compare(answers, plain))
    largest = float(np.max([to_network.max_probability, to_network.max_valence_arousal]))
    limit = limits.max_mean_probability_difference * noise
    most = _SAME_WEIGHTS if noise == 1 else _INTEGER_STEP
    checks = (
        Check("twin against PyTorch with its weights: largest difference", round(largest, _DIGITS), most, "<"),
        *parity_checks("twin against the package", difference, limit),
        Check("twin: agreement with the package", difference.agreement, limits.min_agreement, ">="),
        *convention_checks("twin: metadata", twin.metadata),
    )
    return Form("twin", file.stat().st_size, hash_file(file), difference, checks)


def _rounded(difference: Difference) -> Difference:
    values: Mapping[str, float] = vars(difference)
    return Difference(**{name: round(value, _DIGITS) for name, value in values.items()})
