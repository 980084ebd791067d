"""Executes a package on stored faces, in a process of its own, whose arithmetic is pinned before torch starts.

    python -m pocketaffect.audit.behaviour PACKAGE SHARDS RECORDED

Prints one line of JSON: faces, and how far its answers lie from the recorded ones at most.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pocketaffect.arithmetic import pin_arithmetic


def main() -> None:
    """Reads the three paths, prints the line."""
    package, shards, recorded = map(Path, sys.argv[1:])
    pin_arithmetic(threads=1, instructions="avx2")
    import numpy as np

    from pocketaffect.data.shards.split import open_split
    from pocketaffect.evaluation.prediction_table import read_predictions
    from pocketaffect.export.measure import load_affect_program, predict_program

    faces = open_split(shards, "validation")
    before = read_predictions(recorded)
    if before.paths != faces.paths:
        raise SystemExit(f"the recorded answers are of {len(before.paths)} other faces than these {len(faces)}")
    now = predict_program(load_affect_program(package), faces.images())
    gaps = {
        "probability": np.abs(now.probabilities.astype(np.float64) - before.predictions.probabilities),
        "valence_arousal": np.abs(now.valence_arousal.astype(np.float64) - before.predictions.valence_arousal),
    }
    print(json.dumps({"faces": len(faces)} | {name: float(gap.max()) for name, gap in gaps.items()}))


if __name__ == "__main__":
    main()
