"""Networks that no trial trained, to see the trials beside: the paper's three, and the champion of the registry."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Final

from pocketaffect import paths
from pocketaffect.config import Params
from pocketaffect.data.shards.split import read_summary
from pocketaffect.errors import PocketAffectError
from pocketaffect.export.size import list_shapes, predict_package_bytes
from pocketaffect.labels import CHOOSING, VALENCE_AROUSAL
from pocketaffect.mlpackage.package import package_bytes
from pocketaffect.models.network import NetworkSpec
from pocketaffect.models.paper import BACKBONES
from pocketaffect.registry.store.measured import hash_validation
from pocketaffect.registry.store.runs import VALIDATION_TAG
from pocketaffect.registry.store.store import Store
from pocketaffect.registry.store.versions import CHAMPION, aliased_version, package_path

PAPER_SIZE: Final = 128
PAPER_PRECISION: Final = "fp32"
"""The paper's images, and its files' weights."""


@dataclass(frozen=True)
class Reference:
    """A network beside the trials; its score on their faces is None where nobody measured it."""

    name: str
    spec: NetworkSpec
    bytes: int
    score: float | None = None

    @property
    def macs(self) -> int:
        """Counts multiply-accumulates of one face."""
        return list_shapes(self.spec).macs


def list_references(params: Params, root: Path, store: Store | None) -> list[Reference]:
    """Lists the paper's three networks as the paper has them, then the present champion where there is one."""
    specs = [NetworkSpec(name, 1.0, PAPER_SIZE, "plain") for name in BACKBONES]
    found = [
        Reference(f"paper's {one.architecture}", one, predict_package_bytes(one, PAPER_PRECISION)) for one in specs
    ]
    champion = None if store is None else _read_champion(params.register_.model_name, root, store)
    return [*found, champion] if champion else found


def _read_champion(name: str, root: Path, store: Store) -> Reference | None:
    """Reads the champion; its score counts where it was measured on the validation faces that stand here.

    With `validate.choosing_share` the trials' scores are those of the choosing part: then it has none either.
    """
    version = aliased_version(store, name, CHAMPION)
    if version is None or not version.run_id:
        return None
    data = store.client().get_run(version.run_id).data
    said = data.params
    try:
        spec = NetworkSpec(
            architecture=said["model.architecture"],
            width=float(said["model.width"]),
            size=int(said["preprocess.image_size"]),
            head="plain" if said["model.head"] == "plain" else "prototype",
            full_resolution_stem=said["model.full_resolution_stem"] == "True",
        )
        size = package_bytes(package_path(store, version))
        list_shapes(spec)
    except (KeyError, ValueError, PocketAffectError):  # of other code, or its files are gone
        return None
    shards = root / paths.SHARDS
    chosen = CHOOSING in read_summary(shards)["images"]  # then trials are scored on other faces
    same = not chosen and version.tags.get(VALIDATION_TAG) == hash_validation(shards)
    return Reference(f"champion, version {version.version}", spec, size, _score(data.metrics) if same else None)


def _score(metrics: Mapping[str, float]) -> float | None:
    """Computes a trial's score (`training.scores`) from a run's metrics."""
    concordance = [metrics[f"ccc_{name}"] for name in VALENCE_AROUSAL if f"ccc_{name}" in metrics]
    tasks = [metrics[key] for key in ("balanced_accuracy",) if key in metrics]
    tasks += [fmean(concordance)] if concordance else []
    return fmean(tasks) if tasks else None
