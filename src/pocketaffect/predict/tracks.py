"""Follows the faces of a film from frame to frame, and smooths what they show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketaffect.data.faces.crop import FaceBox

LEAST_OVERLAP: Final = 0.3
"""Share of two boxes' union from which they are one face."""

LONGEST_GAP: Final = 1.0
"""Seconds that a face may go unseen; then it is another one."""


@dataclass
class _Track:
    number: int
    box: FaceBox
    seconds: float


class FaceTracker:
    """Numbers the faces of one film by the overlap of their boxes."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._count = 0

    def follow(self, boxes: Sequence[FaceBox], seconds: float) -> list[int]:
        """Numbers the faces of the next frame: pairs are made by falling overlap, other faces are new."""
        self._tracks = [track for track in self._tracks if seconds - track.seconds <= LONGEST_GAP]
        pairs = sorted(
            (-overlap(track.box, box), place, track.number, track)
            for place, box in enumerate(boxes)
            for track in self._tracks
            if overlap(track.box, box) >= LEAST_OVERLAP
        )
        chosen: dict[int, _Track] = {}
        for _, place, _, track in pairs:
            if place not in chosen and track not in chosen.values():
                chosen[place] = track
        for place, box in enumerate(boxes):
            if place not in chosen:
                chosen[place] = _Track(self._count, box, seconds)
                self._tracks.append(chosen[place])
                self._count += 1
            chosen[place].box, chosen[place].seconds = box, seconds
        return [chosen[place].number for place in range(len(boxes))]


class Smoother:
    """An exponential filter for each track: y += (1 - exp(-dt / time_constant)) (x - y), from y = x on.

    The share depends on the time that passed, so that frame rate and skipped frames do not change how fast it is. A
    change has come through by 63 % after one time constant, by 95 % after three. Probabilities keep their sum. A
    constant of 0 s leaves values as they are.
    """

    def __init__(self, time_constant: float) -> None:
        self._time_constant = time_constant
        self._last: dict[int, tuple[float, npt.NDArray[np.float64]]] = {}

    def smooth(self, track: int, values: npt.NDArray[np.floating], seconds: float) -> npt.NDArray[np.float64]:
        """Filters the values of a track whose newest ones are `values`."""
        current = values.astype(np.float64)
        if self._time_constant > 0 and track in self._last:
            before, smoothed = self._last[track]
            share = 1 - math.exp(-max(0.0, seconds - before) / self._time_constant)
            current = smoothed + share * (current - smoothed)
        self._last[track] = seconds, current
        return current


def overlap(one: FaceBox, other: FaceBox) -> float:
    """Computes the common area of two boxes as a share of their union, 0 to 1."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    common = max(0.0, width) * max(0.0, height)
    whole = one.width * one.height + other.width * other.height - common
    return common / whole if whole > 0 else 0.0
