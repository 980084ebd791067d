"""Writes a trial's settings into params.yaml: values alone change, every other byte stays."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.nodes import Node

from pocketaffect.config import PARAMS_FILE, load_params
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import write_atomically
from pocketaffect.sweep.results import TrialRow, best_first
from pocketaffect.sweep.space import Value, apply_settings

PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def choose_trial(rows: Sequence[TrialRow], number: int | None, unfit: Collection[int] = ()) -> TrialRow:
    """Chooses the trial to adopt: the one of that number, or the best that is not known to be unfit to ship.

    Raises:
        PocketAffectError: There is no such trial, or it was not trained to its end within the budget.
    """
    good = best_first(rows, unfit)
    if number is None:
        if not good:
            raise PocketAffectError("sweep: no trial was trained to its end yet", todo="pocketaffect sweep")
        return good[0]
    row = next((row for row in rows if row.number == number), None)
    if row is None or row.outcome != "done":
        listed = ", ".join(str(one.number) for one in good[:10])
        raise PocketAffectError(
            f"sweep: trial {number} cannot be adopted",
            found="no such trial" if row is None else f"{row.outcome}{row.remark and ': ' + row.remark}",
            allowed=f"a trial that was trained to its end, best first: {listed or 'none yet'}",
        )
    return row


def list_changes(row: TrialRow, asked: Mapping[str, Any]) -> dict[str, Value]:
    """Lists what params.yaml must say for `dvc repro` to train the trial of a study that asked for these settings."""
    budget, epochs = asked["sweep.budget_bytes"], asked["sweep.epochs"]
    return {**row.settings, "train.epochs": epochs, "export.budget_bytes": budget}


def write_settings(settings: Mapping[str, Value], file: Path = PARAMS_FILE) -> str:
    """Puts values, by dotted name, in place of those that the settings file has.

    Returns:
        The difference in unified form; empty where the file said all of it already.

    Raises:
        PocketAffectError: A key is not in the file, or the file's form (anchors, tags) lets no value be replaced alone.
    """
    wanted = apply_settings(load_params(file), settings)
    before = file.read_bytes().decode("utf-8")
    after = _replace_values(before, settings, file)
    if after == before:
        return ""
    with write_atomically(file) as draft:
        draft.write_bytes(after.encode("utf-8"))
        try:
            says = load_params(draft) == wanted
        except PocketAffectError:
            says = False
        if not says:
            raise PocketAffectError(
                f"{file}: cannot be edited value by value",
                found="an anchor, an alias or a tag where a setting stands",
                todo="write the values by hand: " + ", ".join(f"{name} {value}" for name, value in settings.items()),
            )
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{file} before", f"{file} now", n=0, lineterm=""
    )
    return "\n".join(lines)


def _replace_values(text: str, settings: Mapping[str, Value], file: Path) -> str:
    """Replaces values back to front, so that places before a change stay where they are."""
    root = YAML(pure=True).compose(text)
    places = []
    for name, value in settings.items():
        node = _find(root, name.split("."))
        if node is None:
            raise PocketAffectError(f"{file}: {name}: missing", todo="add the key, with any value")
        places.append((node.start_mark.index, node.end_mark.index, _write(value), name))
    for begin, end, new, name in sorted(places, reverse=True):
        old = text[begin:end]
        if _same(old, settings[name]):
            continue
        text = text[:begin] + new + _keep_column(text[end:], len(new) - len(old))
    return text


def _find(node: Node | None, path: Sequence[str]) -> Node | None:
    for key in path:
        pairs = node.value if node is not None and isinstance(node.value, list) else []
        node = next((value for name, value in pairs if name.value == key), None)
    return node


def _write(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if PLAIN.fullmatch(value) and value not in ("true", "false", "null") else json.dumps(value)
    return repr(value)


def _same(written: str, value: Value) -> bool:
    """Tells whether the text says the value already, in whatever form (`1e-3`, quotes)."""
    present = YAML(typ="safe", pure=True).load(written)
    return type(present) is type(value) and bool(present == value)


def _keep_column(rest: str, grown: int) -> str:
    """Keeps what follows a value where it was, with the comment on its line, as far as the spaces before it allow."""
    spaces = re.match(r" +(?=#)", rest)
    if spaces is None:
        return rest
    return " " * max(1, len(spaces[0]) - grown) + rest[spaces.end() :]
