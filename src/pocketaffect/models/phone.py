"""timm's backbones for phones, each with a width multiplier, behind one adapter.

timm registers a few widths of some of them; here any width goes. At width 1.0 the layers and their names are timm's,
so that its ImageNet weights fit. Weights are drawn by torch's generator alone; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import torch
from timm import create_model
from timm.layers import BatchNormAct2d
from timm.models.byobnet import model_cfgs
from timm.models.efficientnet import _gen_efficientnet_lite

# Private, yet the only way to a free width: their public entries (mobilenetv3_small_050, …) fix the multiplier and
# refuse it, the channel rounding and the head's size as arguments.
from timm.models.mobilenetv3 import _gen_mobilenet_v3, _gen_mobilenet_v4
from torch import nn

from pocketaffect.designs import CATALOGUE
from pocketaffect.models.paper import scale_channels

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


def build_mobilenetv3_small(width: float, size: int, dropout: float = 1.0) -> PhoneBackbone:
    """Builds MobileNetV3-small: inverted residuals with squeeze-and-excitation and hard swish."""
    del size  # pooled globally, as all networks here
    rate = _dropout("mobilenetv3_small", dropout)
    return _scale_head(_gen_mobilenet_v3("mobilenetv3_small_100", width, num_classes=0, drop_rate=rate), width)


def build_mobilenetv3_large(width: float, size: int, dropout: float = 1.0) -> PhoneBackbone:
    """Builds MobileNetV3-large."""
    del size
    rate = _dropout("mobilenetv3_large", dropout)
    return _scale_head(_gen_mobilenet_v3("mobilenetv3_large_100", width, num_classes=0, drop_rate=rate), width)


def build_mobilenetv4_conv_small(width: float, size: int, dropout: float = 1.0) -> PhoneBackbone:
    """Builds MobileNetV4-Conv-S: universal inverted bottlenecks with ReLU alone."""
    del size
    rate = _dropout("mobilenetv4_conv_small", dropout)
    return _scale_head(_gen_mobilenet_v4("mobilenetv4_conv_small", width, num_classes=0, drop_rate=rate), width)


def build_efficientnet_lite0(width: float, size: int, dropout: float = 1.0) -> PhoneBackbone:
    """Builds EfficientNet-lite0: inverted residuals with ReLU6, made for integer arithmetic."""
    del size
    rate = _dropout("efficientnet_lite0", dropout)
    return _scale_head(_gen_efficientnet_lite("efficientnet_lite0", width, num_classes=0, drop_rate=rate), width)


def build_repvit_m0_9(width: float, size: int, dropout: float = 1.0) -> PhoneBackbone:
    """Builds RepViT-M0.9: depthwise token mixer and pointwise channel mixer, branches merged before export."""
    del size
    model = create_model(
        "repvit_m0_9",
        num_classes=0,
        distillation=False,  # its second classifier would average two equal features
        embed_dim=tuple(scale_channels(channels, width) for channels in REPVIT_CHANNELS),
        drop_rate=_dropout("repvit_m0_9", dropout),
    )
    return PhoneBackbone(model)


def build_mobileone_s0(width: float, size: int, dropout: float = 1.0) -> PhoneBackbone:
    """Builds MobileOne-S0: a plain chain of depthwise and pointwise convolutions, trained as up to six branches."""
    del size
    design = model_cfgs["mobileone_s0"]
    # Not timm's `width_factor`: it rounds the stem otherwise than the depthwise block behind it, which then fails.
    blocks = tuple(
        tuple(replace(block, c=scale_channels(block.c, width)) for block in stage) for stage in design.blocks
    )
    model = create_model(
        "mobileone_s0",
        num_classes=0,
        blocks=blocks,
        stem_chs=scale_channels(design.stem_chs, width),
        drop_rate=_dropout("mobileone_s0", dropout),
    )
    return PhoneBackbone(model)


PHONE_BACKBONES: Final[dict[str, Callable[[float, int, float], PhoneBackbone]]] = {
    "mobilenetv3_small": build_mobilenetv3_small,
    "mobilenetv3_large": build_mobilenetv3_large,
    "mobilenetv4_conv_small": build_mobilenetv4_conv_small,
    "efficientnet_lite0": build_efficientnet_lite0,
    "repvit_m0_9": build_repvit_m0_9,
    "mobileone_s0": build_mobileone_s0,
}


def _dropout(name: str, factor: float) -> float:
    return CATALOGUE[name].dropout * factor


def _scale_head(model: Any, width: float) -> PhoneBackbone:
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
    return PhoneBackbone(model)
