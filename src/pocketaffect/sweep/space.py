"""The search space: settings of params.yaml by their dotted names, each with the values that a trial may take.

A trial's settings go back into params.yaml as they are: floats have four significant digits for that.
"""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pocketaffect.config import Params, Section, find_contradictions
from pocketaffect.errors import PocketAffectError
from pocketaffect.precisions import AUTO, PRECISIONS, readable_precisions
from pocketaffect.recipes import Value, apply_settings

if TYPE_CHECKING:
    from optuna.trial import Trial

SECTIONS: Final = ("model", "train")
FURTHER: Final = ("preprocess.image_size", "export.precision")
FIXED: Final = frozenset(
    f"train.{name}"
    for name in ("seed", "threads", "instructions", "accelerator", "devices", "nodes", "executor", "epochs")
)
"""Settings that make trials comparable and repeatable; `sweep.epochs` takes the place of `train.epochs`."""

DIGITS: Final = 4
MANY: Final = 64

TOLERANCE: Final = 1e-9
"""Share of a step by which a sum of floats may fall short of the range's end."""


@dataclass(frozen=True)
class Choice:
    """One of a list."""

    values: tuple[Value, ...]

    def suggest(self, trial: Trial, name: str) -> Value:
        """Asks the sampler."""
        value: Value = trial.suggest_categorical(name, self.values)  # type: ignore[assignment]  # typed to hold None
        return value

    def corners(self) -> tuple[Value, ...]:
        """Lists the values that decide whether the whole is allowed."""
        return self.values

    def nearest(self, value: Value) -> Value:
        """Gives that value if it is in the list, else the first one of the list."""
        return value if value in self.values else self.values[0]

    def all_values(self) -> Sequence[Value]:
        """Lists all values."""
        return self.values


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones for a setting that is whole."""

    low: float
    high: float
    whole: bool
    log: bool = False
    step: float | None = None

    def suggest(self, trial: Trial, name: str) -> Value:
        """Asks the sampler."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        value = trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)
        return self._hold(round_number(value))

    def corners(self) -> tuple[Value, ...]:
        """Lists both ends; of whole numbers all of them, or where these are many the first two and the last."""
        if not self.whole:
            return self.low, self.high
        values = self.all_values()
        return tuple(values) if len(values) <= MANY else (*values[:2], values[-1])

    def nearest(self, value: Value) -> Value:
        """Finds the number of the range that is nearest to another."""
        if self.whole or self.step:
            return min(self.all_values(), key=lambda one: abs(float(one) - float(value)))
        return self._hold(float(value))

    def all_values(self) -> Sequence[Value]:
        """Lists the numbers of a range of steps, rising; both ends of one without."""
        if self.whole:
            return range(int(self.low), int(self.high) + 1, int(self.step or 1))
        if not self.step:
            return self.low, self.high
        count = math.floor((self.high - self.low) / self.step + TOLERANCE) + 1
        return [self._hold(round_number(self.low + self.step * number)) for number in range(count)]

    def _hold(self, value: float) -> float:
        """Keeps a number in the range: rounding may not leave it, since its ends are what was checked."""
        return min(max(value, self.low), self.high)


Dimension = Choice | Range
Space = Mapping[str, Dimension]
"""Dotted names of settings and what they may be, in the order of params.yaml."""


def round_number(value: float) -> float:
    """Rounds to the digits that a trial's settings have."""
    return float(f"{value:.{DIGITS}g}")


def suggest_settings(space: Space, trial: Trial) -> dict[str, Value]:
    """Suggests one point of the space."""
    return {name: dimension.suggest(trial, name) for name, dimension in space.items()}


def read_space(params: Params) -> Space:
    """Reads the space of `sweep.space`, every value of it held to what the setting itself allows.

    Values of a list that contradict a setting which is not searched are left out, and said to be.

    Raises:
        PocketAffectError: An unknown setting, one that no trial may change, a value that it does not allow, an empty
            or upside-down range, a list whose every value contradicts other settings; all of them are named.
    """
    dimensions: dict[str, Dimension] = {}
    problems: list[str] = []
    known = read_present(params)
    for name, raw in params.sweep.space.items():
        try:
            dimensions[name] = _read_dimension(name, raw, known)
            for value in dimensions[name].corners():
                _check_value(params, name, value)
        except ValueError as error:
            problems.append(f"  - sweep.space.{name}: {error}")
    for name, dimension in () if problems else list(dimensions.items()):
        if isinstance(dimension, Choice):
            contradictions = _find_contradictions(params, dimensions, name)
            values = tuple(value for value in dimension.values if value not in contradictions)
            if values:
                dimensions[name] = Choice(values)
                for value, problem in contradictions.items():
                    logging.getLogger(__name__).warning("sweep.space.%s: %s is left out: %s", name, value, problem)
            else:
                problems += [f"  - sweep.space.{name}: {value}: {why}" for value, why in contradictions.items()]
    if problems:
        raise PocketAffectError(f"params.yaml: {len(problems)} problem(s) in the search space\n" + "\n".join(problems))
    return dimensions


def _find_contradictions(params: Params, space: Space, name: str) -> dict[Value, str]:
    """Finds the values of a list whose trials could only end in an error, whatever else of the space they have."""

    def ask(settings: Mapping[str, Value]) -> list[str]:
        try:
            applied = apply_settings(params, settings)
        except ValueError as error:
            return [str(error)]
        return find_contradictions(applied.model, applied.train)

    found = {}
    for value in space[name].corners():
        others = ((other, corner) for other in space if other != name for corner in space[other].corners())
        if (problems := ask({name: value})) and all(ask({name: value, other: corner}) for other, corner in others):
            found[value] = "; ".join(problems)
    return found


def read_present(params: Params) -> dict[str, Value]:
    """Reads the dotted names that a space may have, with their present values."""
    known: dict[str, Value] = {}

    def add(prefix: str, section: Section) -> None:
        for key in type(section).model_fields:
            value = getattr(section, key)
            if isinstance(value, Section):
                add(f"{prefix}.{key}", value)
            elif f"{prefix}.{key}" not in FIXED:
                known[f"{prefix}.{key}"] = value

    for name in SECTIONS:
        add(name, getattr(params, name))
    for name in FURTHER:
        section, key = name.split(".")
        known[name] = getattr(getattr(params, section), key)
    return known


def _read_dimension(name: str, raw: Sequence[Value] | Mapping[Any, Any], known: Mapping[str, Value]) -> Dimension:
    if name in FIXED:
        raise ValueError("no trial may change it: it makes trials comparable")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise ValueError(
            f"no setting to search; {f'did you mean {near[0]}?' if near else 'known: ' + ', '.join(known)}"
        )
    if not isinstance(raw, Mapping):
        if not raw:
            raise ValueError("an empty list; name at least one value")
        if len(set(map(repr, raw))) != len(raw):
            raise ValueError(f"a value twice in {list(raw)}")
        return Choice(tuple(raw))
    return _read_range(raw, known[name])


def _read_range(raw: Mapping[str, Any], present: Value) -> Range:
    if isinstance(present, bool | str) or present is None:
        raise ValueError("has no range; list its values")
    if not {"low", "high"} <= raw.keys():
        raise ValueError(f"a range needs low and high; found {', '.join(raw) or 'nothing'}")
    low, high, log, step = (raw.get(key) for key in ("low", "high", "log", "step"))
    if not isinstance(log, bool | None) or any(isinstance(number, bool) for number in (low, high, step)):
        raise ValueError("low, high and step are numbers, log is true or false")
    numbers = [number for number in (low, high, step) if number is not None]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"takes finite numbers; found {', '.join(f'{number:g}' for number in numbers)}")
    whole = isinstance(present, int)
    if whole and any(number != int(number) for number in numbers):
        raise ValueError(f"takes whole numbers; found {', '.join(f'{number:g}' for number in numbers)}")
    if low >= high:  # type: ignore[operator]
        raise ValueError(f"low {low:g} is not below high {high:g}")
    if log and (low <= 0 or step is not None):  # type: ignore[operator]
        raise ValueError("log needs a low above 0, and no step")
    if step is not None and step <= 0:
        raise ValueError(f"step {step:g} is not above 0")
    return Range(low, high, whole, bool(log), step)  # type: ignore[arg-type]


def _check_value(params: Params, name: str, value: Value) -> None:
    apply_settings(params, {name: value})
    if name != "export.precision":
        return
    if value == AUTO:
        raise ValueError(f"{value}: its bytes are not known before training; there are {', '.join(PRECISIONS)}")
    precision, target = PRECISIONS[str(value)], params.export.deployment_target
    if precision not in readable_precisions(target):
        raise ValueError(f"{value} needs export.deployment_target {precision.target}; found {target}")
