"""Networks as after training and packages as the export stage describes them, to hold predicted bytes against."""

from __future__ import annotations

import torch

from pocketaffect.evaluation.calibration import Confidence
from pocketaffect.export.calibrate import calibrate, describe_confidence
from pocketaffect.export.convert import PackageDescription, Packages
from pocketaffect.export.layers import reparameterize
from pocketaffect.export.size import predict_package_bytes
from pocketaffect.export.verdict import describe_results
from pocketaffect.models.network import AffectNetwork
from pocketaffect.precisions import PRECISIONS

MOST_UNDER = 512
MOST_UNDER_SHARE = 0.005
MOST_OVER = 512
CONFIDENCE = Confidence(0.65, 0.5)


def draw_network(spec):
    """Random numbers everywhere: equal constants, such as the biases of a fresh network, would be stored once."""
    network = AffectNetwork(spec).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        for buffer in network.buffers():
            if buffer.dtype.is_floating_point and buffer.ndim == 1:
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return network


def make_packages(spec, folder):
    """As the export stage makes them."""
    return Packages(calibrate(reparameterize(draw_network(spec)), CONFIDENCE), spec.size, describe(spec), folder)


def describe(spec):
    """With texts as long as those of the export stage at the shipped params.yaml."""
    origin = {"origin_data_md5": "0" * 36, "origin_params_sha256": "0" * 64, "origin_sources_sha256": "0" * 64}
    return PackageDescription(
        "the pocketaffect authors",
        "Apache-2.0",
        "0.2.0",
        f"Facial expression (eight classes), valence and arousal from a face of {spec.size} x {spec.size} pixels; "
        f"{spec.architecture} at width {spec.width:g}.",
        {**origin, **describe_confidence(CONFIDENCE), **describe_results(None, images=510)},
    )


def compare(spec, precisions, folder):
    """Precision, predicted and real bytes."""
    packages = make_packages(spec, folder)
    for name in precisions:
        yield name, predict_package_bytes(spec, name), packages.make(PRECISIONS[name]).bytes
