"""A written kit under Swift: its own tests run; what needs Apple's frameworks is checked as far as it can be here."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pocketaffect.kit.kit import FACTS, NAME, PACKAGE, SHIPPED, write_kit

STUBS = Path(__file__).parent / "stubs"
MODULES = ("CoreGraphics", "ImageIO", "CoreVideo", "CoreMedia", "VideoToolbox", "CryptoKit", "CoreML", "Vision")
"""Stubs of Apple's frameworks, each after those that it imports."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("swift") is None, reason="no swift on the PATH (swift.org/install)"),
]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kit(SHIPPED, tmp_path_factory.mktemp("kit")).folder


@pytest.fixture(scope="module")
def modules(kit: Path) -> Path:
    """A folder of compiled stubs, and of AffectCore."""
    folder = kit.parent / "modules"
    folder.mkdir()
    sources = {name: [STUBS / f"{name}.swift"] for name in MODULES}
    sources["AffectCore"] = [*sorted((kit / "Sources/AffectCore").glob("*.swift")), STUBS / "BundleModule.swift"]
    for name, files in sources.items():
        compiled = compile_swift(files, folder, "-emit-module", "-o", folder / f"{name}.swiftmodule", name=name)
        assert compiled.returncode == 0, compiled.stderr
    return folder


def compile_swift(files: list[Path], modules: Path, *options: object, name: str) -> subprocess.CompletedProcess[str]:
    flags = ["-swift-version", "5", "-strict-concurrency=complete", "-warnings-as-errors", "-parse-as-library"]
    command = ["swiftc", *flags, "-module-name", name, "-I", modules, *options, *files]
    return subprocess.run([*map(str, command)], capture_output=True, text=True)


def check_reader(folder: Path, modules: Path) -> subprocess.CompletedProcess[str]:
    files = [*sorted(folder.glob("*.swift")), STUBS / "BundleModule.swift"]
    # A module is made since only that looks for data races.
    return compile_swift(files, modules, "-emit-module", "-o", modules / f"{NAME}.swiftmodule", name=NAME)


def test_every_golden_vector_is_met(kit: Path) -> None:
    done = subprocess.run(["swift", "test"], cwd=kit, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    tests = sum(file.read_text().count("func test") for file in (kit / "Tests/AffectCoreTests").glob("*.swift"))
    executed = re.findall(r"Executed (\d+) tests, with 0 failures", done.stdout + done.stderr)
    assert str(tests) in executed, done.stdout + done.stderr


def test_swift_digests_the_package_as_the_kit_names_it(kit: Path, tmp_path: Path) -> None:
    code = (kit / "Sources/AffectCore/PackageContent.swift").read_text()
    code += "FileHandle.standardOutput.write(try packageContent(at: URL(fileURLWithPath: CommandLine.arguments[1])))\n"
    (tmp_path / "digest.swift").write_text(code)
    done = subprocess.run(["swift", str(tmp_path / "digest.swift"), str(kit / PACKAGE)], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert f'sha256 = "{hashlib.sha256(done.stdout).hexdigest()}"' in (kit / FACTS).read_text()


def test_the_reader_calls_apples_frameworks_by_their_types(kit: Path, modules: Path) -> None:
    checked = check_reader(kit / "Sources/PocketAffectKit", modules)
    assert checked.returncode == 0, checked.stderr
    tests = [*(kit / "Tests/PocketAffectKitTests").glob("*.swift")]
    checked = compile_swift(tests, modules, "-typecheck", name="PredictionTests")
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("file", "right", "wrong", "said"),
    [
        ("AffectReader", "try handler.perform", "handler.perform", "not marked with 'try'"),
        ("AffectReader", "pixelBuffer: input", "buffer: input", "incorrect argument label"),
        ("CompiledPackage", "try await MLModel.compileModel", "try MLModel.compileModel", "not marked with 'await'"),
    ],
)
def test_a_wrong_call_would_be_found(
    kit: Path, modules: Path, tmp_path: Path, file: str, right: str, wrong: str, said: str
) -> None:
    folder = shutil.copytree(kit / "Sources/PocketAffectKit", tmp_path / "reader")
    source = folder / f"{file}.swift"
    assert right in source.read_text()
    source.write_text(source.read_text().replace(right, wrong))
    checked = check_reader(folder, modules)
    assert checked.returncode != 0
    assert said in checked.stderr


def test_the_example_is_swift(kit: Path) -> None:
    files = [*map(str, (kit / "Example").rglob("*.swift"))]
    assert files
    parsed = subprocess.run(["swiftc", "-frontend", "-parse", *files], capture_output=True, text=True)
    assert parsed.returncode == 0, parsed.stderr
