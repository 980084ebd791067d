from __future__ import annotations

import random
import re

import numpy as np
import pytest
from affectnet_copies import HEADER, LANDMARKS, count_rows, lines, row, write_copy, write_votes

from pocketaffect.data.release import delimited
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.layouts import read_annotations
from pocketaffect.errors import PocketAffectError

GOOD = (
    row("1/a.jpg", landmarks=LANDMARKS),
    row("2/b.jpg", box=",,,", expression="10", valence="-2", arousal="-2"),
    row("3/c.jpg", expression="7", valence="1e-1", landmarks="1;2"),
    row("3/d.jpg", expression="0"),
)
TOKENS = (b"\n", b"\r", b"\r\n", b",", b'"', b"\0", b"\xff", b"\xef\xbb\xbf", b"nan", b"inf", b"-", b" ", b";", b"\t")
TOKENS += (b"../", b"1e999", b"\xf0\x9f\x98\x80", HEADER.encode(), b"\xe2\x80\xa8", b",,,,,,,,", b"\xc3")


def mutate(content: bytes, generator: random.Random) -> bytes:
    """Flips, cuts, inserts, repeats: one to six times, anywhere."""
    data = bytearray(content)
    for _ in range(generator.randint(1, 6)):
        place = generator.randrange(len(data) + 1)
        end = min(len(data), place + generator.choice((1, 1, 2, 8, 40, 2000)))
        kind = generator.randrange(7)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << generator.randrange(8)
        elif kind == 1:
            del data[place:end]
        elif kind == 2:
            data[place:place] = generator.choice(TOKENS)
        elif kind == 3:
            data[place:place] = generator.randbytes(generator.randint(1, 12))
        elif kind == 4:
            data[place:place] = data[place:end]
        elif kind == 5:
            rows = data.splitlines(keepends=True)
            chosen = generator.randrange(len(rows)) if rows else 0
            data[place:place] = b"".join(rows[chosen : chosen + 2])
        elif generator.randrange(4) == 0:
            del data[place:]
    return bytes(data)


def read_mutated(root, content: bytes):
    (root / "training.csv").write_bytes(content)
    found = None
    try:
        found = read_annotations(DataFolder.open(root))
    except PocketAffectError as error:
        message = str(error)
    else:
        message = "training.csv"
    assert "training.csv" in message
    return found


def check(found, content: bytes) -> None:
    """No line lost, none told twice, none under another's number, no number that the file does not hold."""
    rows = found.rows[found.rows["list"] == "training.csv"]
    unsplit = found.unsplit[found.unsplit["list"] == "training.csv"]
    assert len(rows) + len(unsplit) == count_rows(content)
    numbers = [*rows["line"], *unsplit["line"]]
    assert len(set(numbers)) == len(numbers)
    text = [b"", *re.split(rb"\r\n|\r|\n", content.removeprefix(b"\xef\xbb\xbf"))]
    text = [line.decode("utf-8", "backslashreplace") for line in text]
    assert all(path in text[line] for line, path in zip(rows["line"], rows["listed_path"], strict=True))
    assert all(text[line].startswith(shown) for line, shown in zip(unsplit["line"], unsplit["text"], strict=True))
    values = rows[["expression", "valence", "arousal"]].to_numpy()
    assert not np.isinf(values).any()
    told = rows["unread"].to_numpy()
    for place, name in enumerate(("expression", "valence", "arousal")):
        assert [name in text for text in told] == np.isnan(values[:, place]).tolist()
    full = rows["landmark_count"].to_numpy() == 136
    assert (np.isfinite(rows["eye_left_x"].to_numpy()) == full).all()


@pytest.mark.parametrize("seed", range(2))
def test_a_hundred_mutated_lists_each_lose_no_line_and_crash_nothing(tmp_path, monkeypatch, seed):
    fuzz(tmp_path, monkeypatch, seed, 100)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 102))
def test_six_hundred_mutated_lists_lose_no_line_and_crash_nothing(tmp_path, monkeypatch, seed):
    fuzz(tmp_path, monkeypatch, seed, 300)


def fuzz(root, monkeypatch, seed: int, count: int) -> None:
    generator = random.Random(seed)
    write_copy(root, [row()])
    write_votes(root, {"1/a.jpg": (1,) * 10})
    good = [lines(*GOOD, header=header, end=end) for header in (HEADER, None) for end in ("\n", "\r\n", "\r")]
    good += [b"\xef\xbb\xbf" + good[0], lines(*(f"{text},Ann" for text in GOOD), header=HEADER + ",identity")]
    read = 0
    for _ in range(count):
        monkeypatch.setattr(delimited, "BLOCK_BYTES", generator.choice((64, *[8 << 20] * 20)))
        content = mutate(generator.choice(good), generator)
        found = read_mutated(root, content)
        if found is not None:
            check(found, content)
            read += 1
    assert read > count / 3
