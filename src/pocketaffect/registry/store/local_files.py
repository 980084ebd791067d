"""How MLflow reads a version's files on this machine, where pocketaffect is installed.

MLflow reads the file MLmodel before any code of the version runs that could hold it to its hash, and answers a changed
byte with a bare KeyError; and it writes a note of its own beside it, which a read-only store does not take. It finds
this class by the entry point `mlflow.artifact_repository` in pyproject.toml.
"""

import json
import os
import tempfile
from pathlib import Path

from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from pocketaffect.errors import PocketAffectError
from pocketaffect.files import hash_file
from pocketaffect.registry.store.runs import CONTENTS_FILE, MODEL_FOLDER
from pocketaffect.registry.store.served import FACTS


class CheckedFiles(LocalArtifactRepository):
    """Files of this machine; a version's model is held to its hashes, and copied from where MLflow may not write."""

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> str:
        """Gives the place of a file or folder, or of a copy of it.

        Raises:
            PocketAffectError: It is a version's model, and one of its files has other bytes than were registered.
        """
        place = Path(self.artifact_dir) / artifact_path
        if (place / FACTS).is_file() and place.name == MODEL_FOLDER:
            _check(place)
            if dst_path is None and not os.access(place, os.W_OK):
                dst_path = tempfile.mkdtemp(prefix="pocketaffect-version-")
        return str(super().download_artifacts(artifact_path, dst_path))  # type: ignore[no-untyped-call]


def _check(model: Path) -> None:
    listed = model.parent / CONTENTS_FILE
    contents: dict[str, str] = json.loads(listed.read_text(encoding="utf-8")) if listed.is_file() else {}
    for name, sha256 in contents.items():
        file = model.parent / name
        if name.startswith(f"{MODEL_FOLDER}/") and file.is_file() and hash_file(file) != sha256:
            raise PocketAffectError(
                f"{file}: not the file that was registered",
                found=f"SHA-256 {hash_file(file)}",
                allowed=sha256,
                todo="restore the store's artifacts from a backup (`pocketaffect registry verify` checks all)",
            )
