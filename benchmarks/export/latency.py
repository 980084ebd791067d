"""Milliseconds an image, one thread, batch 1, of the ONNX twin and the interpreter beside other networks, in one run.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/export/latency.py [EXPORT_FOLDER]

Untrained weights for the others: latency does not depend on them. All take the shipped file's input size. Medians of
rounds in which every network has its turn.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from pocketaffect import paths
from pocketaffect.export.forms import save_twin
from pocketaffect.export.latency import ROUNDS, time_in_turns
from pocketaffect.export.layers import fold_batchnorm
from pocketaffect.export.session import load_twin
from pocketaffect.mlpackage.program import load_program
from pocketaffect.models.network import AffectNetwork, NetworkSpec, load_network

TIMM = ("mobilenetv3_small_100", "efficientnet_lite0")


class WithHeads(torch.nn.Module):
    """A timm network with both outputs."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.model = timm.create_model(name, pretrained=False, num_classes=10)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and valence-arousal."""
        answers = self.model(images)
        return answers[:, :8], answers[:, 8:].tanh()


def main() -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else paths.EXPORT
    ours = load_twin(folder / paths.TWIN.name)
    image = np.random.default_rng(0).integers(0, 255, (1, ours.size, ours.size, 3), dtype=np.uint8)
    runs: dict[str, Callable[[], Any]] = {"our twin, ONNX": lambda: ours.predict(image)}
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("alexnet", "vgg", "mobilenet", *TIMM):
            network = AffectNetwork(NetworkSpec(name, 1.0, ours.size, "plain")) if name not in TIMM else WithHeads(name)
            file = Path(scratch) / f"{name}.onnx"
            save_twin(fold_batchnorm(network) if name not in TIMM else network.eval(), ours.size, {}, file)
            session = load_twin(file)
            runs[f"{name}, ONNX"] = lambda session=session: session.predict(image)
    program = load_program(folder / paths.PACKAGE.name)
    runs["our package, interpreter"] = lambda: program.predict(image)
    network = load_network(folder.parent / paths.MODEL.name)
    pixels = torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255

    def pytorch() -> None:
        with torch.inference_mode():
            network(pixels)

    runs["our network, PyTorch"] = pytorch
    times = time_in_turns(runs)
    base = times["our twin, ONNX"]
    print(f"{ours.size} px, one thread, batch 1, median of {ROUNDS} alternating rounds")
    for name, middle in times.items():
        print(f"{name:30}{middle:8.3f} ms{middle / base:8.2f} x")


if __name__ == "__main__":
    main()
