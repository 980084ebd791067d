"""Settings by dotted name: put into params.yaml, where values alone change; and those made for photographs."""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.nodes import Node

from pocketaffect.config import PARAMS_FILE, Params, describe_problems, load_params
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import write_atomically

Value = bool | int | float | str

PHOTOGRAPHS: Final[Mapping[str, tuple[Value, Value]]] = {
    "validate.choosing_share": (0.0, 0.1),
    "preprocess.image_size": (64, 48),
    "model.architecture": ("vgg", "resnet10"),
    "model.width": (0.35, 1.0),
    "model.dropout": (0.0, 1.0),
    "train.epochs": (16, 40),
    "train.batch_size": (32, 64),
    "train.learning_rate": (0.001, 0.002),
    "train.warmup_epochs": (2, 3),
    "train.ema_decay": (0.0, 0.995),
    "train.class_weights": ("balanced", "effective"),
    "train.logit_adjustment": (0.0, 0.2),
    "train.va_loss": ("mse", "mix"),
    "train.va_weight": (6.0, 2.0),
    "train.augment.brightness": (0.0, 0.1),
    "train.augment.contrast": (0.0, 0.2),
    "train.augment.zoom": (0.0, 0.15),
    "train.augment.aspect": (0.0, 0.15),
    "train.augment.blur": (0.0, 1.0),
    "train.augment.sharpen": (0.0, 0.5),
    "train.augment.tint": (0.0, 0.3),
    "train.augment.jpeg": (0.0, 0.3),
}
"""The recipe: settings with their value for the drawn sample, as params.yaml has it, and the one for photographs, which
is that of the network that comes with pocketaffect; but for the tint, since its faces are grey."""

PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def write_recipe(*, drawn: bool, file: Path = PARAMS_FILE) -> str:
    """Puts the recipe for photographs, or the drawn sample's, in place of the other one, as `write_settings` does.

    A setting that has neither's value is the user's own and stays.
    """
    present = load_params(file).model_dump(by_alias=True)
    wanted: dict[str, Value] = {}
    for name, (sample, photographs) in PHOTOGRAPHS.items():
        old, new = (photographs, sample) if drawn else (sample, photographs)
        value: Any = present
        for key in name.split("."):
            value = value[key]
        if value == old:
            wanted[name] = new
    return write_settings(wanted, file)


def apply_settings(params: Params, settings: Mapping[str, Value]) -> Params:
    """Gives `params` with the settings of a trial in place.

    Raises:
        ValueError: A value that the setting does not allow.
    """
    content = params.model_dump(by_alias=True)
    for name, value in settings.items():
        *sections, key = name.split(".")
        place = content
        for section in sections:
            place = place[section]
        place[key] = value
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ValueError("; ".join(describe_problems(error))) from None


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
