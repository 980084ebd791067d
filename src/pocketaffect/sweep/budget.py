"""What a trial's network costs, known before anything is trained: what fits, and which trials to begin with.

Under a budget the best network is seldom much smaller than the budget, and the user's own recipe is seldom far
from good. So the first trials of a study are the settings as they stand, each architecture at the widest width that
fits: the sampler need not find that out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Final, NamedTuple

from optuna import Study

from pocketaffect.config import Params, SweepParams
from pocketaffect.errors import PocketAffectError
from pocketaffect.export.size import list_shapes, predict_package_bytes
from pocketaffect.models.network import NetworkSpec
from pocketaffect.recipes import Value, apply_settings
from pocketaffect.sweep.internals import get_storage
from pocketaffect.sweep.space import Dimension, Range, Space, read_present, round_number
from pocketaffect.sweep.storage import hold_study

ARCHITECTURE: Final = "model.architecture"
WIDTH: Final = "model.width"
STEP: Final = 0.8
"""Factor from one width to the next narrower one that is tried."""

HALVINGS: Final = 4
"""Halvings of the first step that fits: what is left is 1.5 % of a width, mostly less than eight channels."""

DECIDING: Final = (
    *(ARCHITECTURE, WIDTH, "model.head", "model.full_resolution_stem"),
    *("preprocess.image_size", "export.precision"),
)
"""Settings that bytes and multiply-accumulates depend on."""


class Cost(NamedTuple):
    """What a network takes on the phone: bytes of its package, multiply-accumulates of one face."""

    bytes: int
    macs: int


TITLES: Final = {"bytes": "bytes", "macs": "multiply-accumulates"}
"""The costs that `sweep.budget_…` may limit, and their names in sentences."""


class Corner(NamedTuple):
    """One of the cheapest networks that a space can give, and the settings that make it."""

    cost: Cost
    settings: dict[str, Value]

    def describe(self) -> str:
        """Lists the settings."""
        return ", ".join(f"{name} {value}" for name, value in self.settings.items()) or "the settings as they are"


def predict_cost(params: Params) -> Cost:
    """Predicts what the network that `params` would ship costs (see `export.size`).

    Raises:
        PocketAffectError: A network that cannot be built, or a precision whose size is not known before training.
    """
    shapes = list_shapes(NetworkSpec.from_params(params.model, params.preprocess.image_size))
    return Cost(predict_package_bytes(shapes, params.export.precision), shapes.macs)


def list_limits(sweep: SweepParams) -> dict[str, int]:
    """Lists the budgets that are set, by the name of the cost that each limits."""
    limits = {name: getattr(sweep, f"budget_{name}") for name in TITLES}
    return {name: limit for name, limit in limits.items() if limit is not None}


def measure_excess(cost: Cost, sweep: SweepParams) -> dict[str, float]:
    """Measures how far a network is over each budget, as a share of it; within it, that is no more than 0."""
    return {name: getattr(cost, name) / limit - 1 for name, limit in list_limits(sweep).items()}


def list_corners(params: Params, space: Space) -> list[Corner]:
    """Lists the cheapest networks of the space: every choice, each range at its low end. Takes 0.2 s for each.

    Raises:
        PocketAffectError: No network of the space can be built.
    """
    deciding = {name: space[name] for name in DECIDING if name in space}
    values = [(one.corners()[:1] if isinstance(one, Range) else one.corners()) for one in deciding.values()]
    corners = []
    refusal: PocketAffectError | None = None
    for point in itertools.product(*values):
        settings = dict(zip(deciding, point, strict=True))
        try:
            corners.append(Corner(predict_cost(apply_settings(params, settings)), settings))
        except PocketAffectError as error:  # one architecture may not go as narrow as the others
            refusal = error
    if not corners:
        raise PocketAffectError("params.yaml: sweep.space has no network that can be built", found=refusal)
    return corners


def require_fit(params: Params, space: Space) -> None:
    """Refuses budgets that nothing in the space fits.

    Raises:
        PocketAffectError: Even the cheapest network is over a budget, or within each one networks are, but none within
            both; what they cost is named.
    """
    corners, limits = list_corners(params, space), list_limits(params.sweep)
    for name, limit in limits.items():
        least = min(corners, key=attrgetter(f"cost.{name}"))
        if (lowest := getattr(least.cost, name)) > limit:
            raise PocketAffectError(
                f"params.yaml: sweep.budget_{name} {limit:,}: no configuration of sweep.space fits",
                found=f"the smallest possible takes {lowest:,} {TITLES[name]}: {least.describe()}",
                allowed=f"sweep.budget_{name} from {lowest:,}",
                todo="raise the budget, or give the space a smaller width, architecture or precision",
            )
    if all(any(share > 0 for share in measure_excess(corner.cost, params.sweep).values()) for corner in corners):
        small = min((one for one in corners if one.cost.macs <= limits["macs"]), key=attrgetter("cost.bytes"))
        quick = min((one for one in corners if one.cost.bytes <= limits["bytes"]), key=attrgetter("cost.macs"))
        raise PocketAffectError(
            f"params.yaml: sweep.budget_bytes {limits['bytes']:,} and sweep.budget_macs {limits['macs']:,} contradict "
            "each other: networks of sweep.space are within either, none within both",
            found=f"within the bytes, at least {quick.cost.macs:,} multiply-accumulates: {quick.describe()}; "
            f"within those, at least {small.cost.bytes:,} bytes: {small.describe()}",
            allowed=f"sweep.budget_macs from {quick.cost.macs:,}, or sweep.budget_bytes from {small.cost.bytes:,}",
        )


def enqueue_first_trials(study: Study, params: Params, space: Space, folder: Path) -> None:
    """Queues the first trials of a study that has none yet; at most `sweep.trials` of them.

    A lock in the study's `folder` keeps two commands from queueing them twice.
    """
    if study.get_trials(deepcopy=False):
        return
    points = list_first_points(params, space)[: params.sweep.trials]
    with hold_study(get_storage(study), study.study_name, folder):
        if study.get_trials(deepcopy=False):  # another machine's command was faster
            return
        for point in points:
            study.enqueue_trial(point)


def list_first_points(params: Params, space: Space) -> list[dict[str, Value]]:
    """Lists one point for each architecture that fits the budgets, the present one's first.

    Settings that do not decide about costs are what they are now, or the nearest that the space has. Those that do
    (but the width) are so too where any width fits; else the first combination of which one does.
    """
    present = read_present(params)
    near = {name: dimension.nearest(present[name]) for name, dimension in space.items()}
    own = [name for name in (ARCHITECTURE,) if name in near]
    others = [name for name in DECIDING if name in near and name not in (ARCHITECTURE, WIDTH)]
    points = []
    for architecture in _list_points(space, near, own):
        candidates = ({**near, **architecture, **other} for other in _list_points(space, near, others))
        fitting = (_widen(params, point, space.get(WIDTH)) for point in candidates)
        first = next((point for point in fitting if point is not None), None)
        if first is not None:
            points.append(first)
    return points


def _list_points(space: Space, near: Mapping[str, Value], names: Sequence[str]) -> list[dict[str, Value]]:
    """Lists all combinations of the named settings, what is near the present ones first."""
    values = [[near[name], *(one for one in space[name].corners() if one != near[name])] for name in names]
    return [dict(zip(names, point, strict=True)) for point in itertools.product(*values)]


def _widen(params: Params, point: Mapping[str, Value], widths: Dimension | None) -> dict[str, Value] | None:
    """Finds the point at the widest width that fits; None where none does. Costs rise with width."""

    def fits(width: Value | None) -> bool:
        settings = {**point} if width is None else {**point, WIDTH: width}
        try:
            cost = predict_cost(apply_settings(params, settings))
        except PocketAffectError:  # some designs cannot be as narrow as others
            return False
        return all(share <= 0 for share in measure_excess(cost, params.sweep).values())

    if widths is None:
        return dict(point) if fits(None) else None
    if isinstance(widths, Range) and widths.step is None:
        width: Value | None = _find_widest(widths, fits)
    else:
        tried = sorted(widths.all_values(), key=float, reverse=True)
        width = next((one for one in tried if fits(one)), None)
    return None if width is None else {**point, WIDTH: width}


def _find_widest(widths: Range, fits: Callable[[float], bool]) -> float | None:
    """Finds the widest width to 1.5 %. Downwards, since the narrowest networks of a design may be impossible."""
    wider, width = widths.high, widths.high
    while not fits(width):
        if width == widths.low:
            return None
        wider, width = width, max(widths.low, round_number(width * STEP))
    if width == widths.high:
        return width
    for _ in range(HALVINGS):
        between = round_number((width + wider) / 2)
        width, wider = (between, wider) if fits(between) else (width, between)
    return width
