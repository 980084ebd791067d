"""Opens and executes an ONNX twin, with neither torch nor the rest of `export`: what starts quickly starts here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import IMAGE, PROBABILITIES, VALENCE_AROUSAL_OUTPUT

if TYPE_CHECKING:
    import onnxruntime

_IMAGES_AT_ONCE: Final = 64


class Twin:
    """An executable twin, whose faces have `size` pixels a side, with what the file says about itself."""

    def __init__(self, session: onnxruntime.InferenceSession, size: int, metadata: dict[str, str]) -> None:
        self._session = session
        self.size = size
        self.metadata = metadata

    def predict(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Computes probabilities [n, 8] and valence-arousal [n, 2] of uint8 [n, size, size, 3], RGB."""
        names = (PROBABILITIES, VALENCE_AROUSAL_OUTPUT)
        parts: list[list[Any]] = []
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            chunk = images[start : start + _IMAGES_AT_ONCE].transpose(0, 3, 1, 2).astype(np.float32)
            parts.append(self._session.run(list(names), {IMAGE: np.ascontiguousarray(chunk)}))
        return {name: np.concatenate([part[place] for part in parts]) for place, name in enumerate(names)}


def load_twin(file: Path, *, threads: int = 1) -> Twin:
    """Opens an ONNX file that `forms.save_twin` wrote.

    Raises:
        PocketAffectError: No such file, no ONNX model, or one with other inputs and outputs.
    """
    import onnxruntime

    if not file.is_file():
        raise PocketAffectError(f"{file}: no such file", found="a folder" if file.is_dir() else None)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception types are not public
        raise PocketAffectError(f"{file}: not readable as ONNX", found=str(error).strip()[:200]) from None
    inputs = {value.name: value.shape for value in session.get_inputs()}
    outputs = {value.name for value in session.get_outputs()}
    if list(inputs) != [IMAGE] or len(inputs[IMAGE]) != 4 or outputs != {PROBABILITIES, VALENCE_AROUSAL_OUTPUT}:
        raise PocketAffectError(
            f"{file}: not a pocketaffect model",
            found=f"inputs {', '.join(inputs) or 'none'}; outputs {', '.join(sorted(outputs)) or 'none'}",
            allowed=f"{IMAGE} in; {PROBABILITIES} and {VALENCE_AROUSAL_OUTPUT} out",
        )
    return Twin(session, int(inputs[IMAGE][2]), dict(session.get_modelmeta().custom_metadata_map))
