"""A folder a class, as Kaggle's copies of AffectNet, RAF-DB and FER2013 come: `train/happy/1.jpg`, `test/Anger/2.png`.

Names of expressions are known in any case and by the usual synonyms. Data sets number their classes differently, so
that numbers and unknown names are never guessed: `classes.yaml` beside `train/` says what they mean.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pocketaffect.data.release.delimited import plain_name
from pocketaffect.data.release.members import SPLIT_FOLDERS
from pocketaffect.data.release.rows import ListSummary, RowTable, label_rows
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import read_yaml
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.names import SYSTEM_FILE

if TYPE_CHECKING:
    from pocketaffect.data.release.folder import DataFolder

CLASSES_FILE: Final = "classes.yaml"
SYNONYMS: Final = {
    **{name: name for name in EXPRESSIONS},
    **dict.fromkeys(("happy", "joy", "smile"), "happiness"),
    **dict.fromkeys(("sad", "sorrow"), "sadness"),
    **dict.fromkeys(("surprised", "suprise"), "surprise"),
    **dict.fromkeys(("fearful", "afraid", "scared"), "fear"),
    "disgusted": "disgust",
    "angry": "anger",
    "contemptuous": "contempt",
}
VALIDATION_SHARE: Final = 0.1
SEED: Final = 2018


def find_splits(folder: DataFolder) -> dict[str, str]:
    """Finds the folders of the splits, under the names "train", "validation" and "test", each with its slash."""
    found: dict[str, str] = {}
    for name in folder.list_folders(""):
        split = SPLIT_FOLDERS.get(name.lower())
        if split is not None and split in found:
            raise PocketAffectError(
                f"{folder.root}: two folders of one split",
                found=f"{found[split]}, {name}/",
                todo="move one of them to a folder of its own",
            )
        if split is not None:
            found[split] = f"{name}/"
    return found


def read_class_folders(
    folder: DataFolder, table: RowTable
) -> tuple[list[ListSummary], list[tuple[str, int, str]], list[str]]:
    """Reads every file of the class folders into `table`: whether it is a picture, its content says.

    Returns:
        What each split turned out to be; the files that lie in no class folder (list, line 0, name); and what is to
        be said aloud: which folder is not read, where the validation split comes from.

    Raises:
        PocketAffectError: A class folder whose expression is not known, none at all, or an odd `classes.yaml`.
    """
    splits = find_splits(folder)
    notes = []
    held_out = splits.pop("test", None)
    if held_out and "validation" not in splits:
        splits["validation"] = held_out
        notes.append(f"{held_out} is the validation split")
    elif held_out:
        notes.append(f"{held_out} is held out and never read: {splits['validation']} is the validation split")
    classes = _name_classes(folder, splits)
    summaries: list[ListSummary] = []
    outside: list[tuple[str, int, str]] = []
    for split, place in splits.items():
        names = [name for name in folder.names(place) if not re.search(SYSTEM_FILE, name)]
        of_class = [name.removeprefix(place).rpartition("/")[0].partition("/")[0] for name in names]
        strays = [name for name, one in zip(names, of_class, strict=True) if not one]
        outside += [(place.removesuffix("/"), 0, name) for name in strays]
        if bare := [f"{place}{name}/" for name in sorted({*folder.list_folders(place)} - {*of_class})]:
            notes.append(f"no file in {', '.join(bare)}: an empty folder, or a link that leaves the data folder")
        told = [(name, classes.get(one)) for name, one in zip(names, of_class, strict=True) if one]
        rows = [(name, expression) for name, expression in told if expression is not None]
        if len(rows) < len(told):
            notes.append(f"{CLASSES_FILE} leaves {len(told) - len(rows):,} pictures of {place} out")
        if not rows:
            raise PocketAffectError(f"{folder.root / place}: no picture in a class folder", found=f"{len(names)} files")
        apart = np.zeros(len(rows), dtype=bool)
        if "validation" not in splits:
            apart = _set_apart(rows)
            notes.append(
                f"no validation folder: {apart.sum():,} of the {len(rows):,} pictures of {place}, a seeded tenth of "
                "each class, are the validation split"
            )
        for part, chosen in ((split, ~apart), ("validation", apart)):
            lines = np.flatnonzero(chosen)
            if len(lines):
                name = place.removesuffix("/") + (", set apart" if part != split else "")
                codes = np.array([EXPRESSIONS.index(rows[line][1]) for line in lines], dtype=np.float64)
                table.add(name, part, label_rows(lines + 1, [rows[line][0] for line in lines], codes))
                summaries.append(ListSummary(name, header=False, rows=len(lines), unsplit=len(strays), identity=""))
                strays = []
    return summaries, outside, notes


def _set_apart(rows: list[tuple[str, str]]) -> Any:
    """Chooses a tenth of each class, at least one picture, by the hash of its path: bool [rows]."""
    draws = np.array([hashlib.sha256(f"{SEED} {path}".encode()).hexdigest() for path, _ in rows])
    of_class = np.array([expression for _, expression in rows])
    apart = np.zeros(len(rows), dtype=bool)
    for expression in np.unique(of_class):
        mine = np.flatnonzero(of_class == expression)
        apart[mine[np.argsort(draws[mine])[: max(1, round(VALIDATION_SHARE * len(mine)))]]] = True
    return apart


def _name_classes(folder: DataFolder, splits: Mapping[str, str]) -> dict[str, str | None]:
    """Finds the expression of each class folder; None for one that `classes.yaml` leaves out."""
    found = sorted({name for place in splits.values() for name in folder.list_folders(place)})
    if not found:
        raise PocketAffectError(
            f"{folder.root / folder.top}: no class folder",
            found=f"none in {', '.join(splits.values())}",
            allowed=f"a folder for each class, such as {splits['train']}happy/",
        )
    file = folder.base / CLASSES_FILE
    told = {str(name): value for name, value in read_yaml(file).items()}
    wrong = {name: value for name, value in told.items() if value is not None and value not in EXPRESSIONS}
    if wrong or not told.keys() <= {*found}:
        name, value = next(iter(wrong.items()), (min({*told} - {*found}, default=""), "no such folder"))
        raise PocketAffectError(
            f"{file}: {name}",
            found=value,
            allowed=f"for {', '.join(found)} each one of {', '.join(EXPRESSIONS)}, or null",
        )
    classes = {name: told.get(name, SYNONYMS.get(plain_name(name))) for name in found}
    unknown = [name for name, expression in classes.items() if expression is None and name not in told]
    if unknown:
        lines = "\n".join(f'    "{name}": {expression or "…"}' for name, expression in classes.items())
        raise PocketAffectError(
            f"{folder.root / folder.top}: class folders whose expression is not known",
            found=", ".join(unknown)[:300],
            allowed=f"names of expressions, or a {CLASSES_FILE} that says which each folder holds: data sets number "
            "their classes differently",
            todo=f"write {file}, with one of {', '.join(EXPRESSIONS)} for each …, or null to leave it out:\n{lines}",
        )
    return classes
