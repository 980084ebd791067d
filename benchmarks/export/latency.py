"""Milliseconds an image, one thread, batch 1, of the ONNX twin and the interpreter beside other networks, in one run.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/export/latency.py [EXPORT_FOLDER | --designs]

Untrained weights for the others: latency does not depend on them. All take the shipped file's input size. Medians of
rounds in which every network has its turn. `--designs` needs no export: the designs for small faces, each at its own
input size, beside the paper's networks at the paper's 128 pixels and at 64, and others at 48.
"""

from __future__ import annotations

import os
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
from pocketaffect.export.latency import ROUNDS, time_in_turns, time_twins
from pocketaffect.export.layers import fold_batchnorm
from pocketaffect.export.session import load_twin
from pocketaffect.export.size import list_shapes, predict_package_bytes
from pocketaffect.mlpackage.program import load_program
from pocketaffect.models.network import AffectNetwork, NetworkSpec, load_network

TIMM = ("mobilenetv3_small_100", "efficientnet_lite0")
PAPER = ("alexnet", "vgg", "mobilenet")
OTHERS = (
    *(("vgg", 0.35, 64), ("vgg", 0.5, 48), ("resnet10", 1.0, 48), ("mobilenetv3_small", 1.0, 48)),
    *(("efficientnet_lite0", 1.0, 48), ("repvgg_face", 1.0, 48), ("repvgg_face", 1.0, 64), ("repvgg_face", 0.7, 48)),
)


class WithHeads(torch.nn.Module):
    """A timm network with both outputs."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.model = timm.create_model(name, pretrained=False, num_classes=10)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and valence-arousal."""
        answers = self.model(images)
        return answers[:, :8], answers[:, 8:].tanh()


def compare_designs() -> None:
    """Prints each design's time as a share of the paper's fastest network."""
    specs = [NetworkSpec(name, 1.0, size, "plain") for size in (128, 64) for name in PAPER]
    specs += [NetworkSpec(name, width, size, "prototype") for name, width, size in OTHERS]
    times = time_twins(specs)
    at = {size: min(times[one] for one in specs[:6] if one.size == size) for size in (128, 64)}
    print(f"one thread, batch 1, median of {ROUNDS} alternating rounds; load {os.getloadavg()[0]:.1f}")
    print("| network | pixels | int8 bytes | MMACs | ms | of the paper's fastest at 128 px | at 64 px |")
    print("|---|---|---|---|---|---|---|")
    for one, milliseconds in times.items():
        shapes = list_shapes(one)
        cells = (f"{one.architecture} x {one.width:g}", str(one.size), f"{predict_package_bytes(shapes, 'int8'):,}")
        shares = (f"{milliseconds / at[size]:.3f}" for size in (128, 64))
        print("| " + " | ".join([*cells, f"{shapes.macs / 1e6:.2f}", f"{milliseconds:.3f}", *shares]) + " |")


def main() -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    if "--designs" in sys.argv:
        compare_designs()
        return
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else paths.EXPORT
    ours = load_twin(folder / paths.TWIN.name)
    image = np.random.default_rng(0).integers(0, 255, (1, ours.size, ours.size, 3), dtype=np.uint8)
    runs: dict[str, Callable[[], Any]] = {"our twin, ONNX": lambda: ours.predict(image)}
    with tempfile.TemporaryDirectory() as scratch:
        for name in (*PAPER, *TIMM):
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
