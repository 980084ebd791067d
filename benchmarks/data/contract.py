"""The data contract at AffectNet's size: seconds and peak memory, beside the same rules in plain pandas.

    .venv/bin/python benchmarks/data/contract.py [--rows 10000 450000 1000000]

Lists in AffectNet's CSV layout are made up (136 landmark numbers a row, one row in a hundred with a fault, one in five
hundred a near-duplicate) and read by `layouts.read_annotations`; no image is opened: what probing finds is made up too.
Each size and each way runs in a fresh process. Peak memory is the whole process's, reading included. The two ways must
find the same rows, or the benchmark fails. benchmarks/LABBOOK.md holds the results.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pocketaffect.data.faces.probe import Probes
    from pocketaffect.data.release.layouts import Annotations

Found = TypeVar("Found")

VALIDATION_SHARE = 0.01
HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal\n"
BOX = "53,61,260,260"
FAULTS = (
    # path, box, expression, valence, arousal
    ("../{path}", BOX, 1, "0.5", "0.1"),
    ("{path}", "53,61,0,260", 1, "0.5", "0.1"),
    ("{path}", "900,61,260,260", 1, "0.5", "0.1"),
    ("{path}", BOX, 42, "0.5", "0.1"),
    ("{path}", BOX, "happy", "0.5", "0.1"),
    ("{path}", BOX, 1, "1.5", "0.1"),
    ("{path}", BOX, 1, "nan", "0.1"),
    ("{path}", BOX, 1, "0.5", "-2"),
    ("1/{same:0>56}.jpg", BOX, 1, "0.5", "0.1"),
    ("{path}", BOX, 10, "-2", "-2"),
)
PLAUSIBLE = ((0, 0), (0.6, 0.1), (-0.6, -0.3), (0.2, 0.7), (-0.1, 0.7), (-0.6, 0.5), (-0.4, 0.6), (-0.5, 0.6))


def main() -> None:
    """Prints the table."""
    arguments = _parse()
    if arguments.way:
        print(json.dumps({"pocketaffect": measure_ours, "pandas": measure_pandas}[arguments.way](arguments.folder)))
        return
    rows = []
    for count in arguments.rows:
        with tempfile.TemporaryDirectory(prefix="pocketaffect-contract-", dir=arguments.scratch) as scratch:
            write_lists(Path(scratch), count)
            size = sum(file.stat().st_size for file in Path(scratch).iterdir())
            ours, pandas = (run_fresh(way, scratch) for way in ("pocketaffect", "pandas"))
        if ours.pop("found") != pandas.pop("found"):
            sys.exit(f"{count:,} rows: the two ways found different rows")
        rows.append((count, size, ours, pandas))
    cores = os.cpu_count()
    print(f"{platform.processor() or platform.machine()}, {cores} cores, Python {platform.python_version()}; ", end="")
    print(f"load average {os.getloadavg()[0]:.1f} at the end\n")
    print("Seconds on the clock (of the processor). The import of Great Expectations is apart from checking.\n")
    print(
        "| rows | lists | way | reading | import | checking | of it near-duplicates | peak after reading | peak |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for count, size, *ways in rows:
        for name, result in zip(("pocketaffect", "plain pandas, no near-duplicates"), ways, strict=True):
            seconds = [_seconds(result.get(part)) for part in ("reading", "import", "checking", "near_duplicates")]
            cells = [f"{count:,}", f"{size / 1e6:,.0f} MB", name, *seconds]
            cells += [f"{result[peak]:,.0f} MB" for peak in ("peak_reading", "peak")]
            print("| " + " | ".join(cells) + " |")


def _seconds(found: list[float] | None) -> str:
    return "" if found is None else f"{found[0]:.1f} s ({found[1]:.1f})"


def run_fresh(way: str, folder: str) -> dict[str, Any]:
    """One way in a process of its own, with one thread."""
    command = [sys.executable, __file__, "--way", way, "--folder", folder]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def write_lists(folder: Path, count: int) -> None:
    """training.csv and validation.csv, together `count` rows."""
    import numpy as np

    generator = np.random.default_rng(count)
    landmarks = [";".join(f"{value:.2f}" for value in generator.uniform(50, 310, 136)) for _ in range(512)]
    first = count - max(8, int(count * VALIDATION_SHARE))
    for name, numbers in (("training", range(first)), ("validation", range(first, count))):
        with (folder / f"{name}.csv").open("w", encoding="ascii") as stream:
            stream.write(HEADER)
            for start in range(numbers.start, numbers.stop, 10_000):
                block = range(start, min(start + 10_000, numbers.stop))
                noise = generator.normal(0, 0.1, (len(block), 2)).round(4)
                stream.writelines(
                    _line(number, landmarks[number % 512], *shift) for number, shift in zip(block, noise, strict=True)
                )


def _line(number: int, landmarks: str, valence: float, arousal: float) -> str:
    path = f"{number % 1300}/{number:0>56}.jpg"
    if number % 100 == 50:
        listed, box, expression, *affect = FAULTS[number // 100 % len(FAULTS)]
        listed = listed.format(path=path, same=number - number % 1300 + 1 if number > 1300 else 1)
        return f"{listed},{box},{landmarks},{expression},{affect[0]},{affect[1]}\n"
    middle = PLAUSIBLE[number % 8]
    affect = [min(1, max(-1, round(mean + shift, 4))) for mean, shift in zip(middle, (valence, arousal), strict=True)]
    return f"{path},{BOX},{landmarks},{number % 8},{affect[0]},{affect[1]}\n"


def read(folder: Path) -> Annotations:
    """All rows."""
    from pocketaffect.data.release.folder import DataFolder
    from pocketaffect.data.release.layouts import read_annotations

    return read_annotations(DataFolder.open(folder))


def make_probes(count: int) -> Probes:
    """What looking at the images might have found: sizes, one missing file in a thousand, hashes."""
    import numpy as np

    from pocketaffect.data.faces.probe import Probes

    generator = np.random.default_rng(count)
    problem = np.full(count, "", dtype=object)
    problem[77::1000] = "no such file"
    width = generator.integers(300, 700, count).astype(np.int32)
    height = generator.integers(330, 700, count).astype(np.int32)
    width[problem != ""] = height[problem != ""] = 0
    hashes = generator.integers(0, 2**64, (count, 4), dtype=np.uint64)
    copies = np.arange(500, count, 500)
    hashes[copies] = hashes[copies - 500] ^ np.array([1, 0, 0, 1 << 40], dtype=np.uint64)
    return Probes(problem, width, height, hashes)


def measure_ours(folder: Path) -> dict[str, Any]:
    """Reading and `check_contract`."""
    result: dict[str, Any] = {}
    annotations = _time(result, "reading", lambda: read(folder))
    result["peak_reading"] = _peak()
    probes = make_probes(len(annotations.rows))
    _time(result, "import", _import_great_expectations)

    from pocketaffect.config import ValidateParams
    from pocketaffect.data.contract import check as contract

    limits = ValidateParams(
        max_quarantine_fraction=1,
        min_validation_per_class=0,
        near_duplicate_distance=4,
        profile="none",
        max_drift=0.05,
    )

    def find(*arguments: Any, **settings: Any) -> Any:
        return _time(result, "near_duplicates", lambda: search(*arguments, **settings))

    search = contract.find_near_duplicates
    contract.find_near_duplicates = find  # to time it where it is used, without holding its results twice
    outcome = _time(
        result,
        "checking",
        lambda: contract.check_contract(annotations, probes, limits, None),
    )
    result["peak"] = _peak()
    result["found"] = {
        count.name: count.broken for count in outcome.counts if "duplicate" not in count.name and count.broken
    } | {"quarantine": len(outcome.quarantine)}
    return result


def measure_pandas(folder: Path) -> dict[str, Any]:
    """Reading and the same rules, as one would write them in pandas."""
    result: dict[str, Any] = {}
    annotations = _time(result, "reading", lambda: read(folder))
    result["peak_reading"] = _peak()
    probes = make_probes(len(annotations.rows))
    broken, quarantined = _time(result, "checking", lambda: check_in_pandas(annotations, probes))
    result["peak"] = _peak()
    result["found"] = {name: count for name, count in broken.items() if count} | {"quarantine": quarantined}
    return result


def check_in_pandas(annotations: Annotations, probes: Probes) -> tuple[dict[str, int], int]:
    """Rows that break each rule, rows in quarantine."""
    import numpy as np
    import pandas as pd

    from pocketaffect.data.contract.rules import VA_REGIONS
    from pocketaffect.labels import EXPRESSIONS

    rows = annotations.rows.assign(problem=probes.problem, width=probes.width, height=probes.height)
    listed, box = rows["listed_path"], rows["box_given"]
    beside = listed.str.contains(r"^[/\\]|(?:^|[/\\])\.\.(?:[/\\]|$)|^.:|\x00|(?:^|[/\\])[.?]?$", regex=True)
    unread = (rows["problem"] != "") & ~beside
    small = (rows[["width", "height"]].min(axis=1) < 24) & (rows["problem"] == "")
    is_box = np.isfinite(rows[["face_x", "face_y", "face_width", "face_height"]]).all(axis=1)
    is_box &= (rows["face_width"] > 0) & (rows["face_height"] > 0)
    right, bottom = rows["face_x"] + rows["face_width"], rows["face_y"] + rows["face_height"]
    across = (np.minimum(right, rows["width"]) - rows["face_x"].clip(lower=0)).clip(lower=0)
    down = (np.minimum(bottom, rows["height"]) - rows["face_y"].clip(lower=0)).clip(lower=0)
    overlap = across / rows["face_width"] * down / rows["face_height"]
    no_va = (rows["valence"] == -2) & (rows["arousal"] == -2)
    broken = {
        "path_inside_folder": beside,
        "image_readable": unread,
        "image_large_enough": small,
        "box_on_image": box & (~is_box | ((overlap < 0.5) & (rows["problem"] == ""))),
        "landmarks_complete": ~rows["landmark_count"].isin([0, 136]),
        "expression_known": ~rows["expression"].isin(range(11)),
        "valence_in_range": ~(rows["valence"].between(-1, 1) | no_va),
        "arousal_in_range": ~(rows["arousal"].between(-1, 1) | no_va),
    }
    flags = pd.DataFrame(broken)
    quarantine = [rows[flags.any(axis=1)].assign(rule=flags.idxmax(axis=1))]
    sound = rows[~flags.any(axis=1)]
    held = sound.loc[sound["split"] == "validation", "path"]
    later = {
        "path_in_one_split": (sound["split"] == "train") & sound["path"].isin(held),
        "path_unique": sound.duplicated(["split", "path"]),
    }
    flags = pd.DataFrame(later)
    quarantine.append(sound[flags.any(axis=1)].assign(rule=flags.idxmax(axis=1)))
    sound = sound[~flags.any(axis=1)]
    away = {
        "non_face": sound["expression"] == 10,
        "no_label": (sound["expression"] > 7) & no_va.loc[sound.index],
    }
    sound = sound[~pd.DataFrame(away).any(axis=1)]
    odd = pd.Series(data=False, index=sound.index)
    for code, name in enumerate(EXPRESSIONS):
        chosen = sound[(sound["expression"] == code) & ~no_va.loc[sound.index]]
        region = VA_REGIONS[name]
        for column, (low, high) in (("valence", region.valence), ("arousal", region.arousal)):
            outside = (chosen[column] < (-1 if low is None else low)) | (chosen[column] > (1 if high is None else high))
            odd.loc[chosen.index] |= outside | (region.above & (column == "valence") & (chosen[column] == low))
    counts = {name: int(flag.sum()) for name, flag in (broken | later | away | {"va_plausible": odd}).items()}
    return counts, len(pd.concat(quarantine, ignore_index=True).sort_values(["list", "line"]))


def _import_great_expectations() -> None:
    import great_expectations
    import great_expectations.expectations

    assert great_expectations.expectations


def _time(result: dict[str, Any], name: str, action: Callable[[], Found]) -> Found:
    clock, processor = time.perf_counter(), time.process_time()
    found = action()
    result[name] = [time.perf_counter() - clock, time.process_time() - processor]
    return found


def _peak() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 450_000, 1_000_000])
    parser.add_argument("--scratch", type=Path, help="where the lists are written: 1.1 GB at a million rows")
    parser.add_argument("--way", choices=("pocketaffect", "pandas"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
