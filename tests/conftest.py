"""Settings of every test process, before any numeric library is imported."""

import os

# Two test processes on two cores: more threads only take turns.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

from pocketaffect.telemetry import disable_telemetry  # noqa: E402  it sets variables, too

disable_telemetry()
