"""Lightning's trainer as a recipe wants it, and the one file that a killed training goes on from."""

import io
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.strategies import Strategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from pocketaffect.config import TrainParams
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import write_atomically
from pocketaffect.training.checks import find_device
from pocketaffect.training.scores import SELECTION, find_best, is_stale

logger = logging.getLogger(__name__)

CHECKPOINT_STEM: Final = "last"
CHECKPOINT_FILE: Final = f"{CHECKPOINT_STEM}.ckpt"
PARTS: Final = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "epoch", "history", "best")


def build_trainer(
    params: TrainParams, checkpoints: Path, callbacks: Sequence[Callback], strategy: str | Strategy = "auto"
) -> pl.Trainer:
    """Builds Lightning's trainer as a recipe wants it; torchrun and SLURM it finds by itself."""
    # The best weights are inside the checkpoint too, so that one atomic file is all there is to resume from.
    keep_last = ModelCheckpoint(
        dirpath=checkpoints,
        filename=CHECKPOINT_STEM,
        save_top_k=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    device = find_device(params)
    if device == "cuda" and params.precision == "fp32":
        torch.backends.cudnn.allow_tf32 = False  # on by default: convolutions would multiply with 10 bits
    try:
        return pl.Trainer(
            accelerator=device,
            devices=params.devices,
            num_nodes=params.nodes,
            strategy=strategy,
            precision={"fp32": "32-true", "bf16": "bf16-mixed"}[params.precision],
            max_epochs=params.epochs,
            accumulate_grad_batches=params.accumulate,
            gradient_clip_val=params.clip_norm or None,
            # MPS has no deterministic gradient of pooling and of picked rows, and would refuse them.
            deterministic="warn" if device == "mps" else True,
            logger=False,
            callbacks=[keep_last, StopEarly(), *callbacks],
            plugins=[AtomicCheckpointIO()],
            enable_progress_bar=any(isinstance(callback, TQDMProgressBar) for callback in callbacks),
            enable_model_summary=False,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,  # FaceData gives each process its part
            default_root_dir=checkpoints,
        )
    except MisconfigurationException as error:
        raise PocketAffectError(
            "params.yaml: train.accelerator, train.devices and train.nodes are not what this machine has",
            found=f"{device}, {params.devices} and {params.nodes}: {' '.join(str(error).split())}",
            todo="lower train.devices, or run where there are as many",
        ) from None


class EpochWords(Callback):
    """What each epoch came to, in words for a line or a bar."""

    began, first = 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock, at the epoch that a resumed training goes on with."""
        super().on_train_start(trainer, pl_module)
        self.began, self.first = time.monotonic(), trainer.current_epoch

    def describe(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, str]:
        """Tells what was measured last, which epoch would be kept, and how long the rest takes; nothing before that."""
        history, select = pl_module.history, pl_module.params.select
        if not history:
            return {}
        row, best, column = history[-1], find_best(history, select), SELECTION[select][0]
        words = {"loss": f"{row['train_loss']:.3f}"}
        if "accuracy" in row:
            words |= {"accuracy": f"{row['accuracy']:.3f}", "balanced": f"{row['balanced_accuracy']:.3f}"}
        if "ccc_valence" in row:
            words["CCC"] = f"{row['ccc_valence']:.3f} / {row['ccc_arousal']:.3f}"
        words[column.replace("_", " ")] = f"{row[column]:.3f}"
        words["best"] = f"{history[best][column]:.3f} of epoch {best + 1}"
        done = len(history)
        if done > self.first:
            minutes = (time.monotonic() - self.began) / 60 / (done - self.first) * ((trainer.max_epochs or done) - done)
            words["left"] = f"{minutes:.0f} min" if minutes >= 1 else f"{60 * minutes:.0f} s"
        return words


class EpochLines(EpochWords):
    """One line for each epoch, where a progress bar would fill a log file."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs the line."""
        if trainer.is_global_zero:
            words = [" ".join(pair) for pair in self.describe(trainer, pl_module).items()]
            logger.info("epoch %d/%d: %s", trainer.current_epoch + 1, trainer.max_epochs, "; ".join(words))


class EpochBar(EpochWords, TQDMProgressBar):
    """Lightning's bar with these words behind it; each epoch's stays."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=20, leave=True)

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Counts epochs from 1, as the words behind the bar do."""
        super().on_train_epoch_start(trainer)
        self.train_progress_bar.set_description(f"Epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """As Lightning asks for them."""
        return dict(self.describe(trainer, pl_module))


class StopEarly(Callback):
    """Ends a training after `train.patience` epochs without a better one.

    It reads the history, which the checkpoint holds: unlike Lightning's own EarlyStopping, it also ends at once when a
    training is resumed that was killed between its last epoch and the writing of its network.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks at what a resumed training had reached."""
        self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks at how long ago the best epoch was."""
        if is_stale(pl_module.history, pl_module.params.select, pl_module.params.patience):
            trainer.should_stop = True


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
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads tensors and plain values; anything that would be executed is refused."""
        del weights_only
        content: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        return content


def find_checkpoint(folder: Path, state: Mapping[str, torch.Tensor]) -> Path | None:
    """Finds the checkpoint in `folder` to go on from; None, with a warning in the log, when it is not usable.

    A fresh start gives the same result as going on, only later: nothing to stop for. The checkpoint must hold the names
    and shapes of `state`, the module's that is to go on.
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
