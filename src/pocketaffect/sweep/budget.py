"""The bytes of a trial's package, known before anything is trained: what fits, and which trials to begin with.

Under a byte budget the best network is seldom much smaller than the budget, and the user's own recipe is seldom far
from good. So the first trials of a study are the settings as they stand, each architecture at the widest width that
fits: the sampler need not find that out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from optuna import Study

from pocketaffect.config import Params
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
"""Settings that a package's bytes depend on."""


class Smallest(NamedTuple):
    """The smallest package that a space can give."""

    bytes: int
    settings: dict[str, Value]


def predict_bytes(params: Params) -> int:
    """Predicts the bytes of the package that `params` would ship (see `export.size`).

    Raises:
        PocketAffectError: A network that cannot be built, or a precision whose size is not known before training.
    """
    shapes = list_shapes(NetworkSpec.from_params(params.model, params.preprocess.image_size))
    return predict_package_bytes(shapes, params.export.precision)


def find_smallest(params: Params, space: Space) -> Smallest:
    """Finds the smallest package of the space: every choice, each range at its low end. Takes 0.2 s for each network.

    Raises:
        PocketAffectError: No network of the space can be built.
    """
    deciding = {name: space[name] for name in DECIDING if name in space}
    values = [(one.corners()[:1] if isinstance(one, Range) else one.corners()) for one in deciding.values()]
    smallest: Smallest | None = None
    refusal: PocketAffectError | None = None
    for point in itertools.product(*values):
        settings = dict(zip(deciding, point, strict=True))
        try:
            size = predict_bytes(apply_settings(params, settings))
        except PocketAffectError as error:  # one architecture may not go as narrow as the others
            refusal = error
            continue
        if smallest is None or size < smallest.bytes:
            smallest = Smallest(size, settings)
    if smallest is None:
        raise PocketAffectError("params.yaml: sweep.space has no network that can be built", found=refusal)
    return smallest


def require_fit(params: Params, space: Space) -> Smallest:
    """Refuses a budget that nothing in the space fits.

    Raises:
        PocketAffectError: Even the smallest package is too large; its size is named.
    """
    smallest = find_smallest(params, space)
    if smallest.bytes > params.sweep.budget_bytes:
        found = ", ".join(f"{name} {value}" for name, value in smallest.settings.items()) or "the settings as they are"
        raise PocketAffectError(
            f"params.yaml: sweep.budget_bytes {params.sweep.budget_bytes:,}: no configuration of sweep.space fits",
            found=f"the smallest possible takes {smallest.bytes:,} bytes: {found}",
            allowed=f"sweep.budget_bytes from {smallest.bytes:,}",
            todo="raise the budget, or give the space a smaller width, architecture or precision",
        )
    return smallest


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
    """Lists one point for each architecture of the space that has a network within the budget, the present one's first.

    Settings that do not decide about bytes are what they are now, or the nearest that the space has. Those that do
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
    """Finds the point at the widest width that fits; None where none does. Bytes rise with width."""

    def fits(width: Value | None) -> bool:
        settings = {**point} if width is None else {**point, WIDTH: width}
        try:
            return predict_bytes(apply_settings(params, settings)) <= params.sweep.budget_bytes
        except PocketAffectError:  # some designs cannot be as narrow as others
            return False

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
