"""What a network says of a split's faces, and how far that moves when they are changed but not their expression.

Behavioural checks after Ribeiro et al. 2020 (CheckList, invariance tests). No label is needed to see that an answer
moved; with labels, what that costs. The faces are the shards' crops, whose border pixels go on where a change looks
beyond them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import torch

from pocketaffect.config import EvaluateParams
from pocketaffect.data.shards.augment import compress_jpeg
from pocketaffect.data.shards.batches import ordered_batches, warp_face
from pocketaffect.data.shards.split import Split
from pocketaffect.evaluation.tables import Predictions
from pocketaffect.models.network import LUMA, AffectNetwork

Images = npt.NDArray[np.uint8]

MOST_ACCURACY_LOST: Final = 0.02
MOST_CLASSES_CHANGED: Final = 0.10
"""What a change may cost a network that is said to survive it."""

_SEED: Final = 2018
_TINT: Final = (1.3, 0.9, 0.65)
"""Factors of red, green and blue that make a grey face skin-coloured."""


@dataclass(frozen=True)
class Movement:
    """How far the predictions of the same faces moved under one change.

    The classes that changed are a share of the faces, the probability is the mean that went to other classes (total
    variation distance, 0 to 1), valence and arousal moved by mean absolute differences. `accuracy_lost` is None where
    no face has an expression; a change is survived where neither of the limits above was passed.
    """

    change: str
    classes_changed: float
    probability_moved: float
    valence_moved: float
    arousal_moved: float
    accuracy_lost: float | None
    survived: bool


def predict_split(network: AffectNetwork, split: Split, *, batch_size: int) -> Predictions:
    """Predicts every face of `split`, in its order."""
    network = network.eval().to(memory_format=torch.channels_last)
    probabilities, valence_arousal = [], []
    with torch.inference_mode():
        for batch in ordered_batches(split, batch_size):
            logits, affect = network(batch.images)
            probabilities.append(logits.softmax(dim=1))
            valence_arousal.append(affect)
    return Predictions(torch.cat(probabilities).numpy(), torch.cat(valence_arousal).numpy())


def measure_behaviour(network: AffectNetwork, split: Split, evaluate: EvaluateParams) -> list[Movement]:
    """Predicts faces of a split, taken evenly over its order, as they are and changed in each way of `CHANGES`."""
    count, batch_size = min(evaluate.behaviour_images, len(split)), evaluate.batch_size
    rows = np.unique(np.linspace(0, len(split) - 1, count).round().astype(np.int64))
    faces = split.gather(rows)
    chosen = replace(
        split,
        shards=(faces,),
        starts=np.zeros(1, np.int64),
        paths=tuple(split.paths[row] for row in rows),
        expression=split.expression[rows],
        valence_arousal=split.valence_arousal[rows],
        soft=None,
    )
    untouched = predict_split(network, chosen, batch_size=batch_size)
    return [
        compare_movement(
            change,
            untouched,
            predict_split(network, replace(chosen, shards=(apply(faces),)), batch_size=batch_size),
            chosen.expression,
        )
        for change, apply in CHANGES.items()
    ]


def compare_movement(
    change: str, before: Predictions, after: Predictions, expression: npt.NDArray[np.int64]
) -> Movement:
    """Measures how far `after` lies from `before`, the same faces in the same order with these true expressions."""
    moved = np.abs(after.probabilities.astype(np.float64) - before.probabilities).sum(axis=1) / 2
    valence, arousal = np.abs(after.valence_arousal.astype(np.float64) - before.valence_arousal).mean(0).tolist()
    changed = float((after.expression != before.expression).mean())
    rows = expression >= 0
    lost = None
    if rows.any():
        lost = float((before.expression == expression)[rows].mean() - (after.expression == expression)[rows].mean())
    survived = changed <= MOST_CLASSES_CHANGED and (lost is None or lost <= MOST_ACCURACY_LOST)
    return Movement(change, changed, float(moved.mean()), valence, arousal, lost, survived)


def mirror(faces: Images) -> Images:
    """Exchanges left and right."""
    return np.ascontiguousarray(faces[:, :, ::-1])


def brighten(faces: Images, factor: float) -> Images:
    """Multiplies every channel, cut at white."""
    levels = np.clip(np.round(np.arange(256) * factor), 0, 255).astype(np.uint8)
    return np.asarray(levels[faces])


def recompress(faces: Images, quality: int) -> Images:
    """Writes images as JPEG with halved colour, and reads them again."""
    return np.stack([compress_jpeg(face, quality) for face in faces])


def recompress_twice(faces: Images, quality: int) -> Images:
    """Writes images as JPEG, and again after a crop, which moves the blocks by half of their side."""
    again = np.pad(recompress(faces, quality), ((0, 0), (4, 0), (4, 0), (0, 0)), mode="edge")
    return recompress(again, quality)[:, 4:, 4:]


def tint(faces: Images) -> Images:
    """Gives faces the colour of warm light on skin."""
    return np.asarray(np.clip(np.round(faces * np.array(_TINT)), 0, 255), np.uint8)


def drain(faces: Images) -> Images:
    """Takes the colour out: every channel becomes the luma."""
    luma = np.asarray(np.round(faces @ np.array(LUMA)), np.uint8)
    return luma[..., None].repeat(3, axis=-1)


def blur(faces: Images, pixels: float) -> Images:
    """Blurs by a Gaussian of this standard deviation."""
    return np.stack([cv2.GaussianBlur(face, (0, 0), pixels, borderType=cv2.BORDER_REPLICATE) for face in faces])


def shift(faces: Images, share: float) -> Images:
    """Moves images right and down by a share of the side, at least a pixel."""
    pixels = max(1, round(share * faces.shape[1]))
    return reframe(faces, moved=np.full((len(faces), 2), pixels / faces.shape[1]))


def reframe(
    faces: Images, across: npt.ArrayLike = 1.0, down: npt.ArrayLike = 1.0, moved: npt.ArrayLike = 0.0
) -> Images:
    """Stretches faces about their middle and moves them, as another face box would.

    The factors of width and height are one for all or for each face; faces move right and down by shares of the side,
    one or [faces, 2].
    """
    size, count = faces.shape[1], len(faces)
    factors = np.stack([np.broadcast_to(across, count), np.broadcast_to(down, count)], axis=1)
    offsets = (1 - factors) * (size - 1) / 2 + np.broadcast_to(moved, (count, 2)) * size
    changed = np.empty_like(faces)
    for face, (x, y), (right, below), target in zip(faces, factors, offsets, changed, strict=True):
        warp_face(face, np.array([[x, 0.0, right], [0.0, y, below]]), out=target)
    return changed


def jitter(faces: Images, share: float) -> Images:
    """Draws for each face another box: moved and resized by up to a share of its side, the same on every call."""
    draws = np.random.default_rng(_SEED).uniform(-share, share, (len(faces), 3))
    return reframe(faces, 1 + draws[:, 0], 1 + draws[:, 0], draws[:, 1:])


CHANGES: Final[Mapping[str, Callable[[Images], Images]]] = {
    "mirrored": mirror,
    "darker: x 0.75": lambda faces: brighten(faces, 0.75),
    "brighter: x 1.25": lambda faces: brighten(faces, 1.25),
    "tinted like skin": tint,
    "grey": drain,
    "blurred by 0.7 px": lambda faces: blur(faces, 0.7),
    "JPEG quality 30": lambda faces: recompress(faces, 30),
    "JPEG quality 30, twice": lambda faces: recompress_twice(faces, 30),
    "shifted by 3 % each way": lambda faces: shift(faces, 0.03),
    "closer by 15 %": lambda faces: reframe(faces, 1.15, 1.15),
    "farther by 15 %": lambda faces: reframe(faces, 1 / 1.15, 1 / 1.15),
    "wider by 15 %": lambda faces: reframe(faces, 1.15**0.5, 1.15**-0.5),
    "narrower by 15 %": lambda faces: reframe(faces, 1.15**-0.5, 1.15**0.5),
    "box moved and resized by up to 10 %": lambda faces: jitter(faces, 0.1),
}
