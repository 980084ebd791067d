"""A few numbers that describe a data set, to notice when another one differs: drift.

A profile holds, for each split, the rows of each expression and the means of valence and arousal. Two are shipped:
AffectNet's official figures and the embedded sample's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from pocketaffect import paths
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import write_json
from pocketaffect.labels import EXPRESSIONS, SPLITS, VALENCE_AROUSAL

PROFILES: Final = Path(__file__).parent / "profiles"
DECIMALS: Final = 6


@dataclass(frozen=True)
class SplitProfile:
    """One split.

    Attributes:
        rows: Number of rows, with or without an expression.
        expression: Number of rows of each of the eight.
        mean: Mean valence and arousal of the rows that have them; empty where none has.
        class_mean: The same for the rows of an expression; expressions may be missing.
    """

    rows: int
    expression: Mapping[str, int]
    mean: Mapping[str, float] = field(default_factory=dict)
    class_mean: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def shares(self) -> dict[str, float]:
        """Each expression's share of the rows that have one; empty where no row has."""
        total = sum(self.expression.values())
        return {name: self.expression[name] / total for name in EXPRESSIONS} if total else {}


@dataclass(frozen=True)
class Profile:
    """A data set's splits, and where the figures come from."""

    splits: Mapping[str, SplitProfile]
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Gives plain values, as `write_profile` writes them."""
        splits = {}
        for name, split in self.splits.items():
            splits[name] = {
                "rows": split.rows,
                "expression": dict(split.expression),
                "mean": dict(split.mean),
                "class_mean": {expression: dict(mean) for expression, mean in split.class_mean.items()},
            }
        return {"source": self.source, "splits": splits}


@dataclass(frozen=True)
class Drift:
    """One figure of the data beside the profile's.

    Attributes:
        what: `train share of fear`, `validation mean valence`, `train mean arousal of anger`.
        stored: The profile's.
        found: The data's.
        difference: `found - stored`; shares lie in [0, 1], valence and arousal in [-1, 1].
        warned: Whether it is further from 0 than is allowed.
    """

    what: str
    stored: float
    found: float
    difference: float
    warned: bool

    def __str__(self) -> str:
        if " share " in self.what:
            points = 100 * self.difference
            return f"{self.what}: {self.found:.1%}, {points:+.1f} points from the profile's {self.stored:.1%}"
        return f"{self.what}: {self.found:.2f}, {self.difference:+.2f} from the profile's {self.stored:.2f}"


def profile_of(kept: pd.DataFrame, source: str = "") -> Profile:
    """Takes the profile of rows that the contract kept."""
    splits = {}
    for name in SPLITS:
        chosen = (kept["split"] == name).to_numpy(dtype=bool)
        expression = kept["expression"].to_numpy()[chosen]
        affect = kept[list(VALENCE_AROUSAL)].to_numpy(dtype=np.float64)[chosen]
        counts = np.bincount(expression[expression >= 0], minlength=len(EXPRESSIONS))
        splits[name] = SplitProfile(
            rows=int(chosen.sum()),
            expression={label: int(count) for label, count in zip(EXPRESSIONS, counts, strict=True)},
            mean=_mean(affect),
            class_mean={
                label: mean for code, label in enumerate(EXPRESSIONS) if (mean := _mean(affect[expression == code]))
            },
        )
    return Profile(splits, source)


def _mean(affect: Any) -> dict[str, float]:

    given = affect[np.isfinite(affect).all(axis=1)]
    if not len(given):
        return {}
    # 0.0 is added since the mean of a hair below zero would be written as -0.0.
    return {
        name: round(float(value), DECIMALS) + 0.0
        for name, value in zip(VALENCE_AROUSAL, given.mean(axis=0), strict=True)
    }


def compare_profiles(stored: Profile, found: Profile, *, max_drift: float) -> tuple[Drift, ...]:
    """Compares every figure that both profiles have: shares and means of the splits, then classes' means."""
    findings = []
    for name in SPLITS:
        if name not in stored.splits or name not in found.splits:
            continue
        theirs, ours = dict(_figures(stored.splits[name])), dict(_figures(found.splits[name]))
        for what in [what for what in theirs if what in ours]:
            # Rounded: what 0.35 - 0.30 leaves over 0.05 is no drift.
            difference = round(ours[what] - theirs[what], DECIMALS)
            findings.append(Drift(f"{name} {what}", theirs[what], ours[what], difference, abs(difference) > max_drift))
    return tuple(findings)


def _figures(split: SplitProfile) -> Iterator[tuple[str, float]]:
    for name, share in split.shares.items():
        yield f"share of {name}", share
    for dimension, value in split.mean.items():
        yield f"mean {dimension}", value
    for name in EXPRESSIONS:
        for dimension, value in split.class_mean.get(name, {}).items():
            yield f"mean {dimension} of {name}", value


def write_profile(file: Path, profile: Profile) -> None:
    """Writes a profile; equal figures give equal bytes."""
    write_json(file, profile.to_dict())


def keep_profile(file: Path, *, source: str) -> None:
    """Copies the profile of the last validated data to `file`, for `validate.profile`.

    Raises:
        PocketAffectError: No data was validated yet, or `file` cannot be written.
    """
    if not paths.DATA_PROFILE.is_file():
        raise PocketAffectError(f"{paths.DATA_PROFILE}: no such file", todo="`dvc repro validate`")
    write_profile(file, replace(read_profile(paths.DATA_PROFILE), source=source))


def choose_profile(setting: str, *, is_sample: bool) -> Profile | None:
    """Finds the profile that params.yaml names.

    Args:
        setting: `auto` for the shipped one (the sample's for the sample, AffectNet's for everything else), `none`, or
            a file that `pocketaffect data profile` wrote.
        is_sample: Whether the data is the embedded sample.

    Raises:
        PocketAffectError: No such file, or not a profile.
    """
    if setting == "none":
        return None
    if setting == "auto":
        return read_profile(PROFILES / ("sample.json" if is_sample else "affectnet.json"))
    return read_profile(Path(setting))


def read_profile(file: Path) -> Profile:
    """Reads what `write_profile` wrote.

    Raises:
        PocketAffectError: No such file, or not a profile; names the part.
    """
    todo = "write one with `pocketaffect data profile FILE`, or set params.yaml: validate.profile to auto or none"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PocketAffectError(
            f"{file}: no such profile (params.yaml: validate.profile)", allowed="auto, none, or a JSON file", todo=todo
        ) from None
    except OSError as error:
        raise PocketAffectError(f"{file}: not readable", found=error.strerror, todo=todo) from None
    except (ValueError, RecursionError) as error:
        raise PocketAffectError(f"{file}: not readable as JSON", found=error, todo=todo) from None
    try:
        return _parse(content)
    except _NotAProfileError as error:
        raise PocketAffectError(f"{file}: not a profile, {error}", allowed=error.allowed, todo=todo) from None


class _NotAProfileError(Exception):
    def __init__(self, where: str, found: object, allowed: str) -> None:
        super().__init__(f"{where}: {repr(found)[:80]}")
        self.allowed = allowed


def _parse(content: object) -> Profile:
    top = _mapping(content, "the file", ("source", "splits"))
    source = top.get("source", "")
    if not isinstance(source, str):
        raise _NotAProfileError("source", source, "text")
    splits = _mapping(top.get("splits"), "splits", SPLITS)
    if not splits:
        raise _NotAProfileError("splits", splits, f"one of {', '.join(SPLITS)} at least")
    return Profile({name: _parse_split(split, name) for name, split in splits.items()}, source)


def _parse_split(content: object, name: str) -> SplitProfile:
    split = _mapping(content, name, ("rows", "expression", "mean", "class_mean"))
    rows = _count(split.get("rows"), f"{name}.rows")
    expression = _mapping(split.get("expression"), f"{name}.expression", EXPRESSIONS)
    counts = {label: _count(expression.get(label), f"{name}.expression.{label}") for label in EXPRESSIONS}
    if sum(counts.values()) > rows:
        raise _NotAProfileError(f"{name}.rows", rows, f"at least the {sum(counts.values())} rows of its expressions")
    classes = _mapping(split.get("class_mean", {}), f"{name}.class_mean", EXPRESSIONS)
    return SplitProfile(
        rows,
        counts,
        _parse_mean(split.get("mean", {}), f"{name}.mean"),
        {label: _parse_mean(mean, f"{name}.class_mean.{label}") for label, mean in classes.items()},
    )


def _parse_mean(content: object, where: str) -> dict[str, float]:
    mean = _mapping(content, where, VALENCE_AROUSAL)
    for name, value in mean.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not -1 <= value <= 1:
            raise _NotAProfileError(f"{where}.{name}", value, "a number in [-1, 1]")
    return {name: float(mean[name]) for name in VALENCE_AROUSAL if name in mean}


def _mapping(content: object, where: str, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise _NotAProfileError(where, content, f"keys and values: {', '.join(keys)}")
    unknown = [key for key in content if key not in keys]
    if unknown:
        raise _NotAProfileError(where, unknown[0], f"{', '.join(keys)}")
    return content


def _count(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _NotAProfileError(where, value, "a whole number from 0")
    return value
