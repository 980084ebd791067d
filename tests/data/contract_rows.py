"""Rows as `layouts.read_annotations` gives them and probes as `probe.probe_images` does, made for tests to spoil."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pocketaffect.config import ValidateParams
from pocketaffect.data.contract.check import ContractResult, check_contract
from pocketaffect.data.contract.profile import Profile
from pocketaffect.data.faces.probe import Probes
from pocketaffect.data.release.layouts import Annotations
from pocketaffect.labels import BOX_COLUMNS, EYE_COLUMNS, SOFT_COLUMNS

IMAGES = "Manually_Annotated_Images"
SOUND: dict[str, Any] = {
    "list": "training.csv",
    "split": "train",
    "face_x": 4.0,
    "face_y": 4.0,
    "face_width": 30.0,
    "face_height": 30.0,
    "box_given": True,
    "expression": 3.0,
    "valence": 0.5,
    "arousal": 0.25,
    "unread": "",
    "landmark_count": 136,
    "eye_left_x": 12.0,
    "eye_left_y": 15.0,
    "eye_right_x": 26.0,
    "eye_right_y": 15.0,
    **dict.fromkeys(SOFT_COLUMNS, np.nan),
    "identity": "",
    "archive": "",
    "offset": 0,
    "length": 0,
    "deflated": False,
}
DTYPES: dict[str, str] = {
    "list": "category",
    "line": "int64",
    "split": "category",
    "path": "str",
    "listed_path": "str",
    **dict.fromkeys(BOX_COLUMNS, "float64"),
    "box_given": "bool",
    **dict.fromkeys(("expression", "valence", "arousal"), "float64"),
    "unread": "str",
    "landmark_count": "int32",
    **dict.fromkeys(EYE_COLUMNS, "float32"),
    "identity": "str",
    **dict.fromkeys(SOFT_COLUMNS, "float32"),
    "archive": "str",
    "offset": "int64",
    "length": "int64",
    "deflated": "bool",
}
VALIDATION = {"list": "validation.csv", "split": "validation"}
PLAUSIBLE = [(0, 0), (0.5, 0.1), (-0.5, -0.2), (0.1, 0.5), (-0.1, 0.5), (-0.5, 0.4), (-0.4, 0.5), (-0.5, 0.5)]


def make_annotations(
    *faults: dict[str, Any], unsplit: list[tuple[str, int, str]] | None = None, has_identity: bool = False
) -> Annotations:
    """One row for each of `faults`, sound but for what it says; lines count from 2 in each list."""
    rows = [SOUND | fault for fault in faults]
    lines: dict[str, int] = {}
    for number, row in enumerate(rows):
        lines[row["list"]] = lines.get(row["list"], 1) + 1
        row.setdefault("line", lines[row["list"]])
        row.setdefault("listed_path", f"1/{number}.jpg")
        row.setdefault("path", f"{IMAGES}/{row['listed_path']}")
    table = pd.DataFrame(rows, columns=list(DTYPES)).astype(DTYPES)
    broken = pd.DataFrame(unsplit or [], columns=["list", "line", "text"])
    return Annotations(
        layout="csv",
        rows=table,
        unsplit=broken.astype({"list": "str", "line": "int64", "text": "str"}),
        has_identity=has_identity,
        has_votes=bool(table[SOFT_COLUMNS[0]].notna().any()),
    )


def make_probes(count: int, **faults: dict[int, Any]) -> Probes:
    """Images of 48 x 40 pixels with hashes far from each other; `faults` sets entries, `width={3: 20}`."""
    generator = np.random.default_rng(count)
    problem = [""] * count
    sides = {"width": np.full(count, 48, np.int32), "height": np.full(count, 40, np.int32)}
    face_hash = generator.integers(0, 2**64, (count, 4), dtype=np.uint64)
    for row, text in faults.get("problem", {}).items():
        problem[row] = text
        sides["width"][row] = sides["height"][row] = face_hash[row] = 0
    for name in ("width", "height"):
        for row, side in faults.get(name, {}).items():
            sides[name][row] = side
    for row, value in faults.get("face_hash", {}).items():
        face_hash[row] = value
    return Probes(problem, sides["width"], sides["height"], face_hash)


LIMITS = ValidateParams(
    max_quarantine_fraction=0.1, min_validation_per_class=1, near_duplicate_distance=4, profile="none", max_drift=0.05
)


def check(
    annotations: Annotations, probes: Probes | None = None, *, profile: Profile | None = None, **settings: Any
) -> ContractResult:
    """Checks, and holds the outcome to what must always be so."""
    probes = probes if probes is not None else make_probes(len(annotations.rows))
    before = annotations.rows.copy(deep=True)
    result = check_contract(annotations, probes, LIMITS.model_copy(update=settings), profile)
    pd.testing.assert_frame_equal(annotations.rows, before)
    assert_balanced(result, annotations)
    return result


def assert_balanced(result: ContractResult, annotations: Annotations) -> None:
    """Every row that came in is kept, quarantined or dropped, once, and the counts tell how many."""
    came = pd.concat(
        [annotations.rows[["list", "line"]].astype({"list": "str"}), annotations.unsplit[["list", "line"]]]
    )
    assert result.rows == len(came)
    parts = [result.kept, result.quarantine, result.dropped]
    went = pd.concat([part[["list", "line"]].astype({"list": "str"}) for part in parts])
    order = ["list", "line"]
    pd.testing.assert_frame_equal(
        went.sort_values(order, ignore_index=True), came.sort_values(order, ignore_index=True), check_dtype=False
    )
    for count in result.counts:
        if count.severity == "error":
            named = result.quarantine["also_broken"].str.split(", ").map(lambda names, rule=count.name: rule in names)
            assert count.broken == (result.quarantine["rule"] == count.name).sum() + named.sum(), count
        elif count.severity == "warning":
            marked = result.kept["warnings"].str.split(",").map(lambda names, rule=count.name: rule in names)
            assert count.broken == marked.sum(), count
        else:
            assert count.broken >= (result.dropped["rule"] == count.name).sum(), count
        assert count.broken <= count.checked
    severity = {count.name: count.severity for count in result.counts}
    assert set(result.quarantine["rule"].map(severity)) <= {"error"}
    assert set(result.dropped["rule"].map(severity)) <= {"drop"}
    assert (result.quarantine["value"] != "").all()
    assert (result.dropped["value"] != "").all()


def sound(count: int = 8, **more) -> list[dict]:
    """Rows of all classes with plausible valence and arousal."""
    return [
        {"expression": float(n % 8), "valence": PLAUSIBLE[n % 8][0], "arousal": PLAUSIBLE[n % 8][1]} | more
        for n in range(count)
    ]


def near(flipped: int) -> np.ndarray:
    """A hash, with the last bits that are set in `flipped` the other way round."""
    return np.array([2**40 - 1, 2**50 - 1, 3**20, flipped], dtype=np.uint64)


def broken(result: ContractResult) -> dict[str, int]:
    return {count.name: count.broken for count in result.counts if count.broken}


def only(table: pd.DataFrame) -> pd.Series:
    assert len(table) == 1, table
    return table.iloc[0]
