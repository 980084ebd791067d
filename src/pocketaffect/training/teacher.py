"""The larger network that a smaller one may learn from."""

from __future__ import annotations

from pathlib import Path

from pocketaffect.errors import PocketAffectError
from pocketaffect.models.network import AffectNetwork, load_network


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
