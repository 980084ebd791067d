"""Dropout's noise, drawn in the order of memory as ours and in that of the axes as `torch.randn_like` does.

    .venv/bin/python benchmarks/training/dropout.py

Milliseconds of the noise alone on a channels_last tensor, and images a second of training steps with either way in the
same network, in turns, one thread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from pocketaffect.models.network import AffectNetwork, NetworkSpec
from pocketaffect.models.paper import GaussianDropout

BATCH, SIZE, ROUNDS = 64, 48, 7
NETWORKS = (("vgg", 0.35, False), ("vgg", 1.0, True), ("alexnet", 1.0, True))
"""Architecture, width, whether products are bf16."""


def forward_by_axes(self: GaussianDropout, x: torch.Tensor) -> torch.Tensor:
    """The same noise as `torch.randn_like` draws it."""
    return x * (1 + self.deviation * torch.randn_like(x)) if self.training else x


WAYS: dict[str, Callable[[GaussianDropout, torch.Tensor], torch.Tensor]] = {
    "ours": GaussianDropout.forward,
    "randn_like": forward_by_axes,
}


def main() -> None:
    """Prints both."""
    torch.set_num_threads(1)
    x = torch.ones(32, 22, 64, 64).to(memory_format=torch.channels_last)
    layer = GaussianDropout(0.2).train()
    noise = {
        name: statistics.median(measure(partial(way, layer, x)) for _ in range(ROUNDS)) for name, way in WAYS.items()
    }
    print(f"noise: {noise['ours'] * 1e3:.1f} ms, randn_like {noise['randn_like'] * 1e3:.1f} ms")
    for architecture, width, bf16 in NETWORKS:
        spec = NetworkSpec(architecture, width, SIZE, "plain", 1.0)
        network = AffectNetwork(spec).to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(network.parameters(), fused=True)
        images = torch.rand(BATCH, 3, SIZE, SIZE).to(memory_format=torch.channels_last)

        def step() -> None:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):  # noqa: B023
                logits, valence_arousal = network(images)  # noqa: B023
                loss = logits.float().square().mean() + valence_arousal.float().square().mean()
            optimizer.zero_grad()  # noqa: B023
            loss.backward()
            optimizer.step()  # noqa: B023

        seconds: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(ROUNDS):
            for name, way in WAYS.items():
                GaussianDropout.forward = way  # type: ignore[method-assign]
                seconds[name].append(measure(step))
        ours, theirs = (BATCH / statistics.median(values[1:]) for values in seconds.values())
        products = "bf16" if bf16 else "fp32"
        print(f"{architecture} x {width:g}, {products}: {ours:.0f} images/s, {theirs:.0f}: {ours / theirs:.2f} x")


def measure(work: Callable[[], object]) -> float:
    """Its seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
