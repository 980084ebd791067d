"""The vocabulary of labels: expressions in AffectNet's order, the valence-arousal convention, "no label".

Everything that orders classes or reads a label code takes it from here, so that a shard, a metric and a
Core ML file cannot disagree about what index 5 means.
"""

from typing import Final

EXPRESSIONS: Final = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
"""Class names; a name's position is AffectNet's code 0..7 and the network's output index."""

OTHER_EXPRESSIONS: Final = ("none", "uncertain", "non-face")
"""AffectNet's codes 8, 9 and 10: annotated, but no class to learn."""

MAX_EXPRESSION_CODE: Final = len(EXPRESSIONS) + len(OTHER_EXPRESSIONS) - 1

NON_FACE_CODE: Final = 10

SPLITS: Final = ("train", "validation")
"""Parts of a data set, in the order of tables and shards."""

CHOOSING: Final = "choosing"
"""The part of training's images that chooses (epoch, temperature, trials) where `validate.choosing_share` sets one
apart; without one the validation split chooses."""

ALL_SPLITS: Final = ("train", CHOOSING, "validation")

DERIVED_VA: Final = (
    "valence and arousal are derived, and no rater's: AffectNet's means of the classes, averaged under the votes"
)
"""What is said wherever they show."""

SOFT_COLUMNS: Final = tuple(f"soft_{name}" for name in EXPRESSIONS)
"""Columns of a soft label, in tables and shards: the share of the votes that each expression got."""

VALENCE_AROUSAL: Final = ("valence", "arousal")
"""Order of the two affect dimensions. Both lie in [-1, 1]: unpleasant to pleasant, calm to excited."""

BOX_COLUMNS: Final = ("face_x", "face_y", "face_width", "face_height")
EYE_COLUMNS: Final = ("eye_left_x", "eye_left_y", "eye_right_x", "eye_right_y")
"""Centres of the eyes as seen in the image."""

PLACE_COLUMNS: Final = ("path", "archive", "offset", "length", "deflated")
"""Where a file's bytes are: the fields of `data.release.places.Place`."""

NO_VA_CODE: Final = -2.0
"""Value that AffectNet writes for both dimensions where nobody annotated them."""

NO_EXPRESSION: Final = -1
"""Class index of a row without one of the eight expressions, in shards and batches. Missing VA is NaN."""

CLASS_MEAN_VA: Final = (
    (-0.03, -0.02),
    (0.67, 0.08),
    (-0.63, -0.27),
    (0.18, 0.70),
    (-0.12, 0.76),
    (-0.68, 0.45),
    (-0.43, 0.55),
    (-0.51, 0.58),
)
"""Mean (valence, arousal) of each expression on AffectNet's validation set (see Hewitt & Gunes 2018)."""

TRAINED_ON: Final = "trained_on"
"""Key of a model file's metadata: what its pictures were, as the next two name it."""

DRAWINGS: Final = "drawings"
"""The embedded sample. What a network of drawings says of a photograph is worth little, and comes with a warning."""

PHOTOGRAPHS: Final = "photographs"
"""Any other data."""

IMAGE: Final = "image"
"""Input of a shipped file."""

PROBABILITIES: Final = "probabilities"
VALENCE_AROUSAL_OUTPUT: Final = "valence_arousal"
"""Outputs of a shipped file, with the one before."""

EXPRESSION_OUTPUT: Final = "expression"
PROBABILITIES_BY_NAME: Final = "expression_probabilities"
"""Outputs of the classifier form in place of `PROBABILITIES`: the likeliest class's name, and a dictionary by name."""
