"""The share of faces that each detector finds, at the first look and with the second one beyond the picture's border.

    .venv/bin/python benchmarks/predict/detectors.py FACES [CLIPS] [--most N]

FACES is a folder in AffectNet's CSV layout (`validation.csv`, and pictures in a folder a source). Those of `ferplus`,
faces cut out tightly at 48 pixels, are enlarged to 224; others are taken as they are. CLIPS is a folder of films in
which a face is visible in every frame. The page's detector (BlazeFace) is computed here as app/page/js/detect.js does
it, from the weights that `make web` fetched; the `predict` command's is MTCNN. A face counts as found where a box
overlaps the listed one by .3 of their union; in a clip, where there is one.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from pocketaffect import paths
from pocketaffect.app.server.detector import SIZE
from pocketaffect.app.server.runtime import DETECTOR, require_runtime
from pocketaffect.data.faces.crop import FaceBox
from pocketaffect.data.faces.images import RGB, decode_image
from pocketaffect.predict.detect import BORDER, FaceDetector, suppress
from pocketaffect.predict.pictures import read_pictures
from pocketaffect.predict.tracks import LEAST_OVERLAP, overlap
from pocketaffect.tables import render_table

LEAST_SCORE = 0.5
ENLARGED = 224
Find = Callable[[RGB], list[FaceBox]]


class BlazeFace:
    """The page's detector, with the picture's edges going on around it by `border` of its sides."""

    def __init__(self, border: float) -> None:
        self._border = border
        self._session = onnxruntime.InferenceSession(require_runtime(paths.WEB) / DETECTOR)

    def __call__(self, picture: RGB) -> list[FaceBox]:
        """Boxes of the faces, in pixels of the picture."""
        height, width = picture.shape[:2]
        down, across = round(height * self._border), round(width * self._border)
        wider = cv2.copyMakeBorder(picture, down, down, across, across, cv2.BORDER_REPLICATE)
        factor = SIZE / max(wider.shape[:2])
        sides = [max(1, round(side * factor)) for side in wider.shape[1::-1]]
        square = np.zeros((SIZE, SIZE, 3), np.uint8)
        left, top = (SIZE - sides[0]) // 2, (SIZE - sides[1]) // 2
        square[top : top + sides[1], left : left + sides[0]] = cv2.resize(wider, sides, interpolation=cv2.INTER_AREA)
        feed = {"image": square.transpose(2, 0, 1)[None].astype(np.float32)}
        scores, boxes = self._session.run(["scores", "boxes"], feed)
        kept = scores >= LEAST_SCORE
        corners = np.concatenate([boxes[kept, :2] - boxes[kept, 2:] / 2, boxes[kept, :2] + boxes[kept, 2:] / 2], axis=1)
        found = []
        for x, y, right, bottom in (corners[suppress(corners, scores[kept], 0.3)] * SIZE).tolist():
            box = FaceBox(
                (x - left) / factor - across, (y - top) / factor - down, (right - x) / factor, (bottom - y) / factor
            )
            if 0 <= box.x + box.width / 2 <= width and 0 <= box.y + box.height / 2 <= height:
                found.append(box)
        return found


def look_twice(first: Find, second: Find) -> Find:
    """What both detectors do."""
    return lambda picture: first(picture) or second(picture)


def read_faces(folder: Path, most: int) -> Iterator[tuple[str, RGB, FaceBox]]:
    """Each face's source, picture and box, `most` of a source at most."""
    counts: dict[str, int] = {}
    with (folder / "validation.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            path = row["subDirectory_filePath"]
            source = path.split("/")[0]
            if counts.get(source, 0) == most or row["expression"] == "10":
                continue
            counts[source] = counts.get(source, 0) + 1
            picture = decode_image((folder / "Manually_Annotated_Images" / path).read_bytes()).pixels
            box = FaceBox(*(float(row[f"face_{name}"]) for name in ("x", "y", "width", "height")))
            if source == "ferplus":
                picture = cv2.resize(picture, (ENLARGED, ENLARGED), interpolation=cv2.INTER_CUBIC)
                box = FaceBox(0, 0, ENLARGED, ENLARGED)
            yield source, picture, box


def read_frames(folder: Path, most: int) -> Iterator[tuple[str, RGB, None]]:
    """Each clip's name and its frames."""
    for file in sorted(folder.glob("*.*")):
        for picture in itertools.islice(read_pictures(file, step=3), most):
            yield file.stem, picture.pixels, None


def main() -> None:
    """Prints a table: a row for each source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("clips", type=Path, nargs="?")
    parser.add_argument("--most", type=int, default=400, help="pictures of a source")
    arguments = parser.parse_args()
    mtcnn, once = FaceDetector(), FaceDetector(border=0)
    blaze, wider = BlazeFace(0), BlazeFace(BORDER)
    detectors: dict[str, Find] = {
        "MTCNN, first look": lambda picture: [face.box for face in once.detect(picture)],
        "MTCNN": lambda picture: [face.box for face in mtcnn.detect(picture)],
        "BlazeFace, first look": blaze,
        "BlazeFace": look_twice(blaze, wider),
    }
    found: dict[str, dict[str, list[bool]]] = {}
    seconds = dict.fromkeys(detectors, 0.0)
    sources = [read_faces(arguments.faces, arguments.most)]
    if arguments.clips:
        sources.append(read_frames(arguments.clips, arguments.most))
    for source, picture, box in itertools.chain(*sources):
        for name, find in detectors.items():
            start = time.perf_counter()
            boxes = find(picture)
            seconds[name] += time.perf_counter() - start
            hit = bool(boxes) if box is None else any(overlap(one, box) >= LEAST_OVERLAP for one in boxes)
            found.setdefault(source, {}).setdefault(name, []).append(hit)
    total = sum(len(next(iter(hits.values()))) for hits in found.values())
    rows = [["source", "pictures", *detectors]]
    for source, hits in found.items():
        rows.append([source, f"{len(hits['MTCNN']):,}", *(f"{np.mean(hits[name]):.3f}" for name in detectors)])
    rows.append(["ms a picture", "", *(f"{1000 * seconds[name] / total:.0f}" for name in detectors)])
    print(render_table(rows, "lr"))


if __name__ == "__main__":
    main()
