"""timm's backbones for phones, each with a width multiplier, behind one adapter.

timm registers a few widths of some of them; here any width goes. At width 1.0 the layers and their names are timm's,
so that its ImageNet weights fit. Weights are drawn by torch's generator alone; nothing is downloaded.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import torch
from timm import create_model
from timm.layers import BatchNormAct2d
from timm.models.byobnet import ByoBlockCfg, model_cfgs
from timm.models.efficientnet import _gen_efficientnet_lite

# Private, yet the only way to a free width: their public entries (mobilenetv3_small_050, …) fix the multiplier and
# refuse it, the channel rounding and the head's size as arguments.
from timm.models.mobilenetv3 import _gen_mobilenet_v3, _gen_mobilenet_v4
from torch import nn

from pocketaffect.designs import CATALOGUE
from pocketaffect.models.paper import scale_channels

REPVGG_STEM: Final = 16
REPVGG_STAGES: Final = ((1, 32, 1), (2, 64, 2), (3, 128, 2))
"""Blocks, channels and first stride of each stage of the RepVGG for small faces, behind a strided and pooled stem: 48
pixels end at 3 x 3 places. At width 1 its int8 package is just under 500,000 bytes."""

REPVIT_CHANNELS: Final = (48, 96, 192, 384)
"""Channels of the four stages of RepViT-M0.9."""


class PhoneBackbone(nn.Module):
    """One of timm's networks without its classifier: images [n, 3, size, size] to features [n, feature_dimension].

    Args:
        model: Built with `num_classes=0`.
    """

    feature_dimension: int

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.feature_dimension = int(model.head_hidden_size)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Computes pooled features, with the design's dropout in training."""
        features: torch.Tensor = self.model(images)
        return features


def build_phone(name: str, width: float, dropout: float = 1.0) -> PhoneBackbone:
    """Builds a design of `PHONE_BACKBONES`; pooled globally, so that its layers fit every input size.

    Args:
        name: The design.
        width: Multiplies the channels.
        dropout: Multiplies the design's rate.
    """
    return PhoneBackbone(PHONE_BACKBONES[name](width, CATALOGUE[name].dropout * dropout))


def _build_generated(generate: Callable[..., Any], variant: str, width: float, rate: float) -> Any:
    return _scale_head(generate(variant, width, num_classes=0, drop_rate=rate), width)


def _build_repvit(width: float, rate: float) -> Any:
    return create_model(
        "repvit_m0_9",
        num_classes=0,
        distillation=False,  # its second classifier would average two equal features
        embed_dim=tuple(scale_channels(channels, width) for channels in REPVIT_CHANNELS),
        drop_rate=rate,
    )


def _build_repvgg(width: float, rate: float) -> Any:
    return create_model(
        "repvgg_a0",
        num_classes=0,
        blocks=tuple(
            ByoBlockCfg(type="rep", d=count, c=scale_channels(channels, width), s=stride, gs=0)
            for count, channels, stride in REPVGG_STAGES
        ),
        # One convolution, pooled: a chain of strides alone learns slowly at first, and oneDNN's gradient of a branch of
        # 1 x 1 pixels, 3 channels and stride 2 ends the process where the processor has AVX-512 (torch 2.15).
        stem_type="3x3",
        stem_pool="maxpool",
        stem_chs=scale_channels(REPVGG_STEM, width),
        drop_rate=rate,
    )


def _build_mobileone(width: float, rate: float) -> Any:
    design = model_cfgs["mobileone_s0"]
    # Not timm's `width_factor`: it rounds the stem otherwise than the depthwise block behind it, which then fails.
    blocks = tuple(
        tuple(replace(block, c=scale_channels(block.c, width)) for block in stage) for stage in design.blocks
    )
    stem = scale_channels(design.stem_chs, width)
    return create_model("mobileone_s0", num_classes=0, blocks=blocks, stem_chs=stem, drop_rate=rate)


PHONE_BACKBONES: Final[dict[str, Callable[[float, float], Any]]] = {
    # Inverted residuals with squeeze-and-excitation and hard swish; universal inverted bottlenecks with ReLU alone;
    # inverted residuals with ReLU6, made for integer arithmetic.
    "mobilenetv3_small": partial(_build_generated, _gen_mobilenet_v3, "mobilenetv3_small_100"),
    "mobilenetv3_large": partial(_build_generated, _gen_mobilenet_v3, "mobilenetv3_large_100"),
    "mobilenetv4_conv_small": partial(_build_generated, _gen_mobilenet_v4, "mobilenetv4_conv_small"),
    "efficientnet_lite0": partial(_build_generated, _gen_efficientnet_lite, "efficientnet_lite0"),
    # A plain chain of 3 x 3 convolutions; depthwise token mixer and pointwise channel mixer; a plain chain of depthwise
    # and pointwise convolutions. All three train as parallel branches, which are merged before export.
    "repvgg_face": _build_repvgg,
    "repvit_m0_9": _build_repvit,
    "mobileone_s0": _build_mobileone,
}
"""Design to the function that builds timm's network at a width and a rate of dropout."""


def _scale_head(model: Any, width: float) -> Any:
    """Scales the last pointwise convolution too, which timm and the papers leave at 1024 or 1280 channels.

    It feeds a thousand classes there; here it feeds eight, and at width 0.25 it would be three quarters of the
    weights (MobileNetV4: 307,200 of 408,144).
    """
    old = model.conv_head
    features = scale_channels(old.out_channels, width)
    if features != old.out_channels:
        model.conv_head = nn.Conv2d(old.in_channels, features, 1, bias=old.bias is not None)
        nn.init.kaiming_normal_(model.conv_head.weight, mode="fan_out")  # as timm draws it
        if old.bias is not None:
            nn.init.zeros_(model.conv_head.bias)
        for name in ("norm_head", "bn2"):  # of MobileNetV4, of EfficientNet
            norm = getattr(model, name, None)
            if isinstance(norm, BatchNormAct2d):
                scaled = BatchNormAct2d(features, norm.eps, norm.momentum, act_layer=type(norm.act))
                setattr(model, name, scaled)
        model.head_hidden_size = features
    return model
