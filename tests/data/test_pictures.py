import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from contract_examples import dropped, kept_rows, quarantined
from PIL import Image

from pocketaffect.data.contract.profile import SplitProfile, compare_profiles, profile_of
from pocketaffect.data.report.pictures import (
    BINS,
    count_va_cells,
    draw_class_balance,
    draw_split_drift,
    draw_va_density,
)
from pocketaffect.figures import inline_svg, render_png, render_svg
from pocketaffect.labels import EXPRESSIONS

NOTHING = kept_rows().iloc[:0]


def texts(svg: str) -> list[str]:
    return ["".join(part.itertext()) for part in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_numbers_on_the_bars_are_those_of_the_tables():
    kept = kept_rows(5000, 900)
    lost = quarantined(*[("expression_known", "a", "b")] * 7).assign(
        split=["train"] * 5 + ["validation"] * 2, expression=[0, 0, 0, 11, np.nan, 6, 6]
    )
    left = dropped(*["non_face"] * 3).assign(split="train", expression=10)
    figure = draw_class_balance(kept, lost, left)
    shown = texts(render_svg(figure))
    for split, axis in zip(("train", "validation"), figure.axes, strict=True):
        rows = kept[kept["split"] == split]
        expected = [int((rows["expression"] == code).sum()) for code in (*range(8), -1)]
        bars = [bar.get_width() for bar in axis.containers[0]]
        assert bars == [*expected, 0]
        written = [text.get_text() for text in axis.texts]
        assert written[:10] == [f"{count:,}" for count in (*expected, 0)]
        assert set(written) <= set(shown)
        assert f"{len(rows):,} rows kept" in axis.get_title(loc="left")
    lost_bars = [[bar.get_width() for bar in axis.containers[1]] for axis in figure.axes]
    assert lost_bars == [[3, 0, 0, 0, 0, 0, 0, 0, 4, 1], [0, 0, 0, 0, 0, 0, 2, 0, 0, 0]]


def test_rows_left_out_without_a_class_are_counted_in_their_split():
    lost = quarantined(*[("expression_known", "a", "b")] * 3)
    lost["split"] = ["train", "validation", "validation"]
    figure = draw_class_balance(kept_rows(), lost, dropped("non_face"))
    assert [axis.containers[1][-1].get_width() for axis in figure.axes] == [2, 2]
    assert [axis.containers[1].patches[0].get_width() for axis in figure.axes] == [0, 0]


@pytest.mark.parametrize("rows", [1, 99_999, 1_000_000])
def test_numbers_beside_the_bars_stay_inside_the_picture(rows):
    kept = pd.DataFrame({"list": "training.csv", "split": np.repeat("train", rows), "expression": np.int8(1)})
    figure = draw_class_balance(kept, kept)
    figure.draw_without_rendering()
    for axis in figure.axes:
        assert all(text.get_window_extent().x1 <= axis.get_window_extent().x1 for text in axis.texts)
    assert f"{rows:,}" in [text.get_text() for text in figure.axes[0].texts]


def test_a_single_class_and_no_row_at_all_are_said_and_drawn():
    one = kept_rows().assign(expression=np.int8(1))
    assert any("only happiness" in text for text in texts(render_svg(draw_class_balance(one))))
    for kept in (one, NOTHING):
        render_svg(draw_class_balance(kept, quarantined(), dropped()))
        render_svg(draw_split_drift(kept, ()))
    assert "0 rows kept" in " ".join(texts(render_svg(draw_class_balance(NOTHING))))


def test_cells_of_the_density_are_those_of_a_histogram():
    kept = kept_rows(3000, 500)
    counts = count_va_cells(kept)
    edges = np.linspace(-1, 1, BINS + 1)
    for number, split in enumerate(("train", "validation")):
        rows = kept[(kept["split"] == split) & kept["valence"].notna()]
        for code in (-1, *range(8)):
            chosen = rows if code == -1 else rows[rows["expression"] == code]
            expected, _, _ = np.histogram2d(chosen["arousal"], chosen["valence"], bins=(edges, edges))
            assert np.array_equal(counts[number, 1 + code], expected)


def test_the_ends_of_the_scale_lie_in_the_outer_cells():
    kept = kept_rows(4, 1).assign(valence=np.float32([1, -1, 1, -1, 0]), arousal=np.float32([1, -1, -1, 1, 0]))
    corners = count_va_cells(kept)[0, 0][np.ix_([0, -1], [0, -1])]
    assert corners.tolist() == [[1, 1], [1, 1]]


def test_the_density_names_every_class_with_its_number_of_rows():
    kept = kept_rows(3000, 500)
    figure = draw_va_density(kept)
    counts = count_va_cells(kept).sum(axis=(2, 3))
    for number, axis in enumerate(figure.axes[:2]):
        written = {text.get_text() for text in axis.texts}
        for name, count in zip(("all", *EXPRESSIONS), counts[number], strict=True):
            assert f"{name}  n = {count:,}" in written
    image = Image.open(io.BytesIO(render_png(figure, dpi=50)))
    assert "Software" not in image.info
    assert image.size == (520, 315)


def test_without_valence_and_arousal_the_density_says_so():
    kept = kept_rows().assign(valence=np.float32("nan"))
    (axis,) = draw_va_density(kept).axes
    assert "no kept row" in axis.texts[0].get_text()


def test_the_drift_picture_shows_each_figure_beside_the_stored_one():
    kept, other = kept_rows(400, 100), kept_rows(300, 80, seed=5)
    drift = compare_profiles(profile_of(other), profile_of(kept), max_drift=0.05)
    figure = draw_split_drift(kept, drift)
    shares, valence, arousal = figure.axes
    expected = {round(finding.difference, 6): finding for finding in drift if " share " in finding.what}
    written = {text.get_text() for text in shares.texts}
    for finding in expected.values():
        number = f"{100 * finding.difference:+.1f}"
        assert (number if float(number) else number[1:]) + " !" * finding.warned in written
    found = profile_of(kept).splits
    dots = sorted(float(line.get_xdata()[0]) for line in valence.lines if line.get_markersize() == 4.5)
    means = [split.mean["valence"] for split in found.values()]
    means += [mean["valence"] for split in found.values() for mean in split.class_mean.values()]
    assert dots == pytest.approx(sorted(means))
    rings = sorted(float(line.get_xdata()[0]) for line in arousal.lines if line.get_marker() == "o")
    stored = [finding.stored for finding in drift if "mean arousal" in finding.what]
    assert set(np.round(stored, 6)) <= set(np.round(rings, 6))


def test_without_a_profile_the_drift_picture_compares_the_splits():
    kept = kept_rows(400, 100)
    shares = draw_split_drift(kept, ()).axes[0]
    splits: dict[str, SplitProfile] = dict(profile_of(kept).splits)
    for name in EXPRESSIONS:
        number = f"{100 * (splits['validation'].shares[name] - splits['train'].shares[name]):+.1f}"
        assert (number if float(number) else number[1:]) in {text.get_text() for text in shares.texts}


def test_a_difference_of_nothing_has_no_sign():
    kept = kept_rows()
    same = compare_profiles(profile_of(kept), profile_of(kept), max_drift=0.05)
    written = [text.get_text() for axis in draw_split_drift(kept, same).axes for text in axis.texts]
    assert "0.0" in written
    assert "0.00" in written
    assert not [text for text in written if re.fullmatch(r"[+-]0\.0+", text)]


def test_an_inline_chart_takes_the_colours_of_its_page_and_keeps_its_ids_apart():
    svg = inline_svg(render_svg(draw_class_balance(kept_rows())), "one")
    root = ET.fromstring(svg)
    assert "width" not in root.attrib
    assert "viewBox" in root.attrib
    assert not re.search("#ffffff|#24292f|#d0d7de", svg)
    ids = {part.attrib["id"] for part in root.iter() if "id" in part.attrib}
    assert all(name.startswith("one-") for name in ids)
    used = set(re.findall(r'(?:xlink:href="|url\()#([^")]+)', svg))
    assert used
    assert used <= ids
