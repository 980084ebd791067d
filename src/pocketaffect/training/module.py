"""The Lightning module: two tasks, one optimiser, its history and best weights kept in the checkpoint."""

from __future__ import annotations

import math
from typing import Any, Final

import pytorch_lightning as pl
import torch
from torchmetrics.functional import concordance_corrcoef, mean_squared_error
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from pocketaffect.config import TrainParams
from pocketaffect.data.shards.batches import Batch
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS, NO_EXPRESSION, VALENCE_AROUSAL
from pocketaffect.models.network import AffectNetwork
from pocketaffect.training.losses import expression_loss, valence_arousal_loss

SCORE: Final = "score"
"""The mean of balanced accuracy and CCC, itself averaged over both dimensions."""

SELECTION: Final = {"score": (SCORE, 1.0), "accuracy": ("accuracy", 1.0), "loss": ("validation_loss", -1.0)}
"""`train.select` to the history's column that the kept epoch is the best of, and the sign that makes best highest."""


class AffectModule(pl.LightningModule):
    """Trains an `AffectNetwork`.

    Attributes:
        history: One dictionary of numbers for each finished epoch.
        best: The state of the network after the epoch that `train.select` chooses.
    """

    def __init__(self, network: AffectNetwork, params: TrainParams, class_weights: list[float] | None) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.params = params
        self.class_weights = None if class_weights is None else torch.tensor(class_weights)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, torch.Tensor] = {}
        self._train_losses: list[torch.Tensor] = []
        self._outputs: list[tuple[torch.Tensor, ...]] = []

    def _losses(
        self,
        outputs: tuple[torch.Tensor, torch.Tensor],
        expression: torch.Tensor,
        truth: torch.Tensor,
        soft: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        logits, prediction = outputs
        weight = None if self.class_weights is None else self.class_weights.to(logits.device)
        by_expression = expression_loss(logits, expression, weight, soft)
        by_va = valence_arousal_loss(prediction, truth)
        total = self.params.expression_weight * by_expression + self.params.va_weight * by_va
        return total, by_expression, by_va

    def _check_finite(self, losses: tuple[torch.Tensor, ...], place: str) -> None:
        if not bool(torch.isfinite(losses[0])):
            total, by_expression, by_va = (float(loss.detach()) for loss in losses)
            raise PocketAffectError(
                f"training: loss is {total} in epoch {self.current_epoch + 1}, {place}",
                found=f"expression loss {by_expression}, VA loss {by_va}",
                allowed="a finite number",
                todo="lower train.learning_rate in params.yaml",
            )

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        """One step.

        Raises:
            PocketAffectError: The loss is not finite.
        """
        # Dropout's noise hangs on (seed, step) alone, so that a step after a resume is the step of an undisturbed
        # run. Not in a hook of the epoch: Lightning leaves those out in the epoch that it resumes with.
        torch.manual_seed(self.params.seed * 1_000_003 + self.global_step)
        soft = batch.soft if self.params.soft_labels else None
        losses = self._losses(self.network(batch.images), batch.expression, batch.valence_arousal, soft)
        self._check_finite(losses, f"step {batch_index + 1}")
        self._train_losses.append(torch.stack(losses).detach())
        return losses[0]

    def validation_step(self, batch: Batch, batch_index: int) -> None:  # noqa: ARG002
        """Keeps the batch's predictions for the end of the epoch."""
        logits, prediction = self.network(batch.images)
        self._outputs.append((logits, prediction, batch.expression, batch.valence_arousal))

    def on_validation_epoch_end(self) -> None:
        """Measures the epoch, remembers it, and keeps its weights if it is the best so far.

        Raises:
            PocketAffectError: The loss is not finite.
        """
        logits, prediction, expression, truth = (torch.cat(part) for part in zip(*self._outputs, strict=True))
        train = torch.stack(self._train_losses).double().mean(dim=0)
        self._outputs.clear()
        self._train_losses.clear()
        losses = self._losses((logits, prediction), expression, truth)  # by class: every data set has these
        self._check_finite(losses, "validation")
        total, by_expression, by_va = losses
        scores = _score(logits, prediction, expression, truth)
        row = {
            "epoch": float(self.current_epoch + 1),
            "learning_rate": float(self.optimizers().param_groups[0]["lr"]),
            "train_loss": float(train[0]),
            "train_expression_loss": float(train[1]),
            "train_va_loss": float(train[2]),
            "validation_loss": float(total),
            "validation_expression_loss": float(by_expression),
            "validation_va_loss": float(by_va),
            **scores,
        }
        column, sign = SELECTION[self.params.select]
        if not self.history or sign * row[column] > max(sign * past[column] for past in self.history):
            self.best = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        self.history.append(row)
        self.log_dict({SCORE: row[SCORE], "accuracy": row["accuracy"]}, prog_bar=True, logger=False)

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam or AdamW; a linear warm-up, then a cosine decay to zero or nothing, step by step."""
        params = self.params
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[params.optimizer]
        # Normalisation and biases are not decayed: pulling them to zero only fights the data.
        decayed = [weight for weight in self.network.parameters() if weight.ndim > 1]
        kept = [weight for weight in self.network.parameters() if weight.ndim <= 1]
        optimizer = kind(
            [{"params": decayed, "weight_decay": params.weight_decay}, {"params": kept, "weight_decay": 0.0}],
            lr=params.learning_rate,
            # The unfused step takes square roots from MKL, which rounds them differently on processors of another
            # maker; with this one an emulated AMD EPYC gave the bytes of the Intel Xeon it was compared with.
            fused=True,
        )
        steps = int(self.trainer.estimated_stepping_batches)
        constant = params.schedule == "constant"
        warmup = max(1, round(steps * params.warmup_epochs / params.epochs))

        def scale(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            if constant:
                return 1.0
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, scale)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Puts history and best weights into the one file that a resume reads."""
        checkpoint["history"] = self.history
        checkpoint["best"] = self.best

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes them back."""
        self.history = checkpoint["history"]
        self.best = checkpoint["best"]


def _score(
    logits: torch.Tensor, prediction: torch.Tensor, expression: torch.Tensor, truth: torch.Tensor
) -> dict[str, float]:
    """The metrics that are followed while training; a task without labels in the split scores 0."""
    has_class = expression != NO_EXPRESSION
    has_va = ~truth.isnan().any(dim=1)
    row = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), 0.0)
    if bool(has_class.any()):
        guess, target = logits[has_class].argmax(dim=1), expression[has_class]
        classes = len(EXPRESSIONS)
        row["accuracy"] = float(multiclass_accuracy(guess, target, classes, average="micro"))
        row["balanced_accuracy"] = float(multiclass_accuracy(guess, target, classes, average="macro"))
        row["macro_f1"] = float(multiclass_f1_score(guess, target, classes, average="macro"))
    concordance = [0.0, 0.0]
    if int(has_va.sum()) > 1:
        guess, target = prediction[has_va], truth[has_va]
        concordance = [float(value) for value in concordance_corrcoef(guess, target).nan_to_num(0.0)]
        for dimension, name in enumerate(VALENCE_AROUSAL):
            row[f"rmse_{name}"] = float(mean_squared_error(guess[:, dimension], target[:, dimension], squared=False))
    row.update({f"ccc_{name}": value for name, value in zip(VALENCE_AROUSAL, concordance, strict=True)})
    row[SCORE] = (row["balanced_accuracy"] + sum(concordance) / 2) / 2
    return row
