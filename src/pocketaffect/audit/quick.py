"""The quick audit: hashes, lineage and the package's answers, each as a check that is made in seconds.

    python -m pocketaffect.audit.quick PACKAGE SHARDS RECORDED

executes a package on stored faces, in a process of its own, whose arithmetic is pinned before torch starts. It prints
one line of JSON: faces, and how far its answers lie from the recorded ones at most.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pocketaffect import paths
from pocketaffect.audit.outcome import Check, NotAuditableError
from pocketaffect.audit.record import Record
from pocketaffect.audit.scratch import Scratch
from pocketaffect.audit.upkeep import verify_contents
from pocketaffect.checkout import LOCK
from pocketaffect.data.shards.split import INDEX_FILE, SUMMARY_FILE
from pocketaffect.evaluation.prediction_table import PREDICTIONS_FILE
from pocketaffect.files import hash_file, hash_text
from pocketaffect.registry.lineage.lineage import read_file_metadata
from pocketaffect.registry.store.runs import MODEL_FOLDER, PACKAGE_TAG

log = logging.getLogger(__name__)

ANSWER_TOLERANCE: Final = 1e-3
"""Largest distance of an answer from the recorded one: far above what another processor's rounding does in one pass."""

_DESCRIBE_ORIGIN: Final = (
    "import json; from pocketaffect.config import load_params\n"
    "try: from pocketaffect.provenance.origin import describe_origin\n"
    "except ImportError: from pocketaffect.provenance import describe_origin  # at commits before 0.2.0\n"
    "print(json.dumps(describe_origin(load_params())))"
)


def examine(record: Record, scratch: Scratch) -> tuple[Check, ...]:
    """Makes all checks of the version whose commit and settings lie in `scratch`.

    Raises:
        NotAuditableError: The faces or the answers to compare with are gone.
    """
    package = record.files / MODEL_FOLDER / record.version.tags.get(PACKAGE_TAG, "")
    shutil.copyfile(record.files / paths.LOCK_FILE, scratch.root / paths.LOCK_FILE)
    log.info("hashing what is stored")
    checks = [_check_contents(record), _check_environment_lock(record, scratch)]
    if checks[0].passed:
        log.info("comparing the commit with what was recorded")
        checks += [_check_sources(record, scratch), _check_origin(package, scratch)]
        log.info("executing the package")
        checks.append(_check_answers(record, package, scratch))
    return tuple(checks)


def _check_contents(record: Record) -> Check:
    count, damages = verify_contents(record.version, record.files)
    listed = "; ".join(f"{damage.path}: {damage.detail}" for damage in damages[:3])
    return Check("stored files", not damages, listed or f"package and {count - 1} files have their registered hashes")


def _check_environment_lock(record: Record, scratch: Scratch) -> Check:
    file, wanted = scratch.root / LOCK, record.version.tags.get("requirements.sha256", "")
    found = [hash_text(file), hash_file(file)] if file.is_file() else ["none"]
    detail = "the commit's is the recorded one" if wanted in found else f"SHA-256 {found[0]}, {wanted} recorded"
    return Check("environment lock", wanted in found, detail)


def _check_sources(record: Record, scratch: Scratch) -> Check:
    """Asks DVC whether sources, settings and commands of every stage are those that dvc.lock names."""
    made = {path for stage in record.stages.values() for path in stage.outputs} | {str(paths.DATA)}
    done = scratch.dvc("status", "--json", *record.stages)
    if done.returncode:
        raise NotAuditableError(f"dvc status fails at the commit: {done.stderr.strip()[-300:]}", "")
    changed = sorted(_read_status(json.loads(done.stdout or "{}"), made))
    detail = "; ".join(changed) or f"sources and settings of {len(record.stages)} stages are those of dvc.lock"
    return Check("sources and settings", not changed, detail)


def _read_status(status: dict[str, Any], made: set[str]) -> Iterator[str]:
    """Reads what differs, apart from outputs, which nobody has made there."""
    for stage, entries in status.items():
        if stage.endswith(".dvc"):
            continue
        for entry in entries:
            if entry == "changed command":
                yield f"{stage}: the command"
            for path, state in entry.get("changed deps", {}).items() if isinstance(entry, dict) else ():
                if path not in made:
                    yield f"{stage}: {path}" + (f" ({', '.join(state)})" if isinstance(state, dict) else "")


def _check_origin(package: Path, scratch: Scratch) -> Check:
    """Holds what the file says it was made from to what the commit's own code says of itself."""
    done = scratch.run(str(scratch.python), "-c", _DESCRIBE_ORIGIN)
    if done.returncode:
        raise NotAuditableError(f"the commit cannot describe its sources: {done.stderr.strip()[-300:]}", "")
    here: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    says = read_file_metadata(package)
    differ = [name.removeprefix("origin_") for name, value in here.items() if says.get(name) != value]
    detail = f"of other {', '.join(differ)}" if differ else "names the data, settings and sources of the commit"
    return Check("the file's own metadata", not differ, detail)


def _check_answers(record: Record, package: Path, scratch: Scratch) -> Check:
    recorded = record.files / PREDICTIONS_FILE
    if not recorded.is_file():
        raise NotAuditableError("the version keeps no answers of its shipped file", "a full audit (without --quick)")
    shards = _link_validation(record, scratch.place / "shards")
    command = [sys.executable, "-m", __name__, str(package), str(shards), str(recorded)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    if done.returncode:
        return Check("answers", False, f"the package cannot be executed: {done.stderr.strip()[-300:]}")
    measured = json.loads(done.stdout.splitlines()[-1])
    gap, faces = measured["gap"], f"on {measured['faces']:,} validation faces"
    far = f"at most {gap:.2g} from the recorded ones {faces}, {ANSWER_TOLERANCE:g} is allowed"
    return Check("answers", gap <= ANSWER_TOLERANCE, far if gap else f"bit-identical {faces}")


def _link_validation(record: Record, folder: Path) -> Path:
    """Makes a folder of links to the recorded validation shards in the user's cache, which are read only."""
    name = str(paths.SHARDS)
    md5 = next((stage.outputs[name] for stage in record.stages.values() if name in stage.outputs), "")
    files = record.cache.list_files(md5, name)
    missing = [] if files else [md5]
    folder.mkdir(parents=True)
    for path, wanted in (files or {}).items():
        place = Path(path).relative_to(name)
        if place.name in (INDEX_FILE, SUMMARY_FILE) or place.name.startswith("validation"):
            cached = record.cache.find(wanted)
            if cached is None:
                missing.append(f"{path} ({wanted})")
            else:
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                (folder / place).symlink_to(cached.resolve())
    if missing:
        raise NotAuditableError(
            f"the validation faces: {missing[0]} is not in DVC's cache ({record.cache.folder})",
            "dvc fetch preprocess, or a full audit (without --quick), which makes them again",
        )
    return folder


def main() -> None:
    """Executes a package on stored faces: see the head of this file."""
    from pocketaffect.arithmetic import pin_arithmetic

    package, shards, recorded = map(Path, sys.argv[1:])
    pin_arithmetic(threads=1, instructions="avx2")
    import numpy as np

    from pocketaffect.data.shards.split import open_split
    from pocketaffect.evaluation.prediction_table import read_predictions
    from pocketaffect.export.measure import load_affect_program, predict_program

    faces, before = open_split(shards, "validation"), read_predictions(recorded)
    if before.paths != faces.paths:
        raise SystemExit(f"the recorded answers are of {len(before.paths)} other faces than these {len(faces)}")
    now, then = predict_program(load_affect_program(package), faces.images()), before.predictions
    pairs = ((now.probabilities, then.probabilities), (now.valence_arousal, then.valence_arousal))
    gaps = [float(np.abs(ours.astype(np.float64) - theirs).max()) for ours, theirs in pairs]
    print(json.dumps({"faces": len(faces), "gap": max(gaps)}))


if __name__ == "__main__":
    main()
