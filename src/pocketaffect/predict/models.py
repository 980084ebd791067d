"""A trained model in any of its forms behind one interface: face crops in, probabilities and valence-arousal out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from pocketaffect.config import PARAMS_FILE, load_params
from pocketaffect.data.faces.images import RGB
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS, VALENCE_AROUSAL

if TYPE_CHECKING:
    from pocketaffect.export.measure import Predictions

CHECKPOINT: Final = "model.json"
PACKAGE: Final = ".mlpackage"
TWIN: Final = ".onnx"
FILE_SUFFIXES: Final = (PACKAGE, TWIN, ".mlmodel", ".safetensors", ".ckpt", ".pt", ".tflite")
"""A name that ends so is never taken for a version."""

FORMS: Final = (
    f"a folder with {CHECKPOINT}, a {PACKAGE}, an {TWIN} file, "
    "or a registered version: 3, champion, NAME/3, NAME@champion"
)
VERSION: Final = re.compile(r"(?:models:/)?(?:(?P<name>[^/@]+)[/@])?@?(?P<version>[^/@]+)")


@dataclass(frozen=True)
class AffectModel:
    """A model ready to use.

    Attributes:
        title: The name that it was opened by, for messages.
        size: Pixels a side of its input.
        margin: Added at each end of the face box's longer side, as a share of it.
        predict: Maps face crops, uint8 [n, size, size, 3] in RGB, to probabilities [n, 8] in the order of
            `labels.EXPRESSIONS` and valence-arousal [n, 2].
    """

    title: str
    size: int
    margin: float
    predict: Callable[[RGB], Predictions]


def open_model(model: str, *, root: Path = Path(), threads: int = 1) -> AffectModel:
    """Opens a trained model.

    Args:
        model: A path to a checkpoint's folder, a package or its ONNX twin; or a version in the registry of `root`,
            by number or alias, after the model's name where it is not params.yaml's `register.model_name`.
        root: The repository, for the registry and params.yaml.
        threads: That an ONNX file computes with.

    Raises:
        PocketAffectError: There is no such model, or it is damaged or of another kind.
    """
    path = Path(model)
    if path.exists():
        return _open_path(path, root, threads)
    if path.suffix in FILE_SUFFIXES or (match := VERSION.fullmatch(model)) is None:
        raise PocketAffectError(
            f"{model}: no such model", allowed=FORMS, todo="`dvc repro export`, or correct the path"
        )
    package = _find_version(match["name"], match["version"], root)
    return _open_package(package, title=f"version {model}")


def _open_path(path: Path, root: Path, threads: int) -> AffectModel:
    if path.suffix == TWIN:
        return _open_twin(path, threads)
    if (path / CHECKPOINT).is_file():
        return _open_checkpoint(path, root)
    if path.suffix == PACKAGE or (path / "Manifest.json").is_file():
        return _open_package(path, title=str(path))
    found = (
        "a folder with neither model.json nor Manifest.json" if path.is_dir() else f"a {path.suffix or 'nameless'} file"
    )
    raise PocketAffectError(f"{path}: no model of a kind that can be opened", found=found, allowed=FORMS)


def _open_checkpoint(folder: Path, root: Path) -> AffectModel:
    from pocketaffect.export.measure import predict_network
    from pocketaffect.models.network import load_network

    network = load_network(folder)
    settings = load_params(root / PARAMS_FILE).preprocess  # a checkpoint does not say how its faces were cut
    return AffectModel(str(folder), network.spec.size, settings.margin, lambda crops: predict_network(network, crops))


def _open_package(path: Path, *, title: str) -> AffectModel:
    from pocketaffect.export.measure import load_affect_program, predict_program
    from pocketaffect.mlpackage.package import read_metadata

    program = load_affect_program(path)
    # A classifier's probabilities are found by their names, and stand in our order already.
    margin, order = _read_conventions(title, read_metadata(path), ordered=bool(program.classes))
    return AffectModel(title, program.size, margin, lambda crops: _in_order(predict_program(program, crops), order))


def _open_twin(file: Path, threads: int) -> AffectModel:
    from pocketaffect.export.describe import PROBABILITIES, VALENCE_AROUSAL_OUTPUT
    from pocketaffect.export.measure import Predictions
    from pocketaffect.export.session import load_twin

    twin = load_twin(file, threads=threads)
    margin, order = _read_conventions(str(file), twin.metadata, ordered=False)

    def predict(crops: RGB) -> Predictions:
        outputs = twin.predict(crops)
        return _in_order(Predictions(outputs[PROBABILITIES], outputs[VALENCE_AROUSAL_OUTPUT]), order)

    return AffectModel(str(file), twin.size, margin, predict)


def _find_version(name: str | None, version: str, root: Path) -> Path:
    from pocketaffect.registry.store.store import advise_register, find_store
    from pocketaffect.registry.store.versions import get_version, package_path

    store = find_store(root)
    if store is None:
        raise PocketAffectError(
            f"{version}: neither a file nor a folder, and there is no registry here to look for a version of that name",
            allowed=FORMS,
            todo=f"correct the path; or register a version: {advise_register(root)}",
        )
    return package_path(
        store, get_version(store, name or load_params(root / PARAMS_FILE).register_.model_name, version)
    )


@dataclass(frozen=True)
class _Order:
    """Where a model's outputs stand, for each of ours."""

    expressions: npt.NDArray[np.intp]
    valence_arousal: npt.NDArray[np.intp]


def _read_conventions(title: str, metadata: Mapping[str, str], *, ordered: bool) -> tuple[float, _Order]:
    """Reads crop margin and order of the outputs, as the file tells them."""
    wanted = ("labels", "crop_margin", "valence_arousal_order")
    missing = [key for key in wanted if key not in metadata]
    if missing:
        raise PocketAffectError(
            f"{title}: does not say how faces are cut and what its outputs mean",
            found=f"no metadata under {', '.join(missing)}",
            todo="export the model again (`dvc repro export`)",
        )
    try:
        margin = float(metadata["crop_margin"])
    except ValueError:
        margin = -1
    if not 0 <= margin <= 1:
        raise PocketAffectError(
            f"{title}: crop_margin in its metadata", found=metadata["crop_margin"], allowed="0 to 1"
        )
    expressions = _positions(title, "labels", metadata["labels"], EXPRESSIONS)
    if ordered:
        expressions = np.arange(len(EXPRESSIONS))
    return margin, _Order(expressions, _positions(title, wanted[2], metadata[wanted[2]], VALENCE_AROUSAL))


def _positions(title: str, key: str, text: str, names: Sequence[str]) -> npt.NDArray[np.intp]:
    given = [name.strip() for name in text.split(",")]
    if sorted(given) != sorted(names):
        raise PocketAffectError(
            f"{title}: {key} in its metadata", found=text, allowed=f"{','.join(names)}, in any order"
        )
    return np.array([given.index(name) for name in names], dtype=np.intp)


def _in_order(predictions: Predictions, order: _Order) -> Predictions:
    from pocketaffect.export.measure import Predictions

    return Predictions(
        predictions.probabilities[:, order.expressions], predictions.valence_arousal[:, order.valence_arousal]
    )
