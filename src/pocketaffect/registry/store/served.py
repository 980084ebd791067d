"""The shipped model behind `mlflow.pyfunc`: this file is copied beside it, and stands on its own.

It needs onnxruntime, NumPy, pandas and Pillow alone. Where the version has no ONNX twin, the package itself is
executed by pocketaffect's interpreter, which must then be installed.

A request is a table with one column `image`: the bytes of a JPEG or PNG file, a square around a face (in JSON:
base64). The answer has a row for each: the likeliest expression, the eight probabilities, valence and arousal.
"""

import base64
import binascii
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

FACTS = "served.json"
MOST_OBLONG = 1.1
"""Longer side of a picture that still counts as a square, by the shorter one: a few pixels off do no harm."""


class Served:
    """The opened model, with the `predict` that MLflow calls."""

    def __init__(self, folder: Path) -> None:
        self.facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        name = self.facts["file"]
        for form, sha256 in self.facts["forms"].items():
            if form == name or (folder / form).exists():  # a deployment may leave out what it does not execute
                _check(folder / form, sha256)
        self._answer, self.size = _open_twin(folder / name) if name.endswith(".onnx") else _open_package(folder / name)

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:  # noqa: ARG002  MLflow asks for it
        """A pandas table with the column `image` to one with expression, probabilities, valence and arousal."""
        import pandas as pd

        images = list(model_input["image"])
        if not images:
            raise _refusal("no rows", "a row for each picture")
        faces = np.stack([self._decode(image, f"image in row {row}") for row, image in enumerate(images)])
        probabilities, affect = self._answer(faces)
        labels = self.facts["labels"]
        columns = {"expression": [labels[index] for index in probabilities.argmax(axis=1)]}
        columns |= {f"p_{name}": probabilities[:, index] for index, name in enumerate(labels)}
        columns |= {"valence": affect[:, 0], "arousal": affect[:, 1]}
        return pd.DataFrame(columns)

    def _decode(self, image: Any, place: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        from PIL import Image, ImageOps, UnidentifiedImageError

        allowed = "the bytes of a JPEG or PNG file; in JSON: as base64"
        if not isinstance(image, str | bytes):
            raise _refusal(f"{place}: {type(image).__name__}", allowed)
        try:
            content = base64.b64decode("".join(image.split()), validate=True) if isinstance(image, str) else image
            with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as opened:
                upright = ImageOps.exif_transpose(opened).convert("RGB")
        except binascii.Error as error:
            raise _refusal(f"{place}: not base64 ({error})", allowed) from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            why = "" if isinstance(error, UnidentifiedImageError) else f" that can be read ({error})"
            raise _refusal(f"{place}: neither a JPEG nor a PNG file{why}", allowed) from None
        width, height = upright.size
        if max(width, height) > MOST_OBLONG * min(width, height):
            raise _refusal(f"{place}: {width} x {height} px", "a square around one face")
        if upright.size != (self.size, self.size):
            upright = upright.resize((self.size, self.size), Image.Resampling.BOX)
        return np.asarray(upright, dtype=np.uint8)


def _refusal(found: str, allowed: str) -> Exception:
    """An error that MLflow's server answers with status 400 and this text; other ones it answers with a stack trace."""
    from mlflow.exceptions import MlflowException

    refusal: Exception = MlflowException.invalid_parameter_value(f"{found}; allowed: {allowed}")
    return refusal


def _load_pyfunc(path: str) -> Served:
    """What MLflow calls with the model's folder."""
    return Served(Path(path))


def _check(place: Path, sha256: str) -> None:
    found = hashlib.sha256(b"".join(_content(place))).hexdigest()
    if found != sha256:
        raise ValueError(
            f"{place}: not the file that was registered\n"
            f"  found:   SHA-256 {found}\n  allowed: {sha256}\n"
            "  do:      restore the store's artifacts from a backup"
        )


def _content(place: Path) -> list[bytes]:
    """A file's bytes; of a folder names, lengths and bytes, as `mlpackage.package.package_digest` hashes them."""
    if not place.is_dir():
        return [place.read_bytes()]
    parts = []
    files = {one.relative_to(place).as_posix(): one for one in place.rglob("*") if one.is_file()}
    for name, file in sorted(files.items()):
        content = file.read_bytes()
        parts += [f"{name}\0{len(content)}\0".encode(), content]
    return parts


def _open_twin(file: Path) -> tuple[Any, int]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]

    def answer(faces: np.ndarray[Any, np.dtype[np.uint8]]) -> Any:
        planes = np.ascontiguousarray(faces.transpose(0, 3, 1, 2), dtype=np.float32)
        return session.run(["probabilities", "valence_arousal"], {image.name: planes})

    return answer, int(image.shape[-1])


def _open_package(package: Path) -> tuple[Any, int]:
    from pocketaffect.export.measure import load_affect_program, predict_program

    program = load_affect_program(package)

    def answer(faces: np.ndarray[Any, np.dtype[np.uint8]]) -> Any:
        predictions = predict_program(program, faces)
        return predictions.probabilities, predictions.valence_arousal

    return answer, program.size
