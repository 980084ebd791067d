"""Small copies of AffectNet's CSV release, made of drawn blobs, for tests to spoil."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from pocketaffect.data.layouts import CSV_COLUMNS

HEADER = ",".join(CSV_COLUMNS)
IMAGES = "Manually_Annotated_Images"


def row(path="1/a.jpg", box="4,4,30,30", expression="3", valence="0.5", arousal="-0.25", landmarks="1;2") -> str:
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
            rows[split].append(row(path, box, str(number % 8), f"{number / 20 - 0.5}", f"{0.3 - number / 30}"))
    return write_copy(root, rows["t"], rows["v"])


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
        text.decode("utf-8", "replace") for text in re.split(rb"\r\n|\r|\n", content.removeprefix(b"\xef\xbb\xbf"))
    ]
    rows = [text for text in found if text.strip(', "\t')]
    names = {field.strip().strip('"') for field in rows[0].split(",")}
    return len(rows) - bool(names & {"subDirectory_filePath", "expression"})
