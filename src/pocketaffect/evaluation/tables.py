"""The two tables that an evaluation compares, row by row: what a model predicted and what annotators said."""

from collections.abc import Sized
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS, NO_EXPRESSION, VALENCE_AROUSAL

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.integer]

_ROW_SUM_TOLERANCE = 0.01
"""Probabilities computed in half precision miss a sum of 1 by up to a few thousandths."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said about n faces.

    Probabilities are float32 [n, 8] whose rows sum to 1, in the order of `labels.EXPRESSIONS`; valence and arousal
    float32 [n, 2], not clipped: a model may leave [-1, 1].

    Raises:
        PocketAffectError: A shape is wrong, a value is not finite or a row is no distribution.
    """

    probabilities: FloatArray
    valence_arousal: FloatArray

    def __post_init__(self) -> None:
        scores, affect = self.probabilities, self.valence_arousal
        _check_shape("probabilities", scores, len(EXPRESSIONS))
        low, high = -1e-3, 1 + 1e-3
        bad = ~np.isfinite(scores).all(1) | (scores < low).any(1) | (scores > high).any(1)
        _refuse_rows("probabilities", scores, bad, "finite numbers in [0, 1]")
        bad = np.abs(scores.sum(1, dtype=np.float64) - 1) > _ROW_SUM_TOLERANCE
        _refuse_rows("probabilities", scores, bad, "rows that sum to 1 (softmax, not logits)")
        _check_shape("predicted valence and arousal", affect, len(VALENCE_AROUSAL))
        _refuse_rows("predicted valence and arousal", affect, ~np.isfinite(affect).all(1), "finite numbers")
        _check_rows("predictions", scores, affect)

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def expression(self) -> npt.NDArray[np.int64]:
        """The likeliest class of each row, int64 [n]; the lower index where two are equal."""
        return np.asarray(np.argmax(self.probabilities, axis=1), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Labels:
    """What annotators said about n faces.

    Expressions are int64 [n], 0..7, or `labels.NO_EXPRESSION` where there is none; valence and arousal float32 [n, 2]
    in [-1, 1], both NaN where there is none.

    Raises:
        PocketAffectError: A shape is wrong or a value is neither a label nor "no label".
    """

    expression: IntArray
    valence_arousal: FloatArray

    def __post_init__(self) -> None:
        classes, affect = self.expression, self.valence_arousal
        if classes.ndim != 1 or not np.issubdtype(classes.dtype, np.integer):
            found = f"{classes.dtype} {list(classes.shape)}"
            raise PocketAffectError("expression labels: wrong array", found=found, allowed="int64 [n]")
        bad = (classes != NO_EXPRESSION) & ((classes < 0) | (classes >= len(EXPRESSIONS)))
        _refuse_rows("expression labels", classes, bad, f"0..{len(EXPRESSIONS) - 1}, or {NO_EXPRESSION} for none")
        name = "valence and arousal labels"
        _check_shape(name, affect, len(VALENCE_AROUSAL))
        missing = np.isnan(affect)
        outside = ~missing & ~(np.abs(affect) <= 1)
        bad = outside.any(1) | (missing[:, 0] != missing[:, 1])
        _refuse_rows(name, affect, bad, "both in [-1, 1], or both NaN where nobody annotated them")
        _check_rows("labels", classes, affect)

    def __len__(self) -> int:
        return len(self.expression)

    @property
    def has_expression(self) -> npt.NDArray[np.bool_]:
        """Rows with one of the eight expressions, bool [n]."""
        return np.asarray(self.expression != NO_EXPRESSION)

    @property
    def has_valence_arousal(self) -> npt.NDArray[np.bool_]:
        """Rows with valence and arousal, bool [n]."""
        return np.asarray(~np.isnan(self.valence_arousal[:, 0]))


def check_same_rows(predictions: Predictions, labels: Labels) -> None:
    """Refuses predictions and labels of different length."""
    _check_rows("predictions and labels", predictions, labels)


def _check_rows(name: str, first: Sized, second: Sized) -> None:
    if len(first) != len(second):
        raise PocketAffectError(f"{name}: not of the same faces", found=f"{len(first)} and {len(second)} rows")


def _check_shape(name: str, array: FloatArray, columns: int) -> None:
    if array.ndim != 2 or array.shape[1] != columns or not np.issubdtype(array.dtype, np.floating):
        found = f"{array.dtype} {list(array.shape)}"
        raise PocketAffectError(f"{name}: wrong array", found=found, allowed=f"float32 [n, {columns}]")


def _refuse_rows(name: str, array: FloatArray | IntArray, bad: npt.ArrayLike, allowed: str) -> None:
    """Names the first bad row and how many there are."""
    bad = np.asarray(bad)
    if bad.any():
        row = int(np.argmax(bad))
        found = f"{array[row].tolist()} in row {row} (counted from 0); {int(bad.sum())} such row(s)"
        raise PocketAffectError(f"{name}: impossible value", found=found, allowed=allowed)
