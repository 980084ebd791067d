import html
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from affectnet_copies import IMAGES, picture, spoilt
from contract_examples import HOSTILE, check_result, dirty_result, kept_rows, pairs, quarantined
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pocketaffect.data.contract.check import ContractResult
from pocketaffect.data.contract.profile import Drift
from pocketaffect.data.report.page import (
    MAX_TEXT,
    PNGS,
    SVGS,
    draw_duplicates,
    draw_quarantine,
    render_page,
    report_contract,
)

FILES = {"class_balance.svg", "contract.html", "duplicates.png", "quarantine.csv", "quarantine.png"}
FILES |= {"split_drift.svg", "va_density.png"}


class Page(HTMLParser):
    """What a browser would load, the text that it would show, and the tags of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.shown: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name.split(":")[-1] in ("src", "href", "srcset", "data")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.shown.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.shown).split())


@dataclass(frozen=True)
class Report:
    """A result with something of every kind, its page, and where all files were written."""

    result: ContractResult
    text: str
    folder: Path

    def page_of(self, result: ContractResult, limit: float = 0.02) -> str:
        """The page of another result, with this one's pictures."""
        return render_page(result, self.folder, limit)


@pytest.fixture(scope="module")
def dirty(tmp_path_factory) -> Report:
    root, target = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("reports") / "data"
    target.mkdir()
    (target / "left.txt").write_text("of a report before this one")
    result = dirty_result(root)
    report_contract(result, root, target, limit=0.02)
    return Report(result, (target / "contract.html").read_text("utf-8"), target)


def test_a_report_is_every_declared_file_and_replaces_the_one_before_it(dirty):
    assert {file.name for file in dirty.folder.iterdir()} == FILES


def test_the_page_loads_nothing(dirty):
    page = Page(dirty.text)
    assert page.loads
    assert all(load.startswith(("#", "data:image/png;base64,")) for load in page.loads)
    assert not set(page.tags) & {"script", "iframe", "link", "object", "embed", "base", "form"}
    assert all(found.startswith("#") for found in re.findall(r"url\(['\"]?([^)]*)", dirty.text))
    assert "@import" not in dirty.text
    assert sum(load.startswith("data:") for load in page.loads) == len(PNGS)
    assert page.tags.count("svg") == len(SVGS)


def test_the_numbers_on_the_page_add_up(dirty):
    result, text = dirty.result, dirty.text
    tiles = [int(number.replace(",", "")) for number in re.findall(r"<b[^>]*>([\d,]+)</b>", text)]
    assert tiles == [result.rows, len(result.kept), len(result.quarantine), len(result.dropped)]
    assert tiles[0] == sum(tiles[1:])
    table = text[text.index('class="rules') : text.index('<tr class="total"')]
    lost = [int(number.replace(",", "")) for number in re.findall(r'data-label="lost">([\d,]+)<', table)]
    assert sum(lost) == tiles[2] + tiles[3]
    total = f"{tiles[2]} + {tiles[3]} = {tiles[2] + tiles[3]}"
    assert total in Page(text).text


def test_every_rule_stands_in_the_table_with_its_counts(dirty):
    result, text = dirty.result, dirty.text
    rows = re.findall(r"<tr><th scope=\"row\">.*?</tr>", text[: text.index('<tr class="total"')], re.DOTALL)
    assert len(rows) == len(result.counts)
    for row, count in zip(rows, result.counts, strict=True):
        shown = Page(row).text
        assert shown.startswith(f"{count.name} {count.severity} {count.demand}")
        numbers = re.findall(r'data-label="(?:checked|break it)">([^<]*)<', row)
        assert numbers == [f"{count.checked:,}" if count.checked else "not checked", f"{count.broken:,}"]
        assert (f"badge {count.severity}" in row) == bool(count.broken)


def test_each_broken_rule_has_examples_with_their_source(dirty):
    result, text = dirty.result, dirty.text
    shown = Page(text).text
    for count in result.counts:
        assert (f'<h3 id="{count.name}">' in text) == bool(count.broken)
    for line, value in ((102, "damaged image: cut short"), (103, "empty file")):
        assert f"training.csv {line}" in shown
        assert value in shown
    assert "valence" in shown[shown.index("va_plausible: ") :][:400]


def test_hostile_text_is_shown_as_text_and_cut(dirty):
    text = dirty.text
    assert "<script>" not in text
    assert html.escape("<script>alert(") in text
    assert "{{ 7 * 7 }}" in Page(text).text
    assert "A" * (MAX_TEXT + 1) not in text
    assert "A" * MAX_TEXT + "…" in text
    assert all(letter.isprintable() for letter in text.replace("\n", ""))
    assert "\\x00\\x01\\x1b[31m" in text


def test_drift_and_pairs_are_told(dirty):
    shown = Page(dirty.text).text
    assert "train share of fear drift 2.0% 12.5% +10.5 points" in shown
    assert "validation mean valence 0.10 0.09 -0.01" in shown
    assert "1 of 2 figures" in shown
    assert f"2 validation {IMAGES}/1/0.png train dropped {IMAGES}/1/1.png" in shown


def test_the_verdict_names_the_limit_and_the_rule_that_most_rows_broke(dirty):
    text = dirty.text
    assert '<p class="verdict bad">' in text
    assert "most of them expression_known (7)" in Page(text).text
    assert "more than the 2%" in Page(text).text
    sound = dirty.page_of(check_result(kept_rows()))
    assert '<p class="verdict good">All 84 rows keep the contract.</p>' in sound
    drifted = check_result(kept_rows(), drift=(Drift("train mean valence", 0.1, 0.5, 0.4, True),))
    assert '<p class="verdict doubt">All 84 rows keep the contract. 1 of 1 figures' in dirty.page_of(drifted)
    within = check_result(kept_rows(), quarantined(("image_readable", "a.jpg", "empty file")))
    assert "within the 5%" in Page(dirty.page_of(within, limit=0.05)).text


def test_everything_is_the_same_bytes_again(dirty, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    report_contract(dirty_result(root), root, tmp_path / "again", limit=0.02)
    for file in dirty.folder.iterdir():
        content = file.read_bytes()
        assert content == (tmp_path / "again" / file.name).read_bytes(), file.name
        assert str(tmp_path.parent).encode() not in content
        assert not re.search(rb"dc:date|Matplotlib v|tEXt|tIME|iTXt", content[:5000])


@pytest.mark.slow
def test_other_processes_write_the_same_bytes(dirty, tmp_path):
    script = (
        "import sys; from pathlib import Path; from contract_examples import dirty_result;"
        "from pocketaffect.data.report.page import report_contract; root = Path(sys.argv[1]); root.mkdir();"
        "report_contract(dirty_result(root), root, Path(sys.argv[2]), limit=0.02)"
    )
    for seed in ("1", "2"):
        environment = os.environ | {
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": str(Path(__file__).parent),
            "TZ": "Asia/Tokyo",
        }
        command = [sys.executable, "-c", script, str(tmp_path / f"data{seed}"), str(tmp_path / seed)]
        subprocess.run(command, check=True, env=environment)
        for file in dirty.folder.iterdir():
            assert file.read_bytes() == (tmp_path / seed / file.name).read_bytes(), file.name


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.sampled_from(["JPEG", "PNG", "BMP", "GIF"]).flatmap(lambda kind: spoilt(picture_file(kind))))
def test_a_spoilt_picture_is_a_tile_or_a_reason(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    sheet = Image.open(io.BytesIO(draw_quarantine(quarantined(("image_readable", "a.jpg", "value")), tmp_path)))
    assert np.asarray(sheet).shape[1] > 400


def picture_file(kind: str) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture(3, 60, 44)).save(data, kind)
    return data.getvalue()


def test_a_data_set_without_a_fault_and_one_without_a_row_left_give_a_report(tmp_path):
    for name, result in {
        "sound": check_result(kept_rows(8, 8)),
        "lost": check_result(kept_rows(0, 0), quarantined(*[("image_readable", "a.jpg", "empty file")] * 3)),
    }.items():
        report_contract(result, tmp_path, tmp_path / name, limit=0.02)
        shown = Page((tmp_path / name / "contract.html").read_text("utf-8")).text
        assert ("No row is left." in shown) == (name == "lost")
        assert "No profile to measure from" in shown
        assert "No pair found" in shown


def test_the_list_beside_the_page_holds_every_quarantined_row(dirty):
    result = dirty.result
    listed = pd.read_csv(dirty.folder / "quarantine.csv", keep_default_na=False)
    assert listed["line"].tolist() == result.quarantine["line"].tolist()
    assert listed["rule"].tolist() == result.quarantine["rule"].tolist()


def test_a_hundred_thousand_quarantined_rows_give_a_small_page(dirty, tmp_path):
    lost = quarantined(*[("expression_known", "p/" * 150, "v<" * 150), ("image_readable", "a.jpg", "x" * 300)])
    lost = lost.loc[np.repeat(lost.index, 50_000)].reset_index(drop=True)
    duplicates = pairs(("a/" * 100, "b/" * 100, 3, False))
    duplicates = duplicates.loc[np.repeat(duplicates.index, 50_000)].reset_index(drop=True)
    text = dirty.page_of(check_result(kept_rows(), lost, duplicates=duplicates))
    assert "100,000 of 100,084 rows" in Page(text).text
    pictures = [draw_quarantine(lost, tmp_path), draw_duplicates(duplicates, tmp_path)]
    assert len(text) + sum(map(len, pictures)) < 2_000_000


def test_text_of_every_kind_is_in_the_page(dirty):
    shown = Page(dirty.text).text
    assert len([text for text in HOSTILE if text and text.isprintable() and text[:20] in shown]) >= 3
