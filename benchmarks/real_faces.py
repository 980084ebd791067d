"""The main job on a data set of yours, beside a HOG baseline on the same faces, in one run.

    .venv/bin/python benchmarks/real_faces.py PATH [--set model.width=0.5 …]

clones this repository's HEAD into a scratch folder, points the clone at PATH (a folder in AffectNet's CSV layout),
runs `dvc repro` there, executes the shipped package over the validation split, fits the baseline on the same
shards, and prints one table. benchmarks/LABBOOK.md holds the results.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

if TYPE_CHECKING:
    from pocketaffect.data.shards.split import Split
    from pocketaffect.evaluation.tables import Labels, Predictions

REPOSITORY = Path(__file__).resolve().parent.parent
COLUMNS = ("accuracy", "balanced_accuracy", "macro_f1", "rmse_valence", "rmse_arousal", "ccc_valence", "ccc_arousal")


def main() -> None:
    """Prints the table."""
    arguments = _parse()
    with tempfile.TemporaryDirectory(prefix="pocketaffect-benchmark-") as scratch:
        clone = Path(scratch) / "clone"
        minutes = run_pipeline(clone, arguments.path.resolve(), dict(arguments.set))
        rows = measure(clone)
    commit = subprocess.run(
        ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    print(f"\ncommit {commit.stdout.strip()}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores,")
    print(
        f"one training thread; `dvc repro` took {minutes:.1f} minutes; settings {dict(arguments.set) or 'as shipped'}\n"
    )
    print("| row | bytes | " + " | ".join(name.replace("_", " ") for name in COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for name, size, metrics in rows:
        cells = [f"{metrics[column]:.3f}" if column in metrics else "" for column in COLUMNS]
        print(f"| {name} | {size} | " + " | ".join(cells) + " |")


def run_pipeline(clone: Path, data: Path, settings: dict[str, Any], *, until: str = "register") -> float:
    """Clones, points at `data`, changes params.yaml, repeats the pipeline up to a stage; the minutes of `dvc repro`."""
    binaries = str(Path(sys.executable).parent)
    environment = {**os.environ, "PYTHONPATH": str(clone / "src"), "PATH": f"{binaries}:{os.environ['PATH']}"}

    def run(*command: str) -> None:
        subprocess.run(command, cwd=clone, env=environment, check=True, stdout=sys.stderr)

    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
    yaml = YAML()
    params = yaml.load(clone / "params.yaml")
    for key, value in settings.items():
        section = params
        *parents, name = key.split(".")
        for parent in parents:
            section = section[parent]
        section[name] = value
    yaml.dump(params, clone / "params.yaml")
    run("pocketaffect", "data", "use", str(data))
    start = time.monotonic()
    run("dvc", "repro", until)
    return (time.monotonic() - start) / 60


def measure(clone: Path) -> list[tuple[str, str, dict[str, float]]]:
    """(name, bytes, metrics) of the shipped file, its floor rows and the baseline."""
    from pocketaffect import paths
    from pocketaffect.data.shards.split import open_split
    from pocketaffect.evaluation.evaluate import evaluate_predictions
    from pocketaffect.evaluation.tables import Labels, Predictions
    from pocketaffect.labels import PROBABILITIES, VALENCE_AROUSAL_OUTPUT
    from pocketaffect.mlpackage.package import package_bytes
    from pocketaffect.mlpackage.program import load_program

    train, validation = (open_split(clone / paths.SHARDS, split) for split in ("train", "validation"))
    known = Labels(train.expression, train.valence_arousal)
    truth = Labels(validation.expression, validation.valence_arousal)
    package = clone / paths.PACKAGE
    outputs = load_program(package).predict(validation.images())
    shipped = Predictions(outputs[PROBABILITIES], outputs[VALENCE_AROUSAL_OUTPUT])
    ours = evaluate_predictions(shipped, truth, known)
    baseline = evaluate_predictions(fit_baseline(train, known, validation), truth, known)
    return [
        ("HOG + logistic regression, ridge", "", baseline.metrics),
        *((f"floor: {name.replace('_', ' ')}", "", row) for name, row in ours.floors.items()),
        ("ours, shipped file (interpreter)", f"{package_bytes(package):,}", ours.metrics),
    ]


def fit_baseline(train: Split, known: Labels, validation: Split) -> Predictions:
    """Histograms of oriented gradients into balanced logistic regression and ridge regression."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from pocketaffect.evaluation.tables import Predictions

    features, wanted = _describe(train), _describe(validation)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=300))
    classifier.fit(features[known.has_expression], known.expression[known.has_expression])
    regressor = make_pipeline(StandardScaler(), Ridge(alpha=1000.0))
    regressor.fit(features[known.has_valence_arousal], known.valence_arousal[known.has_valence_arousal])
    return Predictions(
        classifier.predict_proba(wanted).astype(np.float32), regressor.predict(wanted).astype(np.float32)
    )


def _describe(split: Split) -> Any:
    import cv2
    import numpy as np
    from skimage.feature import hog

    side = 48
    greys = (cv2.resize(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), (side, side)) for face in split.images())
    return np.stack([hog(grey, 8, pixels_per_cell=(8, 8), cells_per_block=(2, 2)) for grey in greys])


def _parse() -> argparse.Namespace:
    def setting(text: str) -> tuple[str, Any]:
        key, _, value = text.partition("=")
        return key, YAML(typ="safe").load(value)

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--set", type=setting, nargs="*", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
