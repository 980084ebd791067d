"""Small results of a contract check with real pictures on disk, for the tests of pictures, sheets and the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from affectnet_copies import IMAGES, save_picture

from pocketaffect.data.contract.check import ContractResult, RuleCount
from pocketaffect.data.contract.ledger import DROPPED_COLUMNS, DUPLICATES_COLUMNS, QUARANTINE_COLUMNS
from pocketaffect.data.contract.profile import Drift
from pocketaffect.data.contract.rules import RULES

NOWHERE = ("", 0, 0, False)
HOSTILE = (
    "<script>alert('x')</script><img src=https://evil.example/a.png>",
    "$math$ $x^2 \\frac{",
    "\x00\x01\x1b[31m\r\n\t\x7f\u202egpj.exe\u2028",
    "A" * 10_000,
    "\u0301" * 500,
    "{{ 7 * 7 }}{% raw %}]]>--><!--",
    "",
)


def kept_rows(training=60, validation=24, seed=0) -> pd.DataFrame:
    """Both splits with every class, some rows without one, some without valence and arousal."""
    generator = np.random.default_rng(seed)
    count = training + validation
    affect = generator.uniform(-1, 1, (count, 2)).astype(np.float32)
    affect[::7] = np.nan
    split = ["train"] * training + ["validation"] * validation
    numbers = np.arange(count)
    return pd.DataFrame(
        {
            "list": pd.Categorical(["training.csv"] * training + ["validation.csv"] * validation),
            "line": numbers + 2,
            "split": pd.Categorical(split),
            "path": [f"{IMAGES}/1/{number}.png" for number in numbers],
            "expression": np.where(numbers % 9 == 8, -1, generator.integers(0, 8, count)).astype(np.int8),
            "valence": affect[:, 0],
            "arousal": affect[:, 1],
            "warnings": np.where(numbers % 10 == 3, "va_plausible,near_duplicate_in_split", ""),
            "duplicate_group": np.full(count, -1, dtype=np.int32),
        }
    ).assign(expression=lambda rows: rows["expression"].where(rows["warnings"] == "", 3).astype(np.int8))


def quarantined(*rows: tuple[str, str, str]) -> pd.DataFrame:
    """(rule, path, value) each."""
    lines = [
        ("training.csv", 100 + place, "train", path, np.nan, rule, value, "", *NOWHERE)
        for place, (rule, path, value) in enumerate(rows)
    ]
    return pd.DataFrame(lines, columns=list(QUARANTINE_COLUMNS))


def dropped(*rules: str) -> pd.DataFrame:
    lines = [
        ("training.csv", 500 + place, "train", f"{IMAGES}/1/d.png", np.nan, rule, "9")
        for place, rule in enumerate(rules)
    ]
    return pd.DataFrame(lines, columns=list(DROPPED_COLUMNS))


def pairs(*rows: tuple[str, str, int, bool]) -> pd.DataFrame:
    """(path, other path, distance, dropped) each."""
    lines = [
        (one, "validation" if across else "train", *NOWHERE, other, "train", *NOWHERE, distance, across)
        for one, other, distance, across in rows
    ]
    return pd.DataFrame(lines, columns=list(DUPLICATES_COLUMNS))


def check_result(
    kept: pd.DataFrame,
    quarantine: pd.DataFrame | None = None,
    left: pd.DataFrame | None = None,
    duplicates: pd.DataFrame | None = None,
    drift: tuple[Drift, ...] = (),
) -> ContractResult:
    """A result whose counts are those of its tables."""
    quarantine = quarantined() if quarantine is None else quarantine
    left = dropped() if left is None else left
    counts = []
    for rule in RULES:
        table = {"error": quarantine, "drop": left}.get(rule.severity)
        broken = (
            int(kept["warnings"].str.contains(rule.name).sum())
            if table is None
            else int((table["rule"] == rule.name).sum())
        )
        checked = 0 if rule.name == "identity_in_validation" else len(kept) + len(quarantine)
        counts.append(RuleCount(rule.name, rule.severity, rule.demand, checked, broken))
    return ContractResult(kept, quarantine, left, pairs() if duplicates is None else duplicates, tuple(counts), drift)


def dirty_result(root: Path) -> ContractResult:
    """Something of every kind, with pictures below `root`: three sound ones, one cut short, one empty."""
    for number in range(3):
        save_picture(root, f"1/{number}.png", seed=number, width=90, height=60 + 20 * number)
    whole = (root / IMAGES / "1/0.png").read_bytes()
    (root / IMAGES / "1/short.png").write_bytes(whole[: len(whole) // 2])
    (root / IMAGES / "1/empty.png").write_bytes(b"")
    box = "face_x 10.0, face_y 8, face_width 30.5, face_height 4e1; image 90 x 60 pixels"
    return check_result(
        kept_rows(),
        quarantined(
            ("box_on_image", f"{IMAGES}/1/0.png", box),
            ("box_on_image", f"{IMAGES}/1/1.png", "face_x 1.2.3, face_y 'abc'"),
            ("image_readable", f"{IMAGES}/1/short.png", "damaged image: cut short"),
            ("image_readable", f"{IMAGES}/1/empty.png", "empty file"),
            ("path_inside_folder", f"{IMAGES}/../../etc/passwd", "path leaves the data folder"),
            *(("columns_complete", "", text) for text in HOSTILE),
            *(("expression_known", text, text) for text in HOSTILE),
        ),
        dropped("non_face", "non_face", "no_label", "near_duplicate_of_validation"),
        pairs(
            (f"{IMAGES}/1/0.png", f"{IMAGES}/1/1.png", 2, True),
            (f"{IMAGES}/1/2.png", f"{IMAGES}/1/gone.png", 0, False),
            *((text, text, 4, False) for text in HOSTILE),
        ),
        (
            Drift("train share of fear", 0.02, 0.125, 0.105, True),
            Drift("validation mean valence", 0.1, 0.09, -0.01, False),
        ),
    )
