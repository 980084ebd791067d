"""What a package says about itself: how to feed it, how to read it, who answers for it, what it was measured at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS, VALENCE_AROUSAL
from pocketaffect.precisions import Precision

IMAGE: Final = "image"
PROBABILITIES: Final = "probabilities"
VALENCE_AROUSAL_OUTPUT: Final = "valence_arousal"
EXPRESSION_OUTPUT: Final = "expression"
"""Output of the classifier form: the name of the likeliest class."""
PROBABILITIES_BY_NAME: Final = "expression_probabilities"
"""Output of the classifier form: a dictionary from name to probability."""


@dataclass(frozen=True)
class PackageDescription:
    """What a package says about itself, beside the conventions that `convert` always adds.

    Attributes:
        author: Who answers for the model.
        licence: Licence of the weights.
        version: The model's own version.
        short_description: One sentence, shown by Xcode and Finder.
        metadata: Further text under keys of your choice: lineage, metrics, verification.
        crop_margin: Added at each end of the face box's longer side, as a share of it (`preprocess.margin`).
    """

    author: str
    licence: str
    version: str
    short_description: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    crop_margin: float = 0.0


def conventions(size: int, precision: Precision, crop_margin: float) -> dict[str, str]:
    """Returns the metadata that an app needs to feed the model and to read its answer."""
    return {
        "labels": ",".join(EXPRESSIONS),
        "input_color_order": "RGB",
        "input_range": "0..255, one byte per channel; scaling and normalisation are inside the model",
        "input_size": str(size),
        "crop": "a square around the face box: its longer side, plus crop_margin of it at each end",
        "crop_margin": f"{crop_margin:g}",
        "valence_arousal_order": ",".join(VALENCE_AROUSAL),
        "valence_arousal_range": "-1..1; valence: unpleasant to pleasant; arousal: calm to excited",
        "precision": precision.name,
        "deployment_target": precision.target,
    }


def check_metadata(size: int, precision: Precision, description: PackageDescription) -> dict[str, str]:
    """Checks all keys and texts that the package will have.

    Raises:
        PocketAffectError: The description has a key that `convert` itself writes.
    """
    own = conventions(size, precision, description.crop_margin)
    taken = sorted(set(own) & set(description.metadata))
    if taken:
        raise PocketAffectError("package metadata: keys that export writes itself", found=", ".join(taken))
    return {**own, **description.metadata}


def describe(model: Any, size: int, description: PackageDescription, texts: Mapping[str, str]) -> None:
    """Writes description and `texts` into a `coremltools.models.MLModel` of the plain form."""
    model.author = description.author
    model.license = description.licence
    model.version = description.version
    model.short_description = description.short_description
    for key, value in sorted(texts.items()):
        model.user_defined_metadata[key] = value
    margin = f"{description.crop_margin:g}"
    model.input_description[IMAGE] = (
        f"A face, RGB, {size} x {size} pixels, bytes of 0 to 255: a square around the face box, {margin} of its longer "
        "side wider at each end."
    )
    model.output_description[PROBABILITIES] = f"Probability of each expression: {', '.join(EXPRESSIONS)}."
    model.output_description[VALENCE_AROUSAL_OUTPUT] = (
        "Valence (unpleasant -1 to pleasant 1), then arousal (calm -1 to excited 1)."
    )
