"""The shipped file's answers, a row for each validation face, in the columns of `evaluation.outputs`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pocketaffect.coreml.measure import Faces, Predictions
from pocketaffect.files import write_atomically
from pocketaffect.labels import EXPRESSIONS, NO_EXPRESSION, VALENCE_AROUSAL


def write_predictions(predictions: Predictions, faces: Faces, paths: Sequence[str], target: Path) -> None:
    """Writes a Parquet file, the same bytes for the same answers.

    Args:
        predictions: Of n faces.
        faces: The same; only their labels are written.
        paths: Their names, relative to the data set.
        target: The file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    likeliest = predictions.probabilities.argmax(axis=1)
    columns: dict[str, Any] = {
        "path": pa.array(list(paths), pa.string()),
        "expression": [None if index == NO_EXPRESSION else EXPRESSIONS[index] for index in faces.expression],
        "predicted_expression": [EXPRESSIONS[index] for index in likeliest],
    }
    for index, name in enumerate(EXPRESSIONS):
        columns[f"p_{name}"] = pa.array(predictions.probabilities[:, index], pa.float32())
    for index, dimension in enumerate(VALENCE_AROUSAL):
        truth = pa.array(faces.valence_arousal[:, index], pa.float32(), mask=~faces.has_valence_arousal)
        columns[dimension] = truth
        columns[f"predicted_{dimension}"] = pa.array(predictions.valence_arousal[:, index], pa.float32())
    with write_atomically(target) as draft:
        pq.write_table(pa.table(columns), draft, compression="zstd")
