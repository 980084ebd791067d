"""Nothing here phones home: the switches of every package that would."""

import os
from typing import Final

TELEMETRY_OFF: Final[dict[str, str]] = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",  # DVC's companions
    "GX_ANALYTICS_ENABLED": "false",  # Great Expectations below 1.24 sends, later ones have no such code
    "HF_HUB_DISABLE_TELEMETRY": "1",  # timm's model hub
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "true",  # the common switch; MLflow accepts no other spelling than "true"
}
"""Environment variables and the values that switch telemetry off. Lightning and coremltools send nothing."""

QUIET: Final[dict[str, str]] = {
    "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",  # it would ask a package index
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
}


def disable_telemetry() -> None:
    """Switches telemetry off for this process and its children; a value that the user has set stays.

    Call it before the packages are imported: some read their variable only then.
    """
    for name, value in (TELEMETRY_OFF | QUIET).items():
        os.environ.setdefault(name, value)
