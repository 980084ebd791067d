"""Milliseconds of an image by the ONNX twin: batch 1, one thread, several networks in turns."""

import statistics
import tempfile
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch

from pocketaffect.export.forms import save_twin
from pocketaffect.export.layers import fold_batchnorm, reparameterize
from pocketaffect.export.session import load_twin
from pocketaffect.models.network import AffectNetwork, NetworkSpec

T = TypeVar("T", bound=Hashable)

ROUNDS: Final = 5
CALLS: Final = 40
"""Rounds in which each has its turn, and calls of a turn."""


def time_in_turns(runs: Mapping[T, Callable[[], Any]], rounds: int = ROUNDS, calls: int = CALLS) -> dict[T, float]:
    """Times calls in milliseconds: the median over rounds of each turn's median, so that a busy moment hits all."""
    medians: dict[T, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times = []
            for _ in range(calls):
                start = time.perf_counter()
                run()
                times.append((time.perf_counter() - start) * 1e3)
            medians[name].append(statistics.median(times))
    return {name: statistics.median(values) for name, values in medians.items()}


def time_twins(specs: Sequence[NetworkSpec]) -> dict[NetworkSpec, float]:
    """Times the twins of networks, each at its own input size, with random weights: they decide nothing about time.

    Takes some seconds for each, nearly all for its conversion.

    Raises:
        PocketAffectError: A network that cannot be built.
    """
    runs = {}
    with tempfile.TemporaryDirectory(prefix="pocketaffect-") as folder, torch.random.fork_rng(devices=[]):
        for number, spec in enumerate(dict.fromkeys(specs)):
            file = Path(folder) / f"{number}.onnx"
            save_twin(fold_batchnorm(reparameterize(AffectNetwork(spec))), spec.size, {}, file)
            runs[spec] = _make_call(file)
        return time_in_turns(runs)


def _make_call(file: Path) -> Callable[[], Any]:
    twin = load_twin(file)
    image = np.random.default_rng(0).integers(0, 256, (1, twin.size, twin.size, 3), dtype=np.uint8)
    return lambda: twin.predict(image)
