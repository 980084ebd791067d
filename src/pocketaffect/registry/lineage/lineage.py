"""What a result was made from (commit, data, settings, environment, machine), and what a model file says of it."""

import contextlib
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any, Final

from pocketaffect import paths
from pocketaffect.checkout import ask_git, find_experiment
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import hash_file, hash_folder, hash_text, read_yaml
from pocketaffect.mlpackage.package import package_digest, read_metadata
from pocketaffect.provenance.origin import read_data_hash

NO_GIT: Final = "no git"
NO_COMMIT: Final = "no commit"
NONE: Final = "none"

MAX_TAG: Final = 2000

EXPERIMENT_TAG: Final = "dvc.experiment"
"""On versions that only a DVC experiment has made so far: its name."""

_HASHED: Final = {"dvc_lock": paths.LOCK_FILE, "params": Path("params.yaml"), "requirements": Path("requirements.lock")}


@dataclass(frozen=True)
class Lineage:
    """Origin of a run. Text that could not be found out is "none"; without git, `commit` is "no git"."""

    commit: str
    dirty_paths: tuple[str, ...]
    """Files that decide the result and differ from the commit (see `collect_lineage`)."""
    data_md5: str
    """DVC's hash of the data folder (ends with .dir)."""
    data_source: str
    """Where data.dvc imports from: `sample`, or the user's path."""
    sha256: Mapping[str, str]
    """Digests of dvc_lock, params and requirements."""
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    """The system's platform, the instructions that PyTorch would use (`cpu`), models of processor and first GPU."""
    experiment: str = ""
    """Name of the DVC experiment that made it; "" for none."""

    @property
    def dirty(self) -> bool:
        """Whether any file that decides the result differs from the commit."""
        return bool(self.dirty_paths)

    def to_tags(self) -> dict[str, str]:
        """Writes the lineage as MLflow tags; the commit also under the name that MLflow's pages show."""
        changed = ", ".join(self.dirty_paths)
        tags = {
            "git.commit": self.commit,
            "git.dirty": str(self.dirty).lower(),
            "git.dirty_paths": changed if len(changed) <= MAX_TAG else changed[: MAX_TAG - 1] + "…",
            "data.md5": self.data_md5,
            "data.source": self.data_source,
            **{f"{name}.sha256": digest for name, digest in self.sha256.items()},
            **{f"version.{name}": version for name, version in self.versions.items()},
            **{f"machine.{name}": text for name, text in self.machine.items()},
        }
        if self.experiment:
            tags[EXPERIMENT_TAG] = self.experiment
        if self.commit not in (NO_GIT, NO_COMMIT):
            tags["mlflow.source.git.commit"] = self.commit
        return tags


def collect_lineage(root: Path) -> Lineage:
    """Reads the lineage of the repository at `root`; works without git and before the first `dvc repro`.

    Dirty means that a tracked file was changed or an unignored one was added. Files that the pipeline itself
    writes do not count: dvc.lock and the outputs it lists (metrics and plots kept in git), which are new after
    every run that gave something new. Their content is covered by the hash of dvc.lock.

    The data hash is the one dvc.lock holds for the data folder, since the stages read that; before a first run
    it is data.dvc's.

    Raises:
        PocketAffectError: data.dvc or dvc.lock is not readable as YAML.
    """
    import torch

    data_file, lock = read_yaml(root / paths.DATA_FILE), read_yaml(root / paths.LOCK_FILE)
    commit, dirty_paths = _read_git(root, pipeline_outputs=_outputs(lock))
    packages = {name: _version(name) for name in ("pocketaffect", "torch", "coremltools")}
    return Lineage(
        commit=commit,
        dirty_paths=dirty_paths,
        data_md5=read_data_hash(root),
        data_source=str(_first(data_file, "deps").get("path", NONE)),
        sha256={name: hash_text(root / file) if (root / file).is_file() else NONE for name, file in _HASHED.items()},
        versions={"python": platform.python_version(), **packages},
        machine={
            "platform": f"{platform.system()} {platform.machine()}",
            "cpu": str(torch.backends.cpu.get_cpu_capability()),
            "processor": _processor(),
            "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else NONE,
        },
        experiment=find_experiment(),
    )


def find_changed_sources(root: Path) -> list[str]:
    """Names files and folders in git that a stage ran with, as dvc.lock says, and that have other content now.

    What a package says of its sources leaves out comments, and what was evaluated with: an audit compares these hashes.
    """
    tracked = (ask_git(root, "ls-files", "-z") or "").split("\0")
    ran = read_yaml(root / paths.LOCK_FILE).get("stages") or {}
    defined = read_yaml(root / "dvc.yaml").get("stages") or {}
    # Not `register`, which may be the one that asks, nor a stage that DVC no longer runs, as `sample` beside own data.
    names = [name for name in ran.keys() & defined.keys() - {"register"} if not defined[name].get("frozen")]
    recorded = {str(dep["path"]): str(dep.get("md5")) for name in names for dep in ran[name].get("deps") or []}
    changed = []
    for path, md5 in sorted(recorded.items()):
        files = [file for file in tracked if file == path or file.startswith(f"{path}/")]
        if files and _hash_as_dvc(root, path, files) != md5:
            changed.append(path)
    return changed


def _hash_as_dvc(root: Path, path: str, files: list[str]) -> str:
    there = [file for file in files if (root / file).is_file()]
    if there == [path]:
        return hash_file(root / path, "md5")
    return hash_folder({file.removeprefix(f"{path}/"): root / file for file in there})


def _first(dvc_file: dict[str, Any], key: str) -> dict[str, Any]:
    entries = dvc_file.get(key) or [{}]
    return entries[0] if isinstance(entries, list) and isinstance(entries[0], dict) else {}


def _outputs(lock: dict[str, Any]) -> frozenset[str]:
    stages = (lock.get("stages") or {}).values()
    return frozenset(str(out["path"]) for stage in stages for out in stage.get("outs") or [] if "path" in out)


def _read_git(root: Path, *, pipeline_outputs: frozenset[str]) -> tuple[str, tuple[str, ...]]:
    """Reads the commit and the paths (relative to `root`) that differ from it."""
    if ask_git(root, "rev-parse", "--is-inside-work-tree") != "true":
        return NO_GIT, ()
    commit = ask_git(root, "rev-parse", "--verify", "--quiet", "HEAD") or NO_COMMIT
    prefix = ask_git(root, "rev-parse", "--show-prefix") or ""
    status = ask_git(root, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--", ".") or ""
    changed = {entry[3:].removeprefix(prefix) for entry in status.split("\0") if entry}
    written = {str(paths.LOCK_FILE)} | pipeline_outputs
    return commit, tuple(sorted(path for path in changed if not _is_written(path, written)))


def _is_written(path: str, written: set[str]) -> bool:
    """Tells whether the path is one of the pipeline's outputs or lies in one."""
    return any(str(place) in written for place in (PurePosixPath(path), *PurePosixPath(path).parents))


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return NONE


def _processor() -> str:
    """Finds the processor's model as the system names it."""
    listed, found = Path("/proc/cpuinfo"), None
    if listed.is_file():
        text = listed.read_text(encoding="utf-8", errors="replace")
        found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    elif platform.system() == "Darwin":
        with contextlib.suppress(OSError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            found = re.match("(.+)", subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    return found[1].strip() if found else platform.processor() or NONE


def read_file_metadata(path: Path) -> dict[str, str]:
    """Reads the metadata of a .mlpackage (as `read_metadata` gives it) or of a .onnx file.

    Raises:
        PocketAffectError: Neither of both, or damaged.
    """
    if path.suffix not in (".mlpackage", ".onnx"):
        raise PocketAffectError(f"{path}: not a model file", allowed="a .mlpackage folder or a .onnx file")
    if path.suffix == ".mlpackage":
        return read_metadata(path)
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError:
        raise PocketAffectError(f"{path}: damaged", found=f"{path.stat().st_size} bytes that are no model") from None
    return {entry.key: entry.value for entry in model.metadata_props}


def digest_file(path: Path) -> str:
    """Computes the SHA-256 of a file, `package_digest` of a folder."""
    return package_digest(path) if path.is_dir() else hash_file(path)
