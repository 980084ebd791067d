"""From pictures to what their faces show: detection, crops, and what the model answers, in batches over pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from pocketaffect.data.faces.crop import FaceBox, crop_face
from pocketaffect.data.faces.images import RGB
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.predict.detect import SMALLEST_FACE, FaceDetector
from pocketaffect.predict.models import AffectModel, open_model
from pocketaffect.predict.pictures import InputProblemError, Picture, open_picture, read_pictures
from pocketaffect.predict.tracks import FaceTracker, Smoother

if TYPE_CHECKING:
    from PIL.Image import Image

PictureLike: TypeAlias = "str | Path | RGB | Image"
"""A picture: the path of its file; uint8 [height, width, 3] in RGB; or Pillow's."""

HELD_BYTES: Final = 64_000_000
"""Bytes of pictures that wait for their batch."""


@dataclass(frozen=True)
class Face:
    """What one face shows.

    Attributes:
        box: Box in pixels of the picture; None where the whole picture was taken for a face.
        score: Probability that this is a face; None likewise.
        probabilities: Probability of each of `labels.EXPRESSIONS`, in that order.
        valence: -1 (unpleasant) to 1 (pleasant).
        arousal: -1 (calm) to 1 (excited).
        unsure: Whether the likeliest expression is less likely than the model's file holds sure; None where the file
            says nothing of it.
        track: Number of the face in its film; None in an image.
    """

    box: FaceBox | None
    score: float | None
    probabilities: Mapping[str, float]
    valence: float
    arousal: float
    unsure: bool | None
    track: int | None = None

    @property
    def expression(self) -> str:
        """The likeliest expression, the first where two are equal."""
        return max(self.probabilities, key=self.probabilities.__getitem__)


@dataclass(frozen=True)
class Reading:
    """A picture with its faces, largest first; none where no face was found."""

    picture: Picture
    faces: tuple[Face, ...]


class _Film:
    """The faces of one film, from frame to frame."""

    def __init__(self, smoothing: float) -> None:
        self.tracker = FaceTracker()
        self.smoother = Smoother(smoothing)


@dataclass
class _Waiting:
    """A picture whose faces the model has not seen yet: their boxes, scores and tracks, and what is cut out of it."""

    picture: Picture
    film: _Film
    found: list[tuple[FaceBox | None, float | None, int | None]]
    crops: list[RGB]


class AffectReader:
    """Finds the faces of pictures and reads expression, valence and arousal.

    Args:
        model: A package, ONNX twin or checkpoint folder, or a registered version, as `open_model` takes it. None takes
            the champion or the last export of the repository if it has seen photographs, else
            the network that comes with pocketaffect.
        detect: False takes each picture for a face that is cut out already: its square is not widened.
        smallest_face: Side of the smallest faces that are looked for, as a share of the picture's shorter side.
        most_faces: Number of a picture's faces that are read at most, from the largest on; None for all.
        smoothing: Time constant of the smoothing over a film's frames, in seconds; 0 for none.
        batch: Faces that the model is given at once.
        threads: That the networks compute with.
        root: The repository, for registered versions.

    Raises:
        PocketAffectError: There is no such model, or it is damaged.

    Examples:
        >>> reader = AffectReader(model)  # a path, a version, or nothing
        >>> (face,) = reader.read(photograph)
        >>> round(sum(face.probabilities.values()), 3), face.expression in face.probabilities
        (1.0, True)
        >>> [len(faces) for faces in reader.read_many([photograph, photograph[:50]])]
        [1, 0]
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        detect: bool = True,
        smallest_face: float = SMALLEST_FACE,
        most_faces: int | None = None,
        smoothing: float = 0.5,
        batch: int = 32,
        threads: int = 1,
        root: Path = Path(),
    ) -> None:
        self.model: AffectModel = open_model(model, root=root, threads=threads)
        self._detector = FaceDetector(threads=threads, smallest_face=smallest_face) if detect else None
        self._most_faces, self._smoothing, self._batch = most_faces, smoothing, batch

    def read(self, picture: PictureLike) -> list[Face]:
        """Reads the faces of one picture, largest first.

        Raises:
            PocketAffectError: It is no picture, or its file cannot be read; a film, which `read_files` takes.
        """
        (faces,) = self.read_many([picture])
        return faces

    def read_many(self, pictures: Iterable[PictureLike]) -> Iterator[list[Face]]:
        """Reads the faces of each picture, in the order given; faster than one by one.

        Raises:
            PocketAffectError: As `read`.
        """
        film = _Film(self._smoothing)
        for reading in self._answer((open_picture(picture), film) for picture in pictures):
            yield list(reading.faces)

    def read_files(
        self, files: Sequence[Path], report: Callable[[InputProblemError], object], *, step: int = 1
    ) -> Iterator[Reading]:
        """Reads the faces of images and films that `pictures.find_files` found, of a film every `step`-th frame.

        `report` is called with what is wrong with a file; the others are gone on with.
        """
        return self._answer(self._open_files(files, report, step))

    def cut(self, picture: RGB, box: FaceBox | None) -> RGB:
        """Cuts what the model is given of a picture, uint8 [size, size, 3]; None is a face that is cut out already."""
        return crop_face(picture, box, margin=0.0 if box is None else self.model.margin, size=self.model.size)

    def _open_files(
        self, files: Sequence[Path], report: Callable[[InputProblemError], object], step: int
    ) -> Iterator[tuple[Picture, _Film]]:
        for file in files:
            film = _Film(self._smoothing)
            try:
                for picture in read_pictures(file, step=step):
                    yield picture, film
            except InputProblemError as problem:
                report(problem)

    def _answer(self, pictures: Iterable[tuple[Picture, _Film]]) -> Iterator[Reading]:
        waiting: list[_Waiting] = []
        for picture, film in pictures:
            waiting.append(self._find_faces(picture, film))
            held = sum(item.picture.pixels.nbytes for item in waiting)
            if sum(len(item.crops) for item in waiting) >= self._batch or held >= HELD_BYTES:
                yield from self._finish(waiting)
                waiting = []
        yield from self._finish(waiting)

    def _find_faces(self, picture: Picture, film: _Film) -> _Waiting:
        if self._detector is None:
            track = None if picture.frame is None else 0
            return _Waiting(picture, film, [(None, None, track)], [self.cut(picture.pixels, None)])
        faces = self._detector.detect(picture.pixels)[: self._most_faces]
        boxes = [face.box for face in faces]
        tracks: list[int | None] = [None] * len(faces)
        if picture.seconds is not None:
            tracks = [*film.tracker.follow(boxes, picture.seconds)]
        found = [(face.box, face.score, track) for face, track in zip(faces, tracks, strict=True)]
        return _Waiting(picture, film, [*found], [self.cut(picture.pixels, box) for box in boxes])

    def _finish(self, waiting: list[_Waiting]) -> Iterator[Reading]:
        crops = [crop for item in waiting for crop in item.crops]
        rows: Iterator[npt.NDArray[np.float32]] = iter(())
        if crops:
            answers = self.model.predict(np.stack(crops))
            rows = iter(np.concatenate([answers.probabilities, answers.valence_arousal], axis=1))
        for item in waiting:
            faces = []
            for box, score, track in item.found:
                values = next(rows).astype(np.float64)
                if track is not None and item.picture.seconds is not None:
                    values = item.film.smoother.smooth(track, values, item.picture.seconds)
                faces.append(self._make_face(box, score, track, values))
            yield Reading(item.picture, tuple(faces))

    def _make_face(
        self, box: FaceBox | None, score: float | None, track: int | None, values: npt.NDArray[np.float64]
    ) -> Face:
        *probabilities, valence, arousal = values.tolist()
        least = self.model.unsure_below
        unsure = None if least is None else max(probabilities) < least
        return Face(box, score, dict(zip(EXPRESSIONS, probabilities, strict=True)), valence, arousal, unsure, track)
