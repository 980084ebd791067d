"""A few numbers that describe a data set, to notice when another one differs: drift.

A profile holds, for each split, the rows of each expression and the means of valence and arousal. Two are shipped:
AffectNet's official figures and the embedded sample's.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass as checked_dataclass

from pocketaffect import paths
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import to_plain, write_json
from pocketaffect.labels import EXPRESSIONS, SPLITS, VALENCE_AROUSAL

PROFILES: Final = Path(__file__).parent / "profiles"


def _only(known: tuple[str, ...]) -> AfterValidator:
    """Refuses keys that are not among `known`, and puts the others in its order."""

    def check(found: dict[str, Any]) -> dict[str, Any]:
        if unknown := [name for name in found if name not in known]:
            raise ValueError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return {name: found[name] for name in known if name in found}

    return AfterValidator(check)


Count: TypeAlias = Annotated[int, Field(ge=0)]
Means: TypeAlias = Annotated[dict[str, Annotated[float, Field(ge=-1, le=1)]], _only(VALENCE_AROUSAL)]
STRICT: Final = ConfigDict(strict=True, extra="forbid")


@checked_dataclass(frozen=True, config=STRICT)
class SplitProfile:
    """One split: its rows, with or without an expression, and those of each of the eight."""

    rows: Count
    expression: Annotated[dict[str, Count], _only(EXPRESSIONS)]
    mean: Means = field(default_factory=dict)
    """Mean valence and arousal of the rows that have them; empty where none has."""
    class_mean: Annotated[dict[str, Means], _only(EXPRESSIONS)] = field(default_factory=dict)
    """The same for the rows of an expression; expressions may be missing."""

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if missing := [name for name in EXPRESSIONS if name not in self.expression]:
            raise ValueError(f"expression: no count of {missing[0]}")
        if sum(self.expression.values()) > self.rows:
            raise ValueError(f"rows: {self.rows}, fewer than the {sum(self.expression.values())} of its expressions")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Each expression's share of the rows that have one; empty where no row has."""
        total = sum(self.expression.values())
        return {name: self.expression[name] / total for name in EXPRESSIONS} if total else {}


@checked_dataclass(frozen=True, config=STRICT)
class Profile:
    """A data set's splits, and where the figures come from."""

    splits: Annotated[dict[str, SplitProfile], Field(min_length=1), _only(SPLITS)]
    source: str = ""


@dataclass(frozen=True)
class Drift:
    """One figure of the data beside the stored profile's; `what` is its name in `list_figures`."""

    what: str
    stored: float
    found: float
    difference: float
    """`found - stored`; shares lie in [0, 1], valence and arousal in [-1, 1]."""
    warned: bool
    """Whether it is further from 0 than is allowed."""

    def __str__(self) -> str:
        stored, found = (format_figure(value, self.what) for value in (self.stored, self.found))
        difference = format_figure(self.difference, self.what, signed=True)
        return f"{self.what}: {found}, {difference} from the profile's {stored}"


def format_figure(value: float, what: str, *, signed: bool = False) -> str:
    """Formats a share in percent or a difference of shares in points, a mean with two decimals."""
    if " share " in what:
        return f"{100 * value:+.1f} points" if signed else f"{value:.1%}"
    return f"{value:+.2f}" if signed else f"{value:.2f}"


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


def _mean(affect: npt.NDArray[np.float64]) -> dict[str, float]:
    given = affect[np.isfinite(affect).all(axis=1)]
    means = given.mean(axis=0).tolist() if len(given) else ()
    return {name: to_plain(mean) for name, mean in zip(VALENCE_AROUSAL, means, strict=False)}


def compare_profiles(stored: Profile, found: Profile, *, max_drift: float) -> tuple[Drift, ...]:
    """Compares every figure that both profiles have: shares and means of the splits, then classes' means."""
    findings = []
    ours = list_figures(found)
    for what, value in list_figures(stored).items():
        if what in ours:
            difference = to_plain(ours[what] - value)  # rounded: what 0.35 - 0.30 leaves over 0.05 is no drift
            findings.append(Drift(what, value, ours[what], difference, abs(difference) > max_drift))
    return tuple(findings)


def list_figures(profile: Profile) -> dict[str, float]:
    """Names every figure: `train share of fear`, `validation mean valence`, `train mean arousal of anger`."""
    figures: dict[str, float] = {}
    for name, split in profile.splits.items():
        figures |= {f"{name} share of {label}": share for label, share in split.shares.items()}
        for label, means in (("", split.mean), *split.class_mean.items()):
            of = f" of {label}" if label else ""
            figures |= {f"{name} mean {dimension}{of}": value for dimension, value in means.items()}
    return figures


def write_profile(file: Path, profile: Profile) -> None:
    """Writes a profile; equal figures give equal bytes."""
    write_json(file, asdict(profile))


def keep_profile(file: Path, *, source: str) -> None:
    """Copies the profile of the last validated data to `file`, for `validate.profile`.

    Raises:
        PocketAffectError: No data was validated yet, or `file` cannot be written.
    """
    if not paths.DATA_PROFILE.is_file():
        raise PocketAffectError(f"{paths.DATA_PROFILE}: no such file", todo="`dvc repro validate`")
    write_profile(file, replace(read_profile(paths.DATA_PROFILE), source=source))


def choose_profile(setting: str, *, is_sample: bool, is_affectnet: bool = True) -> Profile | None:
    """Finds the profile that params.yaml names.

    `auto` is the shipped one (the sample's, or AffectNet's for its layouts; no other data has one), `none` is none,
    anything else a file that `pocketaffect data profile` wrote.

    Raises:
        PocketAffectError: No such file, or not a profile.
    """
    if setting == "none" or (setting == "auto" and not is_affectnet):
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
        return TypeAdapter(Profile).validate_json(file.read_bytes())
    except OSError as error:
        problem = "no such profile (params.yaml: validate.profile)" if not file.exists() else "not readable"
        allowed = "auto, none, or a JSON file"
        raise PocketAffectError(f"{file}: {problem}", found=error.strerror, allowed=allowed, todo=todo) from None
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            raise PocketAffectError(f"{file}: not readable as JSON", found=first["msg"], todo=todo) from None
        where = ".".join(map(str, first["loc"])) or "the file"
        raise PocketAffectError(
            f"{file}: not a profile, {where}: {first['msg']}", found=repr(first["input"])[:80], todo=todo
        ) from None
