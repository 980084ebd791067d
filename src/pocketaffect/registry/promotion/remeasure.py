"""Executes a version's package on the validation faces that lie here, where its own answers are of other faces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from pocketaffect.config import PreprocessParams
from pocketaffect.data.shards.split import open_split
from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.prediction_table import PredictionTable
from pocketaffect.evaluation.tables import Labels, Predictions
from pocketaffect.registry.store.measured import hash_validation

if TYPE_CHECKING:
    from pocketaffect.mlpackage.program import Program

CROP_SETTINGS: Final = ("margin", "align")


def execute_on_shards(
    package: Path, shards: Path, *, wanted: str | None, trained_with: Mapping[str, str], here: PreprocessParams
) -> tuple[PredictionTable, str]:
    """Answers of a package to the validation split in `shards`.

    Args:
        package: The .mlpackage, of bytes that were checked.
        shards: out/shards.
        wanted: Hash of the validation split that the answers must be of; None for whichever lies here.
        trained_with: The run's parameters, `preprocess.…` among them.
        here: Settings that cut the faces in `shards`.

    Returns:
        The answers, and a remark on what was done to the faces; empty for nothing.

    Raises:
        PocketAffectError: Other shards than wanted lie here, or these faces are cut as the package does not expect.
    """
    if wanted is not None and hash_validation(shards) != wanted:
        raise PocketAffectError(
            f"{shards}: not the validation faces that the candidate was measured on",
            todo="`dvc repro` (or git checkout the candidate's commit and `dvc checkout`), then repeat",
        )
    for name in CROP_SETTINGS:
        theirs, ours = trained_with.get(f"preprocess.{name}"), str(getattr(here, name))
        if theirs is not None and theirs != ours:
            raise PocketAffectError(
                f"{package}: expects faces that are cut in another way", found=f"{name} {ours}", allowed=theirs
            )
    from pocketaffect.export.measure import load_affect_program, predict_program

    program = load_affect_program(package)
    split = open_split(shards, "validation")
    faces, remark = _fit(split.images(), program)
    found = predict_program(program, faces)
    return PredictionTable(
        paths=split.paths,
        predictions=Predictions(found.probabilities, found.valence_arousal),
        labels=Labels(split.expression, split.valence_arousal),
    ), remark


def _fit(faces: npt.NDArray[np.uint8], program: Program) -> tuple[npt.NDArray[np.uint8], str]:
    """Fits faces to the program's size: smaller by averaging areas, as `preprocess` makes them; never enlarged."""
    side, wanted = faces.shape[1], program.size
    if side == wanted:
        return faces, ""
    if side < wanted:
        raise PocketAffectError(
            f"the package takes faces of {wanted} px, and those here have {side}: enlarged ones would wrong it",
            todo=f"preprocess.image_size: {wanted} in params.yaml and `dvc repro preprocess`, or --override",
        )
    import cv2

    smaller: Any = [cv2.resize(face, (wanted, wanted), interpolation=cv2.INTER_AREA) for face in faces]
    return np.stack(smaller), f"its faces made smaller, from {side} to {wanted} px"
