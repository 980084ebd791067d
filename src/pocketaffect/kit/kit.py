"""`pocketaffect kit`: a Swift package around a model that passed its verification, bound to the model's bytes."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pocketaffect import paths
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import write_atomically, write_json
from pocketaffect.kit.golden import render_golden, render_songs
from pocketaffect.labels import PROBABILITIES, VALENCE_AROUSAL_OUTPUT
from pocketaffect.mlpackage.inspect import SYSTEMS
from pocketaffect.mlpackage.package import package_bytes, package_digest, read_spec, save_package
from pocketaffect.mlpackage.quiet import import_coremltools
from pocketaffect.precisions import SPEC_VERSIONS
from pocketaffect.predict.models import AffectModel, find_registered, open_model
from pocketaffect.shipped.network import DIGESTS, find_shipped, list_digests

NAME: Final = "PocketAffectKit"
SHIPPED: Final = "shipped"
"""In place of a path or version: the network that comes with pocketaffect."""

TEMPLATE: Final = Path(__file__).parent / "template"
FACTS: Final = Path("Sources/PocketAffectKit/PackageFacts.swift")
PACKAGE: Final = Path("Sources/PocketAffectKit/Model", paths.PACKAGE.name)
SONGS: Final = Path("Sources/AffectCore/Resources/songs.json")
GOLDEN: Final = Path("Tests/AffectCoreTests/Resources/golden.json")

OLDEST: Final = SYSTEMS[SPEC_VERSIONS["iOS16"]]
"""What the template's manifests name as the oldest systems."""

_SWIFT_REFUSES: Final = re.compile('["%\\\\\x00-\x1f\x7f\ud800-\udfff]')
"""Swift 6.0 writes paths into JSON, sources and patterns as they are, and fails on these."""

_BUILT: Final = re.compile(r"(.*/)?(\.build|\.swiftpm|xcuserdata)/.*|(.*/)?(\.DS_Store|Package\.resolved)")
"""What Swift, Xcode and the Finder leave in a package."""


@dataclass(frozen=True)
class Kit:
    """A written kit.

    Attributes:
        folder: The Swift package.
        model: What it carries.
        sha256: `package_digest` of the .mlpackage in it.
        version: Number of the registered version; None where the model is none.
        system: The oldest systems that open it.
        model_bytes: How large the .mlpackage is.
        other_bytes: How large all the rest is.
    """

    folder: Path
    model: AffectModel
    sha256: str
    version: int | None
    system: str
    model_bytes: int
    other_bytes: int

    def notes(self) -> list[str]:
        """Lists the lines to say of it: a warning of a network of drawings, and what no device was seen to open."""
        newer = [f"note: needs {self.system}, and was not seen on a device"] * (self.system != OLDEST)
        return self.model.notes(chosen=False) + newer


def write_kit(model: str | Path, dest: Path, *, root: Path = Path()) -> Kit:
    """Writes `dest`/PocketAffectKit; the same model gives the same bytes.

    A kit that stands there as it was written is replaced, what Swift built in it with it.

    Args:
        model: A verified export (its folder, or the .mlpackage in it), a registered version as `predict` takes it, or
            "shipped".
        dest: Folder of the kit's folder.
        root: The repository, for registered versions.

    Raises:
        PocketAffectError: There is no such model, or it did not pass its verification, was changed, or is another
            maker's; or the place is somebody's, cannot be written to, or has a name that Swift cannot take.
    """
    target = dest / NAME
    _check_place(target)
    package, version = _find_package(model, root)
    opened, system = open_model(package), SYSTEMS[read_spec(package).specificationVersion]
    with write_atomically(target) as draft:
        shutil.copytree(TEMPLATE, draft, ignore=shutil.ignore_patterns(".*"), copy_function=shutil.copyfile)
        (draft / "gitignore").rename(draft / ".gitignore")
        shutil.copytree(package, draft / PACKAGE, copy_function=shutil.copyfile)
        sha256 = package_digest(draft / PACKAGE)
        literal = "nil" if version is None else f'"{version}"'
        _replace(draft / FACTS, {"{{PACKAGE_SHA256}}": sha256, "{{MODEL_VERSION}}": literal})
        versions = list(zip(*(re.findall(r"\d+", text) for text in (OLDEST, system)), strict=True))
        for manifest in draft.rglob("Package.swift"):
            _replace(manifest, {f'"{old}.0"': f'"{new}.0"' for old, new in versions})
        for place, text in ((SONGS, render_songs()), (GOLDEN, render_golden(opened))):
            (draft / place).parent.mkdir(parents=True, exist_ok=True)
            (draft / place).write_text(text, encoding="utf-8", newline="\n")
        write_json(draft / DIGESTS, list_digests(draft))
        size, total = package_bytes(draft / PACKAGE), package_bytes(draft)
    return Kit(target, opened, sha256, version, system, size, total - size)


def _replace(file: Path, texts: Mapping[str, str]) -> None:
    content = file.read_text(encoding="utf-8")
    for old, new in texts.items():
        content = content.replace(old, new)
    file.write_text(content, encoding="utf-8", newline="\n")


def _check_place(target: Path) -> None:
    place = str(target.absolute())
    if refused := _SWIFT_REFUSES.search(place):
        raise PocketAffectError(
            f"{target}: Swift cannot take a package from a folder of this name",
            found=f"{refused[0]!r} in {place!r}",
            allowed="names in UTF-8 without quotation mark, percent sign, backslash and control characters",
            todo="choose another folder",
        )
    if (target.exists() or target.is_symlink()) and not _is_untouched(target):
        raise PocketAffectError(
            f"{target}: somebody's folder, and is left as it is",
            found="no kit, or one that was changed since it was written",
            todo="choose another folder, or move this one away",
        )


def _is_untouched(folder: Path) -> bool:
    try:
        digests: object = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return digests == {name: sha256 for name, sha256 in list_digests(folder).items() if not _BUILT.fullmatch(name)}


def _find_package(model: str | Path, root: Path) -> tuple[Path, int | None]:
    """Finds the package, and the number of its version; refuses one without proof."""
    path = Path(model)
    if path.exists():
        package = path / paths.PACKAGE.name if (path / paths.PACKAGE.name).exists() else path
        outputs = {output.name for output in read_spec(package).description.output}
        if outputs != {PROBABILITIES, VALENCE_AROUSAL_OUTPUT}:
            raise PocketAffectError(
                f"{package}: not the plain package of an export of pocketaffect",
                found=f"outputs {', '.join(sorted(outputs))}",
                allowed=f"{PROBABILITIES}, {VALENCE_AROUSAL_OUTPUT}",
                todo=f"name the folder of the export, or {paths.PACKAGE.name} in it",
            )
        _require_same(package, _read_proof(package, package.parent / paths.VERIFICATION.name))
        return package, None
    if str(model) == SHIPPED and (folder := find_shipped()):
        return folder / paths.PACKAGE.name, None
    from pocketaffect.registry.store.versions import artifact_path, package_path

    store, version = find_registered(model, root)
    package = package_path(store, version)
    _read_proof(model, artifact_path(store, version, paths.VERIFICATION.name))
    return package, version.version


def _read_proof(model: object, file: Path | None) -> dict[str, Any]:
    found, verification = f"no {paths.VERIFICATION.name} with it", {}
    if file is not None and file.is_file():
        try:
            verification = json.loads(file.read_text(encoding="utf-8"))
            failed = [check["name"] for check in verification["checks"] if not check["passed"]]
            found = f"{file}: failed {', '.join(failed) or 'as a whole'}"
        except (ValueError, KeyError, TypeError) as error:
            found, verification = f"{file}: not readable ({error!r})", {}
    if not verification.get("passed"):
        raise PocketAffectError(
            f"{model}: no kit is written for a model without proof",
            found=found,
            allowed=f"an export whose {paths.VERIFICATION.name} says that it passed",
            todo="`dvc repro export`, then name its folder",
        )
    return dict(verification)


def _require_same(package: Path, verification: Mapping[str, Any]) -> None:
    """Holds a package to the verification beside it, which has the SHA-256 of its classifier form: made again here."""
    from pocketaffect.export.forms import make_classifier

    wanted = verification.get("forms", {}).get("classifier", {}).get("sha256")
    plain = import_coremltools().models.MLModel(str(package), skip_model_load=True)
    with tempfile.TemporaryDirectory(prefix="pocketaffect-") as scratch:
        again = Path(scratch) / paths.CLASSIFIER.name
        save_package(make_classifier(plain), again)
        if (found := package_digest(again)) != wanted:
            raise PocketAffectError(
                f"{package}: not the package that {paths.VERIFICATION.name} beside it is about",
                found=f"a classifier form of SHA-256 {found}",
                allowed=wanted,
                todo="`dvc repro export`, which writes both",
            )
