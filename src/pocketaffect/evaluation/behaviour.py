"""What a network says of a split's faces, and how far that moves when they are changed but not their expression.

Behavioural checks after Ribeiro et al. 2020 (CheckList, invariance tests). No label is needed to see that an answer
moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch

from pocketaffect.config import EvaluateParams
from pocketaffect.data.shards.batches import ordered_batches, warp_face
from pocketaffect.data.shards.split import Split
from pocketaffect.evaluation.tables import Predictions
from pocketaffect.models.network import AffectNetwork

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Movement:
    """How far the predictions of the same faces moved under one change.

    Args:
        change: The change that was made to the faces.
        classes_changed: Share of faces whose likeliest class became another.
        probability_moved: Mean probability that went to other classes (total variation distance, 0 to 1).
        valence_moved: Mean absolute difference.
        arousal_moved: The same of arousal.
    """

    change: str
    classes_changed: float
    probability_moved: float
    valence_moved: float
    arousal_moved: float


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
    """Predicts faces as they are and changed in each way of `CHANGES`.

    Args:
        network: The network; the faces have its input size.
        split: The split that the faces are taken from, evenly over its order.
        evaluate: The section of params.yaml.
    """
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
            change, untouched, predict_split(network, replace(chosen, shards=(apply(faces),)), batch_size=batch_size)
        )
        for change, apply in CHANGES.items()
    ]


def compare_movement(change: str, before: Predictions, after: Predictions) -> Movement:
    """Measures how far `after` lies from `before`, the same faces in the same order."""
    moved = np.abs(after.probabilities.astype(np.float64) - before.probabilities).sum(axis=1) / 2
    valence, arousal = np.abs(after.valence_arousal.astype(np.float64) - before.valence_arousal).mean(0).tolist()
    changed = float((after.expression != before.expression).mean())
    return Movement(change, changed, float(moved.mean()), valence, arousal)


def mirror(faces: Images) -> Images:
    """Exchanges left and right."""
    return np.ascontiguousarray(faces[:, :, ::-1])


def brighten(faces: Images, factor: float) -> Images:
    """Multiplies every channel, cut at white."""
    levels = np.clip(np.round(np.arange(256) * factor), 0, 255).astype(np.uint8)
    return np.asarray(levels[faces])


def recompress(faces: Images, quality: int) -> Images:
    """Writes images as JPEG with halved colour, and reads them again."""
    coded = (simplejpeg.encode_jpeg(face, quality, "RGB", "420") for face in faces)
    return np.stack([simplejpeg.decode_jpeg(content, "RGB") for content in coded])


def shift(faces: Images, share: float) -> Images:
    """Moves images right and down by a share of the side, at least a pixel; border pixels go on."""
    pixels = max(1, round(share * faces.shape[1]))
    matrix = np.array([[1.0, 0.0, pixels], [0.0, 1.0, pixels]])
    moved = np.empty_like(faces)
    for face, target in zip(faces, moved, strict=True):
        warp_face(face, matrix, out=target)
    return moved


CHANGES: Final[Mapping[str, Callable[[Images], Images]]] = {
    "mirrored": mirror,
    "darker: x 0.75": lambda faces: brighten(faces, 0.75),
    "brighter: x 1.25": lambda faces: brighten(faces, 1.25),
    "JPEG quality 30": lambda faces: recompress(faces, 30),
    "shifted by 3 % each way": lambda faces: shift(faces, 0.03),
}
