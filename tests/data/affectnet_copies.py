"""Small copies of AffectNet's releases, made of drawn blobs, for tests to spoil."""

from __future__ import annotations

import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from pocketaffect.data.release.csv_release import CSV_COLUMNS
from pocketaffect.data.release.votes import PATH_COLUMN, VOTE_COLUMNS, VOTES_FILE

HEADER = ",".join(CSV_COLUMNS)
IMAGES = "Manually_Annotated_Images"

EYES = (14.0, 18.0, 30.0, 16.0)
"""x and y of the eye on the image's left, then of the other, that FACE_POINTS have."""

_AROUND = np.array([(-3, 0), (-1, -1), (1, -1), (3, 0), (1, 1), (-1, 1)], dtype=np.float64)
FACE_POINTS = np.full((68, 2), (22.0, 26.0)) + np.linspace(-8, 8, 68)[:, None]
FACE_POINTS[36:42] = np.array(EYES[:2]) + _AROUND
FACE_POINTS[42:48] = np.array(EYES[2:]) + _AROUND
"""float64 [68, 2], pixels."""

LANDMARKS = ";".join(f"{number:.2f}" for number in FACE_POINTS.reshape(-1))


def row(path="1/a.jpg", box="4,4,30,30", expression="3", valence="0.5", arousal="-0.25", landmarks="") -> str:
    return f"{path},{box},{landmarks},{expression},{valence},{arousal}"


def lines(*rows: str, header: str | None = HEADER, end: str = "\n") -> bytes:
    return "".join(line + end for line in ([header] if header is not None else []) + list(rows)).encode()


def write_copy(root: Path, training: bytes | list[str], validation: bytes | list[str] | None = None) -> Path:
    """Both lists; images are for the caller to add."""
    root.mkdir(exist_ok=True)
    for name, content in (("training", training), ("validation", validation or [row("1/v.jpg")])):
        (root / f"{name}.csv").write_bytes(content if isinstance(content, bytes) else lines(*content))
    return root


def picture(seed: int, width: int = 48, height: int = 40) -> np.ndarray:
    """Smooth colours, uint8 [height, width, 3]: what survives JPEG and interpolation nearly unchanged."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width][:, :, :, None] / max(width, height)
    waves = sum(
        np.sin(
            2 * np.pi * (generator.uniform(-1, 1, 3) * x + generator.uniform(-1, 1, 3) * y) + generator.random(3) * 6
        )
        for _ in range(3)
    )
    return (127.5 + 40 * waves).clip(0, 255).astype(np.uint8)


def save_picture(root: Path, path: str, seed: int, width: int = 48, height: int = 40) -> None:
    file = root / IMAGES / path
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed, width, height)).save(file)


def sound_copy(root: Path, training: int = 12, validation: int = 8) -> Path:
    """A data set without a fault: all eight classes, a box or none."""
    rows: dict[str, list[str]] = {"t": [], "v": []}
    for split, count in (("t", training), ("v", validation)):
        for number in range(count):
            path = f"{number % 3}/{split}{number}.png"
            save_picture(root, path, seed=number + 100 * (split == "v"), width=40 + number, height=60 - number)
            box = ",,," if number % 4 == 3 else f"{number - 3},2,{25 + number},30"
            landmarks = LANDMARKS if number % 2 else ""
            affect = (f"{number / 20 - 0.5}", f"{0.3 - number / 30}")
            rows[split].append(row(path, box, str(number % 8), *affect, landmarks))
    return write_copy(root, rows["t"], rows["v"])


def save_annotations(root: Path, number: int | str, exp=3, val="0.5", aro="-0.25", lnd=FACE_POINTS) -> None:
    """The arrays of one image below a set such as `train_set`; a value of None leaves its file out."""
    folder = root / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    for kind, value in (("exp", exp), ("val", val), ("aro", aro), ("lnd", lnd)):
        if value is not None:
            np.save(folder / f"{number}_{kind}.npy", np.asarray(value).reshape(-1) if kind == "lnd" else value)


def sound_npy_copy(root: Path, training: int = 12, validation: int = 8) -> Path:
    """The 8-label release without a fault: numbers and their texts, landmarks, none (-2), or no file of them."""
    for name, count in (("train_set", training), ("val_set", validation)):
        (root / name / "images").mkdir(parents=True)
        for number in range(count):
            seed = number + 100 * (name == "val_set")
            Image.fromarray(picture(seed, 40 + number, 60 - number)).save(root / name / "images" / f"{number}.jpg")
            values = (number % 8, number / 20 - 0.5, 0.3 - number / 30)
            landmarks = (FACE_POINTS, np.full(136, -2.0), None)[number % 3]
            save_annotations(root / name, number, *(values if number % 2 else map(str, values)), landmarks)
    return root


def write_votes(root: Path, votes: dict[str, tuple[int, ...]], header: str | None = None) -> None:
    """FER+ votes by path, in FER+'s order."""
    rows = [f"{path},{','.join(map(str, counts))}" for path, counts in votes.items()]
    (root / VOTES_FILE).write_bytes(lines(*rows, header=header or ",".join((PATH_COLUMN, *VOTE_COLUMNS))))


def pack_copy(
    source: Path, target: Path, kind: str, *, top: str = "", compress: bool = False, lists: bool = True
) -> Path:
    """The files of a copy in one archive `copy.tar` or `copy.zip` in `target`; the lists beside it if not `lists`."""
    target.mkdir(exist_ok=True)
    files = [file for file in sorted(source.rglob("*")) if file.is_file()]
    packed = [file for file in files if lists or file.suffix != ".csv"]
    names = {file: f"{top}{file.relative_to(source)}" for file in packed}
    if kind == "tar":
        with tarfile.open(target / "copy.tar", "w") as tar:
            for file, name in names.items():
                tar.add(file, name)
    else:
        method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
        with zipfile.ZipFile(target / "copy.zip", "w", method) as archive:
            for file, name in names.items():
                archive.write(file, name)
    for file in files:
        if file not in names:
            (target / file.name).write_bytes(file.read_bytes())
    return target


@st.composite
def spoilt(draw: st.DrawFn, content: bytes, tokens: tuple[bytes, ...] = ()) -> bytes:
    """`content` with a few stretches removed, repeated or replaced by random bytes or `tokens`."""
    data = bytearray(content)
    pieces = st.binary(max_size=6)
    if tokens:
        pieces |= st.sampled_from(tokens)
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from((0, 0, 1, 2, 8, 40, 10**6))))
        data[start:end] = draw(pieces | st.just(bytes(data[start:end]) * 2))
    return bytes(data)


def count_rows(content: bytes) -> int:
    """Lines of a list that hold something, without the header: counted apart from the code under test."""
    found = [
        text.decode("utf-8", "backslashreplace")
        for text in re.split(rb"\r\n|\r|\n", content.removeprefix(b"\xef\xbb\xbf"))
    ]
    rows = [text for text in found if text.strip(', "\t')]
    names = {re.sub(r"[^a-z0-9]", "", field.lower()) for field in rows[0].split(",")}
    known = {
        "subdirectoryfilepath",
        "identity",
        "subject",
        "personid",
        *(name.replace("_", "") for name in CSV_COLUMNS),
    }
    return len(rows) - bool(names & known or not any(is_number(cell) for cell in re.split("[,;]", rows[0])))


def is_number(cell: str) -> bool:
    try:
        return float(cell.strip(' "')) is not None
    except ValueError:
        return False
