"""Expressions as facial action units with intensity, and the valence and arousal they show.

Units after the Facial Action Coding System (Ekman, Friesen & Hager, 2002). Which units make an expression
follows EMFACS (Friesen & Ekman, 1983) as tabulated by Lucey et al., "The Extended Cohn-Kanade Dataset"
(CK+), CVPR Workshops 2010, table 1, with the variants named there. Contempt is one-sided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pocketaffect.data.sample.draws import Draws
from pocketaffect.labels import CLASS_MEAN_VA, EXPRESSIONS

ActionUnits = Mapping[int, tuple[float, float]]
"""Intensity in 0..1 of each active unit on the image's left and right side of the face."""

UNIT_NAMES: Final = {
    1: "inner brow raiser",
    2: "outer brow raiser",
    4: "brow lowerer",
    5: "upper lid raiser",
    6: "cheek raiser",
    7: "lid tightener",
    9: "nose wrinkler",
    10: "upper lip raiser",
    12: "lip corner puller",
    14: "dimpler",
    15: "lip corner depressor",
    16: "lower lip depressor",
    17: "chin raiser",
    20: "lip stretcher",
    23: "lip tightener",
    24: "lip pressor",
    25: "lips part",
    26: "jaw drop",
    43: "eyes closed",
}

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
    """One shown expression.

    Attributes:
        expression: Class index 0..7 of what is drawn.
        intensity: 0..1.
        units: The action units that show it.
        valence_arousal: The affect that the face shows, before annotators' noise, each in [-1, 1].
    """

    expression: int
    intensity: float
    units: ActionUnits
    valence_arousal: tuple[float, float]


def sample_pose(draws: Draws, expression: int, intensity: float | None = None) -> Pose:
    """Draws one way of showing an expression.

    Args:
        draws: Random numbers; the same ones are used up whatever the intensity.
        expression: Class index 0..7.
        intensity: 0..1; drawn from INTENSITY_RANGE when None.
    """
    drawn = draws.uniform(*INTENSITY_RANGE)
    intensity = drawn if intensity is None else intensity
    name = EXPRESSIONS[expression]
    variant = draws.pick(PROTOTYPES[name])
    units: dict[int, tuple[float, float]] = {}
    for unit, peak in variant.items():
        strength = peak * draws.uniform(0.8, 1.1) * intensity
        units[unit] = _both_sides(strength, draws.uniform(-0.12, 0.12))
    if name == "contempt":
        units = _keep_one_side(units, left=draws.chance(0.5))
    units = _add_habits(draws, units, reach=0.4 if name == "neutral" else 0.2)
    return Pose(expression, intensity, units, shown_va(expression, intensity, units))


def sample_odd_units(draws: Draws) -> ActionUnits:
    """Units of a face that shows none of the eight expressions: a wink, a chewing mouth, half of two."""
    units: dict[int, tuple[float, float]] = {}
    for unit in (draws.pick((43, 14, 23)), draws.pick((17, 26, 20, 25)), draws.pick((2, 10, 6))):
        units[unit] = (draws.uniform(0.0, 0.9), draws.uniform(0.0, 0.9))
    return units


def _both_sides(strength: float, asymmetry: float) -> tuple[float, float]:
    return min(1.0, strength * (1 + asymmetry)), min(1.0, strength * (1 - asymmetry))


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
