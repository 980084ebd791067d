"""What a package says of its origin: digests of the data, the settings and the code that decide its bytes."""

from pathlib import Path
from typing import Final

from pocketaffect import paths
from pocketaffect.config import Params
from pocketaffect.files import hash_json, read_yaml
from pocketaffect.labels import DRAWINGS, PHOTOGRAPHS, TRAINED_ON
from pocketaffect.provenance.code import hash_code

DECIDING_STAGES: Final = ("validate", "preprocess", "train", "export")
DECIDING_PARAMS: Final = ("validate", "preprocess", "model", "train", "export")


def describe_origin(params: Params, root: Path = Path()) -> dict[str, str]:
    """Describes what decides a package's bytes, as its metadata: data, settings, source code.

    No git commit and no run: the same inputs must give the same bytes in every clone and at every commit that
    leaves these sources alone. The registry's version says commit and run, and finds itself by the package's hash.
    """
    return {
        "origin_data_md5": read_data_hash(root),
        "origin_params_sha256": hash_settings(params),
        "origin_sources_sha256": hash_code(*(root / paths.PIPELINES / f"{stage}.py" for stage in DECIDING_STAGES)),
        TRAINED_ON: DRAWINGS if is_sample(root) else PHOTOGRAPHS,
    }


def is_sample(root: Path) -> bool:
    """Tells whether the stages read what the stage `sample` drew. By dvc.lock: where data came from is not kept."""
    drawn = (read_yaml(root / paths.LOCK_FILE).get("stages") or {}).get("sample") or {}
    return read_data_hash(root) in [output.get("md5") for output in drawn.get("outs") or []]


def hash_settings(params: Params) -> str:
    """Computes the sha256 of the settings that decide a package's bytes."""
    settings = params.model_dump(by_alias=True, mode="json")
    return hash_json({name: settings[name] for name in DECIDING_PARAMS})


def read_data_hash(root: Path) -> str:
    """Reads DVC's hash of the data folder that the stages read: dvc.lock's, at first data.dvc's, else "none"."""
    for stage in (read_yaml(root / paths.LOCK_FILE).get("stages") or {}).values():
        for dependency in stage.get("deps") or []:
            if dependency.get("path") == str(paths.DATA) and "md5" in dependency:
                return str(dependency["md5"])
    outputs = read_yaml(root / paths.DATA_FILE).get("outs") or [{}]
    return str(outputs[0].get("md5", "none"))
