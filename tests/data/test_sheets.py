import io
import re
import unicodedata

import numpy as np
import pandas as pd
import pytest
from affectnet_copies import picture
from contract_examples import HOSTILE
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pocketaffect.data.report import sheets
from pocketaffect.data.report.sheets import (
    Section,
    Tile,
    draw_reason,
    draw_sheet,
    fit_picture,
    show_text,
    spread_evenly,
)
from pocketaffect.figures import ORANGE
from pocketaffect.files import write_json
from pocketaffect.labels import EXPRESSIONS

WHITE = (255, 255, 255)


def pixels(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png))
    assert image.mode == "RGB"
    assert not image.info
    return np.asarray(image)


def holds(sheet: np.ndarray, left: int, top: int, tile: np.ndarray) -> bool:
    return np.array_equal(sheet[top : top + tile.shape[0], left : left + tile.shape[1]], tile)


def find(sheet: np.ndarray, tile: np.ndarray) -> list[tuple[int, int]]:
    """Where a tile stands: left and top of each place."""
    first = (sheet[:, :, None, :] == tile[0, :1]).all(axis=3)[:, :, 0]
    return [(int(x), int(y)) for y, x in np.argwhere(first) if holds(sheet, x, y, tile)]


def write_faces(folder, counts: dict[str, int], side: int, shard_images: int = 7) -> dict[str, np.ndarray]:
    """Shards of noise in the form that `shards.open_split` reads; the classes take turns, the last one has no face."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    faces, rows = {}, []
    for split, count in counts.items():
        faces[split] = generator.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        for start in range(0, count, shard_images):
            name = f"{split}-{start // shard_images:05d}.npy"
            np.save(folder / name, faces[split][start : start + shard_images])
            end = min(start + shard_images, count)
            rows += [(split, name, row - start, f"{row}", row % 7) for row in range(start, end)]
    index = pd.DataFrame(rows, columns=["split", "shard", "row", "path", "expression"])
    index = index.assign(valence=np.float32(0), arousal=np.float32(0), warnings="", list="training.csv")
    index.to_parquet(folder / "index.parquet", index=False)
    write_json(folder / "shards.json", {"size": side})
    return faces


def test_a_contact_sheet_holds_faces_of_its_class_evenly_spread_over_the_split(tmp_path):
    faces = write_faces(tmp_path / "shards", {"train": 700, "validation": 40}, 32)
    sheets.write_contact_sheets(tmp_path / "shards", tmp_path / "faces")
    assert sorted(file.name for file in (tmp_path / "faces").iterdir()) == sorted(f"{name}.png" for name in EXPRESSIONS)
    sheet = pixels((tmp_path / "faces" / "sadness.png").read_bytes())
    wanted = {"train": np.linspace(0, 99, 50).round().astype(int) * 7 + 2, "validation": np.arange(2, 40, 7)}
    places = {}
    for split, rows in wanted.items():
        places[split] = [find(sheet, faces[split][row]) for row in rows]
        assert all(len(found) == 1 for found in places[split])
    order = [found[0][::-1] for found in places["train"] + places["validation"]]
    assert order == sorted(order), "in the rows' order, training first"
    assert len({top for top, _ in order}) == 6


def test_large_faces_are_shrunk_so_that_a_sheet_stays_small(tmp_path):
    write_faces(tmp_path / "shards", {"train": 420, "validation": 70}, 100, shard_images=500)
    sheets.write_contact_sheets(tmp_path / "shards", tmp_path / "faces")
    for file in (tmp_path / "faces").iterdir():
        assert file.stat().st_size < 1_000_000, "even of noise"
        assert pixels(file.read_bytes()).shape[1] < 760


def test_contact_sheets_are_the_same_bytes_again_and_one_without_faces_is_a_sheet(tmp_path):
    write_faces(tmp_path / "shards", {"train": 30, "validation": 8}, 32)
    for name in ("one", "two"):
        sheets.write_contact_sheets(tmp_path / "shards", tmp_path / name)
    for expression in EXPRESSIONS:
        one, two = ((tmp_path / name / f"{expression}.png").read_bytes() for name in ("one", "two"))
        assert one == two
    empty = pixels((tmp_path / "one" / f"{EXPRESSIONS[7]}.png").read_bytes())
    assert (empty != 255).any(), "its headings"


def test_tiles_stand_in_rows_with_their_captions_below():
    tiles = [Tile(picture(seed, 60, 60), f"tile {seed}", "caption") for seed in range(5)]
    sheet = pixels(draw_sheet("Title", [Section("first", tiles)], columns=2, caption_lines=2))
    places = [find(sheet, tile.picture)[0] for tile in tiles]
    assert [x for x, _ in places] == [places[0][0], places[1][0]] * 2 + [places[0][0]]
    (left, top) = places[0]
    below = sheet[top + 60 : top + 60 + 30, left : left + 60]
    assert (below < 128).any()
    between = sheet[:, left + 60 : places[1][0]]
    assert (between[top : top + 90] == 255).all(), "nothing is written beyond a tile's width"


def test_accents_stay_on_their_letters_and_do_not_pile_up():
    assert show_text("e\u0301te\u0301", 50) == "e\u0301te\u0301"
    assert show_text("\u0301e" + "\u0301" * 5, 50) == "\\u0301e" + "\u0301" * 3 + "\\u0301" * 2


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_drawn_within_its_place(text):
    tile = Tile(picture(0, 80, 80), text, text)
    sheet = pixels(draw_sheet(text, [Section(text, [tile] * 3)], columns=5, caption_lines=3))
    assert sheet.shape[0] < 80 + 200
    assert sheet.shape[1] == 5 * 88 - 8 + 28
    assert (sheet[:, :10] == 255).all()
    assert (sheet[:, -10:] == 255).all()
    assert draw_reason(text, 80).shape == (80, 80, 3)


@given(st.text(max_size=60) | st.text(alphabet="\x00\x1f\u202e\u0301\ud800$\\{}<>&'\"W ", max_size=500))
def test_shown_text_prints_is_short_and_keeps_what_prints(text):
    shown = show_text(text, 50)
    assert shown.isprintable()
    assert len(shown) <= 50 * len("\\U0010ffff") + 1
    assert show_text(shown, len(shown)) == shown
    shown.encode("utf-8")
    if text.isprintable() and len(text) <= 50 and not any(map(unicodedata.combining, text)):
        assert shown == text
    assert shown.endswith("…") == (len(text) > 50) or text[:50].endswith("…")


@given(st.text(max_size=300), st.integers(8, 200), st.integers(1, 4))
def test_wrapped_lines_fit_and_lose_nothing_but_spaces_and_what_is_cut(text, width, most):
    font = sheets._font(11, bold=False)
    printed = show_text(text, 300)
    lines = sheets._wrap(printed, font, width, most)
    assert len(lines) <= most
    assert all(len(line) <= 2 or font.getlength(line) <= width for line in lines)
    joined = re.sub(r"\s", "", "".join(lines))
    whole = re.sub(r"\s", "", printed)
    assert joined == whole or (len(lines) == most and joined.endswith("…") and whole.startswith(joined[:-1]))


@pytest.mark.parametrize(("width", "height"), [(300, 150), (150, 300), (7, 90), (1, 4000), (4000, 3), (20, 20)])
def test_a_picture_is_fitted_whole_into_its_square(width, height):
    flat = np.full((height, width, 3), (10, 120, 30), dtype=np.uint8)
    fitted = fit_picture(flat, 60)
    inside = (fitted == (10, 120, 30)).all(axis=2)
    assert inside.any(axis=0).sum() == max(1, round(60 * width / max(width, height)))
    assert inside.any(axis=1).sum() == max(1, round(60 * height / max(width, height)))


def test_a_box_is_drawn_where_it_lies_on_the_picture():
    flat = np.zeros((200, 100, 3), dtype=np.uint8)
    fitted = fit_picture(flat, 100, (20, 40, 40, 80))
    orange = tuple(int(ORANGE[place : place + 2], 16) for place in (1, 3, 5))
    rows, columns = np.nonzero((fitted == orange).all(axis=2))
    # Half the size, and 25 pixels of ground on the left.
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (35, 55, 20, 60)


def test_room_is_made_for_a_box_beside_the_picture():
    flat = np.zeros((100, 100, 3), dtype=np.uint8)
    fitted = fit_picture(flat, 100, (-100, 0, 50, 100))
    assert (fitted[25:75, 50:] == 0).all(), "the picture, half as large, on the right"
    orange = (fitted == (213, 94, 0)).all(axis=2)
    assert orange[30:70, 0].all()
    assert orange[30:70, 25].all()


@pytest.mark.parametrize(
    "box",
    [(np.nan, 0, 5, 5), (1e308, 1e308, 1e308, 1e308), (-1e300, 0, 5, -1e300), (5, 5, 0, 0), (0, 0, -3, -3)],
)
def test_a_box_that_is_none_is_no_error(box):
    assert fit_picture(picture(1), 50, box).shape == (50, 50, 3)


@given(st.integers(0, 500), st.integers(0, 40))
def test_rows_are_chosen_evenly_and_once(count, most):
    chosen = spread_evenly(np.arange(count), most)
    assert len(chosen) == min(count, most)
    assert len(set(chosen.tolist())) == len(chosen)
    if most > 1 and count:
        assert chosen[0] == 0
        assert chosen[-1] == count - 1
        assert np.ptp(np.diff(chosen)) <= 1 if len(chosen) > 1 else True
