"""The files that users copy from docs/scaling: versions, settings and syntax."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[1] / "docs" / "scaling"


def test_the_compose_file_pins_the_versions_that_are_locked():
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    recipe = compose["services"]["mlflow"]["build"]["dockerfile_inline"]
    for name, pattern in (("mlflow", r"mlflow==(\S+)"), ("psycopg", r"psycopg\[binary\]==(\S+)")):
        assert re.search(pattern, recipe)[1] == version(name)


def test_the_compose_file_gives_mlflow_and_optuna_a_database_each_and_listens_to_this_machine_alone():
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    services = compose["services"]
    assert services["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"].endswith("/mlflow")
    assert services["postgres"]["environment"]["POSTGRES_DB"] == "mlflow"
    assert compose["configs"]["databases"]["content"] == "CREATE DATABASE optuna;"
    assert all(port.startswith("${BIND_ADDRESS:-127.0.0.1}:") for one in services.values() for port in one["ports"])
    assert services["mlflow"]["environment"]["MLFLOW_DISABLE_TELEMETRY"] == "true"


@pytest.mark.parametrize("script", ["train.sh", "train.slurm"])
def test_the_scripts_are_sound_shell(script):
    done = subprocess.run(["bash", "-n", FOLDER / script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
