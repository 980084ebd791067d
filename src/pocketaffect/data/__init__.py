"""From AffectNet's releases to batches: layouts, contract, faces, shards; and the generated sample."""
