"""Compression: the best palettes, the same on every run, in every tensor that is large enough."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from pocketaffect.export.convert import Palettize, divide_channels
from pocketaffect.export.verify import large_tensor_storage
from pocketaffect.mlpackage.program import load_program
from pocketaffect.precisions import PRECISIONS


def error_of(weights, palette, indices):
    return np.square(palette.astype(np.float64)[indices] - weights.reshape(-1).astype(np.float64)).sum()


def error_of_best_split(values, parts):
    """The least squared error of sorted values in `parts` runs, by trying all."""
    best = np.inf
    for cuts in itertools.combinations(range(1, len(values)), parts - 1):
        runs = np.split(values, cuts)
        best = min(best, sum(np.square(run - run.mean()).sum() for run in runs))
    return best


@given(values=st.lists(st.integers(-40, 40), min_size=1, max_size=11))
@settings(max_examples=60)
def test_a_palette_has_the_least_error_that_any_has(values):
    weights = np.array(values, np.float64) / 8
    palette, indices = Palettize(2)(weights)
    best = error_of_best_split(np.sort(weights), min(4, len(values)))
    assert error_of(weights, palette, indices) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_a_palette_is_no_worse_than_that_of_scikit_learn(bits):
    weights = np.random.default_rng(4).standard_t(4, (30, 60)).astype(np.float16)
    reference = KMeans(1 << bits, n_init=2, random_state=0).fit(weights.reshape(-1, 1).astype(np.float64))
    palette, indices = Palettize(bits)(weights)
    # Float16 rounds the palette afterwards.
    assert error_of(weights, palette, indices) <= 1.001 * reference.inertia_
    assert (palette.shape, palette.dtype, indices.dtype) == ((1 << bits,), np.float16, np.uint8)


def test_fewer_values_than_entries_are_kept_exactly():
    weights = np.array([[0.5, 0.0], [-2.0, 0.5]], np.float16)
    palette, indices = Palettize(4)(weights)
    np.testing.assert_array_equal(palette[indices].reshape(2, 2), weights)


@pytest.mark.parametrize(
    ("channels", "wanted", "expected"),
    [(360, 16, 8), (48, 16, 16), (24, 32, 24), (64, 32, 32), (8, 16, 8), (2, 16, 0), (20, 32, 0), (360, 0, 0)],
)
def test_groups_are_the_largest_multiple_of_eight_that_divides_the_channels(channels, wanted, expected):
    assert divide_channels(channels, wanted) == expected


QUICK = {"palette4", "palette4-grouped"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PRECISIONS]
)
def test_a_precision_is_what_it_says_and_passes_all_but_its_cost(making, held_to, name):
    precision = PRECISIONS[name]
    package = making.make(precision)
    program = load_program(package.path)
    assert large_tensor_storage(program, precision) == precision.storage
    assert program.version == {"iOS16": 7, "iOS18": 9}[precision.target]
    verification = held_to(deployment_target=precision.target).verify(package)
    costs = ("agreement with PyTorch", "drop in accuracy", "rise in RMSE, worse dimension")
    assert [check.name for check in verification.checks if not check.passed and check.name not in costs] == []
    assert verification.precision == name
    assert package.bytes >= making.estimate_least(precision)


@pytest.mark.slow
def test_bytes_fall_with_the_bits_of_a_form(making):
    for form in (["palette8", "palette6", "palette4", "palette2"], ["palette6-grouped", "palette4-grouped"]):
        sizes = [making.make(PRECISIONS[name]).bytes for name in form]
        assert sizes == sorted(sizes, reverse=True)


@pytest.mark.slow
def test_fresh_processes_with_other_hash_seeds_and_threads_give_the_same_bytes(network, tmp_path):
    weights = tmp_path / "weights.pt"
    torch.save(network.state_dict(), weights)
    program = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
from conftest import SmallNetwork
from pathlib import Path
from pocketaffect.export.convert import PackageDescription, Packages
from pocketaffect.mlpackage.package import package_digest
from pocketaffect.precisions import PRECISIONS
network = SmallNetwork(); network.load_state_dict(torch.load({str(weights)!r}))
packages = Packages(network.eval(), 32, PackageDescription("a", "b", "c", "d"), Path(sys.argv[1]))
for precision in ("int8", "palette6", "palette4", "palette4-grouped"):
    print(precision, package_digest(packages.make(PRECISIONS[precision]).path))
"""
    answers = {
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed, threads in (("1", "1"), ("2", "2"))
    }
    assert len(answers) == 1
    assert len(set(answers.pop().split())) == 8
