"""face-api's expression network for comparison: fetched from npm, read by NumPy, computed by PyTorch.

The package `@vladmandic/face-api` has 330 kB of 8-bit weights for 112 px and seven classes; contempt is not among them.
Its layers are those of the package's src/faceFeatureExtractor; `check` holds ours to the package's own answers.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
import torch
from torch.nn.functional import avg_pool2d, conv2d, pad, relu

from pocketaffect.labels import EXPRESSIONS

if TYPE_CHECKING:
    import numpy.typing as npt

    from pocketaffect.data.faces.images import RGB

PACKAGE: Final = "@vladmandic/face-api@1.7.15"
SIDE: Final = 112
MEANS: Final = (122.782, 117.001, 104.298)
CLASSES: Final = ("neutral", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
"""Our names for neutral, happy, sad, angry, fearful, disgusted and surprised, its order."""

MOST_DIFFERENCE: Final = 1e-4
OWN_ANSWERS: Final = """async ([weights, groups, faces, count, side]) => {
  const read = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  const { tf, FaceExpressionNet, NetInput } = faceapi;
  await tf.setBackend("cpu");
  await tf.ready();
  const network = new FaceExpressionNet();
  network.loadFromWeightMap(tf.io.decodeWeights(read(weights).buffer, groups.flatMap((group) => group.weights)));
  const pictures = tf.unstack(tf.tensor4d(read(faces), [count, side, side, 3], "int32"));
  return Array.from(network.forwardInput(new NetInput(pictures)).dataSync());
}"""


class FaceApi:
    """The network, ready to read faces.

    Args:
        folder: Where the package is, or is put by npm.
    """

    def __init__(self, folder: Path) -> None:
        self.package = folder / "package"
        if not self.package.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=sys.stderr)
            with tarfile.open(next(folder.glob("*.tgz"))) as archive:
                archive.extractall(folder, filter="data")
        self._content = (self.package / "model/face_expression_model.bin").read_bytes()
        manifest = self.package / "model/face_expression_model-weights_manifest.json"
        self._groups = json.loads(manifest.read_text(encoding="utf-8"))
        self._weights = _read_weights(self._groups, self._content)

    @property
    def bytes(self) -> int:
        """Bytes of the weights."""
        return len(self._content)

    def predict(self, faces: RGB) -> npt.NDArray[np.float32]:
        """Reads square faces, uint8 [n, side, side, 3] in RGB: float32 [n, 8] in our order, contempt always 0."""
        answers = np.zeros((len(faces), len(EXPRESSIONS)), np.float32)
        places = [EXPRESSIONS.index(name) for name in CLASSES]
        for start in range(0, len(faces), 256):
            rows = slice(start, start + 256)
            answers[rows, places] = self._compute(_enlarge(faces[rows])).numpy()
        return answers

    def check(self, faces: RGB) -> float:
        """Finds the largest difference from what the package itself answers, run in headless Chromium.

        Raises:
            SystemExit: It is more than MOST_DIFFERENCE.
        """
        sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "app"))
        from app_server import browsing

        pictures = _enlarge(faces)
        coded = [base64.b64encode(content).decode() for content in (self._content, pictures.tobytes())]
        with browsing(None) as browser:
            page = browser.new_page()
            page.add_script_tag(path=self.package / "dist/face-api.js")
            said = page.evaluate(OWN_ANSWERS, [coded[0], self._groups, coded[1], len(pictures), SIDE])
        theirs = np.array(said).reshape(-1, len(CLASSES))
        difference = float(np.abs(self._compute(pictures).numpy() - theirs).max())
        if difference > MOST_DIFFERENCE:
            raise SystemExit(f"our form of face-api's network differs from its own answers by {difference:.2g}")
        return difference

    @torch.inference_mode()
    def _compute(self, faces: RGB) -> torch.Tensor:
        flow = torch.from_numpy(faces).permute(0, 3, 1, 2).float()
        flow = (flow - torch.tensor(MEANS)[:, None, None]) / 255
        for block in range(4):
            flow = self._block(flow, f"dense{block}")
        features = avg_pool2d(flow, 7, 2).flatten(1)
        return (features @ self._weights["fc/weights"] + self._weights["fc/bias"]).softmax(dim=1)

    def _block(self, flow: torch.Tensor, name: str) -> torch.Tensor:
        """Halves the sides; each of the next three layers reads the sum of all before it."""
        total = flow = relu(self._layer(flow, f"{name}/conv0", stride=2))
        for number in (1, 2, 3):
            total = total + self._layer(flow, f"{name}/conv{number}", stride=1)
            flow = relu(total)
        return flow

    def _layer(self, flow: torch.Tensor, name: str, *, stride: int) -> torch.Tensor:
        bias = self._weights[f"{name}/bias"]
        # TensorFlow's "same": what is odd of the padding goes to the right and below.
        flow = pad(flow, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        if f"{name}/filters" in self._weights:
            return conv2d(flow, self._weights[f"{name}/filters"].permute(3, 2, 0, 1), bias, stride)
        depthwise = self._weights[f"{name}/depthwise_filter"].permute(2, 3, 0, 1)
        pointwise = self._weights[f"{name}/pointwise_filter"].permute(3, 2, 0, 1)
        return conv2d(conv2d(flow, depthwise, None, stride, groups=len(depthwise)), pointwise, bias)


def _read_weights(groups: list[dict[str, Any]], content: bytes) -> dict[str, torch.Tensor]:
    """Reads TensorFlow.js's manifest: tensors lie one after the other, as 8-bit steps or as float32."""
    weights, place = {}, 0
    for entry in (entry for group in groups for entry in group["weights"]):
        coded = entry.get("quantization")
        kind = np.dtype(coded["dtype"] if coded else entry["dtype"])
        count = int(np.prod(entry["shape"]))
        values = np.frombuffer(content, kind, count, place).astype(np.float32)
        if coded:
            values = values * np.float32(coded["scale"]) + np.float32(coded["min"])
        weights[entry["name"]] = torch.from_numpy(values.reshape(entry["shape"]))
        place += count * kind.itemsize
    if place != len(content):
        raise SystemExit(f"the manifest names {place:,} bytes of weights, the file has {len(content):,}")
    return weights


def _enlarge(faces: RGB) -> RGB:
    return np.stack([cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) for face in faces])
