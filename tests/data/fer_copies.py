"""Small copies of FER2013 in the forms that people have it in, made of drawn blobs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from affectnet_copies import picture
from PIL import Image

from pocketaffect.data.release.votes import VOTE_COLUMNS

HAPPY = (1, 8, 1, 0, 0, 0, 0, 0, 0, 0)
SAD = (2, 0, 0, 7, 0, 0, 0, 0, 1, 0)
TIED = (5, 5, 0, 0, 0, 0, 0, 0, 0, 0)
UNKNOWN = (3, 0, 0, 2, 0, 0, 0, 0, 5, 0)
NO_FACE = (0, 0, 0, 0, 0, 0, 0, 0, 0, 10)
FACES = (
    *(("Training", votes) for votes in (HAPPY, SAD, TIED, UNKNOWN, NO_FACE, HAPPY, SAD)),
    *(("PublicTest", votes) for votes in (SAD, HAPPY)),
    ("PrivateTest", SAD),
)
"""Usage and votes of each row; the sixth bears the name of the first, as three do in the real list."""


def grey(number: int) -> np.ndarray:
    """Gives the picture of a row: uint8 [48, 48]."""
    return picture(number if number != 5 else 0, 48, 48)[:, :, 0]


def names() -> list[str]:
    made = [f"fer{number:07d}.png" for number in range(len(FACES))]
    return ["" if votes == NO_FACE else made[0 if number == 5 else number] for number, (_, votes) in enumerate(FACES)]


def write_fer_csv(root: Path) -> Path:
    root.mkdir(exist_ok=True, parents=True)
    pixels, labels = ["emotion,pixels,Usage"], ["Usage,Image name," + ",".join(VOTE_COLUMNS)]
    for number, (name, (usage, votes)) in enumerate(zip(names(), FACES, strict=True)):
        pixels.append(f"0,{' '.join(map(str, grey(number).ravel()))},{usage}")
        labels.append(",".join(map(str, (usage, name, *votes))))
    (root / "fer2013.csv").write_text("\n".join(pixels) + "\n")
    (root / "fer2013new.csv").write_text("\r\n".join(labels) + "\r\n")
    return root


def write_fer_folders(root: Path) -> Path:
    """FER+'s own folders; a name that is given twice is one picture."""
    for folder, usage in (("FER2013Train", "Training"), ("FER2013Valid", "PublicTest")):
        (root / folder).mkdir(parents=True)
        lines = []
        for number, (name, (mine, votes)) in enumerate(zip(names(), FACES, strict=True)):
            if mine == usage and name:
                Image.fromarray(grey(number)).save(root / folder / name)
                lines.append(f'{name},"(0, 0, 48, 48)",{",".join(map(str, votes))}')
        (root / folder / "label.csv").write_text("\n".join(lines) + "\n")
    return root


def write_class_folders(root: Path, folders: dict[str, int]) -> Path:
    """So many pictures in each of some folders (`train/happy`)."""
    for place, count in folders.items():
        (root / place).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(picture(hash_name(place) + number)).save(root / place / f"{number:03d}.png")
    return root


def hash_name(text: str) -> int:
    return sum(map(ord, text)) * 1000
