"""Network to Core ML: one ML Program with an RGB image in, probabilities and valence-arousal out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pocketaffect.errors import PocketAffectError
from pocketaffect.export.compress import compress
from pocketaffect.export.describe import (
    IMAGE,
    PROBABILITIES,
    VALENCE_AROUSAL_OUTPUT,
    PackageDescription,
    check_metadata,
    describe,
)
from pocketaffect.export.fold import fold_batchnorm
from pocketaffect.mlpackage.quiet import import_coremltools, quiet_conversion
from pocketaffect.precisions import Precision, find_precision


class _ShippedOutputs(nn.Module):
    """The network as a phone sees it: probabilities in place of logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits, valence_arousal = self.network(image)
        return torch.softmax(logits, dim=1), valence_arousal


def convert(network: nn.Module, *, size: int, precision: str, description: PackageDescription) -> Any:
    """Converts a trained network to a Core ML model; `package.save_package` writes it.

    The program needs the precision's deployment target. It takes one RGB image with bytes of 0..255 and returns two
    float32 arrays: `probabilities` [1, 8] and `valence_arousal` [1, 2].

    Args:
        network: Maps float32 [n, 3, size, size] RGB in [0, 1] to (logits [n, 8], valence-arousal [n, 2]).
        size: Pixels a side.
        precision: A key of `precisions.PRECISIONS`.
        description: Goes into the package's metadata.

    Returns:
        A `coremltools.models.MLModel`.

    Raises:
        PocketAffectError: An unknown precision, a network that cannot be traced, or a metadata key that
            `convert` itself writes.
    """
    chosen = find_precision(precision)
    check_metadata(size, chosen, description)
    return finish(convert_plain(network, size=size, precision=chosen), size, chosen, description)


def convert_plain(network: nn.Module, *, size: int, precision: Precision) -> Any:
    """The first half of `convert`: the uncompressed model that `finish` makes the precision's package of.

    It is the same model for all precisions of one deployment target, but for fp32.
    """
    ct = import_coremltools()
    import numpy as np

    with quiet_conversion():
        return ct.convert(
            _trace(_shipped_form(network, precision), size),
            convert_to="mlprogram",
            inputs=[ct.ImageType(name=IMAGE, shape=(1, 3, size, size), scale=1 / 255, color_layout=ct.colorlayout.RGB)],
            # Without a dtype, outputs of an iOS 16 program would be float16, which few apps expect.
            outputs=[
                ct.TensorType(name=PROBABILITIES, dtype=np.float32),
                ct.TensorType(name=VALENCE_AROUSAL_OUTPUT, dtype=np.float32),
            ],
            minimum_deployment_target=getattr(ct.target, precision.target),
            compute_precision=ct.precision.FLOAT32 if precision.name == "fp32" else ct.precision.FLOAT16,
        )


def finish(plain: Any, size: int, precision: Precision, description: PackageDescription) -> Any:
    """The second half of `convert`: compresses the model and describes it; `plain` may gain the description."""
    model = compress(plain, precision)
    describe(model, size, description, check_metadata(size, precision, description))
    return model


def _trace(network: nn.Module, size: int) -> Any:
    generator = torch.Generator().manual_seed(0)
    example = torch.rand(1, 3, size, size, generator=generator)
    with _one_thread(), torch.no_grad():
        return torch.jit.trace(_ShippedOutputs(network).eval(), example)  # type: ignore[no-untyped-call]


def _shipped_form(network: nn.Module, precision: Precision) -> nn.Module:
    if not precision.integer_activations:
        return fold_batchnorm(network)
    integer_form = getattr(network, "integer_form", None)
    if not isinstance(integer_form, nn.Module):
        raise PocketAffectError(
            f"params.yaml: export.precision {precision.name} needs a network that was fine-tuned for it",
            found=type(network).__name__,
            todo="set export.finetune: qat, or choose another precision",
        )
    return integer_form


@contextmanager
def _one_thread() -> Iterator[None]:
    """Constants that tracing computes (folded or transposed weights) must not depend on the thread count."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
