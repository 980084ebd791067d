from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import save_file

from pocketaffect.audit.compare import judge, measure_difference
from pocketaffect.audit.outcome import EXIT_CODES, FileDifference, MetricDifference, StageComparison, Verdict
from pocketaffect.config import AuditParams, load_params

TOLERANCES = AuditParams(metric_tolerance=0.05, bytes_tolerance=0.01)
SAME_MACHINE = (("other instruction set", "AVX2", "AVX2"),)
OTHER_MACHINE = (("other instruction set", "AVX512", "AVX2"),)
OUTPUTS = {"data": "data", "preprocess": "out/shards", "train": "out/model", "export": "out/export"}


def stages(*differing: str, inputs: tuple[str, ...] = ()) -> list[StageComparison]:
    return [
        StageComparison(
            name,
            ((path, "a", "b" if name in differing else "a"),),
            inputs=inputs if name == "train" else (),
            files=(FileDifference(f"{path}/file", "differs"),) if name in differing else (),
        )
        for name, path in OUTPUTS.items()
    ]


def metrics(difference: float, package_bytes: float = 1000) -> list[MetricDifference]:
    return [
        MetricDifference("accuracy", 0.75, 0.75 + difference),
        MetricDifference("package_bytes", 1000, package_bytes),
    ]


@pytest.mark.parametrize(
    ("differing", "inputs", "machine", "measured", "verdict", "says"),
    [
        ((), (), SAME_MACHINE, metrics(0), Verdict.IDENTICAL, "all outputs of 3 stages"),
        ((), (), OTHER_MACHINE, metrics(0), Verdict.IDENTICAL, "all outputs"),
        (("train",), (), SAME_MACHINE, metrics(0.01), Verdict.DIFFERS, "kind of machine are as recorded"),
        (("train",), (), OTHER_MACHINE, metrics(0.01), Verdict.TOLERATED, "AVX512 recorded, AVX2 here"),
        (("export",), (), OTHER_MACHINE, metrics(0), Verdict.TOLERATED, "first at stage export: out/export/file"),
        (("train",), (), OTHER_MACHINE, metrics(0.06), Verdict.DIFFERS, "Beyond tolerance: accuracy 0.75"),
        (("train",), (), OTHER_MACHINE, metrics(0, 1011), Verdict.DIFFERS, "package_bytes 1000 recorded, 1011"),
        (("train",), (), OTHER_MACHINE, [], Verdict.DIFFERS, "No recorded metrics"),
        (("preprocess", "train"), (), OTHER_MACHINE, metrics(0), Verdict.DIFFERS, "Nothing before training"),
        (("data", "train"), (), OTHER_MACHINE, metrics(0), Verdict.DIFFERS, "first at stage data"),
        (
            ("train",),
            ("train.threads 1, now 2",),
            SAME_MACHINE,
            metrics(0.01),
            Verdict.TOLERATED,
            "other thread count (train.threads 1, now 2)",
        ),
        (
            ("train",),
            ("train.threads 1, now 2", "train.seed 7, now 8"),
            OTHER_MACHINE,
            metrics(0),
            Verdict.DIFFERS,
            "Recorded differently: train.seed 7, now 8",
        ),
    ],
)
def test_a_difference_is_tolerated_only_where_rounding_alone_explains_it(
    differing, inputs, machine, measured, verdict, says
):
    found, reason = judge(stages(*differing, inputs=inputs), measured, machine, TOLERANCES)
    assert found is verdict, reason
    assert says in reason


def test_every_verdict_has_an_exit_code_of_its_own_and_only_the_best_is_zero():
    assert set(EXIT_CODES) == set(Verdict)
    assert len(set(EXIT_CODES.values())) == len(Verdict)
    assert [verdict for verdict, code in EXIT_CODES.items() if code == 0] == [Verdict.IDENTICAL]
    assert not {1, 2} & set(EXIT_CODES.values())


def test_the_tolerances_are_set_in_params_yaml(pytestconfig):
    declared = load_params(pytestconfig.rootpath / "params.yaml").audit
    assert 0 < declared.metric_tolerance <= 0.1
    assert 0 < declared.bytes_tolerance <= 0.1


def measure(folder: Path, name: str, recorded: bytes, found: bytes):
    (folder / "recorded").mkdir(exist_ok=True)
    (folder / "found").mkdir(exist_ok=True)
    (folder / "recorded" / name).write_bytes(recorded)
    (folder / "found" / name).write_bytes(found)
    return measure_difference(name, folder / "recorded" / name, folder / "found" / name)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    arrays(np.uint8, st.shared(array_shapes(min_dims=1, max_dims=3, max_side=5), key="shape")),
    arrays(np.uint8, st.shared(array_shapes(min_dims=1, max_dims=3, max_side=5), key="shape")),
)
def test_the_largest_difference_of_shards_is_numpys(tmp_path, one, other):
    for name, array in (("one.npy", one), ("other.npy", other)):
        np.save(tmp_path / name, array)
    found = measure_difference("shard.npy", tmp_path / "one.npy", tmp_path / "other.npy")
    if count := (one != other).sum():
        assert found.largest == np.abs(one.astype(int) - other.astype(int)).max()
        assert found.detail.startswith(f"{count:,} of {one.size:,} values differ")
    else:
        assert (found.largest, found.detail) == (None, "equal values, other bytes")


def test_shards_longer_than_a_block_are_compared_to_their_end(tmp_path):
    one = np.zeros((600, 2), np.uint8)
    other = one.copy()
    other[-1, 1] = 9
    np.save(tmp_path / "one.npy", one)
    np.save(tmp_path / "other.npy", other)
    found = measure_difference("a.npy", tmp_path / "one.npy", tmp_path / "other.npy")
    assert (found.largest, found.detail) == (
        9.0,
        "1 of 1,200 values differ, by at most 9, first [599, 1]: 0 recorded, 9 now",
    )


def test_the_tensor_that_differs_most_is_named(tmp_path):
    tensors = {"conv.weight": np.ones((2, 3), np.float32), "head.bias": np.zeros(4, np.float32)}
    save_file(tensors, tmp_path / "one.safetensors")
    changed = {name: array.copy() for name, array in tensors.items()}
    changed["conv.weight"][1, 2] += 0.25
    changed["head.bias"][0] = 0.125
    save_file(changed, tmp_path / "other.safetensors")
    found = measure_difference("m.safetensors", tmp_path / "one.safetensors", tmp_path / "other.safetensors")
    assert (found.largest, found.detail) == (
        0.25,
        "2 of 10 values differ, by at most 0.25 (conv.weight), first conv.weight[1, 2]: 1.0 recorded, 1.25 now",
    )


def test_tensors_of_another_shape_have_no_largest_difference(tmp_path):
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "one.safetensors")
    save_file({"a": np.zeros(4, np.float32)}, tmp_path / "other.safetensors")
    found = measure_difference("m.safetensors", tmp_path / "one.safetensors", tmp_path / "other.safetensors")
    assert found.largest is None
    assert found.detail == "a: shape (3,) recorded, (4,) now"


@pytest.mark.parametrize(
    ("name", "recorded", "found", "detail", "largest"),
    [
        (
            "m.json",
            b'{"a": {"b": [1, 2.5]}}',
            b'{"a": {"b": [1, 2.0]}}',
            "1 of 2 values differ, by at most 0.5, first a.b.1: 2.5 recorded, 2.0 now",
            0.5,
        ),
        (
            "m.json",
            b'{"a": "x", "b": 1}',
            b'{"a": "y", "b": 1}',
            "1 of 2 values differ, first a: x recorded, y now",
            None,
        ),
        ("m.json", b'{"a": 1, "b": 1}', b'{"a": 1}', "b is only in what was recorded", None),
        ("m.json", b'{"a": 1}', b'{ "a": 1}', "equal values, other bytes", None),
        ("m.json", b"no json", b"no jsun", "1 of 7 bytes differ, the first at 5", None),
        (
            "t.csv",
            b"x,y\n1,2\n3,4\n",
            b"x,y\n1,2\n3,9\n",
            "1 of 4 values differ, by at most 5, first y[1]: 4 recorded, 9 now",
            5,
        ),
        ("t.csv", b"x\n1\n", b"x\n1\n2\n", "x: shape (1,) recorded, (2,) now", None),
        ("w.bin", b"\0\1\2", b"\0\1\3", "1 of 3 bytes differ, the first at 2", None),
        ("w.bin", b"\0\1\2", b"\0\1", "3 bytes recorded, 2 now", None),
        ("m.safetensors", b"broken", b"braken", "1 of 6 bytes differ, the first at 2", None),
        ("m.npy", b"broken", b"braken", "1 of 6 bytes differ, the first at 2", None),
        ("m.parquet", b"broken", b"braken", "1 of 6 bytes differ, the first at 2", None),
    ],
)
def test_a_difference_is_put_in_words_and_in_a_number(tmp_path, name, recorded, found, detail, largest):
    measured = measure(tmp_path, name, recorded, found)
    assert (measured.detail, measured.largest) == (detail, largest)


def test_the_columns_of_a_table_that_differ_are_named(tmp_path):
    table = pd.DataFrame({"path": ["a", "b", None], "p": [0.5, None, 0.25]})
    table.to_parquet(tmp_path / "one.parquet")
    other = table.copy()
    other.loc[2, "p"] = 0.75
    other.to_parquet(tmp_path / "other.parquet")
    found = measure_difference("t.parquet", tmp_path / "one.parquet", tmp_path / "other.parquet")
    assert (found.largest, found.detail) == (
        0.5,
        "1 of 6 values differ, by at most 0.5, first p[2]: 0.25 recorded, 0.75 now",
    )


def test_a_file_of_one_side_is_said_to_be(tmp_path):
    (tmp_path / "a").write_text(json.dumps({}))
    assert measure_difference("a", tmp_path / "a", None).detail == "was recorded, is not made now"
    assert "no copy of the recorded ones" in measure_difference("a", None, tmp_path / "a").detail
