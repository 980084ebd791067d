from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from pocketaffect.telemetry import TELEMETRY_OFF, disable_telemetry

SIGNS_OF_CI = ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST", "BUILDKITE", "JENKINS_URL", "DVC_TEST")


def ask(code: str, *, off: bool) -> object:
    """What the code prints as JSON in a fresh process, with telemetry switched off or as the packages come."""
    environment = {name: value for name, value in os.environ.items() if name not in (*SIGNS_OF_CI, *TELEMETRY_OFF)}
    switch = "from pocketaffect.telemetry import disable_telemetry; disable_telemetry()\n" if off else ""
    code = f"import json\n{switch}{code}\nprint(json.dumps(answer))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "code",
    [
        "from dvc.analytics import is_enabled; answer = is_enabled()",
        "from iterative_telemetry import IterativeTelemetryLogger as Logger\n"
        "answer = Logger('tool', '1', enabled=lambda: True).is_enabled()",
        "from huggingface_hub import constants; answer = not constants.HF_HUB_DISABLE_TELEMETRY",
        "from ray._common.usage.usage_lib import usage_stats_enabled; answer = usage_stats_enabled()",
    ],
    ids=["dvc", "iterative", "hugging-face", "ray"],
)
def test_a_package_that_would_send_is_silent(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # outside the repository, whose .dvc/config has its own say
    assert ask(code, off=False) is True
    assert ask(code, off=True) is False


def test_mlflow_starts_no_telemetry_client():
    code = (
        "import mlflow\n"
        "from mlflow.telemetry.client import get_telemetry_client\n"
        "from mlflow.telemetry.utils import is_telemetry_disabled\n"
        "answer = [is_telemetry_disabled(), get_telemetry_client() is None]"
    )
    assert ask(code, off=True) == [True, True]


def test_either_of_mlflows_switches_is_enough(monkeypatch):
    from mlflow.telemetry import utils

    monkeypatch.setattr(utils, "_IS_IN_CI_ENV_OR_TESTING", False)
    for name in TELEMETRY_OFF:
        monkeypatch.delenv(name, raising=False)
    assert not utils.is_telemetry_disabled()
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        with monkeypatch.context() as context:
            context.setenv(name, TELEMETRY_OFF[name])
            assert utils.is_telemetry_disabled()


def test_a_value_that_the_user_set_stays(monkeypatch):
    for name in TELEMETRY_OFF:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "yes")
    disable_telemetry()
    assert os.environ["DVC_NO_ANALYTICS"] == "yes"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
