"""Makes the shipped network again from one's own copy of its data, and says whether the weights agree.

`make shipped DATA=PATH` runs the stages of the pipeline in a folder of their own, without DVC: its data, settings and
code name that folder, so that a second call goes on where a first one was ended.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pocketaffect import paths
from pocketaffect.config import PARAMS_FILE, load_params
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import hash_folder, hash_json, read_yaml, write_atomically, write_json
from pocketaffect.provenance.code import hash_code
from pocketaffect.provenance.origin import DECIDING_PARAMS
from pocketaffect.registry.lineage.lineage import collect_lineage
from pocketaffect.registry.store.publish import collect_facts, write_card
from pocketaffect.shipped.network import CARD, DIGESTS, FOLDER, find_shipped, seal

RECIPE: Final = Path(__file__).parent / "recipe.yaml"
"""The sections of params.yaml that decide the network, whole."""

ABOUT: Final = Path(__file__).parent / "about.md"
"""What the card says that no measurement does: the data's terms, and what must be asked before it is used."""

WORK: Final = paths.WORK / "shipped"
SOURCE: Final = "FER2013 with the votes of FER+"
STAGES: Final = ("validate", "preprocess", "train", "evaluate", "export")
WEIGHTS: Final = f"{paths.PACKAGE.name}/Data/com.apple.CoreML/weights/weight.bin"


def make_network(data: Path, *, recipe: Path = RECIPE, root: Path = Path(), work: Path = WORK) -> Path:
    """Trains, exports and describes the network, in a folder of `work` for each recipe and data set.

    It ends with a folder in the form in which the network is shipped.

    Raises:
        PocketAffectError: No such folder, no complete recipe, or a stage failed, which has said why.
    """
    if not data.is_dir():
        raise PocketAffectError(
            f"{data}: no such folder", todo="make shipped DATA=PATH of your copy of FER2013 and FER+"
        )
    settings = _read_recipe(recipe, root)
    digest = hash_folder({file.relative_to(data).as_posix(): file for file in data.rglob("*") if file.is_file()})
    code = hash_code(*(root.resolve() / paths.PIPELINES / f"{stage}.py" for stage in STAGES))
    place = work.resolve() / hash_json([settings, digest, code])[:16]
    _prepare(place, data, digest, root, settings)
    _run(place)
    return _assemble(place)


def _read_recipe(recipe: Path, root: Path) -> dict[str, Any]:
    sections = read_yaml(recipe)
    if missing := [name for name in DECIDING_PARAMS if name not in sections]:
        raise PocketAffectError(f"{recipe}: sections are missing", found=f"no {', '.join(missing)}")
    # The others, such as `evaluate`, decide no weight, and are those of the checkout.
    return read_yaml(root / PARAMS_FILE) | sections


def _prepare(place: Path, data: Path, digest: str, root: Path, settings: Mapping[str, Any]) -> None:
    place.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / "requirements.lock", place / "requirements.lock")
    for name, target in ((paths.DATA, data), (paths.PIPELINES, root / paths.PIPELINES)):
        if not (place / name).is_symlink():
            (place / name).symlink_to(target.resolve())
    imported = {"deps": [{"path": SOURCE}], "outs": [{"path": str(paths.DATA), "md5": digest}]}
    write_json(place / paths.DATA_FILE, imported)  # JSON is YAML
    write_json(place / PARAMS_FILE, settings)


def _run(place: Path) -> None:
    """Runs those stages whose outputs are not there; they appear whole."""
    outputs = (paths.MANIFEST, paths.SHARDS, paths.MODEL, paths.EVALUATION, paths.EXPORT)
    for stage, output in zip(STAGES, outputs, strict=True):
        if (place / output).exists():
            continue
        script = paths.PIPELINES / f"{stage}.py"
        if subprocess.run([sys.executable, str(script)], cwd=place, check=False).returncode:
            raise PocketAffectError(f"the stage {stage} failed; its message is above", todo="mend it, and repeat")


def _assemble(place: Path) -> Path:
    verification = json.loads((place / paths.VERIFICATION).read_text(encoding="utf-8"))
    metrics = json.loads((place / paths.EVALUATION / "metrics.json").read_text(encoding="utf-8"))
    params = load_params(place / PARAMS_FILE)
    facts = collect_facts(place, params, collect_lineage(place), verification, metrics)
    target = place / "files"
    with write_atomically(target) as draft:
        draft.mkdir()
        write_card(facts, draft)
        (draft / CARD).with_suffix(".html").unlink()
        first, heading, rest = (draft / CARD).read_text(encoding="utf-8").partition("\n## ")
        (draft / CARD).write_text(f"{first}\n{ABOUT.read_text(encoding='utf-8')}{heading}{rest}", encoding="utf-8")
        shutil.copytree(place / paths.PACKAGE, draft / paths.PACKAGE.name)
        for file in (paths.TWIN, paths.VERIFICATION):
            shutil.copyfile(place / file, draft / file.name)
        seal(draft)
    return target


def compare_weights(made: Path, shipped: Path | None) -> str:
    """Says whether two folders hold the same weights, by their digests."""
    ours, theirs = (
        None if folder is None else json.loads((folder / DIGESTS).read_text(encoding="utf-8"))[WEIGHTS]
        for folder in (made, shipped)
    )
    if theirs is None:
        return f"no network is shipped to compare with; SHA-256 of these weights: {ours}"
    if ours == theirs:
        return f"the weights agree with the shipped ones: SHA-256 {ours}"
    return f"other weights than the shipped ones\n  made:    SHA-256 {ours}\n  shipped: SHA-256 {theirs}"


def main() -> int:
    """Runs `make shipped`; 1 where something failed, or where the weights are others and were not to be put in."""
    parser = argparse.ArgumentParser(description="Makes the shipped network again from your copy of its data.")
    parser.add_argument("data", type=Path, help="your copy of FER2013 and FER+")
    parser.add_argument("--write", action="store_true", help="put the network into the package, in place of its own")
    arguments = parser.parse_args()
    try:
        made, shipped = make_network(arguments.data), find_shipped()
    except PocketAffectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(compare_weights(made, shipped))
    if arguments.write:
        with write_atomically(FOLDER) as draft:
            shutil.copytree(made, draft)
        print(f"{FOLDER} written")
    else:
        print(f"made in {made}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
