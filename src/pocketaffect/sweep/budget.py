"""The bytes of a trial's package, known before anything is trained."""

from __future__ import annotations

import itertools
from typing import Final, NamedTuple

from pocketaffect.config import Params
from pocketaffect.errors import PocketAffectError
from pocketaffect.export.size import list_shapes, predict_package_bytes
from pocketaffect.models.network import NetworkSpec
from pocketaffect.sweep.space import Range, Space, Value, apply_settings

DECIDING: Final = (
    *("model.architecture", "model.width", "model.head", "model.full_resolution_stem"),
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
    export = params.export
    return predict_package_bytes(
        list_shapes(NetworkSpec.from_params(params.model, params.preprocess.image_size)), export.precision
    )


def find_smallest(params: Params, space: Space) -> Smallest:
    """Finds the smallest package of the space: every choice, each range at its low end. Takes 0.2 s for each network.

    Raises:
        PocketAffectError: No network of the space can be built.
    """
    deciding = {name: space.dimensions[name] for name in DECIDING if name in space.dimensions}
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
