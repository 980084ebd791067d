"""Quantisation-aware rounding spelled out in plain operations, which ONNX has and torch.export takes."""

from __future__ import annotations

import copy

from torch import Tensor, nn


class _Rounding(nn.Module):
    """One activation's rounding to integers, as `torch.ao.quantization.FakeQuantize` computes it per tensor."""

    def __init__(self, scale: float, zero_point: float, lowest: int, highest: int) -> None:
        super().__init__()
        self.scale = scale
        self.zero_point = zero_point
        self.lowest = lowest
        self.highest = highest

    def forward(self, x: Tensor) -> Tensor:
        integers = (x * (1 / self.scale)).round() + self.zero_point
        return (integers.clamp(self.lowest, self.highest) - self.zero_point) * self.scale


def spell_out_rounding(network: nn.Module) -> nn.Module:
    """A copy of a network of `finetune.finetune_integers`, or one with its weights, without fake quantisation modules.

    A network without any is copied as it is.
    """
    from torch.ao.quantization import FakeQuantize

    plain = copy.deepcopy(network)
    for name, module in list(plain.named_modules(remove_duplicate=False)):
        if isinstance(module, FakeQuantize):
            # Weights were baked in; what is left are activations, each with one scale.
            rounding = _Rounding(
                float(module.scale), float(module.zero_point), int(module.quant_min), int(module.quant_max)
            )
            plain.set_submodule(name, rounding)
    return plain
