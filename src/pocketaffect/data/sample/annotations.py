"""What each row's face shows, as facial action units with intensity, and how annotators get from it to a label.

Units after the Facial Action Coding System (Ekman, Friesen & Hager, 2002). Which units make an expression
follows EMFACS (Friesen & Ekman, 1983) as tabulated by Lucey et al., "The Extended Cohn-Kanade Dataset"
(CK+), CVPR Workshops 2010, table 1, with the variants named there. Contempt is one-sided.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from pocketaffect.data.sample.draws import Draws
from pocketaffect.labels import CLASS_MEAN_VA, EXPRESSIONS, NO_VA_CODE, NON_FACE_CODE

ActionUnits = Mapping[int, tuple[float, float]]
"""Intensity in 0..1 of each active unit on the image's left and right side of the face.

Units: 1 inner and 2 outer brow raiser, 4 brow lowerer, 5 upper lid raiser, 6 cheek raiser, 7 lid tightener, 9 nose
wrinkler, 10 upper lip raiser, 12 lip corner puller, 14 dimpler, 15 lip corner depressor, 16 lower lip depressor,
17 chin raiser, 20 lip stretcher, 23 lip tightener, 24 lip pressor, 25 lips part, 26 jaw drop, 43 eyes closed.
"""

PROTOTYPES: Final[Mapping[str, tuple[Mapping[int, float], ...]]] = {
    "neutral": ({},),
    "happiness": (
        {6: 0.8, 12: 0.9},
        {6: 0.9, 12: 1.0, 25: 0.7},
        {6: 1.0, 12: 1.0, 25: 1.0, 26: 0.4},
    ),
    "sadness": (
        {1: 1.0, 4: 0.5, 15: 1.0, 17: 0.4, 43: 0.3},
        {1: 1.0, 4: 0.6, 15: 0.8, 17: 0.8, 43: 0.4},
        {1: 0.8, 15: 1.0, 43: 0.4},
    ),
    "surprise": (
        {1: 1.0, 2: 1.0, 5: 0.8, 25: 1.0, 26: 1.0},
        {1: 0.9, 2: 1.0, 5: 0.9, 25: 0.7, 26: 0.6},
    ),
    "fear": (
        {1: 1.0, 2: 0.3, 4: 0.7, 5: 1.0, 16: 0.5, 20: 1.0, 25: 0.7},
        {1: 1.0, 2: 0.4, 4: 0.8, 5: 1.0, 7: 0.2, 20: 0.9, 25: 1.0, 26: 0.3},
    ),
    "disgust": (
        {4: 0.4, 7: 0.4, 9: 1.0, 10: 0.8, 17: 0.7},
        {4: 0.3, 6: 0.3, 9: 1.0, 10: 1.0, 16: 0.4, 25: 0.7},
        {4: 0.3, 7: 0.4, 9: 0.8, 10: 1.0, 15: 0.6},
    ),
    "anger": (
        {4: 1.0, 5: 0.4, 7: 0.5, 23: 0.8, 24: 0.8, 17: 0.4},
        {4: 1.0, 5: 0.5, 7: 0.4, 15: 0.3, 23: 0.7},
        {4: 1.0, 5: 0.5, 7: 0.5, 10: 0.4, 16: 0.6, 23: 0.4, 25: 1.0},
    ),
    "contempt": (
        {12: 0.8, 14: 1.0},
        {12: 0.7, 14: 1.0, 43: 0.2},
        {2: 0.6, 12: 0.7, 14: 0.9},
    ),
}
"""Ways of showing each expression: units at full intensity."""

INTENSITY_RANGE: Final = (0.35, 1.0)
MEAN_INTENSITY: Final = (INTENSITY_RANGE[0] + INTENSITY_RANGE[1]) / 2

VA_SLOPE: Final = 0.7
"""Change of (valence, arousal) with intensity: 0 none, 1 in proportion."""

UNIT_VA: Final[Mapping[int, tuple[float, float]]] = {
    1: (-0.05, 0.1),
    4: (-0.25, 0.1),
    5: (0.0, 0.3),
    6: (0.1, 0.0),
    9: (-0.2, 0.1),
    12: (0.3, 0.0),
    15: (-0.3, -0.1),
    25: (0.0, 0.15),
    26: (0.0, 0.2),
    43: (0.0, -0.3),
}
"""Amounts that a unit beyond (or short of) its expression's average adds to (valence, arousal)."""


@dataclass(frozen=True)
class Pose:
    """One shown expression: its class index 0..7 and intensity 0..1, and the action units that show it."""

    expression: int
    intensity: float
    units: ActionUnits
    valence_arousal: tuple[float, float]
    """The affect that the face shows, before annotators' noise, each in [-1, 1]."""


def sample_pose(draws: Draws, expression: int, intensity: float | None = None) -> Pose:
    """Draws one way of showing an expression; its intensity is drawn too, and replaced where one is given."""
    drawn = draws.uniform(*INTENSITY_RANGE)
    intensity = drawn if intensity is None else intensity
    name = EXPRESSIONS[expression]
    variant = draws.pick(PROTOTYPES[name])
    units: dict[int, tuple[float, float]] = {}
    for unit, peak in variant.items():
        strength = peak * draws.uniform(0.8, 1.1) * intensity
        asymmetry = draws.uniform(-0.12, 0.12)
        units[unit] = min(1.0, strength * (1 + asymmetry)), min(1.0, strength * (1 - asymmetry))
    if name == "contempt":
        units = _keep_one_side(units, left=draws.chance(0.5))
    units = _add_habits(draws, units, reach=0.4 if name == "neutral" else 0.2)
    return Pose(expression, intensity, units, shown_va(expression, intensity, units))


def sample_odd_units(draws: Draws) -> ActionUnits:
    """Draws the units of a face that shows none of the eight expressions: a wink, a chewing mouth, half of two."""
    units: dict[int, tuple[float, float]] = {}
    for unit in (draws.pick((43, 14, 23)), draws.pick((17, 26, 20, 25)), draws.pick((2, 10, 6))):
        units[unit] = (draws.uniform(0.0, 0.9), draws.uniform(0.0, 0.9))
    return units


def _keep_one_side(units: Mapping[int, tuple[float, float]], left: bool) -> dict[int, tuple[float, float]]:
    """Drops brow and mouth units from one side; what the lids do stays on both."""
    kept = dict(units)
    for unit in (2, 12, 14):
        if unit in kept:
            kept[unit] = (kept[unit][0], 0.0) if left else (0.0, kept[unit][1])
    return kept


def _add_habits(draws: Draws, units: Mapping[int, tuple[float, float]], reach: float) -> dict[int, tuple[float, float]]:
    """Adds the small movements that a person's face shows whatever it feels."""
    moved = dict(units)
    for unit in (draws.pick((1, 2, 4, 43)), draws.pick((12, 15, 17, 25, 24))):
        extra = draws.uniform(-reach, reach)
        if extra > 0:
            left, right = moved.get(unit, (0.0, 0.0))
            moved[unit] = (min(1.0, left + extra), min(1.0, right + extra))
    return moved


def shown_va(expression: int, intensity: float, units: Mapping[int, tuple[float, float]]) -> tuple[float, float]:
    """Computes the class's mean, moved along intensity and by each unit's deviation from the class's average."""
    variants = PROTOTYPES[EXPRESSIONS[expression]]
    one_sided = EXPRESSIONS[expression] == "contempt"
    factor = 1 + VA_SLOPE * (intensity / MEAN_INTENSITY - 1)
    valence, arousal = (mean * factor for mean in CLASS_MEAN_VA[expression])
    for unit, (towards_valence, towards_arousal) in UNIT_VA.items():
        expected = sum(variant.get(unit, 0.0) for variant in variants) / len(variants) * intensity
        if one_sided and unit in (2, 12, 14):
            expected /= 2
        left, right = units.get(unit, (0.0, 0.0))
        deviation = (left + right) / 2 - expected
        valence += towards_valence * deviation
        arousal += towards_arousal * deviation
    return max(-1.0, min(1.0, valence)), max(-1.0, min(1.0, arousal))


Split = Literal["training", "validation"]
SPLITS: Final[tuple[Split, ...]] = ("training", "validation")

NONE_CODE: Final = len(EXPRESSIONS)
UNCERTAIN_CODE: Final = NONE_CODE + 1

# AffectNet's official training counts of codes 0..7 are 74,874 134,415 25,459 14,090 6,378 3,803 24,882 and
# 3,750. Its own shares would leave the rarest class 34 of 2,600 images; these are its shares to the power 0.7,
# scaled to 1000: the same order, no class below 2.7 %.
_TRAINING_SHARES: Final = (239, 361, 113, 75, 42, 30, 111, 29)
_BALANCED_SHARES: Final = (125,) * 8
# Codes 8, 9, 10 per thousand rows, in both splits.
_OTHER_SHARES: Final = (15, 10, 10)

CONFUSIONS: Final = (
    (247, 7, 52, 60, 11, 22, 34, 67),
    (20, 358, 6, 26, 4, 15, 4, 67),
    (63, 9, 279, 22, 38, 41, 37, 11),
    (33, 22, 15, 298, 97, 20, 7, 8),
    (21, 6, 32, 72, 320, 32, 12, 5),
    (29, 9, 36, 24, 31, 316, 42, 13),
    (71, 4, 39, 22, 29, 98, 216, 21),
    (71, 56, 12, 21, 3, 33, 26, 278),
)
"""Shares of what is taken for what (rows true, columns read): Hewitt & Gunes 2018, VGG variant."""

MISREAD_RATE: Final = 0.10
VA_NOISE: Final = 0.10
MISSING_VA_RATE: Final = 0.02


@dataclass(frozen=True)
class Annotation:
    """One row's label, AffectNet's code 0..10, and what its picture shows."""

    label: int
    valence_arousal: tuple[float, float]
    """Values as in the CSV: each in [-1, 1] with 4 decimals, or both NO_VA_CODE."""
    shown: int | None
    """Class that is drawn, 0..7; None for codes 8 and 10."""
    units: ActionUnits | None
    """Action units of the drawn face; None without a face."""


def plan_labels(split: Split, count: int, seed: int) -> list[int]:
    """Plans the labels of a split's rows, 11 or more, in their order: exact shares, shuffled; every code appears.

    Training is imbalanced as AffectNet is, validation balanced.
    """
    classes = _TRAINING_SHARES if split == "training" else _BALANCED_SHARES
    shares = (*classes, *(share * sum(classes) // 965 for share in _OTHER_SHARES))
    total = sum(shares)
    counts = [max(1, count * share // total) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda code: -(count * shares[code] % total))
    turn = 0
    while sum(counts) < count:
        counts[by_remainder[turn % len(shares)]] += 1
        turn += 1
    while sum(counts) > count:
        counts[counts.index(max(counts))] -= 1
    labels = [code for code, number in enumerate(counts) for _ in range(number)]
    draws = Draws(seed, SPLITS.index(split))
    for last in range(len(labels) - 1, 0, -1):
        other = draws.index(last + 1)
        labels[last], labels[other] = labels[other], labels[last]
    return labels


def sample_annotation(draws: Draws, label: int) -> Annotation:
    """Draws what the row with this label shows, and the valence and arousal written for it."""
    if label == NON_FACE_CODE:
        return Annotation(label, (NO_VA_CODE, NO_VA_CODE), None, None)
    if label == NONE_CODE:
        units = sample_odd_units(draws)
        return Annotation(label, _annotate(draws, shown_va(0, 0.0, units)), None, units)
    if label == UNCERTAIN_CODE:
        shown = draws.index(len(EXPRESSIONS))
        return Annotation(label, (NO_VA_CODE, NO_VA_CODE), shown, sample_pose(draws, shown).units)
    shown = _misread(draws, label) if draws.chance(MISREAD_RATE) else label
    pose = sample_pose(draws, shown)
    return Annotation(label, _annotate(draws, _read_va(pose, label)), shown, pose.units)


def _misread(draws: Draws, label: int) -> int:
    """Draws an expression that annotators take for `label`."""
    weights = {shown: float(row[label]) for shown, row in enumerate(CONFUSIONS) if shown != label}
    return draws.pick_weighted(weights)


def _read_va(pose: Pose, label: int) -> tuple[float, float]:
    """Gives what an annotator sees who reads `label`: halfway to it when that is not what is shown."""
    valence, arousal = pose.valence_arousal
    if pose.expression == label:
        return valence, arousal
    return (valence + CLASS_MEAN_VA[label][0]) / 2, (arousal + CLASS_MEAN_VA[label][1]) / 2


def _annotate(draws: Draws, shown: tuple[float, float]) -> tuple[float, float]:
    """Adds annotators' noise; now and then nobody annotated."""
    noisy = [value + draws.noise(VA_NOISE) for value in shown]
    if draws.chance(MISSING_VA_RATE):
        return NO_VA_CODE, NO_VA_CODE
    valence, arousal = (round(max(-1.0, min(1.0, value)), 4) + 0.0 for value in noisy)
    return valence, arousal
