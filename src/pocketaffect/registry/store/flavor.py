"""Makes a version's folder one that `mlflow.pyfunc` loads and `mlflow models serve` answers with, on any system."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

from pocketaffect.files import write_json
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.registry.store import served

CODE: Final = "code"
MODULE: Final = "pocketaffect_served"
"""The served model's name as a module of its own, beside whatever pocketaffect is installed."""

_NEEDED: Final = ("mlflow", "numpy", "onnxruntime", "pandas", "pillow")


def write_flavor(folder: Path, *, served_file: str, forms: Mapping[str, str]) -> None:
    """Writes MLflow's files beside the model.

    Args:
        folder: What becomes the version's model folder; an empty one of its own.
        served_file: Name in that folder of the ONNX twin, else of the package.
        forms: Name -> digest of each form of the model in that folder; loading holds them to it, whichever it executes.
    """
    from mlflow.models import Model, ModelSignature
    from mlflow.pyfunc import add_to_model
    from mlflow.types import ColSpec, Schema

    facts = {"file": served_file, "forms": dict(forms), "labels": list(EXPRESSIONS)}
    write_json(folder / served.FACTS, facts)
    (folder / CODE).mkdir()
    shutil.copyfile(served.__file__, folder / CODE / f"{MODULE}.py")
    lines = [f"{name}=={version(name)}" for name in _NEEDED]
    if not served_file.endswith(".onnx"):
        lines.append("pocketaffect")
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / "python_env.yaml").write_text("dependencies:\n- -r requirements.txt\n", encoding="utf-8")
    numbers = [*(f"p_{name}" for name in EXPRESSIONS), "valence", "arousal"]
    outputs = [ColSpec("string", "expression"), *(ColSpec("float", name) for name in numbers)]
    # Base64 or bytes. Of "binary" MLflow decodes base64 itself, from some forms of a request alone, and says less.
    inputs = Schema([ColSpec("string", "image")])
    model = Model(signature=ModelSignature(inputs, Schema([*outputs])))
    add_to_model(model, MODULE, code=CODE, python_env="python_env.yaml")  # type: ignore[no-untyped-call]
    model.save(str(folder / "MLmodel"))
