"""What `crop.LEAST_DETAIL` costs: a network's answers to faces decoded no larger than it asks, beside a full decode.

    .venv/bin/python benchmarks/data/decode.py PATH MODEL [--details 1 1.5 2 3] [--size 32]

PATH is a data folder in any layout that `data use` reads, its pictures loose; MODEL a package, a checkpoint's folder or
a version. Faces are those of its JPEGs whose box is wide enough that the least of the details could decode it smaller.
A row for each detail: how many were decoded smaller, and of those the classes that changed, the accuracy lost by that
(95 % interval over faces with an expression), the probability that moved and the crops' mean difference in grey levels;
milliseconds of decoding and cutting a face, of all. With `--size`, crops of that many pixels are enlarged to the
network's: small pictures then stand for photographs with larger faces.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from pocketaffect.data.faces import crop
from pocketaffect.data.faces.images import JPEG_EIGHTHS, decode_image
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.layouts import read_annotations
from pocketaffect.labels import BOX_COLUMNS, EXPRESSIONS
from pocketaffect.predict.models import open_model


def main() -> None:
    """Prints the table."""
    arguments = _parse()
    model = open_model(arguments.model)
    size = arguments.size or model.size
    cut = {"margin": model.margin, "size": size}

    def predict(crops: np.ndarray) -> np.ndarray:
        larger = [cv2.resize(face, (model.size, model.size), interpolation=cv2.INTER_LINEAR) for face in crops]
        return model.predict(np.stack(larger)).probabilities

    faces, whole, labels = [], [], []
    folder = DataFolder.open(arguments.path)
    for row in read_annotations(folder).rows.to_dict("records"):
        box = [float(row[name]) for name in BOX_COLUMNS]
        file = folder.root / row["archive"] / row["path"]
        if not np.isfinite(box).all() or not row["path"].lower().endswith((".jpg", ".jpeg")) or not file.is_file():
            continue
        if max(box[2:]) * (1 + 2 * model.margin) * max(JPEG_EIGHTHS) / 8 < min(arguments.details) * size:
            continue
        faces.append((file.read_bytes(), crop.FaceBox(*box)))
        labels.append(row["expression"])
    step = max(1, len(faces) // arguments.faces)
    faces, true = faces[::step], np.array(labels[::step], np.float64)
    began = time.perf_counter()
    for content, box in faces:
        whole.append(crop.crop_face(decode_image(content).pixels, box, **cut))
    spent = time.perf_counter() - began
    pixels = np.stack(whole)
    before = predict(pixels)
    print(f"{len(faces)} faces, {model.title}, crops of {size} px\n")
    print(
        "| detail | decoded smaller | classes changed | accuracy lost | probability moved | grey levels | ms a face |"
    )
    print("|---|---|---|---|---|---|---|")
    print(f"| full | 0 | | | | | {1000 * spent / len(faces):.2f} |")
    for detail in arguments.details:
        crop.LEAST_DETAIL = detail  # type: ignore[misc]
        began = time.perf_counter()
        scaled = np.stack([crop.decode_face(content, box, **cut) for content, box in faces])
        spent = time.perf_counter() - began
        levels = np.abs(scaled.astype(int) - pixels).mean(axis=(1, 2, 3))
        smaller = levels > 0
        after, known = predict(scaled)[smaller], before[smaller]
        changed, moved = np.mean(after.argmax(1) != known.argmax(1)), np.abs(after - known).sum(1).mean() / 2
        judged = true[smaller] < len(EXPRESSIONS)
        right, still = ((each.argmax(1) == true[smaller])[judged].astype(float) for each in (known, after))
        error = 1.96 * np.std(right - still) / max(1, len(right)) ** 0.5
        lost = f"{np.mean(right - still):+.3f} ± {error:.3f}"
        print(
            f"| {detail:g} | {smaller.sum()} | {changed:.1%} | {lost} | {moved:.4f} | {levels[smaller].mean():.2f} "
            f"| {1000 * spent / len(faces):.2f} |"
        )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("model")
    parser.add_argument("--details", type=float, nargs="+", default=[1.0, 1.5, 2.0, 2.5, 3.0, 4.0])
    parser.add_argument("--size", type=int, help="Pixels a side of the crops.")
    parser.add_argument("--faces", type=int, default=2000, help="At most about so many, evenly.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
