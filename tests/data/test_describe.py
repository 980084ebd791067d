from __future__ import annotations

import json
from pathlib import Path

import pytest
from affectnet_copies import (
    HEADER,
    IMAGES,
    lines,
    pack_copy,
    row,
    save_picture,
    sound_copy,
    sound_npy_copy,
    write_copy,
    write_votes,
)

from pocketaffect.data.report.describe import CLASSES, OFFICIAL_COUNTS, describe, render
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import to_plain


def test_the_official_counts_are_those_that_the_papers_add_up_to():
    totals = {name: sum(counts) for name, counts in OFFICIAL_COUNTS.items()}
    assert totals == {"training.csv": 414798, "validation.csv": 5500, "train_set": 287651, "val_set": 3999}


def test_classes_valence_and_arousal_are_those_of_the_rows(tmp_path):
    rows = [
        row(f"1/{n}.png", expression=text, valence=v, arousal=a)
        for n, (text, v, a) in enumerate(
            [("0", "0.5", "0.1"), ("0", "-0.5", "0.3"), ("10", "-2", "-2"), ("11", "1", ""), ("x", "0.3", "-0.1")]
        )
    ]
    training = describe(write_copy(tmp_path, rows)).lists[0]
    assert training.counts == {name: {"neutral": 2, "non-face": 1}.get(name, 0) for name in CLASSES}
    assert (training.other_expression, training.with_va, training.without_va) == (2, 3, 0.4)
    assert training.va["valence"]["mean"] == pytest.approx(0.1)
    assert training.va["valence"]["deviation"] == pytest.approx(0.43204938)
    assert training.va["arousal"]["mean"] == pytest.approx(0.1)
    assert training.va["arousal"]["official_mean"] == 0.09


@pytest.mark.parametrize("form", ["loose", "tar", "zip", "lists beside a tar"])
def test_missing_unlisted_and_repeated_images_are_found_without_opening_one(tmp_path, form):
    root = sound_copy(tmp_path / "copy")
    (root / IMAGES / "1" / "t1.png").unlink()
    (root / IMAGES / "1" / "v1.png").write_bytes(b"not an image")
    save_picture(root, "9/extra.png", seed=1)
    training = root / "training.csv"
    training.write_bytes(training.read_bytes() + lines(row("0/t0.png"), "broken", row("1/t1.png"), header=None))
    if form != "loose":
        root = pack_copy(root, tmp_path / "packed", form[-3:], lists=form in ("tar", "zip"))
    found = describe(root)
    assert (found.listed, found.missing, found.missing_examples) == (20, 1, (f"{IMAGES}/1/t1.png",))
    assert (found.unlisted, found.unlisted_examples) == (1, (f"{IMAGES}/9/extra.png",))
    assert found.repeated == 2
    assert [(item.missing, item.summary.rows, item.summary.unsplit) for item in found.lists] == [(2, 14, 1), (0, 8, 0)]
    pictures = {path for path in (tmp_path / "copy" / IMAGES).rglob("*.png") if path.name != "extra.png"}
    assert found.image_bytes == sum(path.stat().st_size for path in pictures)
    assert found.total_bytes == sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    assert list(found.archives) == ([] if form == "loose" else [f"copy.{form[-3:]}"])


@pytest.mark.parametrize("form", ["loose", "tar", "zip"])
def test_every_file_in_an_image_folder_that_no_list_names_is_counted_whatever_it_is_called(tmp_path, form):
    root = sound_copy(tmp_path / "copy")
    for name in ("a.jfif", "b.MPO", "c", "d.heic", "Thumbs.db", ".hidden.png"):
        (root / IMAGES / "1" / name).write_bytes(b"x")
    (root / "Automatically_Annotated_Images").mkdir()
    for name in ("Automatically_Annotated_Images/e.dat", "f.jpe", "README.txt"):
        (root / name).write_bytes(b"x")
    (root / "more").mkdir()
    (root / "more" / "train_set.tar").write_bytes(b"x")
    if form != "loose":
        root = pack_copy(root, tmp_path / "packed", form)
    found = describe(root)
    names = [f"{IMAGES}/1/{name}" for name in ("a.jfif", "b.MPO", "c", "d.heic")]
    assert found.unlisted == 6
    assert set(found.unlisted_examples) < {*names, "Automatically_Annotated_Images/e.dat", "f.jpe"}
    assert "1: an archive that is not at the top" in render(found)


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "mpo", "JPG", "bin"])
def test_a_set_s_images_are_read_whatever_their_suffix(tmp_path, suffix):
    root = sound_npy_copy(tmp_path / "copy")
    for file in root.glob("*/images/*.jpg"):
        file.rename(file.with_suffix(f".{suffix}"))
    (root / "val_set" / "images" / "note.txt").write_text("x")
    found = describe(root)
    assert (found.listed, found.missing, found.unlisted) == (20, 0, 1)
    assert [item.summary.unsplit for item in found.lists] == [0, 1]


def test_a_link_to_nowhere_is_a_missing_image(tmp_path):
    root = sound_copy(tmp_path / "copy")
    file = root / IMAGES / "1" / "t1.png"
    file.unlink()
    file.symlink_to(tmp_path / "nowhere")
    assert describe(root).missing == 1


def test_the_text_tells_all_of_it_in_aligned_columns(tmp_path):
    root = sound_copy(tmp_path / "copy")
    write_votes(root, {"1/t1.png": (5, 0, 0, 5, 0, 0, 0, 0, 0, 0), "x": (1,) * 10, "y": (0,) * 10})
    content = (root / "training.csv").read_text().splitlines()
    named = [content[0] + ",person_id", *(f"{line},p{number}" for number, line in enumerate(content[1:]))]
    (root / "training.csv").write_text("\n".join(named))
    (root / "validation.csv").write_text("\n".join((root / "validation.csv").read_text().splitlines()[1:]))
    text = render(describe(root))
    for words in (
        "AffectNet's CSV release, loose files",
        "train, 12 rows, header line",
        "validation, 8 rows, no header line",
        "20 of 20 listed are there (",
        "1 rows, from 3 rows of votes (2 of images in no list, 1 without a vote for one of the eight)",
        "column person_id",
        " 0 neutral               2    74,874               1       500",
        "all                     12   414,798               8     5,500",
        "training.csv",
    ):
        assert words in text, text
    counts = text.split("\n\n")[1].splitlines()
    assert len({len(line) for line in counts[1:]}) == 1
    assert all(line == line.rstrip() for line in text.splitlines())


def test_a_list_without_official_counts_has_none_beside_it(tmp_path):
    root = write_copy(tmp_path, [row()])
    (root / "automatically_annotated.csv").write_bytes(
        lines(row("9/z.jpg"), row("9/y.jpg", valence="-2", arousal="-2"))
    )
    found = describe(root)
    assert found.lists[2].official is None
    assert "74,874" in render(found)
    assert render(found).splitlines()[-1].startswith("automatically_annotated.csv")


def test_json_holds_the_same_in_plain_values(tmp_path):
    for make in (sound_copy, sound_npy_copy):
        found = describe(make(tmp_path / make.__name__))
        plain = json.loads(json.dumps(to_plain(found)))
        assert plain["lists"][0]["counts"]["neutral"] == 2
        assert plain["lists"][0]["official"]["neutral"] == 74874
        assert plain["listed"] == 20
        assert plain["votes"] is None


def test_what_is_no_release_is_an_error_not_a_description(tmp_path):
    with pytest.raises(PocketAffectError, match="no layout"):
        describe(tmp_path)
    with pytest.raises(PocketAffectError):
        describe(Path(tmp_path / "nowhere"))
    with pytest.raises(PocketAffectError, match="a header line alone"):
        describe(write_copy(tmp_path, HEADER.encode()))
