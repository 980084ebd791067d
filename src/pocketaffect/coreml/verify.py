"""The gate between conversion and registry: the shipped file computes what the trained network computes.

Two steps. The float16 package against PyTorch shows that graph, preprocessing and outputs are right, with a
limit that a wrong scale or colour order cannot meet. The shipped package against the same network with the
package's own decoded weights shows that compression changed weights alone; limits on agreement, accuracy and
RMSE bound what that change costs. Packages are executed by `coreml.interpret`, not by Apple's runtime.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pocketaffect.config import ExportParams
from pocketaffect.coreml.convert import PROBABILITIES, VALENCE_AROUSAL_OUTPUT
from pocketaffect.coreml.fold import fold_batchnorm
from pocketaffect.coreml.interpret import Program, load_program
from pocketaffect.coreml.package import package_bytes, read_metadata
from pocketaffect.coreml.transplant import transplant_weights
from pocketaffect.coreml.verdict import Check, Difference, Quality, Verification
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS, VALENCE_AROUSAL

_IMAGES_AT_ONCE: Final = 64
# Affect spans [-1, 1], twice the range of a probability, and is held to the same share of its range.
_VA_RANGE: Final = 2.0


@dataclass(frozen=True)
class _Predictions:
    """Probabilities [n, 8] and valence-arousal [n, 2], float32."""

    probabilities: NDArray[np.float32]
    valence_arousal: NDArray[np.float32]


def verify(
    network: nn.Module,
    fp16_path: Path,
    shipped_path: Path,
    images: NDArray[np.uint8],
    expression: NDArray[np.int64],
    valence_arousal: NDArray[np.float32],
    limits: ExportParams,
) -> Verification:
    """Compares the shipped package with the network that it was made of, in the two steps named above.

    Args:
        network: Maps float32 [n, 3, S, S] RGB in [0, 1] to (logits [n, 8], valence-arousal [n, 2]).
        fp16_path: The network converted in fp16; may be the shipped package itself.
        shipped_path: The package to ship.
        images: uint8 [n, S, S, 3], RGB; best the whole validation split.
        expression: int64 [n], class index, -1 for none.
        valence_arousal: float32 [n, 2], NaN for none.
        limits: `export` of params.yaml.

    Returns:
        Every check with its value; `.passed` is the verdict.

    Raises:
        PocketAffectError: A package that cannot be read or executed or is not of this network, images that do
            not fit it, or no labelled image.
    """
    has_expression = expression >= 0
    has_va: NDArray[np.bool_] = np.all(np.isfinite(valence_arousal), axis=1)
    if not has_expression.any() or not has_va.any():
        raise PocketAffectError(
            "verification needs images with labels",
            found=f"{int(has_expression.sum())} expressions and {int(has_va.sum())} valence-arousal pairs",
            allowed="at least one of each",
        )
    reference = _predict_network(network, images)
    program = _load(shipped_path)
    shipped = _predict_program(program, images)
    float16 = shipped if shipped_path == fp16_path else _predict_program(_load(fp16_path), images)
    transplant = transplant_weights(fold_batchnorm(network), program)
    decoded = _predict_network(transplant.network, images)

    def quality(predictions: _Predictions) -> Quality:
        return _quality(predictions, expression, valence_arousal, has_expression, has_va)

    before, after = quality(reference), quality(shipped)
    differences = {
        "float16": _difference(float16, reference),
        "decoded": _difference(shipped, decoded),
        "shipped": _difference(shipped, reference),
    }
    size = package_bytes(shipped_path)
    checks = (
        # A scale of 1/256 shifts the probabilities of a robust network by less than float16 does.
        Check("factor on image bytes, times 255", round(program.image_scale() * 255, 4), 1.0, "=="),
        *_parity_checks("fp16 package against PyTorch", differences["float16"], limits),
        *_parity_checks("package against PyTorch with its weights", differences["decoded"], limits),
        *_weight_checks(transplant.rounding),
        *_cost_checks(differences["shipped"], before, after, limits),
        Check("bytes of the package", float(size), float(limits.budget_bytes), "<="),
        *_convention_checks(read_metadata(shipped_path)),
    )
    return Verification(
        checks=checks,
        images=len(images),
        expression_labels=int(has_expression.sum()),
        valence_arousal_labels=int(has_va.sum()),
        package_bytes=size,
        pytorch_quality=before,
        shipped_quality=after,
        **differences,
    )


def _parity_checks(what: str, difference: Difference, limits: ExportParams) -> tuple[Check, ...]:
    limit = limits.max_mean_probability_difference
    return (
        Check(f"{what}: mean probability difference", difference.mean_probability, limit, "<"),
        Check(
            f"{what}: mean valence-arousal difference",
            difference.mean_valence_arousal,
            limit * _VA_RANGE,
            "<",
        ),
    )


def _weight_checks(rounding: float | None) -> tuple[Check, ...]:
    """Altered weights would pass the comparison with themselves, so they are held against the network's."""
    if rounding is None:
        return ()
    return (Check("largest weight error, in units of its rounding", rounding, 1.0, "<="),)


def _cost_checks(shipped: Difference, before: Quality, after: Quality, limits: ExportParams) -> tuple[Check, ...]:
    rises = (after.valence_rmse - before.valence_rmse, after.arousal_rmse - before.arousal_rmse)
    return (
        Check("agreement with PyTorch", shipped.agreement, limits.min_agreement, ">="),
        Check("drop in accuracy", before.accuracy - after.accuracy, limits.max_accuracy_drop, "<="),
        # np.max, unlike max, hands a NaN on.
        Check("rise in RMSE, worse dimension", float(np.max(rises)), limits.max_rmse_rise, "<="),
    )


def _convention_checks(metadata: Mapping[str, str]) -> tuple[Check, ...]:
    """An app orders its classes by the metadata, which no comparison of numbers covers."""
    return (
        Check("metadata: labels", metadata.get("labels", ""), ",".join(EXPRESSIONS), "=="),
        Check(
            "metadata: valence_arousal_order",
            metadata.get("valence_arousal_order", ""),
            ",".join(VALENCE_AROUSAL),
            "==",
        ),
    )


def _predict_network(network: nn.Module, images: NDArray[np.uint8]) -> _Predictions:
    evaluated = copy.deepcopy(network).cpu().float().eval()
    probabilities, affect = [], []
    with torch.no_grad():
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            chunk = torch.from_numpy(np.ascontiguousarray(images[start : start + _IMAGES_AT_ONCE]))
            logits, va = evaluated(chunk.permute(0, 3, 1, 2).float() / 255)
            probabilities.append(torch.softmax(logits, dim=1))
            affect.append(va)
    return _Predictions(torch.cat(probabilities).numpy(), torch.cat(affect).numpy())


def _load(path: Path) -> Program:
    program = load_program(path)
    missing = {PROBABILITIES, VALENCE_AROUSAL_OUTPUT} - set(program.outputs)
    if missing:
        raise PocketAffectError(
            f"{path}: outputs are missing",
            found=", ".join(program.outputs),
            allowed=f"{PROBABILITIES}, {VALENCE_AROUSAL_OUTPUT}",
        )
    return program


def _predict_program(program: Program, images: NDArray[np.uint8]) -> _Predictions:
    outputs = program.predict(images)
    return _Predictions(outputs[PROBABILITIES], outputs[VALENCE_AROUSAL_OUTPUT])


def _difference(ours: _Predictions, theirs: _Predictions) -> Difference:
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


def _quality(
    predictions: _Predictions,
    expression: NDArray[np.int64],
    valence_arousal: NDArray[np.float32],
    has_expression: NDArray[np.bool_],
    has_va: NDArray[np.bool_],
) -> Quality:
    right = predictions.probabilities.argmax(axis=1)[has_expression] == expression[has_expression]
    error = predictions.valence_arousal[has_va].astype(np.float64) - valence_arousal[has_va]
    rmse = np.sqrt(np.square(error).mean(axis=0))
    return Quality(accuracy=float(right.mean()), valence_rmse=float(rmse[0]), arousal_rmse=float(rmse[1]))
