"""A training that begins with the weights of another one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch

from pocketaffect.errors import PocketAffectError
from pocketaffect.models.network import AffectNetwork, load_network

WITHOUT_WEIGHTS: Final = ("dropout",)
"""Parts of a `NetworkSpec` in which the two networks may differ."""


def start_from(network: AffectNetwork, folder: Path) -> None:
    """Puts the trained weights in `folder` into `network`: backbone, both heads, pixel statistics and prototypes.

    Raises:
        PocketAffectError: No network is there, it is damaged, or it is of another kind. `network` is then unchanged.
    """
    try:
        other = load_network(folder)
    except PocketAffectError as error:
        raise PocketAffectError(f"params.yaml: train.start_from: {error}") from None
    wanted, given = asdict(network.spec), asdict(other.spec)
    differing = [name for name in wanted if wanted[name] != given[name] and name not in WITHOUT_WEIGHTS]
    if differing:
        raise PocketAffectError(
            f"params.yaml: train.start_from: {folder}: another kind of network",
            found=", ".join(f"{name} {given[name]}" for name in differing),
            allowed=", ".join(f"{name} {wanted[name]}" for name in differing),
            todo="name a network of the same kind, or change `model` (and preprocess.image_size) in params.yaml",
        )
    network.load_state_dict(other.state_dict())


def hash_state(state: Mapping[str, torch.Tensor]) -> str:
    """Computes the sha256 of tensors by name, type and content."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
