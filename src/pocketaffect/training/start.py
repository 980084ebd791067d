"""Networks that a training reads: the one that it begins with, and the one that it learns from."""

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


def load_teacher(folder: Path, size: int) -> AffectNetwork:
    """Loads the network in `folder`, in evaluation mode, without gradients.

    Args:
        folder: The folder that a training wrote.
        size: Pixels a side of the images that it will see.

    Raises:
        PocketAffectError: No network is there, it is damaged, or it takes images of another size.
    """
    try:
        teacher = load_network(folder)
    except PocketAffectError as error:
        raise PocketAffectError(f"params.yaml: train.distill.teacher: {error}") from None
    if teacher.spec.size != size:
        raise PocketAffectError(
            f"params.yaml: train.distill.teacher: {folder}: takes images of another size",
            found=f"{teacher.spec.size} pixels",
            allowed=f"{size} pixels, as preprocess.image_size",
            todo="train the teacher on the same shards",
        )
    return teacher.requires_grad_(False)


def hash_state(state: Mapping[str, torch.Tensor]) -> str:
    """Computes the sha256 of tensors by name, type and content."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
