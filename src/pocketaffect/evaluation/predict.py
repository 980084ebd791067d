"""A trained network's predictions over a split."""

from __future__ import annotations

import torch

from pocketaffect.data.shards.batches import ordered_batches
from pocketaffect.data.shards.split import Split
from pocketaffect.evaluation.tables import Predictions
from pocketaffect.models.network import AffectNetwork


def predict_split(network: AffectNetwork, split: Split, *, batch_size: int) -> Predictions:
    """Predicts every face of `split`, in its order."""
    network = network.eval().to(memory_format=torch.channels_last)
    probabilities, valence_arousal = [], []
    with torch.inference_mode():
        for batch in ordered_batches(split, batch_size):
            logits, affect = network(batch.images)
            probabilities.append(logits.softmax(dim=1))
            valence_arousal.append(affect)
    return Predictions(torch.cat(probabilities).numpy(), torch.cat(valence_arousal).numpy())
