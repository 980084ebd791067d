"""The form that a network ships in: parallel branches merged, every normalisation a layer of its own.

RepViT and MobileOne train several parallel convolutions where one suffices afterwards (Ding et al. 2021, arXiv
2101.03697). timm's other networks put normalisation and activation into one module, which `export.fold` leaves
alone because a subclass of BatchNorm may do more than its parent.
"""

from __future__ import annotations

import copy
from collections import OrderedDict

import torch
from torch import nn

from pocketaffect.models.network import AffectNetwork
from pocketaffect.models.paper import Backbone


def reparameterize(network: AffectNetwork) -> AffectNetwork:
    """Copies `network` into the form to export: the same function, fewer and plainer layers.

    Branches are merged in float64, so that the merged weights are the rounded exact ones on every processor; with
    running statistics as training leaves them, outputs move by less than 1e-4. Networks without branches only have
    timm's normalisation with activation taken apart.

    Returns:
        A float32 copy on the CPU, in evaluation mode, without gradients; `reparameterized` is set. It cannot be
        trained further, nor saved by `save_network`: the checkpoint is the branched network.
    """
    shipped = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    if not isinstance(shipped.backbone, Backbone):
        from timm.utils import reparameterize_model

        with torch.no_grad():
            shipped.backbone = reparameterize_model(shipped.backbone.double(), inplace=True)
        _split_norm_and_activation(shipped.backbone)
    shipped.reparameterized = True
    return shipped.float().eval().requires_grad_(False)


def _split_norm_and_activation(backbone: nn.Module) -> None:
    from timm.layers import BatchNormAct2d

    for name, module in list(backbone.named_modules()):
        # Exact type: what a further subclass adds would be lost.
        if type(module) is not BatchNormAct2d:
            continue
        norm = nn.BatchNorm2d(module.num_features, module.eps, module.momentum)
        norm.load_state_dict(module.state_dict())
        backbone.set_submodule(name, nn.Sequential(OrderedDict(norm=norm, drop=module.drop, act=module.act)))
