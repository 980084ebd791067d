"""From inputs to readings: pictures, their faces, and what the model answers, in batches over pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from pocketaffect.data.faces.crop import FaceBox, crop_face, decode_face
from pocketaffect.data.faces.images import RGB
from pocketaffect.predict.pictures import InputProblemError, Picture, read_pictures
from pocketaffect.predict.tracks import FaceTracker, Smoother

if TYPE_CHECKING:
    from pocketaffect.predict.detect import FaceDetector
    from pocketaffect.predict.models import AffectModel

HELD_BYTES: Final = 64_000_000
"""Bytes of pictures that wait for their batch."""


@dataclass(frozen=True)
class Settings:
    """How inputs are read and answers smoothed.

    Attributes:
        batch: Faces that the model is given at once.
        step: Every how many frames of a film one is read.
        faces: Number of a picture's faces that are read at most, from the largest on; None for all.
        time_constant: Time constant of the smoothing over a film's frames, in seconds; 0 for none.
    """

    batch: int = 32
    step: int = 1
    faces: int | None = None
    time_constant: float = 0.5


@dataclass(frozen=True)
class FaceReading:
    """What one face shows.

    Attributes:
        box: Box in pixels of the picture; None where the whole picture was taken for a face.
        score: Probability that this is a face; None likewise.
        track: Number of the face in its film; None in an image.
        probabilities: float64 [8], in the order of `labels.EXPRESSIONS`.
        valence_arousal: float64 [2].
    """

    box: FaceBox | None
    score: float | None
    track: int | None
    probabilities: npt.NDArray[np.float64]
    valence_arousal: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """A picture with its faces, largest first; none where no face was found."""

    picture: Picture
    faces: tuple[FaceReading, ...]


@dataclass
class _Waiting:
    """A picture whose faces the model has not seen yet."""

    picture: Picture
    boxes: list[FaceBox | None]
    scores: list[float | None]
    tracks: list[int | None]
    crops: list[RGB]
    smoother: Smoother


@dataclass
class _Batch:
    waiting: list[_Waiting] = field(default_factory=list)
    faces: int = 0
    held: int = 0

    def add(self, item: _Waiting) -> None:
        self.waiting.append(item)
        self.faces += len(item.crops)
        self.held += item.picture.pixels.nbytes + len(item.picture.content or b"")


def read_affect(
    files: Sequence[Path],
    model: AffectModel,
    detector: FaceDetector | None,
    settings: Settings,
    report: Callable[[InputProblemError], object],
) -> Iterator[Reading]:
    """Reads the faces of images and films, in the order given.

    Args:
        files: Files from `pictures.find_files`.
        model: Model from `models.open_model`.
        detector: None takes each picture for a face that is cut out already: its square is not widened.
        settings: See there.
        report: Called with what is wrong with a file; the others are gone on with.
    """
    batch = _Batch()
    for file in files:
        tracker, smoother = FaceTracker(), Smoother(settings.time_constant)
        try:
            for picture in read_pictures(file, step=settings.step):
                batch.add(_find_faces(picture, model, detector, settings.faces, tracker, smoother))
                if batch.faces >= settings.batch or batch.held >= HELD_BYTES:
                    yield from _answer(batch, model)
                    batch = _Batch()
        except InputProblemError as problem:
            report(problem)
    yield from _answer(batch, model)


def _find_faces(
    picture: Picture,
    model: AffectModel,
    detector: FaceDetector | None,
    most: int | None,
    tracker: FaceTracker,
    smoother: Smoother,
) -> _Waiting:
    if detector is None:
        crop = _cut(picture, None, margin=0.0, size=model.size)
        return _Waiting(picture, [None], [None], [None if picture.frame is None else 0], [crop], smoother)
    faces = detector.detect(picture.pixels)[:most]
    boxes = [face.box for face in faces]
    crops = [_cut(picture, box, margin=model.margin, size=model.size) for box in boxes]
    tracks: list[int | None] = [None] * len(boxes)
    if picture.seconds is not None:
        tracks = list(tracker.follow(boxes, picture.seconds))
    return _Waiting(picture, list(boxes), [face.score for face in faces], tracks, crops, smoother)


def _cut(picture: Picture, box: FaceBox | None, *, margin: float, size: int) -> RGB:
    """The face as `preprocess` cuts it; an image file is decoded again, at the size that the face needs, as there."""
    if picture.content is not None:
        return decode_face(picture.content, box, margin=margin, size=size)
    return crop_face(picture.pixels, box, margin=margin, size=size)


def _answer(batch: _Batch, model: AffectModel) -> Iterator[Reading]:
    crops = [crop for item in batch.waiting for crop in item.crops]
    predictions = model.predict(np.stack(crops)) if crops else None
    row = 0
    for item in batch.waiting:
        faces = []
        for box, score, track in zip(item.boxes, item.scores, item.tracks, strict=True):
            assert predictions is not None
            values = np.concatenate([predictions.probabilities[row], predictions.valence_arousal[row]])
            if track is not None and item.picture.seconds is not None:
                values = item.smoother.smooth(track, values, item.picture.seconds)
            values = values.astype(np.float64)
            faces.append(FaceReading(box, score, track, values[:-2], values[-2:]))
            row += 1
        yield Reading(item.picture, tuple(faces))
