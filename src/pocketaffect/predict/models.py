"""A trained model in any of its forms behind one interface: face crops in, probabilities and valence-arousal out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from pocketaffect import paths
from pocketaffect.data.faces.images import RGB
from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.tables import Predictions
from pocketaffect.labels import DRAWINGS, EXPRESSIONS, PHOTOGRAPHS, TRAINED_ON, VALENCE_AROUSAL
from pocketaffect.shipped.network import find_shipped

if TYPE_CHECKING:
    from pocketaffect.registry.store.store import Store
    from pocketaffect.registry.store.versions import RegisteredVersion

CHECKPOINT: Final = "model.json"
PACKAGE: Final = ".mlpackage"
TWIN: Final = ".onnx"
FILE_SUFFIXES: Final = (PACKAGE, TWIN, ".mlmodel", ".safetensors", ".ckpt", ".pt", ".tflite")
"""A name that ends so is never taken for a version."""

FORMS: Final = (
    f"a folder with {CHECKPOINT}, a {PACKAGE}, an {TWIN} file, "
    "or a registered version: 3, champion, NAME/3, NAME@champion"
)
DRAWN_WARNING: Final = (
    "warning: this network was trained on drawings alone: what it says of photographs is worth little\n"
    "  do:      name another with --model; docs/data.md says where to get photographs to train one on"
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
        trained_on: `labels.DRAWINGS` or `labels.PHOTOGRAPHS`, as the file says; None where it says neither.
        unsure_below: Probability of the likeliest expression below which the answer is unsure; None where the file
            says nothing of it.
    """

    title: str
    size: int
    margin: float
    predict: Callable[[RGB], Predictions]
    trained_on: str | None = None
    unsure_below: float | None = None

    def notes(self, *, chosen: bool) -> list[str]:
        """Lists the lines to say before it speaks: its name, where it was chosen for the user, and a warning."""
        drawn = [DRAWN_WARNING] if self.trained_on == DRAWINGS else []
        return [f"read by {self.title}"] * chosen + drawn


def open_model(model: str | Path | None = None, *, root: Path = Path(), threads: int = 1) -> AffectModel:
    """Opens a trained model.

    Args:
        model: A path to a checkpoint's folder, a package or its ONNX twin; or a version in the registry of `root`,
            by number or alias, after the model's name where it is not params.yaml's `register.model_name`. None takes
            what `choose_model` chooses.
        root: The repository, for the registry and params.yaml.
        threads: That an ONNX file computes with.

    Raises:
        PocketAffectError: There is no such model, or it is damaged or of another kind.
    """
    if model is None:
        chosen = choose_model(root)
        if isinstance(chosen, Path):
            twin, package = chosen / paths.TWIN.name, chosen / paths.PACKAGE.name
            return _open_path(twin if twin.is_file() else package, root, threads)
        model = f"{chosen.model_name}/{chosen.version}"
    path = Path(model)
    if path.exists():
        return _open_path(path, root, threads)
    from pocketaffect.registry.store.versions import package_path

    store, version = find_registered(model, root)
    opened = _open_package(package_path(store, version), title=f"version {model}")
    return replace(opened, trained_on=DRAWINGS) if _is_drawn(version) else opened


def choose_model(root: Path = Path()) -> RegisteredVersion | Path:
    """Chooses who speaks where nobody names a model.

    That is the champion, or the last export where nothing was promoted yet, if it has seen photographs; else the
    network that comes with pocketaffect; else, where none does, champion or last export whatever it has seen.

    Returns:
        A version, or the folder of a network's files, which need not exist.

    Raises:
        PocketAffectError: A file of the network that comes with pocketaffect was changed.
    """
    champion, export = _find_champion(root), root / paths.EXPORT
    if champion is not None:
        seen = not _is_drawn(champion)
    else:
        files = [export / name for name in (paths.TWIN.name, paths.PACKAGE.name)]
        seen = PHOTOGRAPHS in [_was_trained_on(file) for file in files if file.exists()]
    own = export if champion is None else champion
    return own if seen else find_shipped() or own


def _find_champion(root: Path) -> RegisteredVersion | None:
    if not (root / paths.PIPELINE_FILE).is_file():
        return None  # no repository, and no second's wait for MLflow
    from pocketaffect.config import PARAMS_FILE, load_params
    from pocketaffect.registry.store.store import find_store
    from pocketaffect.registry.store.versions import CHAMPION, aliased_version

    store = find_store(root)
    if store is None:
        return None
    return aliased_version(store, load_params(root / PARAMS_FILE).register_.model_name, CHAMPION)


def _was_trained_on(file: Path) -> str | None:
    from pocketaffect.registry.lineage.lineage import read_file_metadata

    return read_file_metadata(file).get(TRAINED_ON)


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
    from pocketaffect.config import PARAMS_FILE, load_params
    from pocketaffect.export.measure import predict_network
    from pocketaffect.models.network import load_network

    network = load_network(folder)
    settings = load_params(root / PARAMS_FILE).preprocess  # a checkpoint does not say how its faces were cut

    def predict(crops: RGB) -> Predictions:
        answers = predict_network(network, crops)
        return Predictions(answers.probabilities, answers.valence_arousal)

    return AffectModel(str(folder), network.spec.size, settings.margin, predict)


def _open_package(path: Path, *, title: str) -> AffectModel:
    from pocketaffect.export.measure import load_affect_program, predict_program
    from pocketaffect.mlpackage.package import read_metadata

    program = load_affect_program(path)

    def answer(crops: RGB) -> Predictions:
        answers = predict_program(program, crops)
        return Predictions(answers.probabilities, answers.valence_arousal)

    # A classifier's probabilities are found by their names, and stand in our order already.
    return _make_model(title, program.size, read_metadata(path), answer, ordered=bool(program.classes))


def _open_twin(file: Path, threads: int) -> AffectModel:
    from pocketaffect.export.session import load_twin
    from pocketaffect.labels import PROBABILITIES, VALENCE_AROUSAL_OUTPUT

    twin = load_twin(file, threads=threads)

    def answer(crops: RGB) -> Predictions:
        outputs = twin.predict(crops)
        return Predictions(outputs[PROBABILITIES], outputs[VALENCE_AROUSAL_OUTPUT])

    return _make_model(str(file), twin.size, twin.metadata, answer, ordered=False)


def find_registered(model: str | Path, root: Path = Path()) -> tuple[Store, RegisteredVersion]:
    """Finds the version that a text such as 3, champion or NAME@champion names, and the store that has it.

    Raises:
        PocketAffectError: The text names a file, or there is no such version, or no registry below `root`.
    """
    if Path(model).suffix in FILE_SUFFIXES or (match := VERSION.fullmatch(str(model))) is None:
        raise PocketAffectError(
            f"{model}: no such model", allowed=FORMS, todo="`dvc repro export`, or correct the path"
        )
    from pocketaffect.config import PARAMS_FILE, load_params
    from pocketaffect.registry.store.store import advise_register, find_store
    from pocketaffect.registry.store.versions import get_version

    store, version = find_store(root), match["version"]
    if store is None:
        raise PocketAffectError(
            f"{version}: neither a file nor a folder, and there is no registry here to look for a version of that name",
            allowed=FORMS,
            todo=f"correct the path; or register a version: {advise_register(root)}",
        )
    name = match["name"] or load_params(root / PARAMS_FILE).register_.model_name
    return store, get_version(store, name, version)


def _is_drawn(version: RegisteredVersion) -> bool:
    return version.tags.get("data.source") == str(paths.SAMPLE)


def _make_model(
    title: str, size: int, metadata: Mapping[str, str], answer: Callable[[RGB], Predictions], *, ordered: bool
) -> AffectModel:
    """Reads crop margin, order of the outputs and what else the file says of itself."""
    wanted = ("labels", "crop_margin", "valence_arousal_order")
    missing = [key for key in wanted if key not in metadata]
    if missing:
        raise PocketAffectError(
            f"{title}: does not say how faces are cut and what its outputs mean",
            found=f"no metadata under {', '.join(missing)}",
            todo="export the model again (`dvc repro export`)",
        )
    expressions = _positions(title, "labels", metadata["labels"], EXPRESSIONS)
    if ordered:
        expressions = np.arange(len(EXPRESSIONS))
    affect = _positions(title, wanted[2], metadata[wanted[2]], VALENCE_AROUSAL)

    def predict(crops: RGB) -> Predictions:
        answers = answer(crops)
        return Predictions(answers.probabilities[:, expressions], answers.valence_arousal[:, affect])

    return AffectModel(
        title,
        size,
        _read_share(title, metadata, "crop_margin"),
        predict,
        metadata.get(TRAINED_ON),
        _read_share(title, metadata, "unsure_below") if "unsure_below" in metadata else None,
    )


def _read_share(title: str, metadata: Mapping[str, str], key: str) -> float:
    try:
        value = float(metadata[key])
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise PocketAffectError(f"{title}: {key} in its metadata", found=metadata[key], allowed="0 to 1")
    return value


def _positions(title: str, key: str, text: str, names: Sequence[str]) -> npt.NDArray[np.intp]:
    given = [name.strip() for name in text.split(",")]
    if sorted(given) != sorted(names):
        raise PocketAffectError(
            f"{title}: {key} in its metadata", found=text, allowed=f"{','.join(names)}, in any order"
        )
    return np.array([given.index(name) for name in names], dtype=np.intp)
