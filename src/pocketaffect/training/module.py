"""The Lightning module: two tasks, one optimiser, its history and best weights kept in the checkpoint."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import chain
from typing import Any, cast

import pytorch_lightning as pl
import torch

from pocketaffect.config import TrainParams
from pocketaffect.data.shards.batches import Batch
from pocketaffect.models.network import AffectNetwork
from pocketaffect.training.checks import Step, note_step, require_finite
from pocketaffect.training.distributed import GlobalBatchNorm, in_order, join_processes
from pocketaffect.training.objective import Losses, Objective, Outputs
from pocketaffect.training.optimizer import MovingAverage, build_optimizer
from pocketaffect.training.scores import SCORE, find_best, score_epoch


class AffectModule(pl.LightningModule):
    """Trains an `AffectNetwork` by a recipe; the images' paths are for messages, the teacher is in evaluation mode.

    Attributes:
        history: One dictionary of numbers for each finished epoch.
        best: The state of the network after the epoch that `train.select` chooses; of its average where there is one.
        average: The moving average of the network; None where none is wanted.
    """

    def __init__(
        self,
        network: AffectNetwork,
        objective: Objective,
        params: TrainParams,
        paths: Sequence[str] = (),
        teacher: AffectNetwork | None = None,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.objective = objective
        self.params = params
        self.paths = paths
        self.average: MovingAverage | None = None
        if params.ema_decay:
            self.average = MovingAverage(self.network, params.ema_decay)
        object.__setattr__(self, "teacher", teacher)  # no submodule: it is no part of a checkpoint
        self.history: list[dict[str, float]] = []
        self.best: dict[str, torch.Tensor] = {}
        self._steps: list[Step] = []
        self._predicted: list[tuple[torch.Tensor, torch.Tensor, Batch]] = []

    @property
    def shown(self) -> AffectNetwork:
        """The network that is validated and kept."""
        return self.network if self.average is None else cast(AffectNetwork, self.average.module)

    def on_fit_start(self) -> None:
        """Brings the teacher to the device."""
        if self.teacher is not None:
            self.teacher.to(self.device, memory_format=torch.channels_last)

    def on_train_start(self) -> None:
        """Learns from a checkpoint how many steps the average has followed."""
        if self.average is not None:
            self.average.steps = int(self.average.n_averaged)

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        """Computes the loss of one step.

        Raises:
            PocketAffectError: The loss is not finite.
        """
        # Dropout's noise depends on (seed, step) alone, so that a step after a resume is the step of an undisturbed
        # run. Not in a hook of the epoch: Lightning leaves those out in the epoch that it resumes with.
        step = self.current_epoch * int(self.trainer.num_training_batches) + batch_index
        torch.manual_seed(self.params.seed * 1_000_003 + step + self.global_rank * 1_000_000_007)
        images = batch.images
        with self._statistics():
            logits, prediction = self.network(images)
        said = self._ask_teacher(images)
        outputs, labels, guidance = join_processes(self, (logits.float(), prediction.float()), batch, said)
        losses: Losses = self.objective(outputs, labels, guidance)
        self._steps.append(note_step(losses, outputs, labels))
        if self.device.type == "cpu":  # elsewhere a look at each step would make the device wait
            self._require_finite(first=len(self._steps) - 1)
        return losses.total

    def _require_finite(self, first: int) -> None:
        epoch = self.current_epoch + 1
        require_finite(self._steps[first:], self.paths, lambda place: f"epoch {epoch}, step {first + place + 1}")

    def _statistics(self) -> AbstractContextManager[Any]:
        """Computes normalisation's statistics over the batch of all processes."""
        return GlobalBatchNorm() if self.trainer.world_size > 1 else nullcontext()

    def _ask_teacher(self, images: torch.Tensor) -> Outputs | None:
        if self.teacher is None:
            return None
        with torch.no_grad():
            logits, prediction = self.teacher(images)
        return logits.float(), prediction.float()

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Shortens the gradient of all weights together to `train.clip_norm`.

        Lightning refuses that for a fused optimiser in mixed precision. It does so for float16, whose gradients are
        scaled until the step; bfloat16 needs no scaling.
        """
        del gradient_clip_algorithm
        if gradient_clip_val:
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            torch.nn.utils.clip_grad_norm_(weights, gradient_clip_val)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_index: int) -> None:  # noqa: ARG002
        """Lets the average follow, once for each step of the optimiser."""
        if self.average is not None and self.global_step > self.average.steps:
            self.average.follow(self.network)

    def on_validation_epoch_start(self) -> None:
        """Lets a network of grey faces read luma before it is measured and kept."""
        if self.network.spec.colour == "grey":
            self.shown.read_luma()

    def validation_step(self, batch: Batch, batch_index: int) -> None:  # noqa: ARG002
        """Keeps the batch's predictions for the end of the epoch."""
        logits, prediction = self.shown(batch.images)
        labels = replace(batch, pixels=torch.empty(0))
        self._predicted.append((logits.float(), prediction.float(), labels))

    def on_validation_epoch_end(self) -> None:
        """Measures the epoch, remembers it, and keeps its weights if it is the best so far.

        Raises:
            PocketAffectError: The loss is not finite.
        """
        self._require_finite(first=0)
        outputs, labels = in_order(self, self._predicted)
        train = torch.stack([step.losses for step in self._steps]).cpu().double().mean(dim=0)  # MPS has no float64
        self._predicted.clear()
        self._steps.clear()
        losses: Losses = self.objective(outputs, labels)
        noted = note_step(losses, outputs, labels)
        require_finite([noted], None, lambda _: f"epoch {self.current_epoch + 1}, validation")
        self.history.append(
            {
                "epoch": float(self.current_epoch + 1),
                "learning_rate": float(self.optimizers().param_groups[0]["lr"]),
                "train_loss": float(train[0]),
                "train_expression_loss": float(train[1]),
                "train_va_loss": float(train[2]),
                "validation_loss": float(losses.total),
                "validation_expression_loss": float(losses.expression),
                "validation_va_loss": float(losses.valence_arousal),
                **self.objective.task_weights(),
                **score_epoch(*(part.cpu() for part in (*outputs, labels.expression, labels.valence_arousal))),
            }
        )
        if find_best(self.history, self.params.select) == len(self.history) - 1:
            self.best = {name: tensor.detach().clone() for name, tensor in self.shown.state_dict().items()}
        row = self.history[-1]
        shown = {name: row[name] for name in (SCORE, "balanced_accuracy") if name in row}
        self.log_dict(shown, prog_bar=True, logger=False)

    def configure_optimizers(self) -> dict[str, Any]:
        """Builds the recipe's optimizer over the network and what the objective learns."""
        steps = int(self.trainer.estimated_stepping_batches)
        optimizer, schedule = build_optimizer(self._learnt(), self.params, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _learnt(self) -> Iterator[torch.nn.Parameter]:
        return chain(self.network.parameters(), self.objective.parameters())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Puts history and best weights into the one file that a resume reads."""
        checkpoint["history"] = self.history
        checkpoint["best"] = self.best

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes them back."""
        self.history = checkpoint["history"]
        self.best = checkpoint["best"]
