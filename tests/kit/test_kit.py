"""What `pocketaffect kit` writes: whole, the same again, of a model with proof, over nobody's folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from pocketaffect import paths
from pocketaffect.cli.main import main
from pocketaffect.errors import PocketAffectError
from pocketaffect.export.convert import PackageDescription, Packages
from pocketaffect.export.forms import make_classifier
from pocketaffect.files import hash_file, read_yaml
from pocketaffect.kit import kit
from pocketaffect.kit.kit import DIGESTS, FACTS, GOLDEN, NAME, PACKAGE, SONGS, TEMPLATE, write_kit
from pocketaffect.mlpackage.package import package_bytes, package_digest, read_spec, save_package
from pocketaffect.models.network import AffectNetwork, NetworkSpec
from pocketaffect.precisions import PRECISIONS, find_precision
from pocketaffect.registry.lineage.lineage import collect_lineage
from pocketaffect.registry.store.register import register_package
from pocketaffect.registry.store.runs import RunRecord
from pocketaffect.registry.store.store import open_store
from pocketaffect.shipped.network import FOLDER

ROOT = Path(__file__).parents[2]
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


@pytest.fixture(scope="module")
def making(tmp_path_factory) -> Packages:
    torch.manual_seed(3)
    network = AffectNetwork(NetworkSpec("vgg", 0.1, 32, "prototype")).eval()
    described = PackageDescription("a", "l", "1", "s", metadata={"trained_on": "drawings"}, crop_margin=0.1)
    return Packages(network, 32, described, tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def make_export(making, tmp_path_factory):
    """The files of an export that a kit is made from; those of a trained network are the slow tests of export."""

    def make(precision: str) -> Path:
        folder = tmp_path_factory.mktemp("export")
        model = making.make(find_precision(precision)).model
        save_package(model, folder / paths.PACKAGE.name)
        save_package(make_classifier(model), folder / paths.CLASSIFIER.name)
        proof = {
            "passed": True,
            "checks": [{"name": "bytes of the package", "passed": True}],
            "forms": {"classifier": {"sha256": package_digest(folder / paths.CLASSIFIER.name)}},
        }
        (folder / paths.VERIFICATION.name).write_text(json.dumps(proof))
        return folder

    return make


@pytest.fixture(scope="module")
def made(make_export) -> Path:
    return make_export("fp16")


@pytest.fixture
def export(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "export"))


@pytest.fixture
def root(store_template, tmp_path, monkeypatch) -> Path:
    """A repository with an empty store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "repository"
    shutil.copytree(store_template, root / "mlruns")
    shutil.copy(ROOT / "params.yaml", root)
    monkeypatch.chdir(root)
    return root


def read_files(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def change_proof(export: Path, **changes: object) -> None:
    file = export / paths.VERIFICATION.name
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_the_template_comes_whole_with_the_model_its_digest_and_the_vectors(export, tmp_path):
    written = write_kit(export, tmp_path / "apps")
    files, template = read_files(tmp_path / "apps" / NAME), read_files(TEMPLATE)
    package = {f"{PACKAGE.as_posix()}/{name}" for name in read_files(export / paths.PACKAGE.name)}
    beside = {place.as_posix() for place in (SONGS, GOLDEN)} | package | {DIGESTS}
    names = {name.replace("gitignore", ".gitignore") for name in template}
    assert files.keys() == names | beside
    assert ".gitignore" in files
    for name, content in template.items():
        if name not in (FACTS.as_posix(), "gitignore"):
            assert files[name] == content
    sha256 = package_digest(export / paths.PACKAGE.name)
    assert package_digest(written.folder / PACKAGE) == written.sha256 == sha256
    facts = files[FACTS.as_posix()].decode()
    assert f'"{sha256}"' in facts
    assert "version: String? = nil" in facts
    assert not any(b"{{" in content for name, content in files.items() if name.endswith(".swift"))
    assert json.loads(files[GOLDEN.as_posix()])["model"]["size"] == 32
    assert len(json.loads(files[SONGS.as_posix()])["songs"]) >= 300
    digests = json.loads(files[DIGESTS])
    assert digests == {name: hash_file(written.folder / name) for name in files if name != DIGESTS}


def test_the_kit_is_small_and_the_same_bytes_from_either_name_of_the_model(export, tmp_path):
    one = write_kit(export, tmp_path / "one")
    other = write_kit(export / paths.PACKAGE.name, tmp_path / "other")
    assert read_files(one.folder) == read_files(other.folder)
    assert one.model_bytes == package_bytes(export / paths.PACKAGE.name)
    assert one.other_bytes + one.model_bytes == sum(map(len, read_files(one.folder).values()))
    assert one.other_bytes < 200_000


def test_the_shipped_network_s_kit_says_what_is_in_it(tmp_path):
    if not FOLDER.is_dir():
        pytest.skip("no network comes with this checkout")
    said = CliRunner().invoke(main, ["kit", "shipped", str(tmp_path)])
    assert said.exit_code == 0, said.output
    digest = package_digest(FOLDER / paths.PACKAGE.name)
    assert package_digest(tmp_path / NAME / PACKAGE) == digest
    assert f"package sha256 {digest}\n" in said.stdout
    beyond = re.search(r"all else ([\d,]+)", said.stdout)
    assert int(beyond[1].replace(",", "")) < 200_000
    # Its folder is an export like any other, whose proof is of these bytes.
    assert write_kit(FOLDER, tmp_path / "again").sha256 == digest


@pytest.mark.slow
def test_a_network_of_drawings_and_a_form_for_new_systems_come_with_a_warning(export, make_export, tmp_path):
    assert "drawings alone" in "".join(write_kit(export, tmp_path / "old").notes())
    manifest = (tmp_path / "old" / NAME / "Package.swift").read_text()
    assert '.iOS("16.0")' in manifest
    written = write_kit(make_export("palette4-grouped"), tmp_path / "new")
    assert "note: needs iOS 18, macOS 15, and was not seen on a device" in written.notes()
    newer = manifest.replace('"16.0"', '"18.0"').replace('"13.0"', '"15.0"')
    assert (written.folder / "Package.swift").read_text() == newer != manifest


def test_a_kit_as_it_was_written_is_replaced_and_what_swift_built_is_no_change(export, tmp_path):
    written = write_kit(export, tmp_path)
    before = read_files(written.folder)
    for place in (".build/debug/a.o", ".swiftpm/x", "Sources/.DS_Store", "Example/Package.resolved"):
        (written.folder / place).parent.mkdir(parents=True, exist_ok=True)
        (written.folder / place).write_text("built")
    write_kit(export, tmp_path)
    assert read_files(written.folder) == before


@pytest.mark.parametrize("change", ["changed", "added", "removed", "no kit", "empty"])
def test_somebody_s_folder_is_refused_and_stays_as_it_is(change, export, tmp_path):
    folder = tmp_path / NAME
    if change in ("no kit", "empty"):
        folder.mkdir()
    else:
        write_kit(export, tmp_path)
    if change == "changed":
        (folder / "Package.swift").write_text("// my own")
    elif change == "removed":
        (folder / SONGS).unlink()
    elif change != "empty":
        (folder / "Own.swift").write_text("// my own")
    before = read_files(folder)
    with pytest.raises(PocketAffectError, match="somebody's folder"):
        write_kit(export, tmp_path)
    assert read_files(folder) == before
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_a_failure_half_way_leaves_nothing_or_the_last_kit(export, tmp_path, monkeypatch):
    write_kit(export, tmp_path / "last")
    before = read_files(tmp_path / "last")
    monkeypatch.setattr(kit, "TEMPLATE", tmp_path / "gone")
    for name in ("last", "first"):
        with pytest.raises(FileNotFoundError):
            write_kit(export, tmp_path / name)
    assert read_files(tmp_path / "last") == before
    assert list((tmp_path / "first").iterdir()) == []


@pytest.mark.parametrize("name", ['a"b', "a%b", "a\\b", "a\nb", "a\udce9b"])
def test_a_folder_that_swift_cannot_take_is_refused_before_any_work(name, tmp_path):
    with pytest.raises(PocketAffectError, match="Swift cannot take"):
        write_kit("no model", tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_a_file_is_refused(export, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PocketAffectError, match="cannot be written"):
        write_kit(export, tmp_path / "file")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"passed": False}, "failed as a whole"),
        ({"passed": False, "checks": [{"name": "agreement", "passed": False}]}, "failed agreement"),
        ({"checks": None}, "not readable"),
    ],
)
def test_an_export_that_failed_its_proof_gets_no_kit(changes, found, export, tmp_path):
    change_proof(export, **changes)
    with pytest.raises(PocketAffectError, match=rf"without proof\n  found: +.*{found}"):
        write_kit(export, tmp_path / "apps")
    assert not (tmp_path / "apps").exists()


def test_a_package_alone_and_a_refused_one_have_no_proof(export, tmp_path):
    alone = shutil.copytree(export / paths.PACKAGE.name, tmp_path / "rejected" / "rejected.mlpackage")
    with pytest.raises(PocketAffectError, match=r"no verification\.json with it"):
        write_kit(alone, tmp_path)


def test_weights_that_were_changed_after_the_proof_are_refused(export, tmp_path):
    weights = export / paths.PACKAGE.name / WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-70] ^= 1
    weights.write_bytes(content)
    with pytest.raises(PocketAffectError, match=r"not the package that verification\.json beside it is about"):
        write_kit(export, tmp_path)
    weights.write_bytes(content[:1000])
    with pytest.raises(PocketAffectError, match="cut short or damaged"):
        write_kit(export, tmp_path)


def test_other_forms_and_other_makers_packages_are_refused(export, tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"a twin")
    for model, problem in (
        (export / paths.CLASSIFIER.name, "not the plain package"),
        (tmp_path / "a.onnx", "not a Core ML package"),
        (tmp_path, "not a Core ML package"),
        (tmp_path / "none.mlpackage", "no such model"),
    ):
        with pytest.raises(PocketAffectError, match=problem):
            write_kit(model, tmp_path)


def test_a_version_s_kit_has_its_number_and_needs_its_files(export, root, tmp_path):
    artifacts = [export / paths.VERIFICATION.name]
    record = RunRecord(export / paths.PACKAGE.name, collect_lineage(root), artifacts=artifacts)
    from pocketaffect.config import load_params

    version = register_package(open_store(root), load_params(root / "params.yaml").register_, record)
    written = write_kit("candidate", tmp_path / "apps", root=root)
    assert written.version == version.version == 1
    assert 'version: String? = "1"' in (written.folder / FACTS).read_text()
    assert package_digest(written.folder / PACKAGE) == version.digest
    stored = next((root / "mlruns").rglob(paths.PACKAGE.name))
    weights = stored / WEIGHTS
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes() + b"more")
    with pytest.raises(PocketAffectError, match="is not what was registered"):
        write_kit("1", tmp_path / "other", root=root)
    shutil.rmtree(stored)
    with pytest.raises(PocketAffectError, match="is gone"):
        write_kit("1", tmp_path / "other", root=root)
    with pytest.raises(PocketAffectError, match="no version '7'"):
        write_kit("7", tmp_path / "other", root=root)
    assert not (tmp_path / "other").exists()


def test_a_version_that_was_registered_without_a_verification_gets_no_kit(export, root, tmp_path):
    from pocketaffect.config import load_params

    record = RunRecord(export / paths.PACKAGE.name, collect_lineage(root))
    register_package(open_store(root), load_params(root / "params.yaml").register_, record)
    with pytest.raises(PocketAffectError, match="without proof"):
        write_kit("1", tmp_path / "apps", root=root)


@pytest.mark.slow
def test_the_workflow_for_macs_writes_every_form_and_its_steps_name_what_the_kit_has(tmp_path):
    steps = read_yaml(ROOT / "docs/ios/mac.yml")["jobs"]["mac"]["steps"]
    text = "\n".join(step.get("run", "") for step in steps)
    (script,) = re.findall(r"<<'END'\n(.*)^END", text, re.DOTALL | re.MULTILINE)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env=environment)
    outputs = {
        package.name: {output.name for output in read_spec(package).description.output}
        for package in (tmp_path / "forms").iterdir()
    }
    for name in PRECISIONS:
        assert outputs[f"{name}.mlpackage"] == {"probabilities", "valence_arousal"}
        assert outputs[f"{name}-classifier.mlpackage"] == {"expression", "expression_probabilities", "valence_arousal"}
    assert "pocketaffect kit shipped ." in text
    assert f"{NAME}/{PACKAGE.parent.as_posix()}/*.mlpackage" in text
    for scheme, place in (("PocketAffectKit", ""), ("PocketAffectExample", "/Example/PocketAffectExample.swiftpm")):
        assert f"-scheme {scheme} " in text
        assert f"{NAME}{place}" in text
        assert f'name: "{scheme}"' in Path(f"{TEMPLATE}{place}", "Package.swift").read_text()
