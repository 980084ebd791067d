"""Network to Core ML: one ML Program with an RGB image in, probabilities and valence-arousal out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn

from pocketaffect.coreml.compress import compress
from pocketaffect.coreml.fold import fold_batchnorm
from pocketaffect.coreml.precisions import Precision, find_precision
from pocketaffect.coreml.quiet import import_coremltools, quiet_conversion
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS, VALENCE_AROUSAL

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
    _describe(model, size, description, check_metadata(size, precision, description))
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
            todo="choose another precision, or fine-tune with `finetune.finetune_integers`",
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


def conventions(size: int, precision: Precision, crop_margin: float) -> dict[str, str]:
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
        "precision": precision.name,
        "deployment_target": precision.target,
    }


def check_metadata(size: int, precision: Precision, description: PackageDescription) -> dict[str, str]:
    """All keys and texts that the package will have.

    Raises:
        PocketAffectError: The description has a key that `convert` itself writes.
    """
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
