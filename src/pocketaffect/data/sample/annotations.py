"""Which label each row carries, and how annotators get from a face to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from pocketaffect.data.sample.action_units import ActionUnits, Pose, sample_odd_units, sample_pose, shown_va
from pocketaffect.data.sample.draws import Draws
from pocketaffect.labels import CLASS_MEAN_VA, EXPRESSIONS, NO_VA_CODE, NON_FACE_CODE

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
    """One row's labels and what its picture shows.

    Attributes:
        label: AffectNet's code 0..10 in the CSV.
        valence_arousal: Values as in the CSV: each in [-1, 1] with 4 decimals, or both NO_VA_CODE.
        shown: Class that is drawn, 0..7; None for codes 8 and 10.
        units: Action units of the drawn face; None without a face.
    """

    label: int
    valence_arousal: tuple[float, float]
    shown: int | None
    units: ActionUnits | None


def plan_labels(split: Split, count: int, seed: int) -> list[int]:
    """Labels of all rows of a split in row order: exact shares, shuffled; every code appears.

    Args:
        split: Training is imbalanced as AffectNet is, validation balanced.
        count: Rows of the split, at least 11.
        seed: The sample's seed.
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
