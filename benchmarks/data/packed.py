"""What DVC takes for a data set that `pocketaffect data pack` packed, beside the same files loose.

    .venv/bin/python benchmarks/data/packed.py [--images 450000] [--compared 50000] [--bytes 2048]

Makes two data sets of files that start like JPEGs (nothing decodes them here): `--images` in one tar, and `--compared`
loose. Packs both. For each of the packed ones, the loose one, and a single small file (what DVC takes by itself): a
scratch repository with this project's dvc.yaml, its stages' commands replaced by ones that only write the declared
outputs, and a data.dvc as `pocketaffect data use` writes it. There: seconds of `dvc add`, of the import that
`dvc repro` begins with, and the median of five `dvc repro` with nothing to do, in seconds and in CPU seconds, which
tell more on a shared machine. Parts are made as many as a real set of that many images has (AffectNet's take about
150 KB each, parts 1 GiB). Takes about a quarter of an hour and, with the defaults, 8 GB.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import platform
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

REPOSITORY = Path(__file__).resolve().parent.parent.parent
IMAGES = "Manually_Annotated_Images"
HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal\n"
REAL_IMAGE_BYTES = 150_000
REPEATS = 5


class Result(NamedTuple):
    """One row of the table; seconds."""

    name: str
    files: int
    megabytes: float
    add: float
    imported: float
    idle: float
    idle_cpu: float
    idle_all: list[float]


def main() -> None:
    """Prints the table."""
    arguments = _parse()
    with tempfile.TemporaryDirectory(prefix="pocketaffect-packed-", dir=arguments.scratch) as folder:
        scratch = Path(folder)
        # DVC's caches of its own: nothing of an earlier run, and nothing left of this one.
        os.environ |= {"DVC_SITE_CACHE_DIR": f"{scratch}/state", "DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1"}
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        _say(f"making {arguments.compared:,} loose files")
        loose, tarred = scratch / "loose", scratch / "tarred"
        write_loose(loose, arguments.compared, arguments.bytes)
        _say(f"making {arguments.images:,} files in one tar")
        write_tarred(tarred, arguments.images, arguments.bytes)
        small, large = scratch / "small", scratch / "large"
        seconds = {target.name: pack_parts(source, target) for source, target in ((loose, small), (tarred, large))}
        shutil.rmtree(tarred)
        one = scratch / "one"
        one.mkdir()
        (one / "file").write_text("small")
        results = []
        for name, data in (
            ("one small file", one),
            (f"{arguments.compared:,} images, loose", loose),
            (f"{arguments.compared:,} images, packed", small),
            (f"{arguments.images:,} images, packed", large),
        ):
            _say(name)
            results.append(measure(name, data, scratch / "work"))
            shutil.rmtree(data)
    print_results(results, seconds, arguments)


def write_loose(folder: Path, count: int, length: int) -> None:
    """AffectNet's CSV release as a tree of files."""
    for path, content in _make_files(count, length):
        file = folder / path
        if not file.parent.exists():
            file.parent.mkdir(parents=True)
        file.write_bytes(content)


def write_tarred(folder: Path, count: int, length: int) -> None:
    """The same, in one tar."""
    folder.mkdir()
    with tarfile.open(folder / "AffectNet.tar", "w") as tar:
        for path, content in _make_files(count, length):
            member = tarfile.TarInfo(f"AffectNet/{path}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            tar.members = []  # they would only take memory


def _make_files(count: int, length: int) -> Iterator[tuple[str, bytes]]:
    generator = random.Random(count)
    names = [f"{number % 1000}/{hashlib.sha224(str(number).encode()).hexdigest()}.jpg" for number in range(count)]
    for name in names:
        yield f"{IMAGES}/{name}", b"\xff\xd8\xff\xe0\x00\x10JFIF" + generator.randbytes(length - 10)
    rows = [f"{name},5,5,90,90,,{number % 8},0.1,0.2\n" for number, name in enumerate(names)]
    cut = max(1, count // 100)
    yield "training.csv", (HEADER + "".join(rows[cut:])).encode()
    yield "validation.csv", (HEADER + "".join(rows[:cut])).encode()


def pack_parts(source: Path, target: Path) -> float:
    """Seconds of packing into as many parts as images of AffectNet's size would fill."""
    from pocketaffect.data.packing.pack import PART_BYTES, pack
    from pocketaffect.data.release.folder import DataFolder

    folder = DataFolder.open(source)
    names = folder.names(f"{IMAGES}/")
    length = (
        (source / folder.top / names[0]).stat().st_size if not folder.archives else folder.members["length"][0].as_py()
    )
    parts = max(1, round(len(names) * REAL_IMAGE_BYTES / PART_BYTES))
    _say(f"packing {len(names):,} files")
    start = time.monotonic()
    pack(source, target, part_bytes=len(names) * (length + 1024) // parts)
    return time.monotonic() - start


def measure(name: str, data: Path, work: Path) -> Result:
    """`dvc add`, the import and the idle run on one data set."""
    files = [file for file in data.rglob("*") if file.is_file()]
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    with _repository(work / "add") as dvc:
        subprocess.run(["cp", "-r", str(data), str(work / "add/data")], check=True)
        add = _time(lambda: dvc("add", "--quiet", "data"))
    with _repository(work / "pipeline") as dvc:
        write_pipeline(work / "pipeline", data)
        imported = _time(lambda: dvc("repro", "--quiet", "data.dvc"))
        dvc("repro", "--quiet")
        before = _children_seconds()
        idle = [_time(lambda: dvc("repro")) for _ in range(REPEATS)]
        cpu = (_children_seconds() - before) / REPEATS
        done = subprocess.run(
            ["dvc", "status", "dvc.yaml"], cwd=work / "pipeline", capture_output=True, text=True, check=True
        )
        assert "up to date" in done.stdout, done.stdout
    return Result(name, len(files), megabytes, add, imported, statistics.median(idle), cpu, idle)


class _repository:  # noqa: N801  reads like a function in its `with`
    """A scratch repository; gives a function that runs dvc in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __enter__(self) -> Callable[..., None]:
        self.root.mkdir(parents=True)
        for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
            subprocess.run(command, cwd=self.root, check=True)

        def dvc(*command: str) -> None:
            subprocess.run(["dvc", *command], cwd=self.root, check=True, stdout=subprocess.DEVNULL)

        return dvc

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.root)


def write_pipeline(root: Path, data: Path) -> None:
    """This project's stages with all that they depend on; each command only writes what the stage declares."""
    yaml = YAML()
    content = yaml.load(REPOSITORY / "dvc.yaml")
    for stage in content["stages"].values():
        stage["cmd"] = " && ".join(
            f"mkdir -p {Path(out).parent} && touch {out}" if Path(out).suffix else f"mkdir -p {out} && touch {out}/file"
            for out in _outputs(stage)
        )
    yaml.dump({"stages": content["stages"]}, root / "dvc.yaml")
    for name in ("src", "pipelines"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(REPOSITORY / "params.yaml", root / "params.yaml")
    (root / "data.dvc").write_text(f"deps:\n- path: {data}\nouts:\n- path: data\n")


def _outputs(stage: dict[str, Any]) -> list[str]:
    declared = [out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    return [out if isinstance(out, str) else next(iter(out)) for out in declared]


def print_results(results: list[Result], seconds: dict[str, float], arguments: argparse.Namespace) -> None:
    """The table, and where it was made."""
    commit = subprocess.run(
        ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    stages = len(YAML(typ="safe").load(REPOSITORY / "dvc.yaml")["stages"])
    print(f"\n{datetime.now(UTC):%Y-%m-%d}, commit {commit.stdout.strip()}, {_processor()}, {os.cpu_count()} cores,")
    print(f"load {os.getloadavg()[2]:.1f} in the last quarter of an hour; {stages} stages; wanted: idle under 1.5 s;")
    print(f"packed {arguments.compared:,} loose files in {seconds['small']:.0f} s, ", end="")
    print(f"{arguments.images:,} from one tar in {seconds['large']:.0f} s\n")
    print("| data | files | MB | `dvc add` | import by `dvc repro` | idle `dvc repro`, median | its CPU | all five |")
    print("|---|---|---|---|---|---|---|---|")
    for row in results:
        idle = " ".join(f"{value:.2f}" for value in row.idle_all)
        print(
            f"| {row.name} | {row.files:,} | {row.megabytes:,.0f} | {row.add:.1f} s | {row.imported:.1f} s "
            f"| {row.idle:.2f} s | {row.idle_cpu:.2f} s | {idle} |"
        )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _time(call: Callable[[], None]) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _say(what: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {what}", file=sys.stderr, flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=450_000, help="packed images of the idle run")
    parser.add_argument("--compared", type=int, default=50_000, help="images to compare, loose and packed")
    parser.add_argument("--bytes", type=int, default=2048, help="length of each")
    parser.add_argument("--scratch", type=Path, help="where to put it all; the system's temporary folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
