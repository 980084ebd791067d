from __future__ import annotations

import pytest

from pocketaffect.audit.compare import judge
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
