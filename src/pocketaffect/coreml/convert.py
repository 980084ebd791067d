"""Network to Core ML: one ML Program with an RGB image in, probabilities and valence-arousal out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor, nn

from pocketaffect.coreml.fold import fold_batchnorm
from pocketaffect.coreml.quiet import import_coremltools, quiet_conversion
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS, VALENCE_AROUSAL

Precision = Literal["fp32", "fp16", "int8"]

IMAGE: Final = "image"
PROBABILITIES: Final = "probabilities"
VALENCE_AROUSAL_OUTPUT: Final = "valence_arousal"


@dataclass(frozen=True)
class PackageDescription:
    """What a package says about itself, beside the conventions that `convert` always adds.

    Attributes:
        author: Who answers for the model.
        licence: Licence of the weights.
        version: The model's own version.
        short_description: One sentence, shown by Xcode and Finder.
        metadata: Further text under keys of your choice: lineage, metrics, verification.
        crop_margin: Added at each end of the face box's longer side, as a share of it (`preprocess.margin`).
    """

    author: str
    licence: str
    version: str
    short_description: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    crop_margin: float = 0.0


class _ShippedOutputs(nn.Module):
    """The network as a phone sees it: probabilities in place of logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits, valence_arousal = self.network(image)
        return torch.softmax(logits, dim=1), valence_arousal


def convert(network: nn.Module, *, size: int, precision: Precision, description: PackageDescription) -> Any:
    """Converts a trained network to a Core ML model; `package.save_package` writes it.

    The program needs iOS 16 or macOS 13. It takes one RGB image with bytes of 0..255 and returns two float32
    arrays: `probabilities` [1, 8] and `valence_arousal` [1, 2].

    Args:
        network: Maps float32 [n, 3, size, size] RGB in [0, 1] to (logits [n, 8], valence-arousal [n, 2]).
        size: Pixels a side.
        precision: fp32: all in float32. fp16: weights and arithmetic. int8: as fp16, with tensors of more
            than 2048 weights in 8 bits, one scale per output channel.
        description: Goes into the package's metadata.

    Returns:
        A `coremltools.models.MLModel`.

    Raises:
        PocketAffectError: An unknown precision, a network that cannot be traced, or a metadata key that
            `convert` itself writes.
    """
    if precision not in get_args(Precision):
        raise PocketAffectError("export.precision: unknown", found=precision, allowed=", ".join(get_args(Precision)))
    texts = _texts(size, precision, description)
    ct = import_coremltools()
    import numpy as np

    with quiet_conversion():
        model = ct.convert(
            _trace(network, size),
            convert_to="mlprogram",
            inputs=[ct.ImageType(name=IMAGE, shape=(1, 3, size, size), scale=1 / 255, color_layout=ct.colorlayout.RGB)],
            # Without a dtype, outputs of an iOS 16 program would be float16, which few apps expect.
            outputs=[
                ct.TensorType(name=PROBABILITIES, dtype=np.float32),
                ct.TensorType(name=VALENCE_AROUSAL_OUTPUT, dtype=np.float32),
            ],
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT32 if precision == "fp32" else ct.precision.FLOAT16,
        )
        if precision == "int8":
            model = _quantize(model)
    _describe(model, size, description, texts)
    return model


def _trace(network: nn.Module, size: int) -> Any:
    shipped = _ShippedOutputs(fold_batchnorm(network)).eval()
    generator = torch.Generator().manual_seed(0)
    example = torch.rand(1, 3, size, size, generator=generator)
    with _one_thread(), torch.no_grad():
        return torch.jit.trace(shipped, example)  # type: ignore[no-untyped-call]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Constants that tracing computes (folded or transposed weights) must not depend on the thread count."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _quantize(model: Any) -> Any:
    optimize = import_coremltools("coremltools.optimize.coreml")
    # Smaller tensors stay in float16: 2.5 % of the bytes for a third of the accuracy loss (evidence-coreml, 1).
    config = optimize.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int8", granularity="per_channel", weight_threshold=2048
    )
    return optimize.linear_quantize_weights(model, optimize.OptimizationConfig(global_config=config))


def conventions(size: int, precision: str, crop_margin: float) -> dict[str, str]:
    """The metadata that an app needs to feed the model and to read its answer."""
    return {
        "labels": ",".join(EXPRESSIONS),
        "input_color_order": "RGB",
        "input_range": "0..255, one byte per channel; scaling and normalisation are inside the model",
        "input_size": str(size),
        "crop": "a square around the face box: its longer side, plus crop_margin of it at each end",
        "crop_margin": f"{crop_margin:g}",
        "valence_arousal_order": ",".join(VALENCE_AROUSAL),
        "valence_arousal_range": "-1..1; valence: unpleasant to pleasant; arousal: calm to excited",
        "precision": precision,
    }


def _texts(size: int, precision: str, description: PackageDescription) -> dict[str, str]:
    own = conventions(size, precision, description.crop_margin)
    taken = sorted(set(own) & set(description.metadata))
    if taken:
        raise PocketAffectError("package metadata: keys that export writes itself", found=", ".join(taken))
    return {**own, **description.metadata}


def _describe(model: Any, size: int, description: PackageDescription, texts: Mapping[str, str]) -> None:
    model.author = description.author
    model.license = description.licence
    model.version = description.version
    model.short_description = description.short_description
    for key, value in sorted(texts.items()):
        model.user_defined_metadata[key] = value
    margin = f"{description.crop_margin:g}"
    model.input_description[IMAGE] = (
        f"A face, RGB, {size} x {size} pixels: a square around the face box, {margin} of its longer side wider "
        "at each end."
    )
    model.output_description[PROBABILITIES] = f"Probability of each expression: {', '.join(EXPRESSIONS)}."
    model.output_description[VALENCE_AROUSAL_OUTPUT] = (
        "Valence (unpleasant -1 to pleasant 1), then arousal (calm -1 to excited 1)."
    )
