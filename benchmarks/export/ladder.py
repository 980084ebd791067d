"""Bytes, metrics and agreement of each precision: the paper's three networks and two phones' ones, on your data.

    nice -n 10 .venv/bin/python benchmarks/export/ladder.py PATH --work FOLDER [--size 48] [--faces 512]

clones this repository's HEAD into FOLDER, points the clone at PATH (a folder in AffectNet's CSV layout) and runs `dvc
repro preprocess` there, trains the five networks one after another, makes a package of each in every precision,
executes the file over faces of the validation split with the interpreter, and prints a table for each network. Two of
the networks also get the fine-tuned forms. FOLDER keeps shards, networks and rows: a run that was stopped goes on
where it was. With --trained, whatever trained networks lie in FOLDER/networks are measured, and no others.

The networks are narrow and trained for a few epochs, so that two cores do it within the hour: the table compares
precisions of one network, not networks.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pocketaffect import paths
from pocketaffect.arithmetic import pin_arithmetic

if TYPE_CHECKING:
    from pocketaffect.config import Params
    from pocketaffect.export.convert import Packages
    from pocketaffect.export.measure import Faces, Predictions
    from pocketaffect.export.verify import Verifier
    from pocketaffect.precisions import Precision

NETWORKS: Final = {
    "alexnet": (0.35, 5),
    "vgg": (0.35, 5),
    "mobilenet": (0.25, 16),
    "mobilenetv3_small": (0.35, 16),
    "mobilenetv4_conv_small": (0.25, 16),
}
"""Architecture to width and epochs: after 5 the depthwise ones had learnt next to nothing (CCC of valence .02 to .07),
which no precision can spoil."""
FINETUNED: Final = ("vgg", "mobilenet")
TUNED: Final = ("palette4", "palette2")
NEWEST: Final = "iOS18"


def main() -> None:
    """Prints the tables."""
    arguments = _parse()
    pin_arithmetic(threads=1, instructions="avx2")
    work: Path = arguments.work
    clone = work / "clone"
    if not (clone / paths.SHARDS).is_dir():
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        from real_faces import run_pipeline

        run_pipeline(clone, arguments.path.resolve(), {"preprocess.image_size": arguments.size}, until="preprocess")
    params = _recipe(clone, arguments.steps)
    folders = [] if arguments.trained else [train(name, *recipe, params, work) for name, recipe in NETWORKS.items()]
    for folder in sorted((work / "networks").iterdir()) if arguments.trained else folders:
        rows = work / "rows" / f"{folder.name}.json"
        if not rows.is_file():
            measure(folder, params, clone / paths.SHARDS, rows, arguments.faces)
        show(json.loads(rows.read_text(encoding="utf-8")))


def _recipe(clone: Path, steps: int) -> Params:
    from pocketaffect.config import load_params

    shipped = load_params(clone / "params.yaml")
    train = shipped.train.model_copy(update={"batch_size": 64, "learning_rate": 0.002, "class_weights": "effective"})
    export = shipped.export.model_copy(
        update={"deployment_target": NEWEST, "budget_bytes": 10**9, "finetune_steps": steps}
    )
    return shipped.model_copy(update={"train": train, "export": export})


def train(architecture: str, width: float, epochs: int, params: Params, work: Path) -> Path:
    """The folder of the trained network."""
    from pocketaffect.training.fit import train_network

    name = f"{architecture}-{width:g}-{epochs}"
    target = work / "networks" / name
    if not target.is_dir():
        model = params.model.model_copy(update={"architecture": architecture, "width": width, "dropout": 0.1})
        start = time.process_time()
        train_network(
            work / "clone" / paths.SHARDS,
            model,
            params.train.model_copy(update={"epochs": epochs}),
            work=work / "checkpoints" / name,
            target=target,
            progress=False,
        )
        print(f"{name}: trained in {time.process_time() - start:.0f} CPU s", file=sys.stderr, flush=True)
    return target


def measure(folder: Path, params: Params, shards: Path, rows: Path, count: int) -> None:
    """Makes and executes every package of a trained network; writes its rows."""
    from pocketaffect.data.shards.split import open_split
    from pocketaffect.export.convert import PackageDescription, Packages
    from pocketaffect.export.finetune import finetune_for_export
    from pocketaffect.export.layers import reparameterize
    from pocketaffect.export.measure import Faces, compare, predict_network
    from pocketaffect.export.verdict import describe_results
    from pocketaffect.export.verify import Verifier
    from pocketaffect.files import write_json
    from pocketaffect.models.network import count_parameters, load_network
    from pocketaffect.precisions import find_precision, readable_precisions

    network = load_network(folder)
    split = open_split(shards, "validation")
    faces = Faces(split.images(), split.expression, split.valence_arousal).thin_out(count)
    results = describe_results(None, images=len(faces.images))  # of fixed width: the bytes are the shipped file's
    words = PackageDescription("the authors", "Apache-2.0", "0", "The ladder of precisions.", results)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="pocketaffect-ladder-") as scratch:
        plain = Packages(reparameterize(network), network.spec.size, words, _below(scratch, "plain"))
        verifier = Verifier(plain.network, faces, params.export, trained=network)
        trained = predict_network(network, faces.images)
        found.append({"form": "PyTorch", **_metrics(trained, faces)})
        for precision in readable_precisions(NEWEST):
            found.append(_row(precision.name, precision, plain, verifier))
            print(f"{folder.name}: {found[-1]}", file=sys.stderr, flush=True)
        steps = params.export.finetune_steps
        for name in TUNED if steps and network.spec.architecture in FINETUNED else ():
            export = params.export.model_copy(update={"precision": name, "finetune": "dkm"})
            start = time.process_time()
            tuned = finetune_for_export(network, open_split(shards, "train"), export, params.train)
            seconds = time.process_time() - start
            packages = Packages(tuned, network.spec.size, words, _below(scratch, f"dkm-{name}"))
            judge = Verifier(tuned, faces, params.export, trained=network, tuned=True)
            row = _row(f"{name}, dkm", find_precision(name), packages, judge)
            # The gate holds the file to the fine-tuned network; what people ask is how it agrees with the trained one.
            row["agreement"] = compare(judge.execute(packages.make(find_precision(name)).path)[1], trained).agreement
            found.append({**row, "finetuned_cpu_seconds": round(seconds)})
            print(f"{folder.name}: {found[-1]}", file=sys.stderr, flush=True)
    spec = network.spec
    write_json(
        rows,
        {
            "network": f"{spec.architecture} x {spec.width:g}, {spec.size} px",
            "parameters": count_parameters(network),
            "faces": len(faces.images),
            "rows": found,
        },
    )


def _below(scratch: str, name: str) -> Path:
    folder = Path(scratch) / name
    folder.mkdir()
    return folder


def _row(form: str, precision: Precision, packages: Packages, verifier: Verifier) -> dict[str, Any]:
    package = packages.make(precision)
    verification = verifier.verify(package)
    return {
        "form": form,
        "target": precision.target,
        "bytes": package.bytes,
        **_metrics(verifier.execute(package.path)[1], verifier.faces),
        "agreement": verification.shipped.agreement,
        "mean_probability_difference": verification.shipped.mean_probability,
        "fails": [check.name for check in verification.checks if not check.passed],
    }


def _metrics(answers: Predictions, faces: Faces) -> dict[str, float]:
    from pocketaffect.evaluation.metrics import expression_metrics, valence_arousal_metrics

    return {
        **expression_metrics(answers.probabilities, faces.expression),
        **valence_arousal_metrics(answers.valence_arousal, faces.valence_arousal),
    }


def show(result: dict[str, Any]) -> None:
    """Prints one network's table."""
    print(f"\n**{result['network']}**, {result['parameters']:,} parameters, {result['faces']:,} faces\n")
    print("| form | from | bytes | accuracy | balanced | RMSE V / A | CCC V / A | agreement | mean dP | gate |")
    print("|---" * 10 + "|")
    for row in result["rows"]:
        quality = (
            f"{row['accuracy']:.3f} | {row['balanced_accuracy']:.3f} | {row['rmse_valence']:.3f} / "
            f"{row['rmse_arousal']:.3f} | {row['ccc_valence']:.3f} / {row['ccc_arousal']:.3f}"
        )
        if "bytes" in row:
            gate = "passes" if not row["fails"] else "refused"
            print(
                f"| {row['form']} | {row['target']} | {row['bytes']:,} | {quality} | {row['agreement']:.3f} | "
                f"{row['mean_probability_difference']:.4f} | {gate} |"
            )
        else:
            print(f"| {row['form']} | | | {quality} | | | |")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps what was made")
    parser.add_argument("--size", type=int, default=48, help="pixels a side")
    parser.add_argument("--faces", type=int, default=512, help="of the validation split that files are executed on")
    parser.add_argument("--trained", action="store_true", help="train nothing: measure what FOLDER/networks holds")
    parser.add_argument("--steps", type=int, default=100, help="of fine-tuning; 0: none")
    return parser.parse_args()


if __name__ == "__main__":
    main()
