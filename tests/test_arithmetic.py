from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch  # noqa: F401 - so that it is late

from pocketaffect.arithmetic import (
    AVX2_VARIABLES,
    DETERMINISM_VARIABLES,
    THREAD_VARIABLES,
    may_pin_arithmetic,
    pinned_children,
)

MANAGED = (*THREAD_VARIABLES, *AVX2_VARIABLES, *DETERMINISM_VARIABLES)
REPORT = """
import json, os
from pocketaffect.arithmetic import pin_arithmetic
pin_arithmetic(threads={threads}, instructions="{instructions}")
import cv2, torch
print(json.dumps({{
    "torch": torch.get_num_threads(), "cv2": cv2.getNumThreads(),
    "capability": torch.backends.cpu.get_cpu_capability(),
    "environment": {{name: os.environ.get(name) for name in {managed!r}}},
}}))
"""


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in MANAGED}
    return subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True)


@pytest.mark.parametrize(("threads", "instructions"), [(1, "avx2"), pytest.param(2, "native", marks=pytest.mark.slow)])
def test_threads_and_instructions_are_settled_in_every_library(threads, instructions):
    done = run_python(REPORT.format(threads=threads, instructions=instructions, managed=MANAGED))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["torch"] == report["cv2"] == threads
    assert {report["environment"][name] for name in THREAD_VARIABLES} == {str(threads)}
    if instructions == "avx2":
        assert report["capability"] in ("AVX2", "DEFAULT")  # DEFAULT where the processor has no AVX2
        assert {name: report["environment"][name] for name in AVX2_VARIABLES} == AVX2_VARIABLES
    else:
        assert {report["environment"][name] for name in AVX2_VARIABLES} == {None}


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "cv2"])
def test_pinning_after_the_import_of_a_numeric_library_is_refused(library):
    done = run_python(
        f"import {library}\nfrom pocketaffect.arithmetic import pin_arithmetic\n"
        "pin_arithmetic(threads=1, instructions='avx2')"
    )
    assert done.returncode != 0
    assert f"must come before the import of {library}" in done.stderr


def test_children_are_born_pinned_and_the_parent_stays_as_it_was(monkeypatch):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    before = dict(os.environ)
    for instructions, expected in (("avx2", AVX2_VARIABLES), ("native", dict.fromkeys(AVX2_VARIABLES))):
        with pinned_children(threads=3, instructions=instructions):
            assert {name: os.environ.get(name) for name in AVX2_VARIABLES} == expected
            assert {os.environ[name] for name in THREAD_VARIABLES} == {"3"}
            assert may_pin_arithmetic(threads=3, instructions=instructions)
            assert not may_pin_arithmetic(threads=2, instructions=instructions)  # this process has torch already
        assert dict(os.environ) == before


@pytest.mark.slow
def test_pinned_arithmetic_repeats_bit_for_bit_in_a_fresh_process():
    code = (
        "from pocketaffect.arithmetic import pin_arithmetic\n"
        "pin_arithmetic(threads=1, instructions='avx2')\n"
        "import hashlib, torch\n"
        "torch.manual_seed(0)\n"
        "layer = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3), torch.nn.Flatten(), torch.nn.Linear(14400, 64))\n"
        "x = torch.randn(16, 8, 32, 32).to(memory_format=torch.channels_last)\n"
        "loss = layer(x).exp().mean(); loss.backward()\n"
        "parts = [loss.detach(), *(p.grad for p in layer.parameters())]\n"
        "print(hashlib.sha256(b''.join(part.contiguous().numpy().tobytes() for part in parts)).hexdigest())"
    )
    runs = [run_python(code) for _ in range(2)]
    assert all(run.returncode == 0 for run in runs), runs[0].stderr
    assert runs[0].stdout == runs[1].stdout
