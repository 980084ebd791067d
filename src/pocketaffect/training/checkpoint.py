"""The one file that a killed training goes on from."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from pocketaffect.files import write_atomically

logger = logging.getLogger(__name__)

CHECKPOINT_STEM: Final = "last"
CHECKPOINT_FILE: Final = f"{CHECKPOINT_STEM}.ckpt"
PARTS: Final = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "epoch", "history", "best")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there.

    Lightning's own writes to the system's temporary folder and moves from there: across file systems that is a
    copy, which a kill leaves half done.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object | None = None
    ) -> None:
        """Saves `checkpoint` at `path`.

        Raises:
            PocketAffectError: The disk is full.
        """
        del storage_options
        content = io.BytesIO()  # torch hides a full disk behind errors of its own
        torch.save(checkpoint, content)
        with write_atomically(Path(path)) as draft:
            draft.write_bytes(content.getbuffer())

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Reads tensors and plain values; anything that would be executed is refused."""
        del weights_only
        content: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        return content


def find_checkpoint(folder: Path, state: Mapping[str, torch.Tensor]) -> Path | None:
    """Finds the checkpoint in `folder` to go on from; None, with a warning in the log, when it is not usable.

    A fresh start gives the same result as going on, only later: nothing to stop for.

    Args:
        folder: Folder that may hold it.
        state: State of the module that is to go on: the checkpoint must hold the same names and shapes.
    """
    file = folder / CHECKPOINT_FILE
    if not file.is_file():
        return None
    try:
        content = AtomicCheckpointIO().load_checkpoint(file)
        missing = [part for part in PARTS if part not in content]
        if missing:
            raise ValueError(f"no {', '.join(missing)} in it")
        if len(content["history"]) != content["epoch"] + 1:
            raise ValueError(f"{len(content['history'])} epochs in its history, {content['epoch'] + 1} done")
        shapes = {name: tuple(tensor.shape) for name, tensor in content["state_dict"].items()}
        if shapes != {name: tuple(tensor.shape) for name, tensor in state.items()}:
            raise ValueError("another network's weights")
    except Exception as error:  # torch raises a dozen kinds over a damaged file
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        logger.warning("%s is not usable (%s); starting afresh", file, reason)
        file.unlink(missing_ok=True)  # another process of the same training was faster
        return None
    return file
