"""What a network and a package answer to the same images, how far apart that is, and how good."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.metrics import expression_metrics, valence_arousal_metrics
from pocketaffect.labels import EXPRESSIONS, PROBABILITIES, PROBABILITIES_BY_NAME, VALENCE_AROUSAL_OUTPUT
from pocketaffect.mlpackage.program import Program, load_program

_IMAGES_AT_ONCE: Final = 64


@dataclass(frozen=True)
class Predictions:
    """Probabilities [n, 8] and valence-arousal [n, 2], float32."""

    probabilities: NDArray[np.float32]
    valence_arousal: NDArray[np.float32]


@dataclass(frozen=True)
class Difference:
    """How far two sets of predictions lie apart, over all images and outputs."""

    max_probability: float
    mean_probability: float
    max_valence_arousal: float
    mean_valence_arousal: float
    agreement: float


@dataclass(frozen=True)
class Quality:
    """Metrics on the labelled images."""

    accuracy: float
    balanced_accuracy: float
    valence_rmse: float
    arousal_rmse: float


@dataclass(frozen=True)
class Faces:
    """Images with what is known about them.

    Attributes:
        images: uint8 [n, S, S, 3], RGB.
        expression: int64 [n], class index, -1 for none.
        valence_arousal: float32 [n, 2], NaN for none.
    """

    images: NDArray[np.uint8]
    expression: NDArray[np.int64]
    valence_arousal: NDArray[np.float32]

    @property
    def has_expression(self) -> NDArray[np.bool_]:
        """Tells which faces have it: bool [n]."""
        return np.asarray(self.expression >= 0)

    @property
    def has_valence_arousal(self) -> NDArray[np.bool_]:
        """Tells which faces have it: bool [n]."""
        return np.asarray(np.all(np.isfinite(self.valence_arousal), axis=1))

    def require_labels(self) -> None:
        """Refuses faces of which none can be scored.

        Raises:
            PocketAffectError: No image has an expression, nor valence and arousal.
        """
        if not (self.has_expression.any() or self.has_valence_arousal.any()):
            raise PocketAffectError(
                "verification needs images with labels",
                found=f"{len(self.images)} images, none with an expression or valence and arousal",
                allowed="at least one of either",
            )

    def thin_out(self, count: int) -> Faces:
        """Takes at most `count` of the faces, spread evenly over all; itself where there are no more."""
        if len(self.images) <= count:
            return self
        rows = self.spread_rows(count)
        return Faces(np.asarray(self.images[rows]), self.expression[rows], self.valence_arousal[rows])

    def spread_rows(self, count: int) -> NDArray[np.intp]:
        """Lists at most `count` rows, spread evenly over all."""
        return np.unique(np.linspace(0, len(self.images) - 1, min(count, len(self.images))).round().astype(np.intp))


def predict_network(network: nn.Module, images: NDArray[np.uint8]) -> Predictions:
    """Computes what the network answers, in evaluation mode and float32 on the CPU; `network` itself stays as it is."""
    evaluated = copy.deepcopy(network).cpu().float().eval()
    probabilities, affect = [], []
    with torch.no_grad():
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            chunk = torch.from_numpy(np.ascontiguousarray(images[start : start + _IMAGES_AT_ONCE]))
            logits, va = evaluated(chunk.permute(0, 3, 1, 2).float() / 255)
            probabilities.append(torch.softmax(logits, dim=1))
            affect.append(va)
    return Predictions(torch.cat(probabilities).numpy(), torch.cat(affect).numpy())


def load_affect_program(path: Path) -> Program:
    """Opens a package with this project's outputs, of the plain or of the classifier form.

    Raises:
        PocketAffectError: See `program.load_program`; or the outputs have other names, or the classes.
    """
    program = load_program(path)
    wanted = (PROBABILITIES_BY_NAME if program.classes else PROBABILITIES, VALENCE_AROUSAL_OUTPUT)
    if not set(wanted) <= set(program.outputs):
        raise PocketAffectError(
            f"{path}: outputs are missing", found=", ".join(program.outputs), allowed=", ".join(wanted)
        )
    if program.classes and sorted(program.classes) != sorted(EXPRESSIONS):
        raise PocketAffectError(
            f"{path}: other classes", found=", ".join(program.classes), allowed=", ".join(EXPRESSIONS)
        )
    return program


def predict_program(program: Program, images: NDArray[np.uint8]) -> Predictions:
    """Computes what the package answers."""
    return arrange(program.predict(images), program.classes)


def arrange(outputs: Mapping[str, NDArray[Any]], classes: Sequence[str]) -> Predictions:
    """Brings a program's outputs into our order; a classifier's probabilities are found by name, as an app does."""
    if not classes:
        return Predictions(outputs[PROBABILITIES], outputs[VALENCE_AROUSAL_OUTPUT])
    order = [list(classes).index(name) for name in EXPRESSIONS]
    return Predictions(outputs[PROBABILITIES_BY_NAME][:, order], outputs[VALENCE_AROUSAL_OUTPUT])


def compare(ours: Predictions, theirs: Predictions) -> Difference:
    """Measures how far two sets of answers lie apart."""
    probability = np.abs(ours.probabilities.astype(np.float64) - theirs.probabilities)
    affect = np.abs(ours.valence_arousal.astype(np.float64) - theirs.valence_arousal)
    same = ours.probabilities.argmax(axis=1) == theirs.probabilities.argmax(axis=1)
    return Difference(
        max_probability=float(probability.max()),
        mean_probability=float(probability.mean()),
        max_valence_arousal=float(affect.max()),
        mean_valence_arousal=float(affect.mean()),
        agreement=float(same.mean()),
    )


def score(predictions: Predictions, faces: Faces) -> Quality:
    """Computes metrics over the labelled faces, as in `evaluation`."""
    found = {
        **expression_metrics(predictions.probabilities, faces.expression),
        **valence_arousal_metrics(predictions.valence_arousal, faces.valence_arousal),
    }
    names = ("accuracy", "balanced_accuracy", "rmse_valence", "rmse_arousal")
    return Quality(*(found.get(name, math.nan) for name in names))
