"""On a Mac, the same package executed by Core ML itself. Written from Apple's documentation and never run so far."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import numpy as np

from pocketaffect.config import ExportParams
from pocketaffect.errors import PocketAffectError
from pocketaffect.export.measure import Faces, Predictions, compare
from pocketaffect.export.verdict import Check, Form, parity_checks
from pocketaffect.labels import IMAGE, PROBABILITIES, VALENCE_AROUSAL_OUTPUT
from pocketaffect.mlpackage.package import package_bytes, package_digest
from pocketaffect.mlpackage.quiet import import_coremltools

_FACES: Final = 256
"""Core ML takes them one by one."""


def has_core_ml() -> bool:
    """Tells whether this system has Apple's runtime."""
    return sys.platform == "darwin"


def verify_natively(path: Path, plain: Predictions, faces: Faces, export: ExportParams) -> Form:
    """Executes the plain package with Core ML, on every kind of unit that it chooses, beside the interpreter's answers.

    Args:
        path: The package.
        plain: The interpreter's answers.
        faces: What it answered to; evenly spread ones are taken.
        export: The section of params.yaml.

    Raises:
        PocketAffectError: Core ML does not load the package.
    """
    from PIL import Image

    try:
        model = import_coremltools().models.MLModel(str(path))
        rows = np.unique(np.linspace(0, len(faces.images) - 1, min(_FACES, len(faces.images))).round().astype(int))
        answers = [model.predict({IMAGE: Image.fromarray(faces.images[row])}) for row in rows]
    except Exception as error:  # its exception types are those of Objective-C
        raise PocketAffectError(f"{path}: Core ML cannot run the package", found=error) from None
    outputs = [
        np.concatenate([np.asarray(answer[name], np.float32).reshape(1, -1) for answer in answers])
        for name in (PROBABILITIES, VALENCE_AROUSAL_OUTPUT)
    ]
    difference = compare(Predictions(*outputs), Predictions(plain.probabilities[rows], plain.valence_arousal[rows]))
    checks = (
        *parity_checks("Core ML against the interpreter", difference, export.max_mean_probability_difference),
        Check("Core ML: agreement with the interpreter", difference.agreement, export.min_agreement, ">="),
    )
    return Form("core_ml", package_bytes(path), package_digest(path), difference, checks)
